//! `verify`: reads the volumes of images again, a verdict a line.

use airlock_protocol::control::{ErrorClass, Finding, ImageState, VerifyView};
use serde::Serialize;

use super::Session;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, NoAnswer, fault};
use crate::cli::json::{Document, Items};
use crate::cli::pen::Sign;

/// One verdict, as programs read it.
#[derive(Debug, Serialize)]
struct VerdictItem {
    image: String,
    digest: String,
    /// `sound` or `differs`.
    verdict: &'static str,
    /// The digest of the whole tree, where it is sound.
    tree: Option<String>,
    /// The first entry that differs, and how.
    path: Option<String>,
    difference: Option<&'static str>,
}

/// `verify IMAGE…` or `verify --all`
pub(crate) async fn verify(
    session: &Session,
    images: Vec<String>,
    all: bool,
) -> Result<Exit, Failure> {
    let client = session.client().await?;
    let images = if all { unpacked(&client).await? } else { images };
    let (mut ends, mut items) = (Vec::new(), Vec::new());
    let Session { console, .. } = session;
    for image in images {
        match finished(&client, image).await.map_err(|error| client.failed(error)) {
            Ok(view) => {
                if let Finding::Differs { .. } = view.finding {
                    let failure = damaged(&client, &view);
                    console.fail(&failure);
                    ends.push(failure.exit());
                }
                let item = VerdictItem::from(view);
                if !console.json && !console.quiet && item.verdict == "sound" {
                    let sign = console.out.signed(Sign::Done);
                    let words = format!("{} is as it was extracted: {}", item.image, item.digest);
                    console.result(&format!("{sign} {}\n", console.out.text(&words)))?;
                }
                items.push(item);
            }
            Err(failure) => {
                console.fail(&failure);
                ends.push(failure.exit());
            }
        }
    }
    if console.json {
        let items = Items::<VerdictItem>::new(items);
        console.document(&Document::new("airlock.verified/1", items))?;
    }
    Ok(Exit::of(ends))
}

/// By digest: two images may have one name.
async fn unpacked(client: &Client) -> Result<Vec<String>, Failure> {
    let images = client.images().await.map_err(|error| client.failed(error))?;
    let images = images.into_iter().filter(|image| image.state != ImageState::Downloaded);
    Ok(images.map(|image| image.digest.hex()).collect())
}

/// Asks until it is over. Each answer waits for up to a second.
async fn finished(client: &Client, image: String) -> Result<VerifyView, NoAnswer> {
    loop {
        let view = client.verify(image.clone()).await?;
        if !matches!(view.finding, Finding::Running { .. }) {
            return Ok(view);
        }
    }
}

fn damaged(client: &Client, view: &VerifyView) -> Failure {
    let VerifyView { name, digest, finding } = view;
    let what = match finding {
        Finding::Differs { what, path } => format!("the entry \"{path}\" {}", what.text()),
        Finding::Running { .. } | Finding::Sound { .. } => String::new(),
    };
    let message = format!("the volume of {name} is not what was extracted: {what}");
    let mut damaged = fault("volume.differs", ErrorClass::Refused, message);
    damaged.facts = vec![("digest".to_owned(), digest.to_string())];
    damaged.remedy = vec![
        "airlock snapshots".to_owned(),
        format!("airlock rm {}", digest.short()),
        "airlock pull SOURCE".to_owned(),
    ];
    Failure { request: Some(client.request.clone()), ..damaged.into() }
}

impl From<VerifyView> for VerdictItem {
    fn from(view: VerifyView) -> Self {
        let VerifyView { name, digest, finding } = view;
        let (verdict, tree, differs) = match finding {
            Finding::Running { .. } => ("running", None, None),
            Finding::Sound { tree } => ("sound", Some(tree.to_string()), None),
            Finding::Differs { what, path } => ("differs", None, Some((path, what))),
        };
        let (path, difference) =
            differs.map(|(path, what)| (path.to_string(), what.text())).unzip();
        Self { image: name, digest: digest.to_string(), verdict, tree, path, difference }
    }
}

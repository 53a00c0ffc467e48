//! `verify`: reads the volumes and blobs of images again, a verdict a line.

use airlock_protocol::control::{ErrorClass, Finding, ImageState, ListImages, VerifyView};
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
    /// `sound`, `differs` (the volume) or `damaged` (a blob).
    verdict: &'static str,
    /// The digest of the whole tree, as it was read.
    tree: Option<String>,
    /// The first entry that differs, and how.
    path: Option<String>,
    difference: Option<&'static str>,
    /// The blob that is damaged.
    blob: Option<String>,
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
                if let Some(failure) = unsound(&client, &view) {
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
    let images =
        client.images(ListImages::default()).await.map_err(|error| client.failed(error))?;
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

/// What is wrong; `None` if nothing is.
fn unsound(client: &Client, view: &VerifyView) -> Option<Failure> {
    let VerifyView { name, digest, finding } = view;
    let volume = |what: String| {
        let what = format!("the volume of {name} is not what was extracted: {what}");
        let remove = format!("airlock rm {}", digest.short());
        let remedy = vec!["airlock snapshots".to_owned(), remove, "airlock pull SOURCE".to_owned()];
        ("volume.differs", what, remedy)
    };
    let (code, message, remedy) = match finding {
        Finding::Running { .. } | Finding::Sound { .. } => return None,
        Finding::Differs { what, path } => volume(format!("the entry \"{path}\" {}", what.text())),
        Finding::OtherTree { recorded, found } => {
            volume(format!("its tree is {found}, and {recorded} is on record"))
        }
        Finding::Damaged { blob, found } => {
            let what = match found {
                Some(found) => format!("is damaged on this machine's disk: it is {found} now"),
                None => "is not on this machine's disk any more".to_owned(),
            };
            let message = format!("the blob {blob} of {name} {what}");
            ("blob.damaged", message, vec!["airlock pull SOURCE".to_owned()])
        }
    };
    let mut unsound = fault(code, ErrorClass::Refused, message);
    unsound.facts = vec![("digest".to_owned(), digest.to_string())];
    unsound.remedy = remedy;
    Some(Failure { request: Some(client.request.clone()), ..unsound.into() })
}

impl From<VerifyView> for VerdictItem {
    fn from(view: VerifyView) -> Self {
        let VerifyView { name, digest, finding } = view;
        let (mut tree, mut path, mut difference, mut damaged) = (None, None, None, None);
        let verdict = match finding {
            Finding::Running { .. } => "running",
            Finding::Sound { tree: found } => {
                tree = Some(found.to_string());
                "sound"
            }
            Finding::Differs { what, path: at } => {
                (path, difference) = (Some(at.to_string()), Some(what.text()));
                "differs"
            }
            Finding::OtherTree { found, recorded: _ } => {
                tree = Some(found.to_string());
                "differs"
            }
            Finding::Damaged { blob, found: _ } => {
                damaged = Some(blob.to_string());
                "damaged"
            }
        };
        let digest = digest.to_string();
        Self { image: name, digest, verdict, tree, path, difference, blob: damaged }
    }
}

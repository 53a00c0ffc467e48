//! `inspect`: everything about an image or a snapshot.

use airlock_policy::name::SnapshotName;
use airlock_protocol::control::{ErrorClass, ImageView, SnapshotView};

use super::Session;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, fault};
use crate::cli::json::{Document, ImageItem, SnapshotItem};
use crate::cli::pen::{Ink, Pen};
use crate::cli::report::labelled;
use crate::cli::{amount, moment, word};

/// `inspect NAME…`
pub(crate) async fn inspect(session: &Session, names: Vec<String>) -> Result<Exit, Failure> {
    let client = session.client().await?;
    let Session { console, .. } = session;
    let (mut ends, mut pages) = (Vec::new(), Vec::new());
    for name in names {
        match find(&client, &name).await {
            Err(failure) if console.quiet && failure.is_absence() => ends.push(failure.exit()),
            Err(failure) => {
                console.fail(&failure);
                ends.push(failure.exit());
            }
            Ok(_) if console.quiet => {}
            Ok((image, snapshot)) if console.json => {
                if let Some(image) = image {
                    let item = ImageItem::from(image);
                    console.document(&Document::new("airlock.image/1", item))?;
                }
                if let Some(snapshot) = snapshot {
                    let item = SnapshotItem::from(snapshot);
                    console.document(&Document::new("airlock.snapshot/1", item))?;
                }
            }
            Ok((image, snapshot)) => {
                pages.extend(image.map(|image| image_page(console.out, &image)));
                pages.extend(snapshot.map(|snapshot| snapshot_page(console.out, &snapshot)));
            }
        }
    }
    console.result(&pages.join("\n"))?;
    Ok(Exit::of(ends))
}

type Found = (Option<ImageView>, Option<SnapshotView>);

/// Whatever has this name: an image, a snapshot, or one of each.
async fn find(client: &Client, name: &str) -> Result<Found, Failure> {
    let mut found = (None, None);
    match client.image(name.to_owned()).await.map_err(|error| client.failed(error)) {
        Ok(image) => found.0 = Some(image),
        Err(failure) if failure.is_absence() => {}
        Err(failure) => return Err(failure),
    }
    // What cannot be a snapshot's name is none.
    if let Ok(name) = name.parse::<SnapshotName>() {
        match client.show_snapshot(name).await.map_err(|error| client.failed(error)) {
            Ok(snapshot) => found.1 = Some(snapshot),
            Err(failure) if failure.is_absence() => {}
            Err(failure) => return Err(failure),
        }
    }
    if matches!(found, (None, None)) {
        let what = format!("nothing is called {name}: no image and no snapshot");
        let mut absent = fault("name.not_found", ErrorClass::NotFound, what);
        absent.remedy = vec!["airlock images".to_owned(), "airlock snapshots".to_owned()];
        return Err(Failure { request: Some(client.request.clone()), ..absent.into() });
    }
    Ok(found)
}

fn image_page(pen: Pen, image: &ImageView) -> String {
    let mut labels = vec![("digest".to_owned(), Ink::Paste, image.digest.to_string())];
    let mut label = |label: &str, text: String| labels.push((label.to_owned(), Ink::Plain, text));
    for source in &image.sources {
        label("source", source.clone());
    }
    let files = image.file_bytes.map(|bytes| format!(", {} of files", amount::bytes(bytes)));
    let blobs = amount::bytes(image.blob_bytes);
    label("size", format!("{blobs} of blobs{}", files.unwrap_or_default()));
    for layer in &image.layers {
        let (blob, chain) = (layer.blob.0.short(), layer.chain_id.0.short());
        let (bytes, entries) = (amount::bytes(layer.blob_bytes), amount::count(layer.entries));
        label("layers", format!("{blob}  {bytes}, {entries} entries, volume {chain}"));
    }
    if image.unwrapped {
        label("root", "the directory rootfs of its tar, unwrapped".to_owned());
    }
    if let Some(tree) = image.tree {
        label("tree", tree.to_string());
    }
    label("fetched", moment::utc(image.created_at));
    label("used", moment::utc(image.used_at));
    let active: Vec<_> = image.snapshots.iter().map(SnapshotName::as_str).collect();
    label("active", if active.is_empty() { "-".to_owned() } else { active.join(", ") });
    let name = pen.ink(Ink::Bold, pen.text(&image.name).as_str());
    format!("{name}  image, {}\n{}", word::image(image.state), labelled(pen, &labels))
}

fn snapshot_page(pen: Pen, snapshot: &SnapshotView) -> String {
    let state = if snapshot.mapped { "active" } else { "no device" };
    let mode = if snapshot.read_only { "read-only" } else { "read-write" };
    let labels = [
        ("device", Ink::Paste, snapshot.device.clone()),
        ("image", Ink::Plain, snapshot.image.clone()),
        ("digest", Ink::Plain, snapshot.digest.to_string()),
        ("mode", Ink::Plain, mode.to_owned()),
        ("size", Ink::Plain, amount::bytes(snapshot.bytes)),
        ("made", Ink::Plain, moment::utc(snapshot.created_at)),
    ]
    .map(|(label, ink, text)| (label.to_owned(), ink, text));
    let name = pen.ink(Ink::Bold, snapshot.name.as_str());
    format!("{name}  snapshot, {state}\n{}", labelled(pen, &labels))
}

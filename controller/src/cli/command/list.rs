//! `images`, `snapshots`: what is here.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use airlock_protocol::control::{ImageView, ListImages, ListSnapshots, SnapshotView};

use super::Session;
use crate::cli::args::{ImageSort, ImageStatus, ListArgs, SnapshotSort, SnapshotStatus, TimeForm};
use crate::cli::failure::{Exit, Failure};
use crate::cli::json::{Document, ImageItem, Items, SnapshotItem};
use crate::cli::pen::Pen;
use crate::cli::table::{Column, Table};
use crate::cli::{amount, moment, word};

/// `images`
pub(crate) async fn images(
    session: &Session,
    status: Option<ImageStatus>,
    sort: ImageSort,
    list: ListArgs,
) -> Result<Exit, Failure> {
    let client = session.client().await?;
    let (status, before) = (status.map(Into::into), list.before());
    let asked = ListImages { status, source: list.source.clone(), before, after: None };
    let mut images = client.images(asked).await.map_err(|error| client.failed(error))?;
    match sort {
        ImageSort::Name => {}
        ImageSort::Size => images.sort_by_key(|image| Reverse(size_of(image))),
        ImageSort::State => images.sort_by_key(|image| word::image(image.state)),
        ImageSort::Used => images.sort_by_key(|image| Reverse(image.used_at)),
    }
    turn(&mut images, &list);
    let Session { console, .. } = session;
    if console.json {
        let items = Items::<ImageItem>::new(images);
        console.document(&Document::new("airlock.images/1", items))?;
    } else if console.quiet {
        console.lines(images.iter().map(|image| console.out.text(&image.name)))?;
    } else {
        console
            .result(&image_table(console.out, &images, list.time).render(width(session, &list)))?;
        console.footer(&image_sum(&images));
    }
    Ok(Exit::OK)
}

/// `snapshots`
pub(crate) async fn snapshots(
    session: &Session,
    status: Option<SnapshotStatus>,
    sort: SnapshotSort,
    list: ListArgs,
) -> Result<Exit, Failure> {
    let client = session.client().await?;
    let mapped = status.map(|status| status == SnapshotStatus::Active);
    let (source, before) = (list.source.clone(), list.before());
    let asked = ListSnapshots { mapped, source, before, after: None };
    let mut snapshots = client.snapshots(asked).await.map_err(|error| client.failed(error))?;
    match sort {
        SnapshotSort::Name => {}
        SnapshotSort::Image => snapshots.sort_by(|one, other| one.image.cmp(&other.image)),
        SnapshotSort::Size => snapshots.sort_by_key(|snapshot| Reverse(snapshot.bytes)),
        SnapshotSort::Age => snapshots.sort_by_key(|snapshot| Reverse(snapshot.created_at)),
    }
    turn(&mut snapshots, &list);
    let Session { console, .. } = session;
    if console.json {
        let items = Items::<SnapshotItem>::new(snapshots);
        console.document(&Document::new("airlock.snapshots/1", items))?;
    } else if console.quiet {
        console.lines(snapshots.iter().map(|snapshot| &snapshot.name))?;
    } else {
        let table = snapshot_table(console.out, &snapshots, list.time);
        console.result(&table.render(width(session, &list)))?;
        console.footer(&amount::of(snapshots.len(), "snapshot"));
    }
    Ok(Exit::OK)
}

/// Turns a sorted list around, where that is asked for.
pub(crate) fn turn<T>(items: &mut [T], list: &ListArgs) {
    if list.reverse {
        items.reverse();
    }
}

/// The size of an image, as it is shown.
fn size_of(image: &ImageView) -> u64 {
    image.file_bytes.unwrap_or(image.blob_bytes)
}

/// The width that a table has to fit.
pub(crate) fn width(session: &Session, list: &ListArgs) -> Option<usize> {
    session.console.out_width.filter(|_| !list.wide)
}

/// A time in a table.
pub(crate) fn time(form: TimeForm, then: i64) -> String {
    match form {
        TimeForm::Age => moment::age(moment::now(), then),
        TimeForm::Utc => moment::utc(then),
    }
}

fn image_table(pen: Pen, images: &[ImageView], form: TimeForm) -> Table {
    let mut table = Table::new(&[
        Column::text("IMAGE"),
        Column::text("DIGEST").drops(3),
        Column::number("SIZE"),
        Column::number("LAYERS").drops(2),
        Column::text("STATE"),
        Column::number("ACTIVE"),
        Column::text("USED").drops(1),
    ]);
    for image in images {
        let active = image.snapshots.len();
        let used = time(form, image.used_at);
        let ago = if form == TimeForm::Age { " ago" } else { "" };
        table.row(
            [
                image.name.clone(),
                image.digest.short(),
                amount::bytes(size_of(image)),
                image.layers.len().to_string(),
                word::image(image.state).to_owned(),
                if active == 0 { "-".to_owned() } else { active.to_string() },
                format!("{used}{ago}"),
            ]
            .map(|cell| pen.text(&cell)),
        );
    }
    table
}

fn image_sum(images: &[ImageView]) -> String {
    // Layers that images share are counted once: that is what they take.
    let layers = || images.iter().flat_map(|image| &image.layers);
    let volumes: BTreeMap<_, _> = layers().map(|l| (l.chain_id, l.file_bytes)).collect();
    let blobs: BTreeMap<_, _> = layers().map(|l| (l.blob, l.blob_bytes)).collect();
    let sum = |bytes: u64, more: &u64| bytes.saturating_add(*more);
    format!(
        "{}, {} of files, {} of blobs (shared layers once)",
        amount::of(images.len(), "image"),
        amount::bytes(volumes.values().fold(0, sum)),
        amount::bytes(blobs.values().fold(0, sum)),
    )
}

fn snapshot_table(pen: Pen, snapshots: &[SnapshotView], form: TimeForm) -> Table {
    let mut table = Table::new(&[
        Column::text("SNAPSHOT"),
        Column::text("IMAGE"),
        Column::text("DEVICE").drops(3),
        Column::text("MODE"),
        Column::number("SIZE").drops(2),
        Column::text("STATE"),
        Column::text("AGE").drops(1),
    ]);
    for snapshot in snapshots {
        table.row(
            [
                snapshot.name.to_string(),
                snapshot.image.clone(),
                snapshot.device.clone(),
                word::mode(snapshot.read_only).to_owned(),
                amount::bytes(snapshot.bytes),
                if snapshot.mapped { "active" } else { "no device" }.to_owned(),
                time(form, snapshot.created_at),
            ]
            .map(|cell| pen.text(&cell)),
        );
    }
    table
}

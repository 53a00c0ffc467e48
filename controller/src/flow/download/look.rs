//! Looks at a source, and at what is here of it already.

use std::time::Instant;

use airlock_policy::digest::{BlobDigest, Digest};
use airlock_policy::size::ByteSize;
use airlock_policy::source::Source;
use airlock_protocol::control::SubStep;

use super::{Download, DownloadEvent, Outcome, blocking, source_fault};
use crate::flow::World;
use crate::flow::step::{Step, StepFault};
use crate::source::ObjectInfo;
use crate::store::image::{self, BlobRow};
use crate::store::source::{self, Seen};

pub(super) async fn check_exists(world: &World, step: &mut Step<'_, Download>) -> Outcome {
    let source = &step.input.source;
    let place = source.place.to_string();
    let record = {
        let place = place.clone();
        world.store.read(move |tx| source::find(tx, &place)).await?
    };
    // A source pinned to what it held last is that, whatever lies at the place by now.
    let pinned = record.as_ref().filter(|(image, _)| source.pin == Some(*image));
    if let Some((image, seen)) = pinned.cloned()
        && held(world, step, image, &seen).await?
    {
        return Ok(DownloadEvent::Held);
    }
    let begun = Instant::now();
    let looked = world.sources.head(&source.place, &step.cancel).await;
    step.took(SubStep::Head, None, begun.elapsed());
    let info = looked.map_err(|error| source_fault(&error))?;
    let seen = seen(&info);
    step.live.progress(0, Some(seen.bytes), None);
    step.note = Some(ByteSize(seen.bytes).to_string());
    step.data.seen = Some(seen.clone());
    if let Some((image, before)) = record
        && before.is_still(&seen)
        && source.pin.is_none_or(|pin| pin == image)
        && held(world, step, image, &seen).await?
    {
        return Ok(DownloadEvent::Held);
    }
    let Seen { bytes, etag, version, modified } = seen;
    let version = version.or(etag).unwrap_or_else(|| format!("{modified:?}"));
    step.rename(format!("{source} as of {version}, {bytes} bytes"));
    Ok(DownloadEvent::Resolved)
}

/// Whether an image's blobs are the files that were validated. If so, that is what came of it.
async fn held(
    world: &World,
    step: &mut Step<'_, Download>,
    digest: Digest,
    seen: &Seen,
) -> Result<bool, StepFault> {
    let rows = world
        .store
        .read(move |tx| {
            let layers = image::layers(tx, digest)?;
            layers.iter().map(|layer| image::blob(tx, layer.blob)).collect::<Result<Vec<_>, _>>()
        })
        .await?;
    let mut entries = 0_u64;
    for row in &rows {
        match row {
            Some(row) if is_as_validated(world, row).await? => {
                entries = entries.saturating_add(row.entries);
                step.data.blob = Some(row.digest);
            }
            Some(_) | None => return Ok(false),
        }
    }
    step.data.image = Some(digest);
    step.data.seen = Some(seen.clone());
    step.data.held = true;
    step.data.entries = entries;
    step.note = Some("nothing to fetch".to_owned());
    Ok(!rows.is_empty())
}

/// Whether a blob's file is the one that was validated.
pub(super) async fn is_as_validated(world: &World, row: &BlobRow) -> Result<bool, StepFault> {
    let (blobs, digest) = (world.blobs.clone(), row.digest);
    let stat = blocking(move || blobs.stat(digest)).await.map_err(StepFault::again)?;
    Ok(stat.is_some_and(|stat| {
        (stat.bytes, stat.inode, stat.mtime_ns) == (row.bytes, row.inode, row.mtime_ns)
    }))
}

fn seen(info: &ObjectInfo) -> Seen {
    let ObjectInfo { bytes, etag, version, modified_ms } = info.clone();
    Seen { bytes, etag, version, modified: modified_ms }
}

/// The blob of an object that was put on record since it was looked at.
pub(super) async fn fetched_meanwhile(
    world: &World,
    source: &Source,
    info: &ObjectInfo,
) -> Result<Option<BlobDigest>, StepFault> {
    let (place, pin) = (source.place.to_string(), source.pin);
    let (wanted, store) = (seen(info), &world.store);
    let found = store.read(move |tx| {
        let Some((image, seen)) = source::find(tx, &place)? else { return Ok(None) };
        if !seen.is_still(&wanted) || pin.is_some_and(|pin| pin != image) {
            return Ok(None);
        }
        // One tar alone is its own image.
        image::blob(tx, BlobDigest(image))
    });
    match found.await? {
        Some(row) if is_as_validated(world, &row).await? => Ok(Some(row.digest)),
        Some(_) | None => Ok(None),
    }
}

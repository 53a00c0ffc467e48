//! Reads a blob as the sandboxed worker will, before any helper is asked to.

use std::sync::Arc;
use std::time::Instant;

use airlock_archive::Position;
use airlock_policy::digest::BlobDigest;
use airlock_policy::source::Source;
use airlock_protocol::control::{Fault, SubStep};

use super::look::is_as_validated;
use super::{Download, DownloadEvent, Outcome, follow};
use crate::blob::{Layer, Progress, ScanFault};
use crate::fault::Explain as _;
use crate::flow::World;
use crate::flow::step::{Step, StepFault, bug};
use crate::store::image;

pub(super) async fn validate(world: &World, step: &mut Step<'_, Download>) -> Outcome {
    let digest = step.data.blob.ok_or_else(|| bug("nothing to validate"))?;
    let known = world.store.read(move |tx| image::blob(tx, digest)).await?;
    if let Some(row) = known
        && is_as_validated(world, &row).await?
    {
        // The same bytes came from elsewhere before.
        step.data.diff_id = Some(row.diff_id);
        (step.data.entries, step.data.file_bytes) = (row.entries, row.file_bytes);
        step.data.wrapped = row.wrapped;
        step.note = Some("validated before".to_owned());
        return Ok(DownloadEvent::Valid);
    }
    let bytes = step.data.seen.as_ref().map_or(0, |seen| seen.bytes);
    let progress = Arc::new(Progress::default());
    let (blobs, limits, told) = (world.blobs.clone(), world.limits, Arc::clone(&progress));
    let layer = Layer { blob: digest, position: Position::Alone };
    let cancel = step.cancel.clone();
    let scan = async move { blobs.scan(layer, limits, &told, &cancel).await };
    let live = Arc::clone(&step.live);
    let begun = Instant::now();
    let scan = follow(&progress, bytes, &live, scan).await;
    step.took(SubStep::Scan, Some(progress.figures().done_bytes), begun.elapsed());
    let scan = scan.map_err(|error| unfit(&error, &step.input.source, digest))?;
    step.data.diff_id = Some(scan.summary.diff_id);
    (step.data.entries, step.data.file_bytes) = (scan.summary.entries, scan.summary.file_bytes);
    step.data.wrapped = scan.is_wrapped;
    step.note = Some(format!("{} entries", scan.summary.entries));
    Ok(DownloadEvent::Valid)
}

/// What a scan that found no layer means.
fn unfit(error: &ScanFault, source: &Source, digest: BlobDigest) -> StepFault {
    let fault = error.fault();
    match error {
        ScanFault::Cancelled => StepFault::Cancelled,
        ScanFault::Read { .. } => StepFault::again(fault),
        ScanFault::Damaged { .. } => StepFault::Abort(fault),
        ScanFault::Refused { .. } => {
            // a refusal is a security event.
            let Fault { code, facts, .. } = &fault;
            tracing::warn!(security = true, %source, %digest, code, ?facts, "an image was refused");
            StepFault::Abort(
                fault
                    .fact("image", source.to_string())
                    .fact("state", "nothing was unpacked; a security event was logged"),
            )
        }
    }
}

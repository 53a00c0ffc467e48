//! Extracts one layer into a volume: confine, read and write, finish, report.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use airlock_archive::{LayerFault, Refusal, read_layer_ahead};
use airlock_policy::errand::{Answer, Extracted, Failure, Progress, Stage};
use airlock_policy::rule::Rule;
use airlock_policy::worker::{BLOB, ExtractOrder, MOUNT, REPORTS, USER_NAMESPACE};
use airlock_sys::inherited;
use rustix::io::Errno;

use crate::report::{Counted, Reports};
use crate::sandbox::{NotConfined, confine_extraction};
use crate::second::Second;
use crate::unpack::Unpack;
use crate::volume::{Volume, WriteFault};
use crate::{chain, log};

/// No report could be sent.
#[derive(Debug, thiserror::Error)]
#[error("report to the launcher")]
pub(crate) struct NotReported(#[from] io::Error);

/// Does the whole job. What goes wrong in it is reported; an error is that it could not be.
pub(crate) fn run(order: &ExtractOrder) -> Result<(), NotReported> {
    let mount = inherited::take(MOUNT)?;
    let blob = inherited::take(BLOB)?;
    let reports = Reports::new(inherited::take(REPORTS)?, order.envelope.clone());
    let user_namespace = inherited::take(USER_NAMESPACE)?;
    let second = match confine_extraction(order, &mount, user_namespace) {
        Ok(second) => second,
        Err(error) => {
            log(&format!("failed to {}", chain(&error)));
            return Ok(reports.end(&failed(Stage::WorkerSandbox, NotConfined::errno(&error)))?);
        }
    };
    // Not one byte of the blob was read before this line.
    Ok(extract(order, (mount, blob), second, reports)?)
}

fn extract(
    order: &ExtractOrder,
    (mount, blob): (OwnedFd, OwnedFd),
    second: Second,
    reports: Reports,
) -> io::Result<()> {
    let volume = match Volume::open(mount) {
        Ok(volume) => volume,
        Err(error) => return reports.end(&write_failed(&error)),
    };
    let (blob, blob_bytes) = Counted::new(File::from(blob));
    let mut unpack = Unpack::new(volume, reports, blob_bytes);
    let read = read_layer_ahead(blob, &order.limits, &mut unpack, |work| second.does(work));
    let (volume, reports) = unpack.into_parts();
    let summary = match read {
        Ok(summary) => summary,
        Err(fault) => return reports.end(&layer_failed(fault)),
    };
    let layout = match volume.finish() {
        Ok(layout) => layout,
        Err(error) => return reports.end(&finish_failed(&error)),
    };
    if summary.left_out > 0 {
        log(&format!("left out {} extended attributes that mean nothing here", summary.left_out));
    }
    let progress = Progress {
        blob_bytes: summary.blob_bytes,
        tar_bytes: summary.tar_bytes,
        entries: summary.entries,
    };
    reports.end(&Answer::Extracted(Extracted {
        blob: summary.blob,
        diff_id: summary.diff_id,
        progress,
        file_bytes: summary.file_bytes,
        layout,
    }))
}

fn layer_failed(fault: LayerFault<WriteFault>) -> Answer {
    match fault {
        LayerFault::Refused(refusal) => {
            log(&format!("layer refused: {refusal}"));
            let Refusal { rule, entry, name: _ } = refusal;
            Answer::Refused { rule, entry }
        }
        LayerFault::Read(error) => {
            log(&format!("failed to read the blob: {error}"));
            failed(Stage::BlobRead, error.raw_os_error().unwrap_or_default())
        }
        LayerFault::Visitor(error) => write_failed(&error),
    }
}

/// The last pass holds a descriptor for each level of the tree: one that has too many, which links
/// among the parents of its entries make possible, is as deep as a name may not be.
fn finish_failed(error: &WriteFault) -> Answer {
    if error.errno() == Errno::MFILE.raw_os_error() {
        let rule = Rule::NameDepth;
        log(&format!("layer refused: the tree is too deep: {rule}"));
        return Answer::Refused { rule, entry: None };
    }
    write_failed(error)
}

fn write_failed(error: &WriteFault) -> Answer {
    log(&format!("failed to {}", chain(error)));
    failed(error.stage(), error.errno())
}

const fn failed(stage: Stage, errno: i32) -> Answer {
    Answer::Failed(Failure { stage, errno })
}

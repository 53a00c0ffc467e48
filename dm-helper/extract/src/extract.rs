//! Extracts one layer into a volume: confine, read and write, finish, report.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use airlock_archive::{LayerFault, Refusal, read_layer_ahead};
use airlock_policy::digest::TreeDigest;
use airlock_policy::errand::{Answer, Extracted, Failure, Progress, Stage};
use airlock_policy::rule::Rule;
use airlock_policy::told::chain;
use airlock_policy::worker::{BELOW, BLOB, DEVICE, ExtractOrder, REPORTS, TREE, USER_NAMESPACE};
use airlock_sys::inherited;
use rustix::io::Errno;

use crate::content::{Contents, Raw};
use crate::mount::{self, Access};
use crate::report::{Counted, Reports};
use crate::sandbox::{NotConfined, confine_extraction};
use crate::threads::{Flusher, Reader};
use crate::unpack::Unpack;
use crate::volume::{Volume, WriteFault};
use crate::{log, manifest};

/// No report could be sent.
#[derive(Debug, thiserror::Error)]
#[error("report to the launcher")]
pub(crate) struct NotReported(#[from] io::Error);

/// Does the whole job. What goes wrong in it is reported; an error is that it could not be.
pub(crate) fn run(order: &ExtractOrder) -> Result<(), NotReported> {
    let device = inherited::take(DEVICE)?;
    let blob = inherited::take(BLOB)?;
    let reports = Reports::new(inherited::take(REPORTS)?, order.envelope.clone());
    let user_namespace = inherited::take(USER_NAMESPACE)?;
    let manifest = File::from(inherited::take(TREE)?);
    let below = order.below.map(|tree| Ok((File::from(inherited::take(BELOW)?), tree)));
    let below: Option<(File, TreeDigest)> = below.transpose().map_err(NotReported)?;
    let mount = match mount::detached(user_namespace.as_fd(), Access::ReadWrite) {
        Ok(mount) => mount,
        Err(failure) => return Ok(reports.end(&Answer::Failed(failure))?),
    };
    drop(device);
    reports.begun()?;
    let threads = match confine_extraction(order, &mount, user_namespace) {
        Ok(threads) => threads,
        Err(error) => {
            log(&format!("failed to {}", chain(&error)));
            return Ok(reports.end(&failed(Stage::WorkerSandbox, NotConfined::errno(&error)))?);
        }
    };
    // Not one byte of the blob was read before this line.
    let contents = Contents::on_top_of(below.map(known_below).unwrap_or_default());
    let files = (mount, blob, manifest);
    Ok(extract(order, files, (threads, contents), reports)?)
}

/// What the files of the volume below hold. Where its manifest is not what it was, nothing: the
/// files are read instead.
fn known_below((manifest, tree): (File, TreeDigest)) -> Vec<(u64, Raw)> {
    manifest::contents(&manifest, tree).ok().flatten().unwrap_or_else(|| {
        log("the manifest of the volume below is damaged: its files are read again");
        Vec::new()
    })
}

fn extract(
    order: &ExtractOrder,
    (mount, blob, manifest): (OwnedFd, OwnedFd, File),
    ((reader, flusher), contents): ((Reader, Flusher), Contents),
    reports: Reports,
) -> io::Result<()> {
    let volume = match Volume::open(mount) {
        Ok(volume) => volume,
        Err(error) => return reports.end(&write_failed(&error)),
    };
    let (blob, blob_bytes) = Counted::new(File::from(blob));
    let mut unpack = Unpack::new((volume, flusher), reports, contents, (blob_bytes, order.unwrap));
    let read = read_layer_ahead(blob, &order.limits, &mut unpack, |work| reader.does(work));
    let (volume, reports, written) = unpack.into_parts();
    let summary = match read {
        Ok(summary) => summary,
        Err(fault) => return reports.end(&layer_failed(fault)),
    };
    let (layout, tree) = match volume.finish(written, manifest) {
        Ok(finished) => finished,
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
        tree,
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

//! From a source to a validated blob and an image on record.
//!
//! `check_exists` looks at the source: one HEAD, or one stat of a file. Where it holds what it held
//! when it was last looked at, and the blob is the file that was validated then, there is nothing
//! to do. `download` brings the bytes, `validate` reads them as the sandboxed worker will,
//! `store_metadata` puts blob, layer, image and source on record. Until then nothing refers to the
//! blob, and a start sweeps away one that nothing refers to.

mod look;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use airlock_policy::digest::{BlobDigest, DiffId, Digest};
use airlock_policy::size::ByteSize;
use airlock_policy::source::{Place, Source};
use airlock_protocol::control::{ErrorClass, Fault, SubStep};
use serde::{Deserialize, Serialize};

use self::look::{check_exists, fetched_meanwhile};
use self::validate::validate;
use super::World;
use super::machine::machine;
use super::queue::Queue;
use super::rules::{Rules, Settings};
use super::step::{Machine, Step, StepFault, bug};
use crate::blob::{Progress, Spent, Wanted};
use crate::fault::{Explain as _, fault};
use crate::source::{ObjectInfo, SourceFault};
use crate::store::image::{self, BlobRow};
use crate::store::source::{self, Seen};

machine! {
    machine "download";
    states DownloadState {
        CheckExists "check_exists",
        Download "download",
        Validate "validate",
        StoreMetadata "store_metadata",
        Done "done",
        Joined "joined",
        Failed "failed",
        Cancelled "cancelled",
    }
    events DownloadEvent {
        Held "held",
        Resolved "resolved",
        Fetched "fetched",
        Changed "changed",
        Valid "valid",
        Stored "stored",
        Joined "joined",
        Failed "failed",
        Cancelled "cancelled",
    }
    start CheckExists; end Done, Joined, Failed, Cancelled;

    CheckExists                                       on Held      => Done;
    CheckExists                                       on Resolved  => Download;
    CheckExists                                       on Joined    => Joined;
    Download                                          on Fetched   => Validate;
    Download                                          on Changed   => CheckExists;
    Download                                          on Joined    => Joined;
    Validate                                          on Valid     => StoreMetadata;
    StoreMetadata                                     on Stored    => Done;
    CheckExists | Download | Validate | StoreMetadata on Failed    => Failed;
    CheckExists | Download | Validate | StoreMetadata on Cancelled => Cancelled;
}

/// The machine.
#[derive(Clone, Copy, Debug)]
pub struct Download;

/// What a download is begun with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DownloadInput {
    /// Where from.
    pub source: Source,
}

/// What a download finds out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct DownloadData {
    /// The source's content as it was when it was looked at.
    pub seen: Option<Seen>,
    /// The image, once it is on record.
    pub image: Option<Digest>,
    /// Whether there was nothing to fetch.
    pub held: bool,
    /// The blob, once it is here.
    pub blob: Option<BlobDigest>,
    /// Bytes that came over the network.
    pub fetched_bytes: u64,
    /// The most bytes that were here when an attempt ended.
    pub kept_bytes: u64,
    /// How often the source changed under our hands.
    pub changes: u32,
    /// The diff id, once validated.
    pub diff_id: Option<DiffId>,
    /// Entries, once validated.
    pub entries: u64,
    /// Bytes of the files, once validated.
    pub file_bytes: u64,
    /// Whether all of it lies in one directory that is taken for the root, once validated.
    pub wrapped: bool,
}

impl Download {
    /// The machine's name.
    pub const NAME: &'static str = "download";

    /// What a stored download has brought so far.
    pub(crate) fn read(input: &str, data: &str) -> Option<Begun> {
        let input: DownloadInput = serde_json::from_str(input).ok()?;
        let data: DownloadData = serde_json::from_str(data).ok()?;
        Some(Begun { place: input.source.place, seen: data.seen, blob: data.blob })
    }
}

/// A download that may go on.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Where from.
    pub(crate) place: Place,
    /// What lay there.
    pub(crate) seen: Option<Seen>,
    /// The whole blob, where it is here.
    pub(crate) blob: Option<BlobDigest>,
}

/// How often a source may change while it is fetched.
const MAX_CHANGES: u32 = 3;

type Outcome = Result<DownloadEvent, StepFault>;

impl Machine for Download {
    type State = DownloadState;
    type Input = DownloadInput;
    type Data = DownloadData;
    const DEFINITION: u32 = 1;
    const JOINED: Option<(DownloadEvent, DownloadState)> =
        Some((DownloadEvent::Joined, DownloadState::Joined));

    fn rules(state: DownloadState, settings: &Settings) -> Rules {
        let Settings { attempts, deadlines, .. } = settings;
        match state {
            DownloadState::CheckExists => {
                settings.s3_rules(attempts.check_exists, deadlines.check_exists)
            }
            DownloadState::Download => settings
                .s3_rules(attempts.download, deadlines.download)
                .queued(Queue::Download)
                .giving_way(),
            DownloadState::Validate => settings
                .rules(attempts.validate, deadlines.validate)
                .queued(Queue::Download)
                .giving_way(),
            DownloadState::StoreMetadata
            | DownloadState::Done
            | DownloadState::Joined
            | DownloadState::Failed
            | DownloadState::Cancelled => {
                settings.rules(attempts.store_metadata, deadlines.store_metadata)
            }
        }
    }

    fn image(input: &DownloadInput, data: &DownloadData) -> (Option<String>, Option<String>) {
        let digest = data.image.or(data.blob.map(|blob| blob.0));
        (Some(input.source.image_name()), digest.map(|digest| digest.to_string()))
    }

    async fn perform(world: &World, state: DownloadState, step: &mut Step<'_, Self>) -> Outcome {
        match state {
            DownloadState::CheckExists => check_exists(world, step).await,
            DownloadState::Download => download(world, step).await,
            DownloadState::Validate => validate(world, step).await,
            DownloadState::StoreMetadata => store_metadata(world, step).await,
            DownloadState::Done
            | DownloadState::Joined
            | DownloadState::Failed
            | DownloadState::Cancelled => Err(bug("a download went on after its end")),
        }
    }

    async fn clean_up(world: &World, _state: DownloadState, step: &mut Step<'_, Self>) {
        // Parts of a blob stay: the next try goes on from them. A whole blob that is on nobody's
        // record goes.
        if let Some(blob) = step.data.blob
            && let Err(error) = discard(world, blob).await
        {
            tracing::warn!(%blob, cause = ?error.cause, "failed to remove a blob");
        }
    }
}

/// Removes a blob, unless it is on record.
async fn discard(world: &World, digest: BlobDigest) -> Result<(), Fault> {
    let known = world.store.read(move |tx| image::blob(tx, digest)).await;
    if known.map_err(|error| error.fault())?.is_none() {
        let blobs = world.blobs.clone();
        blocking(move || blobs.remove(digest)).await?;
    }
    Ok(())
}

async fn download(world: &World, step: &mut Step<'_, Download>) -> Outcome {
    let seen = step.data.seen.clone().ok_or_else(|| bug("a download without a look before"))?;
    let Seen { bytes, etag, version, modified } = seen;
    let info = ObjectInfo { bytes, etag, version, modified_ms: modified };
    let source = &step.input.source;
    // A pinned and an unpinned download of one place are two flows and one file.
    let place = source.place.to_string();
    let turn = world.locks.hold(&place);
    let _turn = tokio::select! {
        turn = turn => turn,
        () = step.cancel.cancelled() => return Err(StepFault::Cancelled),
    };
    if let Some(blob) = fetched_meanwhile(world, source, &info).await? {
        step.note = Some("fetched by another run meanwhile".to_owned());
        step.data.blob = Some(blob);
        return Ok(DownloadEvent::Fetched);
    }
    let wanted = Wanted { place: &source.place, info: &info, pin: source.pin };
    let progress = Arc::new(Progress::default());
    let fetch = world.blobs.fetch(&world.sources, wanted, &progress, &step.cancel);
    let live = Arc::clone(&step.live);
    let fetched = follow(&progress, bytes, &live, fetch).await;
    let figures = progress.figures();
    step.data.fetched_bytes = step.data.fetched_bytes.saturating_add(figures.fetched_bytes);
    let parts = [
        (SubStep::Get, figures.get),
        (SubStep::Hash, figures.hash),
        (SubStep::Flush, figures.flush),
    ];
    for (part, spent) in parts {
        if let Some(Spent { bytes, took }) = spent {
            step.took(part, Some(bytes), took);
        }
    }
    match fetched {
        Ok(fetched) => {
            let size = ByteSize(fetched.fetched_bytes);
            step.note = Some(format!("{size} fetched"));
            step.data.blob = Some(fetched.digest);
            Ok(DownloadEvent::Fetched)
        }
        Err(SourceFault::Changed { .. }) if step.data.changes < MAX_CHANGES => {
            step.data.changes = step.data.changes.saturating_add(1);
            step.data.kept_bytes = 0;
            step.note = Some("the source changed while it was fetched".to_owned());
            step.rename(source.to_string());
            Ok(DownloadEvent::Changed)
        }
        Err(error) => {
            // Attempts that bring the download further do not count against it.
            let progressed = figures.done_bytes > step.data.kept_bytes;
            step.data.kept_bytes = step.data.kept_bytes.max(figures.done_bytes);
            Err(source_fault(&error).having_progressed(progressed))
        }
    }
}

/// Does a piece of work, and meanwhile copies its figures to where people see them.
async fn follow<T>(
    progress: &Progress,
    total: u64,
    live: &super::live::LiveFlow,
    work: impl Future<Output = T>,
) -> T {
    let copy = || {
        let figures = progress.figures();
        live.progress(figures.done_bytes, Some(total), None);
    };
    let copying = async {
        loop {
            copy();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::pin!(work);
    let done = tokio::select! {
        done = &mut work => done,
        // Never ends.
        () = copying => work.await,
    };
    copy();
    done
}

async fn store_metadata(world: &World, step: &mut Step<'_, Download>) -> Outcome {
    let DownloadData { seen, blob, diff_id, entries, file_bytes, wrapped, .. } = step.data.clone();
    let (Some(seen), Some(digest), Some(diff_id)) = (seen, blob, diff_id) else {
        return Err(bug("nothing to put on record"));
    };
    let blobs = world.blobs.clone();
    let stat = blocking(move || blobs.stat(digest)).await.map_err(StepFault::again)?;
    let stat = stat.ok_or_else(|| {
        StepFault::Abort(
            fault(ErrorClass::NotFound, "blob.absent", "the blob vanished after it was validated")
                .fact("blob", digest.to_string()),
        )
    })?;
    let row = BlobRow {
        digest,
        diff_id,
        bytes: stat.bytes,
        inode: stat.inode,
        mtime_ns: stat.mtime_ns,
        entries,
        file_bytes,
        wrapped,
    };
    let unwrapped = || "all of it is in rootfs, which is taken for the root".to_owned();
    step.note = wrapped.then(unwrapped);
    // One tar alone is its own image: the image's digest is the blob's.
    let image = digest.0;
    let (place, name) = (step.input.source.place.to_string(), step.input.source.image_name());
    step.data.image = Some(image);
    step.write(move |tx| {
        image::record(tx, &row, image, &name)?;
        source::record(tx, &place, &name, image, &seen)
    });
    Ok(DownloadEvent::Stored)
}

fn source_fault(error: &SourceFault) -> StepFault {
    if matches!(error, SourceFault::Cancelled) {
        StepFault::Cancelled
    } else if error.is_retryable() {
        StepFault::again(error.fault())
    } else {
        StepFault::by_class(error.fault())
    }
}

/// Does a short piece of file work where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    let failed =
        || fault(ErrorClass::Unavailable, "disk.failed", "failed to use the folder of the blobs");
    done.map_err(|error| failed().because(&error))?.map_err(|error| failed().because(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::machine::checks::check;

    #[test]
    fn the_table_is_whole() {
        use DownloadEvent as E;
        check::<DownloadState>(
            &[
                E::Held,
                E::Resolved,
                E::Fetched,
                E::Changed,
                E::Valid,
                E::Stored,
                E::Joined,
                E::Failed,
                E::Cancelled,
            ],
            "
check_exists: held>done resolved>download joined>joined failed>failed cancelled>cancelled
download: fetched>validate changed>check_exists joined>joined failed>failed cancelled>cancelled
validate: valid>store_metadata failed>failed cancelled>cancelled
store_metadata: stored>done failed>failed cancelled>cancelled
done:
joined:
failed:
cancelled:",
        );
    }
}

//! What the daemon shows. Sizes are bytes, durations milliseconds, times Unix milliseconds.

mod run;

use airlock_policy::digest::{BlobDigest, ChainId, DiffId, Digest, TreeDigest};
use airlock_policy::name::SnapshotName;
use airlock_policy::tree::{Difference, ShownPath};
use serde::{Deserialize, Serialize};

use crate::reply::PoolUsage;

pub use run::{
    ChildView, InvalidRunId, Links, RUN_DIGITS, Reused, RunId, RunKind, RunResult, RunState,
    RunView, StageState, StageView, StepRecord, SubStep, Timing,
};

/// A page of a list.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Listing<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to ask for next; `None` on the last page.
    pub next: Option<String>,
}

/// Who the daemon is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DaemonInfo {
    /// Its version.
    pub version: String,
    /// The protocol's version.
    pub protocol: u32,
    /// Its process id.
    pub pid: u32,
    /// The helper's version, where it was asked for and answers.
    pub helper_version: Option<String>,
    /// The helper's protocol, where it was asked for and answers.
    pub helper_protocol: Option<u32>,
}

/// How far an image is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// Its blob is here.
    Downloaded,
    /// Its volume is sealed.
    Unpacked,
    /// It has at least one active snapshot.
    Active,
}

/// An image.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ImageView {
    /// Its name.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
    /// Where it came from, last first.
    pub sources: Vec<String>,
    /// How far it is.
    pub state: ImageState,
    /// Bytes of its blobs.
    pub blob_bytes: u64,
    /// Bytes of its files, once known.
    pub file_bytes: Option<u64>,
    /// Its layers, lowest first.
    pub layers: Vec<LayerView>,
    /// Whether all of it lay in one directory `rootfs`, which is taken for the root.
    pub unwrapped: bool,
    /// The digest of the whole tree, once it is unpacked.
    pub tree: Option<TreeDigest>,
    /// Its active snapshots.
    pub snapshots: Vec<SnapshotName>,
    /// When it was first fetched.
    pub created_at: i64,
    /// When it was last pulled or activated.
    pub used_at: i64,
}

/// A layer of an image.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LayerView {
    /// The blob.
    pub blob: BlobDigest,
    /// Bytes of the blob.
    pub blob_bytes: u64,
    /// The digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// The identity of this layer on top of those below it.
    pub chain_id: ChainId,
    /// Entries.
    pub entries: u64,
    /// Bytes of its files.
    pub file_bytes: u64,
}

/// An image whose volume is read again.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct VerifyView {
    /// The image's name.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
    /// How far that is, or what it came to.
    pub finding: Finding,
}

/// What a verification found.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// It goes on: ask again.
    Running {
        /// Entries compared.
        entries: u64,
        /// Bytes of files read.
        bytes: u64,
    },
    /// The volume is what was extracted.
    Sound {
        /// The digest of the whole tree.
        tree: TreeDigest,
    },
    /// It is not.
    Differs {
        /// What differs.
        what: Difference,
        /// The first entry that does, for the eye only.
        path: ShownPath,
    },
    /// The volume is what the helper's ledger says, and the database says otherwise.
    OtherTree {
        /// The digest of the whole tree, as it is on record.
        recorded: TreeDigest,
        /// As it was read.
        found: TreeDigest,
    },
    /// The volume is what was extracted, and a blob is not what was fetched.
    Damaged {
        /// The blob.
        blob: BlobDigest,
        /// The digest of what lies in its place; `None` where nothing does.
        found: Option<BlobDigest>,
    },
}

/// A snapshot.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SnapshotView {
    /// Its name.
    pub name: SnapshotName,
    /// The image's name.
    pub image: String,
    /// The image's digest.
    pub digest: Digest,
    /// Its device, or where it is mounted.
    pub device: String,
    /// Whether the device is there now.
    pub mapped: bool,
    /// Whether the device refuses writes.
    pub read_only: bool,
    /// The device's size.
    pub bytes: u64,
    /// When it was made.
    pub created_at: i64,
}

/// The pool.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PoolView {
    /// How it is; `None` while it is down.
    pub usage: Option<PoolUsage>,
    /// Whether this call changed anything.
    pub changed: bool,
}

/// How one thing is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// Well.
    Ok,
    /// Worth a look.
    Warning,
    /// New work is refused.
    Failed,
    /// It could not be read.
    Unknown,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HealthLine {
    /// What: `pool`.
    pub name: String,
    /// How it is.
    pub state: HealthState,
    /// In words and numbers.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// One thing that the records said wrongly, or not at all.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RepairLine {
    /// Of what: `snapshot web`.
    pub subject: String,
    /// What came of it.
    pub outcome: RepairOutcome,
    /// In words.
    pub text: String,
}

/// What came of a repair.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairOutcome {
    /// It would be done.
    Planned,
    /// It was done.
    Done,
    /// It cannot be known or had again from what is here.
    Lost,
    /// It was not done.
    Failed,
}

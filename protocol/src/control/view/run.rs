//! What the daemon answers of runs.

use std::fmt;
use std::str::FromStr;

use airlock_policy::digest::Digest;
use airlock_policy::name::SnapshotName;
use serde::{Deserialize, Serialize};

use super::super::fault::Fault;

/// The text is not a run id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a run id is 8 characters of 0-9 and a-z without i, l, o and u")]
pub struct InvalidRunId;

/// A run's id: 8 characters of Crockford's base 32, lower case.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// The digits of a run id.
pub const RUN_DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl RunId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RunId {
    type Error = InvalidRunId;

    fn try_from(text: String) -> Result<Self, InvalidRunId> {
        let well_formed = text.len() == 8 && text.bytes().all(|b| RUN_DIGITS.contains(&b));
        if well_formed { Ok(Self(text)) } else { Err(InvalidRunId) }
    }
}

impl FromStr for RunId {
    type Err = InvalidRunId;

    fn from_str(text: &str) -> Result<Self, InvalidRunId> {
        text.to_owned().try_into()
    }
}

impl From<RunId> for String {
    fn from(run: RunId) -> Self {
        run.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a run does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Fetches, validates and unpacks.
    Pull,
    /// Activates what is here.
    Activate,
    /// Both.
    Run,
}

/// Where a run is as a whole.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It waits for its turn.
    Queued,
    /// It goes on.
    Running,
    /// It waits before it tries again.
    Waiting,
    /// It came to its end.
    Done,
    /// It failed for good.
    Failed,
    /// The operator cancelled it.
    Cancelled,
    /// Its record could not be read, and was set aside.
    Unreadable,
}

impl RunState {
    /// Whether nothing more happens.
    pub const fn is_over(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::Waiting => false,
            Self::Done | Self::Failed | Self::Cancelled | Self::Unreadable => true,
        }
    }
}

/// A run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RunView {
    /// Its id.
    pub run: RunId,
    /// What it does.
    pub kind: RunKind,
    /// What it works on, as people call it: `golang:2`.
    pub subject: String,
    /// The source, where it has one.
    pub source: Option<String>,
    /// Where it is.
    pub state: RunState,
    /// The stages that people see, in order: resolve, download, validate, unpack, activate.
    pub stages: Vec<StageView>,
    /// Every attempt at every state so far; filled by `show_run` only.
    pub steps: Vec<StepRecord>,
    /// The run that it does again.
    #[serde(default)]
    pub retry_of: Option<RunId>,
    /// The run that does it again; filled by `show_run` only.
    #[serde(default)]
    pub retried_as: Option<RunId>,
    /// When its history was removed: there is the bare outcome, and neither stages nor steps.
    #[serde(default)]
    pub archived_at: Option<i64>,
    /// Rises with everything that changes here.
    pub version: u64,
    /// When it was submitted.
    pub submitted_at: i64,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// What came of it, once it is done.
    pub result: Option<RunResult>,
    /// Why it failed, once it did; while it waits, why the last attempt did.
    pub fault: Option<Fault>,
    /// How it hangs together with others, and when it begins.
    pub links: Links,
}

/// How a run hangs together with others, and when it begins.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Links {
    /// The run that it follows.
    pub after: Option<RunId>,
    /// Whether it runs also if that one is not done.
    pub runs_anyway: bool,
    /// Whether it still waits for that one.
    pub waits: bool,
    /// It does not begin before.
    pub not_before: Option<i64>,
    /// The run that stands for all sources of its command.
    pub parent: Option<RunId>,
    /// The runs that it stands for.
    pub children: Vec<ChildView>,
}

/// A run that another one stands for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ChildView {
    /// Its id.
    pub run: RunId,
    /// What it works on, as people call it.
    pub subject: String,
    /// Where it is.
    pub state: RunState,
}

/// A stage of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StageView {
    /// Its name: `download`.
    pub name: String,
    /// Where it is.
    pub state: StageState,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all, where known.
    pub total_bytes: Option<u64>,
    /// Entries done, where it counts any.
    pub entries: Option<u64>,
    /// How long it took, or has taken.
    pub took_ms: u64,
    /// The attempt, from 1.
    pub attempt: u32,
    /// One line of what came of it.
    pub note: Option<String>,
}

/// Where a stage is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Not begun.
    Pending,
    /// Going on.
    Running,
    /// Failed, and will be tried again.
    Again,
    /// Done, by this run.
    Done,
    /// There was nothing to do: it was so already.
    Held,
    /// Failed for good.
    Failed,
}

/// One attempt at one state of a state machine.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StepRecord {
    /// The machine: `download`.
    pub machine: String,
    /// The state: `check_exists`.
    pub state: String,
    /// The attempt, from 1.
    pub attempt: u32,
    /// When it began.
    pub started_at: i64,
    /// How long it took; `None` while it goes on.
    pub took_ms: Option<u64>,
    /// What came of it, or why it failed.
    pub outcome: Option<String>,
    /// What of it was measured by itself.
    #[serde(default)]
    pub timings: Vec<Timing>,
}

/// A part of an attempt that is measured by itself.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SubStep {
    /// A look at the source, tries included.
    Head,
    /// The bytes' way from the source to the blobs' disk.
    Get,
    /// The hashing of the blob, which goes on beside `get`.
    Hash,
    /// The reading of the blob by every rule, and its hashing once more.
    Scan,
    /// The making of the volume by the helper.
    Create,
    /// The extraction by the worker, with its own hashing and the flush of the filesystem, as the
    /// daemon saw it.
    Extract,
    /// The judgement on the tree's top.
    Verify,
    /// The flush of the blob; the sealing of the volume, which commits it to the pool.
    Flush,
    /// The taking of the snapshot, and its device's or mount's appearance.
    Snapshot,
}

/// How long a part of an attempt took.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Timing {
    /// The part.
    pub part: SubStep,
    /// The bytes that it worked on, where it works on bytes.
    pub bytes: Option<u64>,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// What came of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RunResult {
    /// The image.
    pub image: String,
    /// The image's digest.
    pub digest: Digest,
    /// The snapshot, where one was activated.
    pub snapshot: Option<SnapshotName>,
    /// The snapshot's device: `/dev/airlock/web`; where it is mounted, `/run/airlock/mnt/web`.
    pub device: Option<String>,
    /// The device's size.
    pub device_bytes: Option<u64>,
    /// Whether the device refuses writes.
    pub read_only: bool,
    /// What was not done because it was so already.
    pub reused: Reused,
    /// Whether anything changed at all.
    pub changed: bool,
    /// Bytes fetched from the source.
    pub fetched_bytes: u64,
    /// From submission to the end.
    pub took_ms: u64,
}

/// What was reused.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reused {
    /// The blob was here.
    pub blob: bool,
    /// The volume was here.
    pub volume: bool,
    /// The snapshot was active.
    pub snapshot: bool,
}

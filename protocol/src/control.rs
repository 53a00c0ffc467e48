//! What an operator's command may ask of the daemon, over `control.sock`.
//!
//! Work is submitted as a *run* and then watched: a command that is interrupted leaves its run
//! going on. `watch` is a long poll: it answers as soon as something is newer than what the caller
//! has seen, and after a second at the latest.

#![expect(missing_docs, reason = "tarpc generates undocumented items")]

mod fault;
mod machines;
mod view;

pub use fault::{ErrorClass, Fault};
pub use machines::{MachineView, MachinesView, QueueView, Setting, StateRules};
pub use view::{
    ChildView, DaemonInfo, Finding, HealthLine, HealthState, ImageState, ImageView, InvalidRunId,
    LayerView, Links, Listing, PoolView, RUN_DIGITS, RepairLine, RepairOutcome, Reused, RunId,
    RunKind, RunResult, RunState, RunView, SnapshotView, StageState, StageView, StepRecord,
    SubStep, Timing, VerifyView,
};

use airlock_policy::name::{RequestId, SnapshotName};
use airlock_policy::source::Source;
use serde::{Deserialize, Serialize};

#[tarpc::service]
pub trait Control {
    /// Says who the daemon is, and of which helper it knows.
    async fn hello(request: Hello) -> Result<DaemonInfo, Fault>;
    /// Starts a pull, an activation or both; answers the run that does it. Work on the same
    /// subject that is under way already is joined, not started again.
    async fn submit(request: Submit) -> Result<RunView, Fault>;
    /// Starts the same kind of work on several subjects, under a parent; answers the parent, which
    /// names its children. An order that is identical to one under way is joined.
    async fn submit_all(request: SubmitAll) -> Result<RunView, Fault>;
    /// Waits for news of a run.
    async fn watch(request: Watch) -> Result<RunView, Fault>;
    /// Lists runs, newest first.
    async fn runs(request: ListRuns) -> Result<Listing<RunView>, Fault>;
    /// Shows one run with all its steps.
    async fn show_run(request: ShowRun) -> Result<RunView, Fault>;
    /// Cancels a run.
    async fn cancel(request: ShowRun) -> Result<RunView, Fault>;
    /// Says what holds for each state of each machine, and how busy it is.
    async fn machines(request: Ask) -> Result<MachinesView, Fault>;
    /// Begins a run that failed or was cancelled again; answers the one that does it.
    async fn retry(request: Retry) -> Result<RunView, Fault>;
    /// Lists images, by name.
    async fn images(request: ListImages) -> Result<Listing<ImageView>, Fault>;
    /// Lists snapshots, by name.
    async fn snapshots(request: ListSnapshots) -> Result<Listing<SnapshotView>, Fault>;
    /// Shows one image, by name, source, or 12 or more hex digits of its digest.
    async fn image(request: Named) -> Result<ImageView, Fault>;
    /// Shows one snapshot.
    async fn show_snapshot(request: OneSnapshot) -> Result<SnapshotView, Fault>;
    /// Takes a snapshot's device away and deletes the snapshot with what was written in it.
    async fn deactivate(request: OneSnapshot) -> Result<SnapshotView, Fault>;
    /// Removes an image that is not active: its record, its blobs and its volumes, where no other
    /// image needs them.
    async fn remove(request: Named) -> Result<ImageView, Fault>;
    /// Has an image's volume read again; answers how far that is, or what it came to.
    async fn verify(request: Named) -> Result<VerifyView, Fault>;
    /// Brings the pool up, and makes it where there is none.
    async fn pool_setup(request: Ask) -> Result<PoolView, Fault>;
    /// Makes the pool's files larger.
    async fn pool_extend(request: Extend) -> Result<PoolView, Fault>;
    /// Says how the pool is.
    async fn pool_status(request: Ask) -> Result<PoolView, Fault>;
    /// Says what is well and what is not.
    async fn health(request: Ask) -> Result<Listing<HealthLine>, Fault>;
    /// Brings the database in line with the helper's ledger and the blobs that are here; destroys
    /// none of them.
    async fn repair(request: Repair) -> Result<Listing<RepairLine>, Fault>;
}

/// Asks who the daemon is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The protocol's version as the caller knows it.
    pub protocol: u32,
    /// Whether the helper is to be asked who it is, too: that takes up to a second.
    #[serde(default)]
    pub with_helper: bool,
}

/// A question without any detail.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The id of the operator's command.
    pub request: RequestId,
}

/// Asks for the records to be mended.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Repair {
    /// The id of the operator's command.
    pub request: RequestId,
    /// Whether nothing is to be changed, only said.
    pub dry_run: bool,
}

/// Asks for a larger pool.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Extend {
    /// The id of the operator's command.
    pub request: RequestId,
    /// The size that the data file is to have at least, in bytes.
    pub data_bytes: Option<u64>,
    /// The size that the metadata file is to have at least, in bytes.
    pub metadata_bytes: Option<u64>,
}

/// Asks for a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Submit {
    /// The id of the operator's command.
    pub request: RequestId,
    /// What to do.
    pub work: Work,
    /// When.
    #[serde(default)]
    pub when: When,
}

/// Asks for several runs, under a parent.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitAll {
    /// The id of the operator's command.
    pub request: RequestId,
    /// What to do.
    pub works: Vec<Work>,
    /// When.
    #[serde(default)]
    pub when: When,
}

/// How many runs one order may ask for.
pub const MAX_WORKS: usize = 1000;

/// When a run begins: at once, or when all of this is so.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// This run has ended.
    pub after: Option<RunId>,
    /// What if that one is not done then.
    #[serde(default)]
    pub if_failed: IfFailed,
    /// This time has come.
    pub start: Option<Start>,
}

/// What becomes of a run if the one that it follows is not done.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IfFailed {
    /// It does not run: it fails.
    #[default]
    Skip,
    /// It runs.
    Run,
}

/// The time at which a run begins.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// So many milliseconds from its submission.
    Delay(u64),
    /// Then, in Unix milliseconds.
    At(i64),
}

/// What a run does.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Fetches, validates and unpacks an image.
    Pull {
        /// Where from.
        source: Source,
    },
    /// Activates an image that is here.
    Activate {
        /// The image: a name, a source, or 12 or more hex digits of its digest.
        image: String,
        /// How.
        activation: Activation,
    },
    /// Pulls, then activates.
    Run {
        /// Where from.
        source: Source,
        /// How to activate.
        activation: Activation,
    },
}

/// How an image is activated.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// The snapshot's name; one made from the image's name where absent.
    pub name: Option<SnapshotName>,
    /// Whether the device refuses writes.
    pub read_only: bool,
    /// Whether it is mounted on the host, instead of being handed out as a device.
    #[serde(default)]
    pub mount: bool,
    /// The size that it and its filesystem are to have, in bytes; its image's where absent.
    #[serde(default)]
    pub bytes: Option<u64>,
}

/// Waits for news of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The run.
    pub run: RunId,
    /// The [`RunView::version`] that the caller has seen; the largest number there is for whoever
    /// waits for the end alone.
    pub seen: u64,
}

/// Names a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ShowRun {
    /// The run.
    pub run: RunId,
}

/// Asks for a run to be begun again.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// The id of the operator's command.
    pub request: RequestId,
    /// The run that failed or was cancelled.
    pub run: RunId,
}

/// Asks for runs, a page at a time.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ListRuns {
    /// Whether runs that ended are listed too.
    pub all: bool,
    /// Only those in this state, ended or not.
    #[serde(default)]
    pub status: Option<RunState>,
    /// Only those whose source begins with this.
    #[serde(default)]
    pub source: Option<String>,
    /// Only those submitted at this time or before, in Unix milliseconds.
    #[serde(default)]
    pub before: Option<i64>,
    /// [`Listing::next`] of the page before.
    pub after: Option<String>,
}

/// Asks for images, a page at a time. A page of a list that is filtered may be empty and lead on.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ListImages {
    /// Only those that are so far, and no further.
    #[serde(default)]
    pub status: Option<ImageState>,
    /// Only those that came from a source that begins with this.
    #[serde(default)]
    pub source: Option<String>,
    /// Only those used last at this time or before, in Unix milliseconds.
    #[serde(default)]
    pub before: Option<i64>,
    /// [`Listing::next`] of the page before.
    pub after: Option<String>,
}

/// Asks for snapshots, a page at a time. A page of a list that is filtered may be empty and lead on.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ListSnapshots {
    /// Only those whose device is there, or is not.
    #[serde(default)]
    pub mapped: Option<bool>,
    /// Only those of an image that came from a source that begins with this.
    #[serde(default)]
    pub source: Option<String>,
    /// Only those made at this time or before, in Unix milliseconds.
    #[serde(default)]
    pub before: Option<i64>,
    /// [`Listing::next`] of the page before.
    pub after: Option<String>,
}

/// Names an image: a name, a source, or 12 or more hex digits of its digest.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The id of the operator's command.
    pub request: RequestId,
    /// What the operator wrote.
    pub image: String,
}

/// Names a snapshot.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OneSnapshot {
    /// The id of the operator's command.
    pub request: RequestId,
    /// The snapshot.
    pub name: SnapshotName,
}

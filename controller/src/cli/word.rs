//! The words that people and programs see for states.

use airlock_protocol::control::{
    ErrorClass, HealthState, ImageState, RepairOutcome, RunKind, RunState, StageState, SubStep,
};
use airlock_protocol::reply::PoolMode;

/// An error's class, as in JSON.
pub(crate) const fn class(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Internal => "internal",
        ErrorClass::Usage => "usage",
        ErrorClass::Refused => "refused",
        ErrorClass::NotFound => "not_found",
        ErrorClass::Unavailable => "unavailable",
        ErrorClass::Conflict => "conflict",
        ErrorClass::Busy => "busy",
        ErrorClass::Timeout => "timeout",
    }
}

/// What a run does.
pub(crate) const fn kind(kind: RunKind) -> &'static str {
    match kind {
        RunKind::Pull => "pull",
        RunKind::Activate => "activate",
        RunKind::Run => "run",
    }
}

/// Where a run is.
pub(crate) const fn run(state: RunState) -> &'static str {
    match state {
        RunState::Queued => "queued",
        RunState::Running => "running",
        RunState::Waiting => "waiting",
        RunState::Done => "done",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
        RunState::Unreadable => "unreadable",
    }
}

/// Where a stage is.
pub(crate) const fn stage(state: StageState) -> &'static str {
    match state {
        StageState::Pending => "pending",
        StageState::Running => "running",
        StageState::Again => "again",
        StageState::Done => "done",
        StageState::Held => "held",
        StageState::Failed => "failed",
    }
}

/// A part of a step that is measured by itself.
pub(crate) const fn sub_step(part: SubStep) -> &'static str {
    match part {
        SubStep::Head => "head",
        SubStep::Get => "get",
        SubStep::Hash => "hash",
        SubStep::Scan => "scan",
        SubStep::Create => "create",
        SubStep::Extract => "extract",
        SubStep::Verify => "verify",
        SubStep::Flush => "flush",
        SubStep::Snapshot => "snapshot",
    }
}

/// How far an image is.
pub(crate) const fn image(state: ImageState) -> &'static str {
    match state {
        ImageState::Downloaded => "downloaded",
        ImageState::Unpacked => "unpacked",
        ImageState::Active => "active",
    }
}

/// How one thing is.
pub(crate) const fn health(state: HealthState) -> &'static str {
    match state {
        HealthState::Ok => "ok",
        HealthState::Warning => "warning",
        HealthState::Failed => "failed",
        HealthState::Unknown => "unknown",
    }
}

/// What came of a repair.
pub(crate) const fn repair(outcome: RepairOutcome) -> &'static str {
    match outcome {
        RepairOutcome::Planned => "planned",
        RepairOutcome::Done => "done",
        RepairOutcome::Lost => "lost",
        RepairOutcome::Failed => "failed",
    }
}

/// What the kernel does with writes to the pool, as in JSON.
pub(crate) const fn pool(mode: PoolMode) -> &'static str {
    match mode {
        PoolMode::ReadWrite => "read_write",
        PoolMode::ReadOnly => "read_only",
        PoolMode::OutOfDataSpace => "out_of_data_space",
        PoolMode::Failed => "failed",
    }
}

/// Whether a device refuses writes.
pub(crate) const fn mode(read_only: bool) -> &'static str {
    if read_only { "ro" } else { "rw" }
}

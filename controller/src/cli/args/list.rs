//! What is listed, by what it is sorted, and how it is shown.

use std::time::Duration;

use airlock_protocol::control::{ImageState, RunState};
use clap::ValueEnum;

use crate::cli::moment;

/// How to list.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[arg(help = "Only those from a source that begins with this, such as s3://images/")]
    #[arg(long, value_name = "START")]
    pub(crate) source: Option<String>,
    /// Only those that are older than this, such as 36h, 7d or 2w
    #[arg(long, value_name = "AGE", value_parser = moment::parse_age)]
    pub(crate) older_than: Option<Duration>,
    /// Turn the order around
    #[arg(long, hide_short_help = true)]
    pub(crate) reverse: bool,
    /// Leave no column out, however narrow the terminal
    #[arg(long, hide_short_help = true)]
    pub(crate) wide: bool,
    /// Show times as ages, or exactly, in UTC
    #[arg(long, value_enum, value_name = "FORM", default_value = "age")]
    pub(crate) time: TimeForm,
}

impl ListArgs {
    /// The time that what is listed is not younger than, in Unix milliseconds.
    pub(crate) fn before(&self) -> Option<i64> {
        let age = i64::try_from(self.older_than?.as_millis()).unwrap_or(i64::MAX);
        Some(moment::now().saturating_sub(age))
    }
}

/// A state of runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum RunStatus {
    /// Waits for its turn.
    Queued,
    /// Goes on.
    Running,
    /// Waits before it tries again.
    Waiting,
    /// Came to its end.
    Done,
    /// Failed for good.
    Failed,
    /// Was cancelled.
    Cancelled,
    /// Could not be read, and was set aside.
    Unreadable,
}

impl From<RunStatus> for RunState {
    fn from(status: RunStatus) -> Self {
        match status {
            RunStatus::Queued => Self::Queued,
            RunStatus::Running => Self::Running,
            RunStatus::Waiting => Self::Waiting,
            RunStatus::Done => Self::Done,
            RunStatus::Failed => Self::Failed,
            RunStatus::Cancelled => Self::Cancelled,
            RunStatus::Unreadable => Self::Unreadable,
        }
    }
}

/// A state of images.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum ImageStatus {
    /// Its blob is here.
    Downloaded,
    /// Its volume is sealed.
    Unpacked,
    /// It has a snapshot.
    Active,
}

impl From<ImageStatus> for ImageState {
    fn from(status: ImageStatus) -> Self {
        match status {
            ImageStatus::Downloaded => Self::Downloaded,
            ImageStatus::Unpacked => Self::Unpacked,
            ImageStatus::Active => Self::Active,
        }
    }
}

/// A state of snapshots.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum SnapshotStatus {
    /// Its device is there.
    Active,
    /// It is not.
    NoDevice,
}

/// What runs are sorted by.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum RunSort {
    /// Newest first.
    Age,
    /// By image, then newest first.
    Image,
    /// By state, then newest first.
    State,
    /// Longest first.
    Took,
}

/// What images are sorted by.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum ImageSort {
    /// By name.
    Name,
    /// Largest first.
    Size,
    /// By state, then by name.
    State,
    /// Used last first.
    Used,
}

/// What snapshots are sorted by.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum SnapshotSort {
    /// By name.
    Name,
    /// By image, then by name.
    Image,
    /// Largest first.
    Size,
    /// Newest first.
    Age,
}

/// How times are shown in tables.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum TimeForm {
    /// `3m ago`.
    Age,
    /// RFC 3339.
    Utc,
}

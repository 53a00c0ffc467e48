//! An error as the daemon tells it to a command: what, why, and what to do next.

use serde::{Deserialize, Serialize};

/// What kind of error it is; each kind has an exit status (airlock(1), EXIT STATUS).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// A fault of airlock's own, or several errors of different classes.
    Internal,
    /// The command or a configuration file is wrong.
    Usage,
    /// A policy, a digest or a rule said no.
    Refused,
    /// What was named is not there.
    NotFound,
    /// The daemon, the helper, S3, the pool or some space is not available.
    Unavailable,
    /// What is there contradicts what was asked.
    Conflict,
    /// Somebody uses it.
    Busy,
    /// It took too long; the run goes on.
    Timeout,
}

impl ErrorClass {
    /// The exit status of a command that ends with it.
    pub const fn exit(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::NotFound => 4,
            Self::Unavailable => 5,
            Self::Conflict => 6,
            Self::Busy => 7,
            Self::Timeout => 8,
        }
    }

    /// Whether the same command may succeed later without anything being changed.
    pub const fn retry(self) -> bool {
        match self {
            Self::Unavailable | Self::Busy => true,
            Self::Internal
            | Self::Usage
            | Self::Refused
            | Self::NotFound
            | Self::Conflict
            | Self::Timeout => false,
        }
    }

    /// The word that an error message starts with.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Internal => "internal error",
            Self::Usage => "usage",
            Self::Refused => "refused",
            Self::NotFound => "not found",
            Self::Unavailable => "unavailable",
            Self::Conflict => "conflict",
            Self::Busy => "busy",
            Self::Timeout => "timed out",
        }
    }
}

/// An error, for people and for programs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The dotted code: `blob.digest`.
    pub code: String,
    /// The kind.
    pub class: ErrorClass,
    /// What did not work, on what.
    pub message: String,
    /// Why, outermost reason first.
    pub cause: Vec<String>,
    /// Further facts as label and text: `image`, `layer`, `entry`, `rule`, `kept`, `state`.
    pub facts: Vec<(String, String)>,
    /// What to do next; commands that can be pasted.
    pub remedy: Vec<String>,
}

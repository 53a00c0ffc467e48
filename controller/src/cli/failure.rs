//! How a command ends, and the errors that arise on its own side of the socket.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use airlock_policy::name::RequestId;
use airlock_protocol::control::{ErrorClass, Fault, RunId};

use super::moment;

/// The exit status of a command that did what it was to do, or has told what went wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    /// All is well.
    pub(crate) const OK: Self = Self(0);
    /// Left by Ctrl-C.
    pub(crate) const INTERRUPTED: Self = Self(130);
    /// Left by SIGTERM or SIGHUP.
    pub(crate) const TERMINATED: Self = Self(143);

    /// The status of several ends: what the failed ones share, or 1.
    pub(crate) fn of(ends: impl IntoIterator<Item = Self>) -> Self {
        let mut failed = ends.into_iter().filter(|end| *end != Self::OK);
        let Some(first) = failed.next() else { return Self::OK };
        if failed.all(|end| end == first) { first } else { Self(ErrorClass::Internal.exit()) }
    }
}

/// An error that is to be told.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// What, why, and what next.
    pub(crate) fault: Box<Fault>,
    /// The run that it ended.
    pub(crate) run: Option<RunId>,
    /// The command's request, where it was told to the daemon.
    pub(crate) request: Option<RequestId>,
}

impl Failure {
    /// The exit status of a command that ends with it.
    pub(crate) fn exit(&self) -> Exit {
        Exit(self.fault.class.exit())
    }

    /// Whether the same command may succeed later without anything being changed.
    pub(crate) fn retry(&self) -> bool {
        self.fault.class.retry() && self.fault.code != FORBIDDEN
    }

    /// Whether it says that what was named is not there.
    pub(crate) fn is_absence(&self) -> bool {
        self.fault.class == ErrorClass::NotFound
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { fault: Box::new(fault), run: None, request: None }
    }
}

/// A fault with nothing but code, class and message.
pub(crate) fn fault(code: &str, class: ErrorClass, message: impl Into<String>) -> Fault {
    Fault {
        code: code.to_owned(),
        class,
        message: message.into(),
        cause: Vec::new(),
        facts: Vec::new(),
        remedy: Vec::new(),
    }
}

const FORBIDDEN: &str = "daemon.permission";

/// The daemon could not be asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// There is no socket, or nobody listens there.
    #[error("the daemon does not listen at {}", socket.display())]
    Absent {
        /// Where.
        socket: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// This user may not speak to the daemon.
    #[error("this user may not speak to the daemon at {}", socket.display())]
    Forbidden {
        /// Where.
        socket: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// It took too long.
    #[error("the daemon did not answer \"{call}\" within {}", moment::took(millis(*limit)))]
    Slow {
        /// What was asked.
        call: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The connection broke.
    #[error("the daemon closed the connection during \"{call}\"")]
    Gone {
        /// What was asked.
        call: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The two do not speak the same language.
    #[error("the daemon speaks protocol {theirs}, this command {ours}")]
    Protocol {
        /// The daemon's version of the protocol.
        theirs: u32,
        /// The command's.
        ours: u32,
    },
    /// The daemon answered that it did not do as asked.
    #[error("the daemon said no")]
    Fault(Box<Fault>),
}

impl NoAnswer {
    /// Whether the connection is gone, and may come back.
    pub(crate) const fn is_disconnection(&self) -> bool {
        match self {
            Self::Absent { .. } | Self::Gone { .. } => true,
            Self::Forbidden { .. } | Self::Slow { .. } | Self::Protocol { .. } | Self::Fault(_) => {
                false
            }
        }
    }

    const fn code(&self) -> (&'static str, ErrorClass) {
        match self {
            Self::Absent { .. } => ("daemon.absent", ErrorClass::Unavailable),
            Self::Forbidden { .. } => (FORBIDDEN, ErrorClass::Unavailable),
            Self::Slow { .. } => ("daemon.slow", ErrorClass::Timeout),
            Self::Gone { .. } => ("daemon.gone", ErrorClass::Unavailable),
            Self::Protocol { .. } => ("daemon.protocol", ErrorClass::Unavailable),
            Self::Fault(_) => ("daemon.fault", ErrorClass::Internal),
        }
    }

    fn remedy(&self) -> Vec<String> {
        let lines: &[&str] = match self {
            Self::Absent { .. } => &[
                "systemctl start airlock.socket",
                "airlock doctor --preflight, if it does not start",
            ],
            Self::Forbidden { .. } => {
                &["sudo usermod --append --groups airlock $USER, then log in anew"]
            }
            Self::Slow { .. } => &["systemctl status airlock", "journalctl --unit airlock"],
            Self::Gone { .. } => &["journalctl --unit airlock"],
            Self::Protocol { .. } => {
                &["systemctl restart airlock, after an upgrade", "airlock version"]
            }
            Self::Fault(_) => &[],
        };
        lines.iter().map(|line| (*line).to_owned()).collect()
    }
}

impl From<NoAnswer> for Failure {
    fn from(error: NoAnswer) -> Self {
        let (code, class) = error.code();
        let mut told = fault(code, class, error.to_string());
        told.remedy = error.remedy();
        if matches!(error, NoAnswer::Forbidden { .. }) {
            let state = "members of the group airlock may; a login from before does not know of it";
            told.facts.push(("state".to_owned(), state.to_owned()));
        }
        match error {
            NoAnswer::Fault(fault) => return Self::from(*fault),
            NoAnswer::Absent { source, .. } | NoAnswer::Forbidden { source, .. } => {
                told.cause.push(source.to_string());
            }
            NoAnswer::Gone { source, .. } => told.cause.extend(chain(source.as_ref())),
            NoAnswer::Slow { .. } | NoAnswer::Protocol { .. } => {}
        }
        told.into()
    }
}

/// An error and all that caused it, outermost first; what repeats is said once.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    let mut chain: Vec<String> = std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect();
    chain.dedup();
    chain
}

/// A duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_ends_share_a_class_or_are_mixed() {
        assert_eq!(Exit::of([]), Exit::OK);
        assert_eq!(Exit::of([Exit(0), Exit(4), Exit(4)]), Exit(4));
        assert_eq!(Exit::of([Exit(4), Exit(3)]), Exit(1));
        assert_eq!(Exit::of([Exit(130), Exit(0)]), Exit(130));
    }

    #[test]
    fn no_daemon_no_permission_and_a_slow_daemon_read_differently() {
        let socket = || PathBuf::from("/run/airlock/control.sock");
        let absent: Failure =
            NoAnswer::Absent { socket: socket(), source: io::ErrorKind::NotFound.into() }.into();
        let forbidden: Failure = NoAnswer::Forbidden {
            socket: socket(),
            source: io::ErrorKind::PermissionDenied.into(),
        }
        .into();
        let slow: Failure =
            NoAnswer::Slow { call: "images", limit: Duration::from_secs(10) }.into();
        assert!(absent.fault.remedy.iter().any(|r| r.contains("systemctl start")));
        assert!(forbidden.fault.remedy.iter().any(|r| r.contains("groups airlock")));
        assert!(absent.retry() && !forbidden.retry());
        assert_eq!(slow.fault.message, "the daemon did not answer \"images\" within 10.0s");
        assert_eq!([absent.exit(), forbidden.exit(), slow.exit()], [Exit(5), Exit(5), Exit(8)]);
    }
}

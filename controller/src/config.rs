//! `/etc/airlock/daemon.toml` and its drop-ins: what an operator may decide about the daemon.
//!
//! Built-in defaults lie under the file, the file under the drop-ins in the order of their names.
//! A key that airlock does not know is an error, never ignored: a limit with a typo is no limit.

mod keys;
mod layers;
mod nearest;
mod range;
mod timespan;

use std::path::{Path, PathBuf};

use airlock_protocol::control::{ErrorClass, Fault};

pub use self::keys::{
    AttemptsConfig, BackoffConfig, BackupConfig, Config, DeadlinesConfig, HistoryConfig, KEYS, Key,
    LimitsConfig, LogConfig, QueuesConfig, S3Config,
};
pub use self::layers::{Layers, Origin};
pub use self::timespan::{InvalidTimeSpan, TimeSpan};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "/etc/airlock/daemon.toml";
/// The folder of the drop-ins.
pub const DEFAULT_DROPINS: &str = "/etc/airlock/daemon.d";

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFault {
    /// A file or the drop-in folder cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, or a value of the wrong type.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What is wrong, in toml's words.
        message: String,
    },
    /// No key of this name.
    #[error("{origin}: there is no key {key:?}{}", hint(.nearest.as_deref()))]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// The key with its sections.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A value outside its range.
    #[error("{origin}: {key} must be {must}")]
    OutOfRange {
        /// Where.
        origin: Origin,
        /// The key with its sections.
        key: &'static str,
        /// What it must be.
        must: &'static str,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; did you mean {key:?}?"))
}

impl ConfigFault {
    /// The error as a command shows it.
    pub fn fault(&self) -> Fault {
        let (code, cause) = match self {
            Self::Read { source, .. } => ("config.read", vec![source.to_string()]),
            Self::Syntax { .. } => ("config.syntax", vec![]),
            Self::UnknownKey { .. } => ("config.unknown_key", vec![]),
            Self::OutOfRange { .. } => ("config.range", vec![]),
        };
        Fault {
            code: code.to_owned(),
            class: ErrorClass::Usage,
            message: self.to_string(),
            cause,
            facts: vec![],
            remedy: vec!["mend the file, then systemctl restart airlock".to_owned()],
        }
    }
}

impl Config {
    /// Reads the configuration.
    ///
    /// `path` names a file that must be there; without it [`DEFAULT_FILE`] is read if it exists.
    /// A missing drop-in folder counts as an empty one.
    pub fn load(path: Option<&Path>, dropins: &Path) -> Result<Self, ConfigFault> {
        Layers::read(path, dropins)?.config()
    }

    /// The folder of the blobs.
    pub fn blobs_dir(&self) -> PathBuf {
        self.blobs_dir.clone().unwrap_or_else(|| self.state_dir.join("blobs"))
    }
}

#[cfg(test)]
mod tests;

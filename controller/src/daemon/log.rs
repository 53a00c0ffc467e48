//! The daemon's log: lines on standard error, which systemd takes to the journal.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::Config;
use crate::source::NOISY_COMPONENTS;

/// Starts to log at the configured level.
pub(super) fn start(config: &Config) {
    let mut filter = EnvFilter::builder().parse_lossy(&config.log.level);
    // tarpc wraps every line of an answer in a span of its own, with nothing of ours in it.
    for component in NOISY_COMPONENTS.into_iter().chain(["tarpc"]) {
        // Below `warn` the S3 client's show headers of signed requests.
        if let Ok(directive) = format!("{component}=warn").parse() {
            filter = filter.add_directive(directive);
        }
    }
    let is_terminal = std::io::stderr().is_terminal();
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal);
    let started: Result<(), TryInitError> = if is_terminal {
        started.finish().try_init()
    } else {
        started.without_time().finish().try_init()
    };
    // Only where something logs already: then that goes on.
    if let Err(error) = started {
        tracing::warn!(%error, "the log was started before");
    }
}

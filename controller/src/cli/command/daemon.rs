//! `daemon`: becomes the daemon.

use std::path::Path;

use crate::cli::failure::{Exit, Failure};
use crate::config::{Config, DEFAULT_DROPINS};
use crate::daemon;

/// `daemon`
pub(crate) fn daemon(file: Option<&Path>) -> Result<Exit, Failure> {
    let config = Config::load(file, Path::new(DEFAULT_DROPINS))
        .map_err(|error| Failure::from(error.fault()))?;
    daemon::run(config).map_err(Failure::from)?;
    Ok(Exit::OK)
}

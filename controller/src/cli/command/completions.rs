//! `completions`: scripts that make a shell complete commands and options.

use clap_complete::Shell;

use super::Session;
use crate::cli::args;
use crate::cli::failure::{Exit, Failure};

/// `completions SHELL`
pub(crate) fn completions(session: &Session, shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::definition(), "airlock", &mut script);
    session.console.result(&String::from_utf8_lossy(&script))?;
    Ok(Exit::OK)
}

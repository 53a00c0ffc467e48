//! The commands, one file each, and what they share.

pub(crate) mod completions;
pub(crate) mod daemon;
pub(crate) mod db;
pub(crate) mod doctor;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod machines;
pub(crate) mod pool;
pub(crate) mod remove;
pub(crate) mod runs;
pub(crate) mod verify;
pub(crate) mod version;
pub(crate) mod work;

use std::path::PathBuf;
use std::time::Duration;

use super::client::Client;
use super::console::Console;
use super::failure::Failure;

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Session {
    /// Where it speaks.
    pub(crate) console: Console,
    /// Where the daemon listens.
    pub(crate) socket: PathBuf,
    /// `--timeout`.
    pub(crate) limit: Option<Duration>,
}

impl Session {
    /// Connects to the daemon.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let client = Client::connect(&self.socket, self.limit).await?;
        if self.console.verbose {
            let version = self.console.err.text(&client.daemon.version);
            let socket = self.console.err.text(&self.socket.display().to_string()).to_string();
            self.console
                .say(&format!("daemon {version} at {socket}, request {}\n", client.request));
        }
        Ok(client)
    }
}

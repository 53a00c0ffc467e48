//! What happens before the first request, in order.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixListener as StdListener;
use std::process;
use std::sync::Arc;

use airlock_policy::helper_config::{HelperConfig, InvalidConfig};

use crate::audit;
use crate::confine::{self, Unconfined};
use crate::dm::{KernelTable, NoControl};
use crate::errands::Errands;
use crate::helper::Parts;
use crate::ledger::{Ledger, LedgerFailure};
use crate::listener;
use crate::worker::Worker;

/// The listening socket.
const LISTENER: RawFd = 3;
/// The link to the launcher.
const LINK: RawFd = 4;
/// The state directory.
const STATE: RawFd = 5;
/// The configuration file, opened and checked by the launcher.
const CONFIG: RawFd = 6;

/// The state directory, where the process is started to take the pool's devices down.
pub(crate) const STATE_OF_TEARDOWN: RawFd = 3;

/// The largest configuration that is read, in bytes.
const MAX_CONFIG: u64 = 64 * 1024;

/// The broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFailure {
    /// Not started by the launcher, or not as this version expects.
    #[error("the arguments must be --controller-uid N: the launcher starts this program")]
    Arguments,
    /// The launcher did not leave a descriptor.
    #[error("cannot take over descriptor {number}, the {what}")]
    Descriptor {
        /// Its number.
        number: RawFd,
        /// What it should have been.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The configuration could not be read.
    #[error("cannot read the configuration")]
    ReadConfig(#[source] io::Error),
    /// The configuration is wrong.
    #[error("the configuration is not valid")]
    Config(#[from] InvalidConfig),
    /// The ledger cannot be used.
    #[error("the ledger cannot be used")]
    Ledger(#[from] LedgerFailure),
    /// There is no device mapper.
    #[error("there is no device mapper to work with")]
    DeviceMapper(#[from] NoControl),
    /// The confinement could not be put in force.
    #[error("the process is not confined")]
    Confinement(#[from] Unconfined),
    /// A thread, or the async runtime, did not start.
    #[error("cannot start serving")]
    Serve(#[source] io::Error),
}

/// Starts, and serves until the launcher is gone.
pub fn run(mut arguments: impl Iterator<Item = String>) -> Result<Infallible, StartFailure> {
    crash_point!(BrokerBegun);
    let controller_uid = match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (Some("--controller-uid"), Some(uid), None) => uid.parse().ok(),
        (Some(_) | None, _, _) => None,
    };
    let controller_uid = controller_uid.ok_or(StartFailure::Arguments)?;
    let socket = inherited(LISTENER, "listening socket")?;
    let link = inherited(LINK, "link to the launcher")?;
    let state = inherited(STATE, "state directory")?;
    let config = read_config(inherited(CONFIG, "configuration")?)?;

    let ledger = Ledger::open(&state)?;
    // What stays is a few megabytes that the next start tries again to remove.
    if let Err(error) = ledger.remove_orphans(&state) {
        audit::event("orphans", &[("why", &error)]);
    }
    drop(state);
    let table = Arc::new(KernelTable::open()?);
    let confined = confine::confine_forever()?;

    // Nothing above made a thread, nothing below opens a file.
    let errands = Errands::start(link, end_with_launcher).map_err(StartFailure::Serve)?;
    let parts = Parts { config, table, ledger, errands, confined, give_up };
    let worker = Worker::start(parts).map_err(StartFailure::Serve)?;
    audit::event("started", &[("confined", &confined), ("controller_uid", &controller_uid)]);
    serve(socket, controller_uid, worker).map_err(StartFailure::Serve)
}

fn inherited(number: RawFd, what: &'static str) -> Result<OwnedFd, StartFailure> {
    airlock_sys::inherited::take(number).map_err(|source| StartFailure::Descriptor {
        number,
        what,
        source,
    })
}

fn read_config(file: OwnedFd) -> Result<HelperConfig, StartFailure> {
    let mut text = String::new();
    File::from(file)
        .take(MAX_CONFIG)
        .read_to_string(&mut text)
        .map_err(StartFailure::ReadConfig)?;
    Ok(HelperConfig::parse(&text)?)
}

#[expect(clippy::exit, reason = "without its launcher the broker can do nothing, and says so")]
fn end_with_launcher() {
    process::exit(1);
}

#[expect(clippy::exit, reason = "the next start reads what the ledger really holds")]
fn give_up() {
    audit::event("ledger-broken", &[]);
    process::exit(1);
}

fn serve(socket: OwnedFd, controller_uid: u32, worker: Worker) -> io::Result<Infallible> {
    let socket = StdListener::from(socket);
    socket.set_nonblocking(true)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::from_std(socket)?;
        match listener::listen(listener, controller_uid, worker).await {}
    })
}

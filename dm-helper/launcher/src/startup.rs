//! From root's configuration to a running broker, in order. Whatever is missing ends it.

mod accounts;
pub(crate) mod broker;
pub(crate) mod config_file;
mod listener;
mod node_rules;
mod notify;
pub(crate) mod privileges;
pub(crate) mod state;
mod system_calls;
pub mod user_namespace;

use std::error::Error;
use std::path::Path;

use airlock_policy::worker::WORKER;
use airlock_sys::signal::{self, SignalSet};
use rustix::process::Signal;

use crate::errand::Desk;
use crate::program::Program;
use crate::serve::Server;

pub use state::Second;

/// The launcher cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// One step failed.
    #[error("{step}")]
    Step {
        /// The step.
        step: &'static str,
        /// Why.
        #[source]
        source: Box<dyn Error>,
    },
    /// Another one works for the same state directory.
    #[error(transparent)]
    Second(#[from] Second),
}

/// Says which step failed.
pub(crate) fn at<E: Into<Box<dyn Error>>>(step: &'static str) -> impl FnOnce(E) -> NotStarted {
    move |error| NotStarted::Step { step, source: error.into() }
}

/// Prepares everything and starts the broker.
pub fn start(config_path: &Path) -> Result<Server, NotStarted> {
    crash_point!(LauncherBegun);
    // 1. What root decided, from a file that only root can have written.
    let config_file = config_file::open(config_path).map_err(at("open the configuration"))?;
    let config = config_file.parse().map_err(at("read the configuration"))?;
    // 2. Who may speak, and to whom snapshots go, by the files that name users and groups.
    let controller = accounts::user(&config.controller_user).map_err(at("find controller_user"))?;
    let node_group = accounts::group(&config.node.group).map_err(at("find node.group"))?;
    // 3. Nothing is made with more rights than it needs, from here on.
    privileges::close_by_default();
    privileges::join_groups(&[controller.gid, node_group]).map_err(at("join the groups"))?;
    // 4. The one launcher of this state directory.
    let (state, lock) = state::open_and_lock(&config.state)?;
    node_rules::write(&config.node, node_group).map_err(at("write udev's rules for nodes"))?;
    // 5. The socket that the broker will answer on.
    let socket = listener::take_or_make(&config.socket, controller.gid)
        .map_err(at("listen on the socket"))?;
    // 6. The programs, and the namespace that extractions will live in.
    let folder = Program::own_directory().map_err(at("find the programs"))?;
    let worker = Program::open(&folder, WORKER).map_err(at("find the worker"))?;
    let broker = Program::open(&folder, broker::BROKER).map_err(at("find the broker"))?;
    let user_namespace =
        user_namespace::make(&worker).map_err(at("make the workers' user namespace"))?;
    // 7. Signals become something to read; then all that is not needed any more is given up.
    let stopping = SignalSet::of(&[Signal::TERM.as_raw(), Signal::INT.as_raw()])
        .map_err(at("name the signals"))?;
    signal::block(&stopping).map_err(at("block the signals"))?;
    let signals = signal::descriptor(&stopping).map_err(at("watch for signals"))?;
    privileges::drop_forever().map_err(at("drop privileges"))?;
    // 8. The broker.
    let link = broker::start(&broker, controller.uid, [&socket, &state, config_file.file()])
        .map_err(at("start the broker"))?;
    notify::ready().map_err(at("tell systemd that it is ready"))?;
    // 9. No system call but those that errands and workers need, before the first errand.
    system_calls::allow_listed().map_err(at("limit its system calls"))?;
    let desk = Desk::new(config, state, worker, (user_namespace, node_group));
    Ok(Server::new(desk, link, signals, Some(lock)))
}

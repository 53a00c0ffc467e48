//! The daemon: one process a state directory, which owns the database, the blobs and all runs.
//!
//! Start-up, in order: the lock, the database, the control socket, the runs that were going on; then
//! the helper: its pool, the snapshots that were active, what was left half done. A stop lets each
//! step come to its next persist; what is not done goes on at the next start.

mod backup;
mod control;
mod health;
mod history;
mod holders;
mod images;
mod lock;
mod log;
mod page;
mod recover;
mod remove;
mod repair;
mod snapshots;
mod socket;
mod verify;

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use airlock_protocol::control::{ErrorClass, Fault};
use rustix::fs::Mode;
use sd_notify::NotifyState;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::blob::BlobStore;
use crate::config::Config;
use crate::fault::{Explain as _, fault};
use crate::flow::{Engine, Live, Locks, Queues, Settings, World, machines};
use crate::helper::Helper;
use crate::source::Sources;
use crate::store::{Store, Verdict};

pub use lock::DaemonLock;

/// How long a stop waits for steps to come to their next persist.
const DRAIN: Duration = Duration::from_secs(20);

/// How long readiness waits for the helper to answer at all.
const GREETED: Duration = Duration::from_secs(3);

/// How long readiness waits for a helper that answers, so that what is started after the daemon
/// finds the devices of active snapshots.
const BACK: Duration = Duration::from_secs(30);

/// Becomes the daemon. Returns when it was told to stop, or could not start.
pub fn run(config: Config) -> Result<(), Fault> {
    crash_point!(DaemonBegun);
    log::start(&config);
    // What the daemon makes is its own and its group's: the database holds who asked for what.
    rustix::process::umask(Mode::from_raw_mode(0o027));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        fault(ErrorClass::Internal, "daemon.runtime", "failed to start the daemon's threads")
            .because(&error)
    })?;
    let ended = runtime.block_on(async {
        let daemon = Daemon::open(config).await?;
        let stop = daemon.stop.clone();
        let signals = stop_on_signals(&stop)?;
        let listener = socket::listen(&daemon.config.control_socket)?;
        let served = daemon.serve(listener).await;
        signals.abort();
        served
    });
    // Whatever thread still waits for a disk does not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

fn stop_on_signals(stop: &CancellationToken) -> Result<JoinHandle<()>, Fault> {
    let watch = |kind| {
        signal(kind).map_err(|error| {
            fault(ErrorClass::Internal, "daemon.signals", "failed to watch for signals")
                .because(&error)
        })
    };
    let (mut term, mut int) = (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?);
    let stop = stop.clone();
    Ok(tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("told to stop");
        stop.cancel();
    }))
}

/// The daemon's parts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Daemon {
    config: Arc<Config>,
    engine: Engine,
    stop: CancellationToken,
    started: Instant,
    checks: Arc<verify::BlobChecks>,
    /// Held for life.
    _lock: Arc<DaemonLock>,
}

impl Daemon {
    /// Takes the state directory, opens what lies in it, and takes up the runs that were going on.
    pub async fn open(config: Config) -> Result<Self, Fault> {
        let dir = config.state_dir.clone();
        make_dir(&dir)?;
        let lock = DaemonLock::take(&dir)?;
        let opened = {
            let dir = dir.clone();
            tokio::task::spawn_blocking(move || Store::open(&dir, &machines())).await
        };
        let store = match opened {
            Ok(opened) => opened.map_err(|error| error.fault_at_start(&dir))?,
            Err(error) => {
                return Err(fault(
                    ErrorClass::Internal,
                    "internal.panic",
                    "a bug of airlock ended the opening of the database",
                )
                .because(&error));
            }
        };
        let blobs = BlobStore::open(&config).map_err(|error| {
            let what = format!("failed to open the folder {}", config.blobs_dir().display());
            fault(ErrorClass::Unavailable, "disk.failed", what).because(&error)
        })?;
        let unclean = store.was_unclean();
        let engine = Engine::new(World {
            store,
            helper: Helper::new(&config.helper_socket),
            sources: Sources::new(&config),
            blobs,
            limits: config.limits.archive(),
            queues: Queues::of(&config.queues),
            settings: Arc::new(Settings::of(&config)),
            live: Arc::new(Live::default()),
            locks: Locks::default(),
        });
        let (config, started) = (Arc::new(config), Instant::now());
        let stop = CancellationToken::new();
        let checks = Arc::default();
        let daemon = Self { config, engine, stop, started, checks, _lock: Arc::new(lock) };
        // While nothing runs: a blob that a download has just brought is on nobody's record yet.
        daemon.sweep_blobs().await;
        let resumed = daemon.engine.resume(unclean).await.map_err(|error| error.fault())?;
        tracing::info!(state_dir = %dir.display(), unclean, resumed, "opened");
        Ok(daemon)
    }

    /// What ends [`Daemon::serve`].
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Serves until it is told to stop; then drains.
    pub async fn serve(&self, listener: UnixListener) -> Result<(), Fault> {
        let keeper = tokio::spawn(self.clone().keep_in_order());
        let backups = tokio::spawn(self.clone().keep_backups());
        let history = tokio::spawn(self.clone().keep_history());
        let accepting = tokio::spawn(self.clone().accept(listener));
        self.stop.cancelled().await;
        tell(&[NotifyState::Stopping]);
        end(keeper).await;
        end(backups).await;
        end(history).await;
        let in_time = self.engine.drain(DRAIN).await;
        end(accepting).await;
        self.world().store.close_cleanly().await.map_err(|error| error.fault())?;
        tracing::info!(in_time, "stopped");
        Ok(())
    }

    /// Greets the helper, brings back what was active, and from then on sees to it that nothing is
    /// left lying about.
    async fn keep_in_order(self) {
        let greeted = tokio::time::timeout(GREETED, self.greet()).await.is_ok();
        if !greeted {
            tell(&[NotifyState::Ready]);
            self.greet().await;
        }
        let back = self.bring_back();
        tokio::pin!(back);
        let in_time = tokio::time::timeout(BACK, &mut back).await.is_ok();
        if greeted {
            tell(&[NotifyState::Ready]);
        }
        if !in_time {
            tracing::warn!("ready, though active snapshots are not back yet");
            back.await;
        }
        loop {
            // Nothing is tidied while the database is being checked: then as soon as that is done.
            let is_checked = self.world().store.verdict() != Verdict::Checking;
            let pause = if is_checked { Duration::from_mins(1) } else { Duration::from_secs(1) };
            tokio::time::sleep(pause).await;
            self.tidy(false).await;
        }
    }

    fn world(&self) -> &World {
        self.engine.world()
    }
}

/// Ends a task, and waits until it has.
async fn end(task: JoinHandle<()>) {
    task.abort();
    match task.await {
        Ok(()) => {}
        Err(ended) if ended.is_cancelled() => {}
        Err(error) => tracing::error!(%error, "a bug of airlock ended a task"),
    }
}

/// Tells systemd, where it is there.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "failed to tell systemd");
    }
}

/// Makes the state directory, for the daemon's user alone, where it is missing.
fn make_dir(dir: &PathBuf) -> Result<(), Fault> {
    let made = match DirBuilder::new().mode(0o750).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // The umask may have taken bits away.
        Ok(()) => std::fs::set_permissions(dir, Permissions::from_mode(0o750)),
        other => other,
    };
    made.map_err(|error| {
        let what = format!("failed to make the state directory {}", dir.display());
        fault(ErrorClass::Unavailable, "state_dir.failed", what).because(&error)
    })
}

#[cfg(test)]
mod tests;

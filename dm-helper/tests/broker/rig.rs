//! A broker that runs, and a client that speaks to it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use airlock_dm_helper::errands::Errands;
use airlock_dm_helper::ledger::Ledger;
use airlock_dm_helper::{Parts, Worker, listener};
use airlock_policy::helper_config::HelperConfig;
use airlock_protocol::not_done::NotDone;
use rustix::fs::{Mode, OFlags};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::client::{Caller, connect};
use super::launcher::Launcher;
use super::sim::Sim;

/// Whether a broker of this process asked to be started anew.
pub(crate) static GAVE_UP: AtomicBool = AtomicBool::new(false);

/// A folder that goes when the test ends.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("broker-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The machine that outlives a broker.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) folder: Folder,
    pub(crate) sim: Sim,
    pub(crate) launcher: Launcher,
    pub(crate) config: HelperConfig,
}

/// A broker that runs.
pub(crate) struct Broker {
    pub(crate) socket: PathBuf,
    serving: JoinHandle<std::convert::Infallible>,
    caller: Caller,
}

impl std::ops::Deref for Broker {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Host {
    pub(crate) fn new() -> Self {
        let config = HelperConfig::parse("[limits]\ndevice_seconds = 1").unwrap();
        let (folder, launcher) = (Folder::new(), Launcher::default());
        launcher.0.lock().unwrap().folder = Some(folder.0.clone());
        Self { folder, sim: Sim::new(), launcher, config }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ledger::open(rustix::fs::open(&self.folder.0, flags, Mode::empty()).unwrap()).unwrap()
    }

    /// Starts a broker that serves processes of this uid.
    pub(crate) async fn start_for(&self, uid: u32) -> Broker {
        let parts = Parts {
            config: self.config.clone(),
            table: std::sync::Arc::new(self.sim.clone()),
            ledger: self.ledger(),
            errands: Errands::start(self.launcher.link(), || {}).unwrap(),
            confined: false,
            give_up: || GAVE_UP.store(true, Ordering::Relaxed),
        };
        let worker = Worker::start(parts).unwrap();
        let socket = self.folder.0.join("socket");
        drop(std::fs::remove_file(&socket));
        let listener = UnixListener::bind(&socket).unwrap();
        let serving = tokio::spawn(listener::listen(listener, uid, worker));
        let caller = Caller { client: connect(&socket).await };
        Broker { socket, serving, caller }
    }

    pub(crate) async fn start(&self) -> Broker {
        self.start_for(rustix::process::getuid().as_raw()).await
    }

    /// Starts a broker and brings the pool up.
    pub(crate) async fn up(&self) -> Broker {
        let broker = self.start().await;
        broker.ensure_pool(true).await.unwrap();
        broker
    }
}

/// A sealed volume, from nothing.
pub(crate) async fn image(caller: &Caller, seeds: &[u8]) -> Result<(), NotDone> {
    caller.create(seeds).await?;
    caller.apply(seeds).await?;
    caller.seal(seeds).await?;
    Ok(())
}

//! The daemon of a sequence, its helper, and what they say is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use airlock_policy::digest::Digest;
use airlock_policy::name::{RequestId, SnapshotName};
use airlock_policy::source::Source;
use airlock_protocol::control::{
    ControlClient, Fault, ListImages, ListRuns, ListSnapshots, Repair, RunId, RunView, ShowRun,
    Submit, When, Work,
};
use airlock_protocol::reply::VolumeState;
use airlock_protocol::wire::transport;
use tarpc::client::RpcError;
use tarpc::context;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::fake::{FakeHelper, Pool};
use super::image::{gzip, rootfs};

/// Images of a sequence; the last has the content of the first, otherwise packed.
pub(crate) const IMAGES: usize = 4;
/// Snapshot names of a sequence.
pub(crate) const NAMES: usize = 4;

pub(crate) struct Host {
    dir: PathBuf,
    pub(crate) helper: FakeHelper,
    listening: JoinHandle<()>,
    daemon: Option<Daemon>,
    client: Option<ControlClient>,
    pub(crate) digests: Vec<Digest>,
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGKILL, where it was not stopped before.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// An answer, or none: the daemon was killed before it came.
pub(crate) type Answer<T> = Option<Result<T, Fault>>;

pub(crate) fn request() -> RequestId {
    "model".to_owned().try_into().unwrap()
}

pub(crate) fn name(number: usize) -> SnapshotName {
    format!("s{number}").parse().unwrap()
}

fn answered<T>(answer: Result<Result<T, Fault>, RpcError>) -> Answer<T> {
    answer.ok()
}

impl Host {
    pub(crate) async fn new(seed: u64) -> Self {
        let dir = std::env::temp_dir().join(format!("airlock-model-{seed}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let text = format!(
            "state_dir = '{dir}/state'\ncontrol_socket = '{dir}/control.sock'\nhelper_socket = '{dir}/dm.sock'\n[limits]\ndisk_reserve = '0 B'\n[queues]\ndownloads = 2\n",
            dir = dir.display()
        );
        std::fs::write(dir.join("daemon.toml"), text).unwrap();
        let mut digests = Vec::new();
        for image in 0..IMAGES {
            let tar = rootfs(&(image % (IMAGES - 1)).to_string());
            let bytes = if image == IMAGES - 1 { gzip(&tar) } else { tar };
            digests.push(Digest::of(&bytes));
            std::fs::write(dir.join(format!("i{image}.tar")), bytes).unwrap();
        }
        let helper = FakeHelper::new(Pool::Up);
        let listening = helper.listen(&dir.join("dm.sock"));
        let mut host = Self { dir, helper, listening, daemon: None, client: None, digests };
        host.start().await;
        host
    }

    pub(crate) fn source(&self, image: usize) -> Source {
        format!("tar:{}/i{image}.tar", self.dir.display()).parse().unwrap()
    }

    fn airlock(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_airlock"));
        command.args(words).arg("--config").arg(self.dir.join("daemon.toml"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Starts a daemon that is not there. A killed one may have left all of its files.
    pub(crate) async fn start(&mut self) {
        self.daemon = Some(Daemon(self.airlock(&["daemon"]).spawn().unwrap()));
        let socket = self.dir.join("control.sock");
        for _ in 0..2000 {
            if let Ok(stream) = UnixStream::connect(&socket).await {
                let client =
                    ControlClient::new(tarpc::client::Config::default(), transport(stream)).spawn();
                self.client = Some(client);
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the daemon does not listen");
    }

    pub(crate) async fn kill(&mut self) {
        (self.client, self.daemon) = (None, None);
        self.start().await;
    }

    pub(crate) fn stop(&mut self) {
        self.client = None;
        let mut daemon = self.daemon.take().unwrap();
        let pid = rustix::process::Pid::from_child(&daemon.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let ended = tokio::task::block_in_place(|| daemon.0.wait().unwrap());
        assert!(ended.success(), "the daemon did not stop well: {ended}");
    }

    /// Ends every connection of the helper, which listens anew.
    pub(crate) fn restart_helper(&mut self) {
        self.listening.abort();
        self.listening = self.helper.listen(&self.dir.join("dm.sock"));
    }

    pub(crate) fn client(&self) -> ControlClient {
        self.client.clone().unwrap()
    }

    pub(crate) async fn runs(&self) -> Vec<RunView> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = ListRuns { all: true, after, ..ListRuns::default() };
            let page = self.client().runs(context::current(), page).await.unwrap().unwrap();
            all.extend(page.items);
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    }

    /// What the daemon says is there: images, and snapshots with their image.
    pub(crate) async fn listed(&self) -> (BTreeSet<Digest>, BTreeMap<SnapshotName, Digest>) {
        let images =
            self.client().images(context::current(), ListImages::default()).await.unwrap().unwrap();
        let snapshots = self
            .client()
            .snapshots(context::current(), ListSnapshots::default())
            .await
            .unwrap()
            .unwrap();
        for snapshot in &snapshots.items {
            assert!(snapshot.mapped, "{snapshot:?}");
        }
        let images = images.items.into_iter().map(|image| image.digest).collect();
        (images, snapshots.items.into_iter().map(|one| (one.name, one.digest)).collect())
    }

    /// Whether ledger, blobs and database agree, each with the others: why not, if they do not.
    pub(crate) async fn disagreement(&self) -> Option<String> {
        let ask = Repair { request: request(), dry_run: true };
        let plan = self.client().repair(context::current(), ask).await.unwrap().unwrap().items;
        if !plan.is_empty() {
            return Some(format!("{plan:?}"));
        }
        let (images, snapshots) = self.listed().await;
        {
            let helper = self.helper.state();
            if helper.volumes.values().any(|volume| volume.state != VolumeState::Sealed) {
                return Some(format!("a volume that nobody fills: {:?}", helper.volumes));
            }
            let names: BTreeSet<_> = helper.snapshots.keys().collect();
            if names != snapshots.keys().collect() {
                return Some(format!("{names:?} with the helper, {snapshots:?} on record"));
            }
            // The first image and the last share a volume.
            let shared =
                images.contains(&self.digests[0]) && images.contains(&self.digests[IMAGES - 1]);
            let volumes = helper.volumes.len() + usize::from(shared);
            if volumes > images.len() {
                return Some(format!(
                    "a volume without an owner: {:?}, {images:?}",
                    helper.volumes
                ));
            }
        }
        let blobs = blobs(&self.dir.join("state/blobs/sha256"));
        (blobs != images).then(|| format!("blobs {blobs:?}, images {images:?}"))
    }

    /// Ends the sequence: a database without a fault, and a folder that is gone.
    pub(crate) fn end(mut self) {
        self.stop();
        let sound =
            tokio::task::block_in_place(|| self.airlock(&["db", "check"]).status().unwrap());
        assert!(sound.success());
        self.listening.abort();
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

fn blobs(folder: &Path) -> BTreeSet<Digest> {
    let files = std::fs::read_dir(folder).unwrap().flatten();
    files.map(|file| Digest::from_hex(file.file_name().to_str().unwrap()).unwrap()).collect()
}

pub(crate) async fn submit(client: ControlClient, work: Work, when: When) -> Answer<RunId> {
    let submit = Submit { request: request(), work, when };
    let answer = answered(client.submit(context::current(), submit).await)?;
    Some(answer.map(|view| view.run))
}

pub(crate) async fn cancel(client: ControlClient, run: RunId) -> Answer<()> {
    let answer = answered(client.cancel(context::current(), ShowRun { run }).await)?;
    Some(answer.map(|_view| ()))
}

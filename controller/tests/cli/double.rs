//! A daemon that answers from a script, over a real socket.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use airlock_policy::digest::{BlobDigest, Digest, TreeDigest};
use airlock_policy::tree::{Difference, ShownPath};
use airlock_protocol::control::{
    Ask, ChildView, Control, DaemonInfo, ErrorClass, Extend, Fault, Finding, HealthLine,
    HealthState, Hello, ImageView, ListImages, ListRuns, ListSnapshots, Listing, MachinesView,
    Named, OneSnapshot, PoolView, Repair, RepairLine, RepairOutcome, Retry, RunId, RunState,
    RunView, ShowRun, SnapshotView, Submit, SubmitAll, VerifyView, Watch, When, Work,
};
use airlock_protocol::{PROTOCOL, wire};
use futures::StreamExt as _;
use tarpc::context::Context;
use tarpc::server::{BaseChannel, Channel as _};
use tokio::net::{UnixListener, UnixStream};

use super::views::{fault, image, machines, run, snapshot};

/// What the daemon does.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// What every question but `hello` is answered with, instead of an answer.
    pub(crate) fault: Option<Fault>,
    /// Faults of what is submitted, in order; `None` where it is taken on.
    pub(crate) submissions: VecDeque<Option<Fault>>,
    /// How long `watch` waits for news.
    pub(crate) poll: Duration,
    /// How long every answer but that of `hello` takes.
    pub(crate) delay: Duration,
    /// The version of the protocol.
    pub(crate) protocol: u32,
    /// What `submit` and `show_run` answer, then what `watch` answers, in order; the last for ever.
    pub(crate) views: VecDeque<RunView>,
    /// The images.
    pub(crate) images: Vec<ImageView>,
    /// How many connections are closed at their first `watch`.
    pub(crate) hang_ups: usize,
    /// What was submitted.
    pub(crate) submitted: Vec<Work>,
    /// When what was submitted was to begin.
    pub(crate) when: Option<When>,
    /// The children of the last order of several, each with the fault that it ends with.
    pub(crate) children: Vec<(RunId, Option<Fault>)>,
    /// What was cancelled.
    pub(crate) cancelled: Vec<RunId>,
    /// What was begun again.
    pub(crate) retried: Vec<RunId>,
    /// What runs were listed.
    pub(crate) listed: Vec<ListRuns>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            fault: None,
            submissions: VecDeque::new(),
            poll: Duration::from_millis(100),
            delay: Duration::ZERO,
            protocol: PROTOCOL,
            views: [run(RunState::Running), run(RunState::Done)].into(),
            images: vec![image("golang:2")],
            hang_ups: 0,
            submitted: Vec::new(),
            when: None,
            children: Vec::new(),
            cancelled: Vec::new(),
            retried: Vec::new(),
            listed: Vec::new(),
        }
    }
}

/// A daemon that listens.
#[derive(Debug)]
pub(crate) struct Daemon {
    folder: PathBuf,
    script: Arc<Mutex<Script>>,
    _runtime: tokio::runtime::Runtime,
}

impl Daemon {
    /// Starts it; `name` is the test's own.
    pub(crate) fn start(name: &str, script: Script) -> Self {
        let folder =
            std::env::temp_dir().join(format!("airlock-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("control.sock");
        let script = Arc::new(Mutex::new(script));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(&socket).unwrap()
        };
        let serving = Arc::clone(&script);
        drop(runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(tokio::spawn(serve(stream, Arc::clone(&serving))));
            }
        }));
        Self { folder, script, _runtime: runtime }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    /// A folder of the test's own.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What became of the script.
    pub(crate) fn script(&self) -> Script {
        self.script.lock().unwrap().clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// Serves one connection, until a hang-up that the script asks for.
async fn serve(stream: UnixStream, script: Arc<Mutex<Script>>) {
    let channel = BaseChannel::with_defaults(wire::transport(stream));
    let requests = channel.execute(Double(Arc::clone(&script)).serve());
    let mut requests = std::pin::pin!(requests);
    while let Some(answering) = requests.next().await {
        let before = script.lock().unwrap().hang_ups;
        answering.await;
        if script.lock().unwrap().hang_ups < before {
            return;
        }
    }
}

#[derive(Clone)]
struct Double(Arc<Mutex<Script>>);

impl Double {
    async fn answer<T>(&self, answer: impl FnOnce(&mut Script) -> T) -> Result<T, Fault> {
        let delay = self.0.lock().unwrap().delay;
        tokio::time::sleep(delay).await;
        let mut script = self.0.lock().unwrap();
        match script.fault.clone() {
            Some(fault) => Err(fault),
            None => Ok(answer(&mut script)),
        }
    }

    async fn listing<T>(
        &self,
        items: impl FnOnce(&mut Script) -> Vec<T>,
    ) -> Result<Listing<T>, Fault> {
        self.answer(|script| Listing { items: items(script), next: None }).await
    }
}

impl Control for Double {
    async fn hello(self, _: Context, _: Hello) -> Result<DaemonInfo, Fault> {
        Ok(DaemonInfo {
            version: "9.8.7".to_owned(),
            protocol: self.0.lock().unwrap().protocol,
            pid: 1,
            helper_version: None,
            helper_protocol: None,
        })
    }

    async fn submit(self, _: Context, request: Submit) -> Result<RunView, Fault> {
        self.answer(|script| {
            script.submitted.push(request.work);
            script.when = Some(request.when);
            match script.submissions.pop_front().flatten() {
                Some(fault) => Err(fault),
                None => Ok(script.views.front().cloned().unwrap()),
            }
        })
        .await?
    }

    async fn submit_all(self, _: Context, request: SubmitAll) -> Result<RunView, Fault> {
        self.answer(|script| {
            let mut parent = run(RunState::Running);
            script.when = Some(request.when);
            for (number, work) in request.works.into_iter().enumerate() {
                let id: RunId = format!("k7f29qx{number}").parse().unwrap();
                let refused = script.submissions.pop_front().flatten();
                let child =
                    ChildView { run: id, subject: "x".to_owned(), state: RunState::Running };
                script.children.push((child.run.clone(), refused));
                parent.links.children.push(child);
                script.submitted.push(work);
            }
            parent
        })
        .await
    }

    async fn watch(self, _: Context, request: Watch) -> Result<RunView, Fault> {
        let poll = self.0.lock().unwrap().poll;
        tokio::time::sleep(poll).await;
        self.answer(|script| {
            script.hang_ups = script.hang_ups.saturating_sub(1);
            if script.views.len() > 1 {
                script.views.pop_front();
            }
            let mut view = script.views.front().cloned().unwrap();
            if !view.state.is_over() {
                view.version = request.seen.saturating_add(1);
                for stage in &mut view.stages {
                    stage.took_ms = view.version.saturating_mul(100);
                }
            }
            view
        })
        .await
    }

    async fn runs(self, _: Context, request: ListRuns) -> Result<Listing<RunView>, Fault> {
        self.listing(|script| {
            script.listed.push(request);
            script.views.iter().cloned().collect()
        })
        .await
    }

    async fn show_run(self, _: Context, asked: ShowRun) -> Result<RunView, Fault> {
        self.answer(|script| {
            let child = script.children.iter().find(|(child, _)| *child == asked.run);
            let mut view = match child.and_then(|(_, fault)| fault.clone()) {
                Some(fault) => RunView { fault: Some(fault), ..run(RunState::Failed) },
                None => script.views.front().cloned().unwrap(),
            };
            view.run = child.map_or(view.run, |(child, _)| child.clone());
            view
        })
        .await
    }

    async fn cancel(self, _: Context, request: ShowRun) -> Result<RunView, Fault> {
        self.answer(|script| {
            script.cancelled.push(request.run);
            run(RunState::Cancelled)
        })
        .await
    }

    async fn retry(self, _: Context, request: Retry) -> Result<RunView, Fault> {
        self.answer(|script| {
            script.retried.push(request.run);
            script.views.front().cloned().unwrap()
        })
        .await
    }

    async fn machines(self, _: Context, _: Ask) -> Result<MachinesView, Fault> {
        self.answer(|_| machines()).await
    }

    async fn images(self, _: Context, request: ListImages) -> Result<Listing<ImageView>, Fault> {
        // A page an image: whoever asks has to turn pages.
        let place: usize = request.after.as_deref().unwrap_or("0").parse().unwrap();
        let next = place.saturating_add(1);
        self.answer(|script| Listing {
            items: script.images.get(place).cloned().into_iter().collect(),
            next: (next < script.images.len()).then(|| next.to_string()),
        })
        .await
    }

    async fn snapshots(self, _: Context, _: ListSnapshots) -> Result<Listing<SnapshotView>, Fault> {
        self.listing(|_| vec![snapshot()]).await
    }

    async fn image(self, _: Context, request: Named) -> Result<ImageView, Fault> {
        self.answer(|script| {
            let found = script.images.iter().find(|image| image.name == request.image);
            found.cloned().ok_or_else(|| fault(ErrorClass::NotFound))
        })
        .await?
    }

    async fn show_snapshot(self, _: Context, request: OneSnapshot) -> Result<SnapshotView, Fault> {
        self.answer(|_| one_snapshot(&request)).await?
    }

    async fn deactivate(self, _: Context, request: OneSnapshot) -> Result<SnapshotView, Fault> {
        self.answer(|_| one_snapshot(&request)).await?
    }

    async fn verify(self, _: Context, request: Named) -> Result<VerifyView, Fault> {
        self.answer(|_| {
            let (name, digest) = (request.image.clone(), image(&request.image).digest);
            let finding = match request.image.as_str() {
                "absent" => return Err(fault(ErrorClass::NotFound)),
                "damaged" => {
                    Finding::Differs { what: Difference::Mode, path: ShownPath::of(b"etc/shadow") }
                }
                "rotten" => Finding::Damaged { blob: BlobDigest(digest), found: None },
                "unlike" => {
                    let tree = TreeDigest(Digest::of(b"tree"));
                    Finding::OtherTree { recorded: tree, found: tree }
                }
                _ => Finding::Sound { tree: TreeDigest(Digest::of(b"tree")) },
            };
            Ok(VerifyView { name, digest, finding })
        })
        .await?
    }

    async fn remove(self, _: Context, request: Named) -> Result<ImageView, Fault> {
        self.answer(|_| match request.image.as_str() {
            "busy" => Err(fault(ErrorClass::Busy)),
            "absent" => Err(fault(ErrorClass::NotFound)),
            name => Ok(image(name)),
        })
        .await?
    }

    async fn pool_setup(self, _: Context, _: Ask) -> Result<PoolView, Fault> {
        self.answer(|_| PoolView { usage: None, changed: true }).await
    }

    async fn pool_extend(self, _: Context, asked: Extend) -> Result<PoolView, Fault> {
        let changed = asked.data_bytes == Some(20 << 30);
        self.answer(move |_| PoolView { usage: None, changed }).await
    }

    async fn pool_status(self, _: Context, _: Ask) -> Result<PoolView, Fault> {
        self.answer(|_| PoolView { usage: None, changed: false }).await
    }

    async fn health(self, _: Context, _: Ask) -> Result<Listing<HealthLine>, Fault> {
        let line = |name: &str, state| HealthLine {
            name: name.to_owned(),
            state,
            text: "text".to_owned(),
            remedy: Some("remedy".to_owned()),
        };
        self.listing(|script| {
            let ill =
                if script.images.is_empty() { HealthState::Failed } else { HealthState::Warning };
            vec![line("helper", HealthState::Ok), line("disk", ill)]
        })
        .await
    }

    async fn repair(self, _: Context, request: Repair) -> Result<Listing<RepairLine>, Fault> {
        let line = |subject: &str, outcome| RepairLine {
            subject: subject.to_owned(),
            outcome,
            text: "text".to_owned(),
        };
        let done = if request.dry_run { RepairOutcome::Planned } else { RepairOutcome::Done };
        self.listing(|script| {
            let mut lines = vec![line("snapshot web", done), line("volume x", RepairOutcome::Lost)];
            if script.images.is_empty() {
                lines.push(line("image y", RepairOutcome::Failed));
            }
            lines
        })
        .await
    }
}

fn one_snapshot(request: &OneSnapshot) -> Result<SnapshotView, Fault> {
    if request.name.as_str() == "web" { Ok(snapshot()) } else { Err(fault(ErrorClass::NotFound)) }
}

//! The daemon as a command sees it: over its socket, with a double of the helper behind it.

mod history;
mod verify;

use airlock_policy::digest::{ChainId, Digest};
use airlock_policy::name::RequestId;
use airlock_policy::source::Source;
use airlock_protocol::PROTOCOL;
use airlock_protocol::control::{
    Activation, Ask, ControlClient, HealthLine, HealthState, Hello, ImageState, ListImages,
    ListRuns, ListSnapshots, Named, OneSnapshot, Repair, RepairLine, RepairOutcome, RunState,
    RunView, Submit, Watch, When, Work,
};
use airlock_protocol::reply::VolumeState;
use airlock_protocol::wire::transport;
use tarpc::context;
use tokio::net::UnixStream;

use super::*;
use crate::testing::TempDir;
use crate::testing::fake::{FakeHelper, Pool, ids};
use crate::testing::image::rootfs;

struct Host {
    dir: TempDir,
    helper: FakeHelper,
}

struct Up {
    daemon: Daemon,
    client: ControlClient,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), Fault>>,
}

fn request() -> RequestId {
    "r1".to_owned().try_into().unwrap()
}

impl Host {
    fn new(pool: Pool) -> Self {
        Self { dir: TempDir::new(), helper: FakeHelper::new(pool) }
    }

    fn config(&self) -> Config {
        let path = |name: &str| self.dir.path().join(name);
        let mut config = Config {
            state_dir: path("state"),
            control_socket: path("control.sock"),
            helper_socket: path("dm.sock"),
            ..Config::default()
        };
        config.limits.disk_reserve = airlock_policy::size::ByteSize(0);
        config
    }

    async fn up(&self) -> Up {
        let config = self.config();
        let daemon = Daemon::open(config.clone()).await.unwrap();
        let stop = daemon.stop_token();
        let listener = socket::listen(&config.control_socket).unwrap();
        let mode = std::fs::metadata(&config.control_socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o660);
        let served = daemon.clone();
        let serving = tokio::spawn(async move { served.serve(listener).await });
        let stream = UnixStream::connect(&config.control_socket).await.unwrap();
        let client =
            ControlClient::new(tarpc::client::Config::default(), transport(stream)).spawn();
        Up { daemon, client, stop, serving }
    }

    fn file(&self, name: &str, content: &[u8]) -> Source {
        let path: PathBuf = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        format!("tar:{}", path.display()).parse().unwrap()
    }
}

impl Up {
    async fn submit(&self, work: Work) -> Result<RunView, Fault> {
        let submit = Submit { request: request(), work, when: When::default() };
        self.client.submit(context::current(), submit).await.unwrap()
    }

    async fn run(&self, source: &Source) -> RunView {
        let work = Work::Run { source: source.clone(), activation: Activation::default() };
        let view = self.submit(work).await.unwrap();
        self.watch_to_end(view).await
    }

    async fn watch_to_end(&self, mut view: RunView) -> RunView {
        while !view.state.is_over() {
            let watch = Watch { run: view.run.clone(), seen: view.version };
            let newer = self.client.watch(context::current(), watch).await.unwrap().unwrap();
            assert!(newer.version >= view.version);
            view = newer;
        }
        view
    }

    /// Images by digest with their state; snapshots by name with their image and mode.
    async fn listing(&self) -> (Vec<(Digest, ImageState)>, Vec<(String, Digest, bool)>) {
        let images =
            self.client.images(context::current(), ListImages::default()).await.unwrap().unwrap();
        let snapshots = self
            .client
            .snapshots(context::current(), ListSnapshots::default())
            .await
            .unwrap()
            .unwrap();
        let mut images: Vec<_> =
            images.items.iter().map(|image| (image.digest, image.state)).collect();
        images.sort_by_key(|image| image.0);
        let snapshots = snapshots.items.into_iter();
        (images, snapshots.map(|s| (s.name.to_string(), s.digest, s.read_only)).collect())
    }

    async fn health(&self) -> Vec<HealthLine> {
        let ask = Ask { request: request() };
        self.client.health(context::current(), ask).await.unwrap().unwrap().items
    }

    async fn repair(&self, dry_run: bool) -> Vec<RepairLine> {
        let ask = Repair { request: request(), dry_run };
        self.client.repair(context::current(), ask).await.unwrap().unwrap().items
    }

    async fn down(self) {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_lives_from_pool_setup_to_its_removal() {
    let host = Host::new(Pool::Absent);
    let listening = host.helper.listen(&host.config().helper_socket);
    let up = host.up().await;
    let (client, ctx) = (&up.client, context::current);
    let hello = client
        .hello(ctx(), Hello { protocol: PROTOCOL, with_helper: true })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(hello.helper_version.as_deref(), Some("0.0.0-fake"));

    let tar = rootfs("web");
    let source = host.file("web.tar", &tar);
    let work = Work::Pull { source: source.clone() };
    let early = up.submit(work).await.unwrap_err();
    assert_eq!(
        (early.code.as_str(), early.remedy[0].as_str()),
        ("pool.absent", "airlock pool setup")
    );
    let ask = || Ask { request: request() };
    let pool = client.pool_setup(ctx(), ask()).await.unwrap().unwrap();
    assert!(pool.changed && pool.usage.is_some());
    assert!(!client.pool_setup(ctx(), ask()).await.unwrap().unwrap().changed);

    let view = up.run(&source).await;
    assert_eq!(view.state, RunState::Done, "{view:#?}");
    let images = client.images(ctx(), ListImages::default()).await.unwrap().unwrap();
    assert_eq!((images.items.len(), images.items[0].state), (1, ImageState::Active));
    let all = client.snapshots(ctx(), ListSnapshots::default()).await.unwrap().unwrap();
    assert!(all.items[0].mapped && all.items[0].image == "web");
    let runs =
        client.runs(ctx(), ListRuns { all: true, ..ListRuns::default() }).await.unwrap().unwrap();
    assert_eq!((runs.items.len(), runs.next), (1, None));
    let health = client.health(ctx(), ask()).await.unwrap().unwrap();
    assert!(health.items.iter().all(|line| line.state == HealthState::Ok), "{health:?}");

    let named = |image: &str| Named { request: request(), image: image.to_owned() };
    let busy = client.remove(ctx(), named("web")).await.unwrap().unwrap_err();
    assert_eq!((busy.code.as_str(), busy.class.exit()), ("image.active", 7));
    assert!(busy.facts.contains(&("snapshot".to_owned(), "web".to_owned())), "{busy:?}");
    let one = || OneSnapshot { request: request(), name: "web".parse().unwrap() };
    host.helper.state().held = true;
    let held = client.deactivate(ctx(), one()).await.unwrap().unwrap_err();
    assert_eq!((held.code.as_str(), held.class.exit()), ("volume.held", 7));
    host.helper.state().held = false;
    client.show_snapshot(ctx(), one()).await.unwrap().unwrap();
    client.deactivate(ctx(), one()).await.unwrap().unwrap();
    let gone = client.deactivate(ctx(), one()).await.unwrap().unwrap_err();
    assert_eq!((gone.code.as_str(), gone.class.exit()), ("snapshot.unknown", 4));
    let removed = client.remove(ctx(), named("web")).await.unwrap().unwrap();
    assert_eq!(removed.digest, ids(&tar).0.0);
    let gone = client.image(ctx(), named("web")).await.unwrap().unwrap_err();
    assert_eq!(gone.code, "name.unknown");
    assert!(host.helper.state().volumes.is_empty() && host.helper.state().snapshots.is_empty());
    let blobs = std::fs::read_dir(host.dir.path().join("state/blobs/sha256")).unwrap();
    assert_eq!(blobs.count(), 0);
    up.down().await;
    listening.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reboot_the_pool_and_every_active_snapshot_are_back() {
    let host = Host::new(Pool::Up);
    let listening = host.helper.listen(&host.config().helper_socket);
    let up = host.up().await;
    assert_eq!(up.run(&host.file("web.tar", &rootfs("web"))).await.state, RunState::Done);
    up.down().await;
    let (owned, foreign, orphan) = {
        let mut helper = host.helper.state();
        helper.pool = Pool::Down;
        for snapshot in helper.snapshots.values_mut() {
            snapshot.minor = None;
        }
        let owned = *helper.volumes.keys().next().unwrap();
        let (foreign, orphan) = (ChainId(Digest::of(b"f")), ChainId(Digest::of(b"o")));
        helper.plant(foreign, VolumeState::Sealed);
        helper.plant(orphan, VolumeState::Building);
        (owned, foreign, orphan)
    };
    // What a killed daemon may leave among the blobs.
    let stray = host.dir.path().join("state/blobs/sha256").join(Digest::of(b"stray").hex());
    std::fs::write(&stray, b"stray").unwrap();
    let up = host.up().await;
    for _ in 0..300 {
        let is_back = host.helper.state().snapshots.values().all(|s| s.minor.is_some());
        if is_back {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    {
        let helper = host.helper.state();
        assert_eq!(helper.pool, Pool::Up);
        assert!(helper.snapshots.values().all(|snapshot| snapshot.minor.is_some()));
        assert!(helper.volumes.contains_key(&owned));
        assert!(helper.volumes.contains_key(&foreign), "sealed volumes are never thrown away");
        assert!(!helper.volumes.contains_key(&orphan));
    }
    assert!(!stray.exists());
    up.down().await;
    listening.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_is_made_anew_from_ledger_and_blobs() {
    let host = Host::new(Pool::Up);
    let listening = host.helper.listen(&host.config().helper_socket);
    let up = host.up().await;
    let packed = crate::testing::image::gzip(&rootfs("db"));
    let (web, db) = (host.file("web.tar", &rootfs("web")), host.file("db.tar.gz", &packed));
    assert_eq!(up.run(&web).await.state, RunState::Done);
    assert_eq!(up.run(&db).await.state, RunState::Done);
    let pulled = up.submit(Work::Pull { source: host.file("c.tar", &rootfs("c")) }).await.unwrap();
    up.watch_to_end(pulled).await;
    let before = up.listing().await;
    assert_eq!((before.0.len(), before.1.len()), (3, 2));
    up.down().await;
    let state = host.dir.path().join("state");
    for name in ["airlock.sqlite", "airlock.sqlite-wal", "airlock.sqlite-shm"] {
        drop(std::fs::remove_file(state.join(name)));
    }
    // A blob that was never unpacked, and one that is not what its name says.
    let folder = state.join("blobs/sha256");
    std::fs::write(folder.join(Digest::of(&rootfs("new")).hex()), rootfs("new")).unwrap();
    std::fs::write(folder.join(Digest::of(b"whole").hex()), b"damaged").unwrap();

    let up = host.up().await;
    let health = up.health().await;
    let line = health.iter().find(|line| line.name == "records").unwrap();
    assert_eq!(line.state, HealthState::Warning);
    assert_eq!(line.remedy.as_deref(), Some("airlock doctor --fix"));
    let planned = up.repair(true).await;
    assert!(planned.iter().all(|line| line.outcome == RepairOutcome::Planned), "{planned:?}");
    assert!(up.listing().await.0.is_empty(), "a dry run changes nothing");
    let done = up.repair(false).await;
    let of = |outcome| done.iter().filter(|line| line.outcome == outcome).count();
    assert_eq!((of(RepairOutcome::Failed), of(RepairOutcome::Lost)), (0, 1), "{done:#?}");
    let after = up.listing().await;
    assert_eq!(after.1, before.1, "every snapshot, of the same image");
    assert!(before.0.iter().all(|image| after.0.contains(image)), "{after:?}");
    assert_eq!(after.0.len(), 4, "and the one that was only downloaded");
    let line = up.health().await.into_iter().find(|line| line.name == "records").unwrap();
    assert_eq!((line.state, line.text.as_str()), (HealthState::Ok, "database and ledger agree"));
    let again = up.repair(false).await;
    assert!(again.iter().all(|line| line.outcome == RepairOutcome::Lost), "{again:?}");
    // What was there is found to be there.
    let extracted = host.helper.asked("extractions");
    for source in [&web, &db] {
        let result = up.run(source).await.result.unwrap();
        assert!(result.reused.snapshot && result.reused.volume, "{result:?}");
    }
    assert_eq!(host.helper.asked("extractions"), extracted);
    up.down().await;
    listening.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_what_the_helper_does_not_have_are_taken_off() {
    let host = Host::new(Pool::Up);
    let listening = host.helper.listen(&host.config().helper_socket);
    let up = host.up().await;
    let web = host.file("web.tar", &rootfs("web"));
    assert_eq!(up.run(&web).await.state, RunState::Done);
    {
        let mut helper = host.helper.state();
        helper.snapshots.clear();
        helper.volumes.clear();
    }
    let done = up.repair(false).await;
    let subjects: Vec<_> =
        done.iter().map(|line| line.subject.split(' ').next().unwrap()).collect();
    assert_eq!(subjects, ["snapshot", "volume"], "{done:?}");
    let (images, snapshots) = up.listing().await;
    assert_eq!((images.len(), images[0].1, snapshots.len()), (1, ImageState::Downloaded, 0));
    assert!(up.repair(false).await.is_empty());
    assert_eq!(up.run(&web).await.state, RunState::Done);
    up.down().await;
    listening.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_helper_nothing_is_judged() {
    let host = Host::new(Pool::Up);
    let up = host.up().await;
    let ask = Repair { request: request(), dry_run: false };
    let refused = up.client.repair(context::current(), ask).await.unwrap().unwrap_err();
    assert_eq!(refused.code, "helper.down");
    up.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_is_a_conflict() {
    let host = Host::new(Pool::Up);
    let up = host.up().await;
    let second = Daemon::open(host.config()).await.unwrap_err();
    assert_eq!((second.code.as_str(), second.class.exit()), ("daemon.running", 6));
    up.down().await;
    Daemon::open(host.config()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_helper_reads_are_served_and_work_is_refused() {
    let host = Host::new(Pool::Up);
    let up = host.up().await;
    let images = up.client.images(context::current(), ListImages::default()).await.unwrap();
    assert!(images.unwrap().items.is_empty());
    let work = Work::Pull { source: host.file("a.tar", &rootfs("a")) };
    let refused = up.submit(work).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.class.exit()), ("helper.down", 5));
    let ask = Ask { request: request() };
    let health = up.client.health(context::current(), ask).await.unwrap().unwrap();
    let line = |name: &str| health.items.iter().find(|line| line.name == name).unwrap().state;
    assert_eq!(line("helper"), HealthState::Failed);
    assert_eq!(line("pool"), HealthState::Unknown, "what cannot be read is never healthy");
    up.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_set_aside_is_told_of_until_the_operator_is_done_with_it() {
    let host = Host::new(Pool::Up);
    let listening = host.helper.listen(&host.config().helper_socket);
    let up = host.up().await;
    let view = up.run(&host.file("a.tar", &rootfs("a"))).await;
    assert!(up.health().await.iter().all(|line| line.name != "runs"));
    let raw = rusqlite::Connection::open(host.config().state_dir.join("airlock.sqlite")).unwrap();
    raw.execute("UPDATE runs SET tally = '7'", []).unwrap();
    let listed = || async {
        let ask = ListRuns::default();
        up.client.runs(context::current(), ask).await.unwrap().unwrap().items
    };
    // It had ended: nothing but a list of all runs meets it.
    let all = ListRuns { all: true, ..ListRuns::default() };
    let all = up.client.runs(context::current(), all).await.unwrap().unwrap().items;
    assert_eq!((all.len(), all[0].state), (1, RunState::Unreadable));
    assert_eq!(listed().await[0].run, view.run);
    let line = up.health().await.into_iter().find(|line| line.name == "runs").unwrap();
    assert_eq!(line.state, HealthState::Warning);
    assert!(line.text.contains(view.run.as_str()), "{line:?}");
    let plan = up.repair(true).await;
    assert_eq!((plan.len(), plan[0].outcome), (1, RepairOutcome::Planned), "{plan:?}");
    assert_eq!(up.repair(false).await[0].outcome, RepairOutcome::Done);
    assert!(up.health().await.iter().all(|line| line.name != "runs"));
    assert!(listed().await.is_empty() && up.repair(true).await.is_empty());
    up.down().await;
    listening.abort();
}

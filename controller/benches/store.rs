//! How fast the store answers with 100,000 images and 1,000,000 events in it (R-501, R-1003):
//! `make bench-store`. Prints a table and writes `target/bench/store.json`.
//!
//! `lookup` and `transition` are measured in this process, beside `floor`: the same statements bare
//! on SQLite. `page`, `startup` and `rerun` are measured on the real daemon through its socket, and
//! `rerun` through the real command; behind the daemon stands the tests' double of the helper.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::missing_docs_in_private_items,
    reason = "a bench fails by panicking, prints for people, and starts the programs it measures"
)]

#[path = "../src/testing/fake.rs"]
#[expect(dead_code, clippy::arithmetic_side_effects, reason = "shared with the crate's own tests")]
mod fake;
#[path = "store/fill.rs"]
mod fill;
#[path = "../src/testing/image.rs"]
#[expect(dead_code, clippy::arithmetic_side_effects, reason = "shared with the crate's own tests")]
mod image;
#[path = "store/table.rs"]
mod table;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use airlock::flow::machines;
use airlock::store::flow::{Move, NewFlow};
use airlock::store::{Store, StoreFault, flow, image as images, now, run, snapshot, source};
use airlock_protocol::PROTOCOL;
use airlock_protocol::control::{
    ControlClient, Hello, ImageState, ListImages, ListRuns, ListSnapshots, RunState,
};
use airlock_protocol::wire::transport;
use fake::{FakeHelper, Pool};
use rusqlite::{Connection, Transaction};
use table::{Line, peak, tell};
use tarpc::context;
use tokio::net::UnixStream;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = std::env::temp_dir().join(format!("airlock-bench-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("state")).unwrap();
    let lines = runtime.block_on(measure(&dir));
    std::fs::remove_dir_all(&dir).unwrap();
    tell(&lines);
}

async fn measure(dir: &Path) -> Vec<Line> {
    let state = dir.join("state");
    let begun = Instant::now();
    {
        let store = Store::open(&state, &machines()).unwrap();
        store.write(fill::fill).await.unwrap();
        store.settle().await.unwrap();
        // Else the daemon makes the day's backup while it is measured.
        store.back_up(1).await.unwrap();
        store.close_cleanly().await.unwrap();
    }
    let bytes = std::fs::metadata(airlock::store::file_of(&state)).unwrap().len();
    println!(
        "{} images, {} events, {} MiB, filled in {:.0} s",
        fill::IMAGES,
        fill::EVENTS,
        bytes >> 20,
        begun.elapsed().as_secs_f64()
    );
    let mut lines = Vec::new();
    if is_wanted("lookup") || is_wanted("transition") {
        let store = Store::open(&state, &machines()).unwrap();
        lookups(&store, &state, &mut lines).await;
        transitions(&store, &state, &mut lines).await;
        store.close_cleanly().await.unwrap();
    }
    let host = Host::new(dir);
    if is_wanted("startup") {
        startups(&host, &mut lines).await;
    }
    if is_wanted("page") {
        pages(&host, &mut lines).await;
    }
    if is_wanted("rerun") {
        reruns(&host, &mut lines).await;
    }
    lines
}

/// Whether this case is among those that were asked for: all, unless `AIRLOCK_BENCH_CASES` says which.
fn is_wanted(case: &str) -> bool {
    std::env::var("AIRLOCK_BENCH_CASES").map_or(true, |cases| cases.contains(case))
}

const LOOKUPS: usize = 2000;

async fn lookups(store: &Store, state: &Path, lines: &mut Vec<Line>) {
    type Question = fn(&Transaction<'_>, usize) -> Result<bool, StoreFault>;
    let questions: [(&'static str, Question); 6] = [
        ("image by digest, with layers", |tx, n| {
            Ok(!images::layer_views(tx, fill::digest(n))?.is_empty()
                && images::find(tx, fill::digest(n))?.is_some())
        }),
        ("image by name", |tx, n| Ok(images::by_name(tx, &fill::name(n))?.len() == 1)),
        ("image by 12 digits", |tx, n| {
            Ok(images::by_prefix(tx, &fill::digest(n).short())?.len() == 1)
        }),
        ("source", |tx, n| Ok(source::find(tx, &fill::place(n))?.is_some())),
        ("snapshots of an image", |tx, n| {
            snapshot::of_image(tx, fill::digest(n)).map(|found| found.len() < 2)
        }),
        ("run, with its steps", |tx, n| {
            let id = fill::run_id(n % fill::RUNS);
            let steps = flow::steps(tx, &id, true)?;
            Ok(run::find(tx, &id)?.is_some() && !steps.is_empty())
        }),
    ];
    for (subject, question) in questions {
        let mut times = Vec::new();
        for index in 0..LOOKUPS {
            let n = scattered(index);
            let begun = Instant::now();
            let found = store.read(move |tx| question(tx, n)).await.unwrap();
            times.push(begun.elapsed());
            assert!(found, "{subject} {n}");
        }
        lines.push(Line { case: "lookup", subject, times, peak_kib: peak("self") });
    }
    let bare = Connection::open(airlock::store::file_of(state)).unwrap();
    let mut select = bare.prepare("SELECT * FROM images WHERE digest = ?1").unwrap();
    let mut times = Vec::new();
    for index in 0..LOOKUPS {
        let digest = fill::digest(scattered(index)).to_string();
        let begun = Instant::now();
        assert!(select.exists([digest]).unwrap());
        times.push(begun.elapsed());
    }
    lines.push(Line { case: "lookup", subject: "floor", times, peak_kib: peak("self") });
}

/// Spreads numbers over all images: a step that shares no divisor with their count.
const fn scattered(index: usize) -> usize {
    index * 48_271 % fill::IMAGES
}

const MOVES: usize = 500;

async fn transitions(store: &Store, state: &Path, lines: &mut Vec<Line>) {
    // Begun before, so that nobody else writes while either is measured.
    let start_all =
        |tx: &Transaction<'_>| (0..2 * MOVES).map(|n| flow::begin(tx, &a_flow(n))).collect();
    let ids: Vec<i64> = store.write(start_all).await.unwrap();
    let (ours, theirs) = ids.split_at(MOVES);
    let mut times = Vec::new();
    for id in ours.iter().copied() {
        let from = store.read(move |tx| flow::find(tx, id)).await.unwrap();
        let step = Move {
            event: "held",
            target: "done",
            attempt: 1,
            ends: true,
            subject: from.subject.clone(),
            data: fill::DATA.to_owned(),
            fault: None,
            started_at: now(),
            outcome: Some("the volume is here".to_owned()),
            timings: Vec::new(),
            from,
        };
        let begun = Instant::now();
        store.write(move |tx| flow::advance(tx, &step)).await.unwrap();
        times.push(begun.elapsed());
    }
    lines.push(Line { case: "transition", subject: "airlock", times, peak_kib: peak("self") });
    let bare = Connection::open(airlock::store::file_of(state)).unwrap();
    for pragma in ["synchronous = FULL", "foreign_keys = ON"] {
        bare.execute_batch(&format!("PRAGMA {pragma}")).unwrap();
    }
    let mut times = Vec::new();
    for id in theirs {
        let begun = Instant::now();
        let tx = bare.unchecked_transaction().unwrap();
        tx.prepare_cached(
            "UPDATE flows SET state = 'done', step = 1, data = ?2, changed_at = ?3, ended_at = ?3 WHERE id = ?1",
        )
        .unwrap()
        .execute((id, fill::DATA, now()))
        .unwrap();
        tx.prepare_cached(
            "INSERT INTO steps (flow, step, machine, source, event, target, attempt, started_at, took_ms, outcome) \
             VALUES (?1, 0, 'unpack', 'check_unpacked', 'held', 'done', 1, ?2, 0, 'the volume is here')",
        )
        .unwrap()
        .execute((id, now()))
        .unwrap();
        tx.commit().unwrap();
        times.push(begun.elapsed());
    }
    lines.push(Line { case: "transition", subject: "floor", times, peak_kib: peak("self") });
}

fn a_flow(index: usize) -> NewFlow {
    NewFlow {
        machine: "unpack",
        definition: 1,
        subject: format!("bench {index}"),
        state: "check_unpacked",
        input: fill::DATA.to_owned(),
        request: "bench".to_owned(),
    }
}

/// A daemon on that state directory, with the double of the helper behind it.
struct Host {
    dir: PathBuf,
    config: PathBuf,
    helper: FakeHelper,
}

struct Daemon(Child);

impl Daemon {
    fn peak(&self) -> u64 {
        peak(&self.0.id().to_string())
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGKILL, where it was not stopped before.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Host {
    fn new(dir: &Path) -> Self {
        let path = |name: &str| dir.join(name);
        let text = format!(
            "state_dir = '{}'\ncontrol_socket = '{}'\nhelper_socket = '{}'\n[limits]\ndisk_reserve = '0 B'\n[log]\nlevel = 'error'\n",
            path("state").display(),
            path("control.sock").display(),
            path("dm.sock").display(),
        );
        std::fs::write(path("daemon.toml"), text).unwrap();
        let helper = FakeHelper::new(Pool::Up);
        fill::plant(&helper);
        drop(helper.listen(&path("dm.sock")));
        Self { dir: dir.to_owned(), config: path("daemon.toml"), helper }
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// Starts it, and waits until it has answered.
    async fn start(&self) -> (Daemon, ControlClient, Duration) {
        drop(std::fs::remove_file(self.socket()));
        let begun = Instant::now();
        let started = Command::new(env!("CARGO_BIN_EXE_airlock"))
            .args(["daemon", "--config"])
            .arg(&self.config)
            .stderr(Stdio::inherit())
            .spawn();
        let daemon = Daemon(started.unwrap());
        while begun.elapsed() < Duration::from_mins(2) {
            if let Ok(stream) = UnixStream::connect(self.socket()).await {
                let client =
                    ControlClient::new(tarpc::client::Config::default(), transport(stream)).spawn();
                let hello = Hello { protocol: PROTOCOL, with_helper: false };
                client.hello(context::current(), hello).await.unwrap().unwrap();
                return (daemon, client, begun.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the daemon does not answer");
    }
}

async fn startups(host: &Host, lines: &mut Vec<Line>) {
    for (subject, clean, runs) in [("airlock", true, 7), ("after kill -9, checked", false, 3)] {
        let (mut times, mut peak_kib) = (Vec::new(), 0);
        host.start().await.0.stop();
        for _ in 0..runs {
            if !clean {
                drop(host.start().await.0);
            }
            let (daemon, _, time) = host.start().await;
            times.push(time);
            peak_kib = daemon.peak().max(peak_kib);
            daemon.stop();
        }
        lines.push(Line { case: "startup", subject, times, peak_kib });
    }
}

const PAGES: usize = 100;

async fn pages(host: &Host, lines: &mut Vec<Line>) {
    let (daemon, client, _) = host.start().await;
    let subjects = [
        "images",
        "active images",
        "images of one prefix",
        "snapshots",
        "all runs",
        "runs that go on",
        "runs of one prefix",
        "failed runs, of which there is none",
    ];
    for subject in subjects {
        let (mut times, mut after, mut found) = (Vec::new(), None, 0);
        for _ in 0..PAGES {
            let begun = Instant::now();
            let runs = |all| ListRuns { all, after: after.clone(), ..ListRuns::default() };
            let images = |status, source| ListImages {
                status,
                source,
                after: after.clone(),
                ..ListImages::default()
            };
            let prefix = Some("s3://images/app5/".to_owned());
            let snapshots = ListSnapshots { after: after.clone(), ..ListSnapshots::default() };
            let (count, next) = match subject {
                "images" => of(client.images(context::current(), images(None, None)).await),
                "active images" => {
                    let active = Some(ImageState::Active);
                    of(client.images(context::current(), images(active, None)).await)
                }
                "images of one prefix" => {
                    of(client.images(context::current(), images(None, prefix)).await)
                }
                "snapshots" => of(client.snapshots(context::current(), snapshots).await),
                "all runs" => of(client.runs(context::current(), runs(true)).await),
                "runs of one prefix" => {
                    let runs = ListRuns { source: prefix, ..runs(true) };
                    of(client.runs(context::current(), runs).await)
                }
                "runs that go on" => of(client.runs(context::current(), runs(false)).await),
                _ => {
                    let runs = ListRuns { status: Some(RunState::Failed), ..runs(true) };
                    of(client.runs(context::current(), runs).await)
                }
            };
            times.push(begun.elapsed());
            found += count;
            after = next;
        }
        assert!(found > 0 || subject.starts_with("failed") || subject.ends_with("on"), "{subject}");
        lines.push(Line { case: "page", subject, times, peak_kib: daemon.peak() });
    }
    daemon.stop();
}

type Answer<T> = Result<
    Result<airlock_protocol::control::Listing<T>, airlock_protocol::control::Fault>,
    tarpc::client::RpcError,
>;

fn of<T>(answer: Answer<T>) -> (usize, Option<String>) {
    let listing = answer.unwrap().unwrap();
    (listing.items.len(), listing.next)
}

const RERUNS: usize = 100;

async fn reruns(host: &Host, lines: &mut Vec<Line>) {
    let (daemon, _client, _) = host.start().await;
    let file = host.dir.join("web.tar");
    std::fs::write(&file, image::rootfs("web")).unwrap();
    let source = format!("tar:{}", file.display());
    let airlock = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_airlock"));
        command.args(words).env("AIRLOCK_SOCKET", host.socket()).stdout(Stdio::null());
        // Cargo's, for the bench: each start of the command would look through all of its folders.
        command.env_remove("LD_LIBRARY_PATH");
        let begun = Instant::now();
        assert!(command.status().unwrap().success());
        begun.elapsed()
    };
    let run = ["run", "--quiet", &source, "--name", "web"];
    let (mut times, mut floor) = (Vec::new(), Vec::new());
    tokio::task::block_in_place(|| {
        airlock(&run);
        for _ in 0..RERUNS {
            times.push(airlock(&run));
            floor.push(airlock(&["version"]));
        }
    });
    assert_eq!(host.helper.asked("extractions"), 1);
    let peak_kib = daemon.peak();
    lines.push(Line { case: "rerun", subject: "airlock", times, peak_kib });
    lines.push(Line { case: "rerun", subject: "airlock version", times: floor, peak_kib: 0 });
    daemon.stop();
}

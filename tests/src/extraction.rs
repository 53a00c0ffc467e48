//! The real worker on a scratch filesystem of this machine: no devicemapper is needed for that.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs::{self, File};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use airlock_dm_launcher::errand::extract::{self, Input};
use airlock_dm_launcher::errand::{Desk, verify};
use airlock_dm_launcher::program::Program;
use airlock_dm_launcher::startup::user_namespace;
use airlock_dm_launcher::worker::{Judge, Worker};
use airlock_policy::digest::TreeDigest;
use airlock_policy::errand::{Answer, Envelope, Stage};
use airlock_policy::helper_config::HelperConfig;
use airlock_policy::name::RequestId;
use airlock_policy::worker::{Job, WORKER};
use rustix::fs::{Mode, OFlags};

use crate::loopback::Loop;

/// The folder that this run's programs were built into, or the one that `AIRLOCK_TEST_PROGRAMS`
/// names.
///
/// # Panics
///
/// When the worker was not built: tests of the whole product need its binaries.
pub fn programs() -> PathBuf {
    if let Some(folder) = std::env::var_os("AIRLOCK_TEST_PROGRAMS") {
        return folder.into();
    }
    let own = std::env::current_exe().unwrap();
    let folder = own.ancestors().find(|folder| folder.join(WORKER).exists());
    folder
        .unwrap_or_else(|| panic!("{WORKER} is not built: cargo build --workspace --bins"))
        .to_owned()
}

/// The launcher's desk, as its start-up would lay it out.
///
/// # Panics
///
/// Without root.
pub fn desk(config: HelperConfig) -> Desk {
    assert!(rustix::process::geteuid().is_root(), "namespaces of other users' ids need root");
    let worker = Program::open(&programs(), WORKER).unwrap();
    let namespace = user_namespace::make(&worker).unwrap();
    let state = File::open(std::env::temp_dir()).unwrap().into();
    Desk::new(config, state, worker, (namespace, 0))
}

/// What the errands of these tests run under.
pub fn envelope() -> Envelope {
    Envelope { number: 1, request: RequestId::try_from("test".to_owned()).unwrap() }
}

/// Formats a device as airlock's base volume is formatted, by the real worker.
pub fn format(desk: &Desk, device: &Loop) -> Answer {
    let how = (envelope(), Judge::ByExit(Stage::Format), Duration::from_mins(1));
    Worker::start_tool(&desk.worker, &Job::Format, &[device.as_fd()], how).unwrap().conclude()
}

/// A new filesystem as airlock makes it.
///
/// # Panics
///
/// When it cannot be made.
pub fn base_volume(desk: &Desk, bytes: u64) -> Loop {
    let device = Loop::new(bytes);
    assert_eq!(format(desk, &device), Answer::Done);
    device
}

/// Extracts a blob into the filesystem on a device, by the real worker, and returns its last
/// answer.
///
/// # Panics
///
/// When the worker cannot be started.
pub fn extracted(desk: &Desk, device: &Loop, blob: &Path) -> Answer {
    measured(desk, device, &File::open(blob).unwrap()).answer
}

/// An extraction that has ended, and what it took.
#[derive(Clone, Debug)]
pub struct Measured {
    /// How it ended.
    pub answer: Answer,
    /// From the start of the worker to its end, the flush of the volume included.
    pub time: Duration,
    /// The worker's peak of resident memory, in KiB. It is the kernel's own high-water mark, read
    /// every millisecond: what the worker took in its very last one may be missing.
    pub peak_rss_kib: u64,
}

/// Extracts as [`extracted`] does, on top of what `below` is the manifest of, and writes the
/// manifest of all to `manifest`.
///
/// # Panics
///
/// When the worker cannot be started.
pub fn extracted_with(
    desk: &Desk,
    device: &Loop,
    blob: &Path,
    (manifest, below): (&File, Option<(&File, TreeDigest)>),
) -> Answer {
    let blob = File::open(blob).unwrap();
    let below = below.map(|(file, tree)| (reopened(file, OFlags::RDONLY), tree));
    let new = reopened(manifest, OFlags::WRONLY);
    let input = Input { blob: blob.as_fd(), new, below, unwrap: false };
    finished(extract::start(desk, device.as_fd(), input, &envelope()).unwrap())
}

/// Verifies the filesystem on a device, by the real worker, and returns its last answer.
///
/// # Panics
///
/// When the worker cannot be started.
pub fn verified(desk: &Desk, device: &Loop, manifest: Option<&File>, tree: TreeDigest) -> Answer {
    let manifest = manifest.map(|file| reopened(file, OFlags::RDONLY));
    finished(verify::start(desk, device.as_fd(), (manifest, tree), &envelope()).unwrap())
}

/// Reads all that a worker reports, and returns its last answer.
pub fn finished(mut worker: Worker) -> Answer {
    while worker.reports().is_some() {
        worker.read_report();
    }
    worker.conclude()
}

/// The same file, open from its beginning.
fn reopened(file: &File, flags: OFlags) -> OwnedFd {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// What an extraction that nobody wants the manifest of reads and writes.
///
/// # Panics
///
/// When no file can be made.
pub fn input(blob: BorrowedFd<'_>) -> Input<'_> {
    Input { blob, new: tempfile::tempfile().unwrap().into(), below: None, unwrap: false }
}

/// Extracts as [`extracted`] does, and measures it.
///
/// # Panics
///
/// When the worker cannot be started.
pub fn measured(desk: &Desk, device: &Loop, blob: &File) -> Measured {
    measured_with(desk, device, input(blob.as_fd()))
}

/// The same, of an archive that is unwrapped if that is asked for.
///
/// # Panics
///
/// When the worker cannot be started.
pub fn measured_with(desk: &Desk, device: &Loop, input: Input<'_>) -> Measured {
    let begin = Instant::now();
    let mut worker = extract::start(desk, device.as_fd(), input, &envelope()).unwrap();
    let pid = worker.pid();
    let is_over = AtomicBool::new(false);
    let (answer, peak_rss_kib) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = 0;
            while !is_over.load(Ordering::Relaxed) {
                peak = peak_rss(pid, "airlock-worker").unwrap_or(peak);
                thread::sleep(Duration::from_millis(1));
            }
            peak
        });
        while worker.reports().is_some() {
            worker.read_report();
        }
        let answer = worker.conclude();
        is_over.store(true, Ordering::Relaxed);
        (answer, watch.join().unwrap())
    });
    Measured { answer, time: begin.elapsed(), peak_rss_kib }
}

/// The most memory that a process of this name ever had, in KiB. `None` once it has ended, and until
/// it has that name: before, it is a copy of the process that starts it.
pub fn peak_rss(pid: i32, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |field| field_of(&text, field);
    field("VmHWM")?.trim_end_matches(" kB").parse().ok().filter(|_| field("Name") == Some(name))
}

/// A formatted volume to be copied: quicker than formatting one for each of many archives.
#[derive(Debug)]
pub struct Template(Loop);

impl Template {
    /// Formats a volume as airlock does.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    pub fn new(desk: &Desk, bytes: u64) -> Self {
        let device = base_volume(desk, bytes);
        rustix::fs::fsync(device.as_fd()).unwrap();
        Self(device)
    }

    /// A volume that is empty, and nobody's but the caller's.
    ///
    /// # Panics
    ///
    /// Where no loop device can be made.
    pub fn volume(&self) -> Loop {
        self.0.copied()
    }
}

/// One field of a process's status.
pub fn status(pid: i32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    field_of(&text, field).map(str::to_owned)
}

fn field_of<'t>(status: &'t str, field: &str) -> Option<&'t str> {
    let of = |line: &'t str| line.strip_prefix(field)?.strip_prefix(':').map(str::trim);
    status.lines().find_map(of)
}

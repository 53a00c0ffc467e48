//! `make bench-extract`: how long extraction takes beside other extractors, on the same ext4, each
//! until the data is on the device. Root only.
//!
//! All subjects alternate, so that what else the machine does meets all of them. The ext4 is made
//! anew for each run, as airlock makes its base volume, on a loop device over a file on the disk
//! or, where the case says so, in memory: there the disk plays no part.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench fails by panicking, prints for people, and runs other extractors"
)]

mod floor;
mod layout;
mod subject;
mod table;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use airlock_archive::Compression;
use airlock_policy::errand::Answer;
use airlock_policy::helper_config::HelperConfig;
use airlock_tests::extraction::{desk, format};
use airlock_tests::loopback::Loop;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::floor::Layer;
use crate::subject::{Figures, SUBJECTS, Subject};
use crate::table::Row;

/// Holes take no room: of the disk or of memory, only what is written.
const VOLUME: u64 = 4 << 30;

/// Kind of image (see `tests/images/make`), archive, and whether it is also extracted in memory.
const CASES: &[(&str, &str, bool)] = &[
    ("rootfs", "rootfs.tar", true),
    ("rootfs", "rootfs.tar.gz", false),
    ("rootfs", "rootfs.tar.zst", false),
    ("many", "many.tar", true),
    ("few", "few.tar", false),
    ("deep", "deep.tar", false),
    ("node", "node.tar.gz", false),
];

fn main() {
    let runs = std::env::var("AIRLOCK_BENCH_RUNS").map_or(3, |text| text.parse().unwrap());
    let wanted = std::env::var("AIRLOCK_BENCH_CASES").unwrap_or_default();
    let images = PathBuf::from(airlock_tests::setting("AIRLOCK_TEST_IMAGES"));
    let (disk, memory) = (tempfile::tempdir().unwrap(), Memory::new());
    let folders = [("ext4", disk.path()), ("ext4 in memory", memory.0.path())];
    let mut rows = Vec::new();
    println!("{}", table::heading(runs));
    for (kind, name, in_memory) in CASES.iter().filter(|(_, name, _)| name.contains(&wanted)) {
        let archive = images.join(kind).join(name);
        let layer = Layer::read(&archive);
        let layout = tempfile::tempdir().unwrap();
        layout::make(layout.path(), &archive, &layer.summary);
        for (filesystem, folder) in folders.iter().take(if *in_memory { 2 } else { 1 }) {
            let case = Case { archive: &archive, layer: &layer, layout: layout.path(), folder };
            let new = case.rows(&format!("{name}, {filesystem}"), runs);
            println!("{}", table::lines(&new));
            rows.extend(new);
        }
    }
    table::write(&rows, &PathBuf::from(airlock_tests::setting("AIRLOCK_BENCH_REPORT")));
}

/// One archive on one kind of device.
struct Case<'c> {
    archive: &'c Path,
    layer: &'c Layer,
    layout: &'c Path,
    folder: &'c Path,
}

impl Case<'_> {
    fn rows(&self, name: &str, runs: usize) -> Vec<Row> {
        let mut figures = vec![Vec::new(); SUBJECTS.len()];
        for run in 0..runs.max(1) {
            for (subject, figures) in SUBJECTS.iter().zip(&mut figures) {
                if subject.reads_zstd || self.layer.summary.compression != Compression::Zstd {
                    figures.push(self.run(*subject, run == 0));
                }
            }
        }
        SUBJECTS.iter().zip(&figures).filter_map(|(s, f)| Row::of(name, s.name, f)).collect()
    }

    /// One run of one subject. Whether the tree is there is seen once: who skips something would be
    /// quick.
    fn run(&self, subject: Subject, is_looked_at: bool) -> Figures {
        let desk = desk(HelperConfig::default());
        let device = Loop::new_in(self.folder, VOLUME);
        assert_eq!(format(&desk, &device), Answer::Done);
        // What was written before this run is no part of it.
        rustix::fs::syncfs(File::open(self.folder).unwrap()).unwrap();
        rustix::fs::fsync(&device).unwrap();
        let figures = (subject.run)(&desk, &device, self);
        if is_looked_at {
            let found = device.mounted(|root| count(&root.join(subject.root)));
            assert_eq!(found, self.layer.names(), "{}: {}", subject.name, self.archive.display());
        }
        figures
    }
}

/// How many names are in a tree, the root and `lost+found` left out.
fn count(root: &Path) -> usize {
    let below = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true if entry.file_name() == "lost+found" => 0,
            true => count(&entry.path()).saturating_add(1),
            false => 1,
        }
    };
    std::fs::read_dir(root).unwrap().map(below).sum()
}

/// A filesystem in memory, for as long as this lives.
struct Memory(tempfile::TempDir);

impl Memory {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), None).unwrap();
        Self(folder)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        unmount(self.0.path(), UnmountFlags::DETACH).ok();
    }
}

/// In seconds, for people and for the report.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

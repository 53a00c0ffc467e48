//! Who extracts, and what is measured of it.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use airlock_dm_launcher::errand::Desk;
use airlock_policy::errand::Answer;
use airlock_tests::extraction::{measured, peak_rss};
use airlock_tests::loopback::Loop;

use crate::{Case, floor};

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Until all is on the device.
    pub(crate) time: Duration,
    /// Of the process that writes, read every millisecond; `None` for the floor, which holds the
    /// whole layer in memory on purpose.
    pub(crate) peak_rss_kib: Option<u64>,
}

/// An extractor.
#[derive(Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    /// Where it leaves the tree.
    pub(crate) root: &'static str,
    /// Debian's umoci does not.
    pub(crate) reads_zstd: bool,
    pub(crate) run: fn(&Desk, &Loop, &Case<'_>) -> Figures,
}

/// All, in the order of the table.
pub(crate) const SUBJECTS: &[Subject] = &[
    Subject { name: "airlock", root: "", reads_zstd: true, run: airlock },
    Subject { name: "tar", root: "", reads_zstd: true, run: tar },
    Subject { name: "bsdtar", root: "", reads_zstd: true, run: bsdtar },
    Subject { name: "umoci", root: "bundle/rootfs", reads_zstd: false, run: umoci },
    Subject { name: "floor", root: "", reads_zstd: true, run: floor },
];

/// The start of the sandbox, the mount, verification, flush and unmount are part of it.
fn airlock(desk: &Desk, device: &Loop, case: &Case<'_>) -> Figures {
    let done = measured(desk, device, &File::open(case.archive).unwrap());
    assert!(matches!(done.answer, Answer::Extracted(_)), "{:?}", done.answer);
    Figures { time: done.time, peak_rss_kib: Some(done.peak_rss_kib) }
}

fn tar(_: &Desk, device: &Loop, case: &Case<'_>) -> Figures {
    let options = ["-x", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-f"];
    program(device, |root| {
        let mut tar = Command::new("tar");
        tar.args(options).arg(case.archive).arg("-C").arg(root);
        tar
    })
}

fn bsdtar(_: &Desk, device: &Loop, case: &Case<'_>) -> Figures {
    program(device, |root| {
        let mut tar = Command::new("bsdtar");
        tar.args(["--numeric-owner", "-xpf"]).arg(case.archive).arg("-C").arg(root);
        tar
    })
}

fn umoci(_: &Desk, device: &Loop, case: &Case<'_>) -> Figures {
    program(device, |root| {
        let image = format!("{}:bench", case.layout.display());
        let mut umoci = Command::new("umoci");
        umoci.args(["unpack", "--image", &image]).arg(root.join("bundle"));
        umoci
    })
}

fn floor(_: &Desk, device: &Loop, case: &Case<'_>) -> Figures {
    let time = device.mounted(|root| {
        let root = File::open(root).unwrap();
        let begin = Instant::now();
        floor::write(case.layer, &root).unwrap();
        rustix::fs::syncfs(&root).unwrap();
        begin.elapsed()
    });
    Figures { time, peak_rss_kib: None }
}

/// Runs a program on a filesystem that is mounted already, and flushes it.
fn program(device: &Loop, command: impl FnOnce(&Path) -> Command) -> Figures {
    device.mounted(|root| {
        let mut command = command(root);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let begin = Instant::now();
        let mut child = command.spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let name = command.get_program().to_str().unwrap().to_owned();
        let mut peak = 0;
        let status = thread::scope(|scope| {
            let over = scope.spawn(move || child.wait().unwrap());
            while !over.is_finished() {
                peak = peak_rss(pid, &name).unwrap_or(peak);
                thread::sleep(Duration::from_millis(1));
            }
            over.join().unwrap()
        });
        assert!(status.success(), "{command:?}: {status}");
        rustix::fs::syncfs(File::open(root).unwrap()).unwrap();
        Figures { time: begin.elapsed(), peak_rss_kib: Some(peak) }
    })
}

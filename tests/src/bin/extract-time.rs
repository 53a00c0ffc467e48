//! How long extraction takes beside GNU tar, on the same kind of filesystem of this machine, both
//! until the data is on the device: `extract-time [--runs N] ARCHIVE…`. Root only.
//!
//! Beside the time stands the processor time of all processes, which other work on the machine
//! changes less.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench fails by panicking, prints for people, and runs GNU tar"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use airlock_policy::errand::Answer;
use airlock_policy::helper_config::HelperConfig;
use airlock_tests::extraction::{base_volume, desk, extracted};

const VOLUME: u64 = 4 << 30;

fn main() {
    let mut archives: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let mut runs = 3;
    if archives.first().is_some_and(|first| first.as_os_str() == "--runs") {
        runs = archives.get(1).and_then(|n| n.to_str()?.parse().ok()).unwrap_or(runs);
        archives.drain(..2);
    }
    println!(
        "{:>16} {:>16} {:>6}  archive (median of {runs}; time, processor)",
        "airlock", "tar", "ratio"
    );
    for archive in archives {
        let ours = median(runs, || ours(&archive));
        let tars = median(runs, || tars(&archive));
        let ratio = ours.0.as_secs_f64() / tars.0.as_secs_f64();
        let shown = |(time, cpu): (Duration, Duration)| {
            format!("{:.2}s {:.2}s", time.as_secs_f64(), cpu.as_secs_f64())
        };
        println!("{:>16} {:>16} {ratio:>6.2}  {}", shown(ours), shown(tars), archive.display());
    }
}

fn median(runs: usize, run: impl Fn() -> Duration) -> (Duration, Duration) {
    let measured = |_| {
        let before = children_cpu();
        let time = run();
        (time, children_cpu().saturating_sub(before))
    };
    let mut times: Vec<_> = (0..runs.max(1)).map(measured).collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The processor time of all children that have ended: making the volume is part of it, for both.
fn children_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Fields 16 and 17, counted behind the name in parentheses, in hundredths (proc(5)).
    let fields = text.rsplit(')').next().unwrap().split_whitespace();
    let ticks: u64 = fields.skip(13).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks.saturating_mul(10))
}

/// Mount, verification and flush are part of it.
fn ours(archive: &Path) -> Duration {
    let desk = desk(HelperConfig::default());
    let device = base_volume(&desk, VOLUME);
    let begin = Instant::now();
    let answer = extracted(&desk, &device, archive);
    let time = begin.elapsed();
    assert!(matches!(answer, Answer::Extracted(_)), "{}: {answer:?}", archive.display());
    time
}

/// Extraction and flush, on a filesystem that is mounted already.
fn tars(archive: &Path) -> Duration {
    let desk = desk(HelperConfig::default());
    base_volume(&desk, VOLUME).mounted(|root| {
        let begin = Instant::now();
        let options = ["--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls", "-xpf"];
        let mut tar = Command::new("tar");
        assert!(tar.args(options).arg(archive).arg("-C").arg(root).status().unwrap().success());
        assert!(Command::new("sync").arg("-f").arg(root).status().unwrap().success());
        begin.elapsed()
    })
}

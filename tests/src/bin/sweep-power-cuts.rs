//! `make sweep-power-cuts`: the power goes at random moments of a pull and of activations, and the
//! machine boots again on the same disk.
//!
//! Each case starts from a copy of one disk with a pool and a sealed, active image. What was not
//! flushed when the power went is lost, or a random part of it (`tests/vm/run`, `replay`). Then the
//! machine boots cold. `AIRLOCK_SWEEP_CASES` and `AIRLOCK_SWEEP_SEED` choose how many and which.
#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a sweep fails by panicking, prints for people, and starts the programs it needs"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use airlock_tests::random_tree::Random;
use airlock_tests::report::{self, Case};
use airlock_tests::s3::Server;
use airlock_tests::vm::Guest;

/// `tests/vm/run` says so when the power was cut.
const POWER_CUT: i32 = 137;
/// From the start of the services to well behind the end of the pull, under emulation.
const LONGEST: Duration = Duration::from_secs(20);
/// Two guests at once is what two cores carry.
const AT_ONCE: usize = 2;

fn main() -> ExitCode {
    let number = |name, otherwise| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let cases = number("AIRLOCK_SWEEP_CASES", 30);
    let now = std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs());
    let seed = number("AIRLOCK_SWEEP_SEED", now);
    println!("{cases} power cuts, AIRLOCK_SWEEP_SEED={seed}");
    let folder = tempfile::tempdir_in(airlock_tests::checkout().join("target")).unwrap();
    put_images(folder.path());
    let disk = folder.path().join("disk");
    Guest::new().disk(&disk).passes("before-power-cut");

    let (next, report) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let lane = || {
        while let case = next.fetch_add(1, Ordering::Relaxed)
            && case < cases
        {
            report.lock().unwrap().push(cut(&disk, folder.path(), case, seed));
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(lane))));
    let mut cases = report.into_inner().unwrap();
    cases.sort_by(|a, b| a.case.cmp(&b.case));
    let bad = report::record("power-cuts", "vm", &cases, &["left", "not cut"]);
    println!("{} of {} clean", cases.len() - bad.len(), cases.len());
    if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One life that ends by a power cut, and the next one.
fn cut(disk: &Path, folder: &Path, case: u64, seed: u64) -> Case {
    let random = Random::new(seed.wrapping_add(case)).number();
    let share = f64::from(u32::try_from(random % 10_000).unwrap_or(0)) / 10_000.0;
    let after = LONGEST.mul_f64(share).max(Duration::from_millis(300));
    // Every third cut loses all that was not flushed; the others a random part of it.
    let lost = if case.is_multiple_of(3) { 0 } else { random | 1 };
    let name = format!(
        "cut-{case:02} after {:.1} s, {}",
        after.as_secs_f64(),
        if lost == 0 { "all unflushed lost" } else { "a part lost" }
    );
    let copy = folder.join(format!("disk-{case}"));
    let status = Command::new("cp").args(["--sparse=always"]).arg(disk).arg(&copy).status();
    assert!(status.is_ok_and(|status| status.success()), "cp");
    let first = Guest::new().disk(&copy).power_cut(after, lost).run("during-power-cut");
    let row = if first.status.code() == Some(POWER_CUT) {
        let second = Guest::new()
            .file(&folder.join("coming.tree"), "coming.tree")
            .disk(&copy)
            .cold()
            .run("after-power-cut");
        let requests = last_line(&first.stderr, "vm: power cut:");
        if second.status.success() {
            let how = last_line(&second.stdout, "web:");
            Case::new(name, "clean", format!("{how}; {requests}"))
        } else {
            Case::new(name, "left", complaint(&second))
        }
    } else {
        Case::new(name, "not cut", complaint(&first))
    };
    drop(fs::remove_file(&copy));
    row
}

fn last_line(bytes: &[u8], start: &str) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().rfind(|line| line.starts_with(start)).unwrap_or_default().to_owned()
}

fn complaint(output: &Output) -> String {
    let all = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)];
    let lines: Vec<&str> = all.iter().flat_map(|text| text.lines()).collect();
    lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n")
}

/// Two images of some hundred files each: enough to be in the middle of, small enough for an emulator.
fn put_images(folder: &Path) {
    for (name, files) in [("sealed", 150), ("coming", 400)] {
        let line = format!(
            "mkdir -p {name}/etc {name}/usr/lib {name}/var && echo ID={name} > {name}/etc/os-release
             for i in $(seq {files}); do head -c $((i * 97 % 40000 + 100)) /dev/urandom > {name}/usr/lib/f$i; done
             ln -s lib {name}/usr/lib64; tar --sort=name --numeric-owner -C {name} -czf {name}.tar.gz ."
        );
        let status = Command::new("bash").args(["-euc", &line]).current_dir(folder).status();
        assert!(status.is_ok_and(|status| status.success()), "{line}");
        let archive = folder.join(format!("{name}.tar.gz"));
        Server::of_this_run().put(&format!("power/{name}.tar.gz"), &archive);
        let tree = airlock_tests::loopback::with_ext4(256 << 20, |root| {
            let tar = Command::new("tar")
                .args(["--numeric-owner", "-xpf"])
                .arg(&archive)
                .arg("-C")
                .arg(root)
                .status();
            assert!(tar.is_ok_and(|status| status.success()), "tar");
            airlock_tests::tree::list(root).unwrap()
        });
        fs::write(folder.join(format!("{name}.tree")), tree).unwrap();
    }
}

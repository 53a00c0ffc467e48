//! The database lost, restored and made anew; and many commands at once on one daemon.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::machine::{
    airlock, logs, main_pid, pids, ready, received, sh, start, thin_ids, wait_for,
};

/// What is on record of images (by digest) and snapshots, without what is known by name alone.
fn on_record() -> (BTreeSet<String>, BTreeSet<String>) {
    let items = |words: &str, keys: &[&str]| {
        let list = airlock(&format!("{words} --output json")).ok().json();
        let one = |item: &Value| keys.iter().map(|key| item[*key].to_string()).collect::<String>();
        list["items"].as_array().unwrap().iter().map(one).collect()
    };
    (
        items("images", &["digest", "state", "blob_bytes", "file_bytes"]),
        items("snapshots", &["name", "digest", "device", "read_only", "bytes"]),
    )
}

fn stop() {
    sh("systemctl stop airlock.socket airlock.service").ok();
}

fn blobs() -> String {
    sh("cd /var/lib/airlock/blobs/sha256 && sha256sum *").ok().out
}

/// Pull, activate, stop, delete the database, start, `doctor --fix`: images and snapshots are back
/// by digest, with what was written, and a repeated run finds everything there.
pub(crate) fn lost_database() {
    ready();
    airlock("run s3://images/lost/0.tar --name web").ok();
    airlock("run s3://images/lost/1.tar --name db --read-only").ok();
    airlock("pull s3://images/lost/2.tar").ok();
    sh("mount /dev/airlock/web /mnt && echo written-before > /mnt/kept && umount /mnt").ok();
    let (before, ids, files) = (on_record(), thin_ids(), blobs());

    stop();
    sh("rm /var/lib/airlock/airlock.sqlite*").ok();
    start();
    wait_for("the doctor sees it", 30, || airlock("doctor").out.contains("doctor --fix"));
    assert_eq!(on_record().0.len(), 0);
    println!("{}", airlock("doctor --fix --dry-run").ok().out);
    println!("{}", airlock("doctor --fix").ok().out);
    assert_eq!(on_record(), before, "all is back by digest");
    assert_eq!((thin_ids(), blobs()), (ids.clone(), files), "nothing but records changed");
    assert_eq!(airlock("doctor --fix").ok().out, "", "nothing is left to mend");
    airlock("doctor").ok();

    for (key, name) in [("0", "web"), ("1", "db --read-only")] {
        let run = format!("run s3://images/lost/{key}.tar --name {name}");
        // Nothing says any more what the source holds: its bytes come once, and all else is there.
        let first = airlock(&run).ok();
        for held in ["unpack held", "activate held the snapshot is active"] {
            assert!(first.err.contains(held), "{}\n{}", first.err, logs());
        }
        let again = airlock(&run).ok();
        assert!(again.err.contains("already active"), "{}\n{}", again.err, logs());
    }
    let kept = sh("mount -o ro /dev/airlock/web /mnt && cat /mnt/kept && umount /mnt").ok().out;
    assert_eq!(kept, "written-before\n");
    assert_eq!(thin_ids(), ids);
    restored_database(&before);
}

/// A backup from before a removal and an activation: restored, and brought in line.
fn restored_database(before: &(BTreeSet<String>, BTreeSet<String>)) {
    airlock("db backup /root/copy.sqlite").ok();
    airlock("deactivate db").ok();
    airlock("run s3://images/lost/2.tar --name late").ok();
    let held = airlock("db restore /root/copy.sqlite");
    let pid = main_pid("airlock.service").to_string();
    assert!(held.err.contains(&pid) && held.err.contains("airlock daemon"), "{}", held.err);
    held.fails(6, "another process has the state directory");
    stop();
    airlock("db restore /root/copy.sqlite").ok();
    start();
    println!("{}", airlock("doctor --fix").ok().out);
    let (images, snapshots) = on_record();
    assert_eq!(images.len(), before.0.len());
    let names: Vec<_> = snapshots.iter().map(|row| row.split('"').nth(1).unwrap()).collect();
    assert_eq!(names, ["late", "web"], "what is with the helper, and nothing else");
    airlock("db check").ok();
    assert_eq!(airlock("doctor --fix").ok().out, "");
}

fn begin(prefix: &str, image: usize, name: &str) -> Child {
    Command::new("airlock")
        .args(["run", "--quiet", &format!("s3://images/{prefix}/{image}.tar"), "--name", name])
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Eight runs of four images at once: each blob comes once, each layer is extracted once, and the
/// limits of the queues hold.
pub(crate) fn many_at_once() {
    const DOWNLOADS: usize = 2;
    const UNPACK: usize = 1;
    ready();
    stop();
    fs::create_dir_all("/etc/airlock/daemon.d").unwrap();
    let queues = format!("[queues]\ndownloads = {DOWNLOADS}\nunpack = {UNPACK}\n");
    fs::write("/etc/airlock/daemon.d/queues.toml", queues).unwrap();
    start();
    let before = received();
    let mut runs: Vec<_> = (0..8).map(|run| begin("many", run % 4, &format!("s{run}"))).collect();
    let (mut most_downloads, mut most_workers) = (0, 0);
    let mut left = runs.len();
    while left > 0 {
        let parts = fs::read_dir("/var/lib/airlock/blobs/partial").unwrap().flatten();
        let parts = parts.filter(|file| file.path().extension().is_some_and(|e| e == "data"));
        most_downloads = most_downloads.max(parts.count());
        most_workers = most_workers.max(pids("airlock-dm-worker").len());
        left = runs
            .iter_mut()
            .filter_map(|run| run.try_wait().unwrap().is_none().then_some(()))
            .count();
        sleep(Duration::from_millis(5));
    }
    for mut run in runs {
        assert!(run.wait().unwrap().success(), "{}", logs());
    }
    let bytes: u64 = sh("cd /var/lib/airlock/blobs/sha256 && stat -c %s *")
        .ok()
        .out
        .lines()
        .map(|line| line.parse::<u64>().unwrap())
        .sum();
    let came = received() - before;
    let journal = sh("journalctl --no-pager -o cat -u airlock -u airlock-dm-helper").ok().out;
    let begun = journal
        .lines()
        .filter(|line| line.contains("verb=apply_layer") && line.contains("verdict=begun"));
    let begun = begun.count();
    println!(
        "{came} bytes came for {bytes} bytes of blobs; {begun} extractions; at most {most_downloads} downloads and {most_workers} workers at once"
    );
    assert!(came < bytes + bytes / 4, "each blob comes once");
    assert_eq!(begun, 4, "each layer is extracted once\n{}", logs());
    assert!(most_downloads <= DOWNLOADS && most_workers <= UNPACK);
    assert!(!journal.contains("locked"), "{journal}");
    assert_eq!(thin_ids().len(), 1 + 4 + 8, "base, volumes, snapshots");
    assert_eq!(on_record().1.len(), 8);
    assert_eq!(airlock("doctor --fix --dry-run").ok().out, "");
}

/// A short sequence of what operators and accidents do, on the real pool; the long ones run on a
/// double of the helper (`controller/tests/model.rs`). `SEED` chooses it.
pub(crate) fn random_sequence() {
    ready();
    let mut state: u64 = std::env::var("SEED").unwrap().parse().unwrap();
    let mut below = |bound: u64| {
        // Knuth, "The Art of Computer Programming", 3.3.4: the high bits are the random ones.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for step in 0..24 {
        let (image, name) = (below(4), below(3));
        match below(12) {
            0..5 => drop(begin("chance", usize::try_from(image).unwrap(), &format!("s{name}"))),
            5 | 6 => drop(airlock(&format!("deactivate s{name}"))),
            7 => drop(airlock(&format!("rm chance:{image}"))),
            8 => {
                let runs = airlock("runs --output json").json();
                if let Some(run) = runs["items"][0]["run"].as_str() {
                    drop(airlock(&format!("cancel {run}")));
                }
            }
            9 => drop(sh("systemctl kill --signal=KILL airlock.service")),
            10 => drop(sh("systemctl kill --signal=KILL airlock-dm-helper.service")),
            _ => sleep(Duration::from_millis(below(1500))),
        }
        if step % 8 == 7 {
            all_agree();
        }
    }
}

/// Nothing goes on; then database, ledger, blobs and pool know of the same things.
fn all_agree() {
    wait_for("everything has ended", 180, || {
        let runs = sh("airlock runs --output json");
        runs.code == Some(0) && runs.json()["items"].as_array().is_some_and(Vec::is_empty)
    });
    // A start sees to what kills and cancels have left.
    stop();
    start();
    wait_for("the records agree", 60, || {
        let plan = sh("airlock doctor --fix --dry-run");
        plan.code == Some(0) && plan.out.is_empty()
    });
    let mut why = String::new();
    let count = |words: &str| airlock(words).ok().json()["items"].as_array().unwrap().len();
    let (images, snapshots) = (count("images --output json"), count("snapshots --output json"));
    wait_for("no volume is without an owner", 30, || {
        let ids = thin_ids();
        why = format!("{images} images, {snapshots} snapshots, thin ids {ids:?}");
        // An image that was only downloaded has no volume.
        ids.len() <= 1 + images + snapshots && ids.len() > snapshots
    });
    println!("{why}");
    for item in airlock("snapshots --output json").ok().json()["items"].as_array().unwrap() {
        let device = item["device"].as_str().unwrap();
        sh(&format!("mount -o ro {device} /mnt && cat /mnt/usr/noise* > /dev/null && umount /mnt"))
            .ok();
    }
}

//! `kill -9` of the daemon while it works: the next start finishes, and nothing is orphaned.

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::machine::{
    airlock, devices, logs, main_pid, partials, pids, ready, sh, thin_ids, wait_for,
};

fn begin(source: &str) -> Child {
    println!("$ airlock run {source} --name web &");
    Command::new("airlock")
        .args(["run", source, "--name", "web"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills the daemon, lets systemd start it again, and sees the run completed.
fn kill_and_see(mut command: Child, source: &str) {
    let daemon = main_pid("airlock.service");
    sh(&format!("kill -9 {daemon}")).ok();
    drop(command.kill());
    command.wait().unwrap();
    wait_for("a new daemon", 30, || {
        let now = main_pid("airlock.service");
        now != 0 && now != daemon
    });
    // Nobody asks for it again: the daemon itself takes the run up where it was.
    wait_for("the run is completed by the new daemon", 240, || {
        sh("test -e /dev/airlock/web").code == Some(0)
    });
    let again = airlock(&format!("run {source} --name web"));
    assert_eq!(again.code, Some(0), "{}\n{}", again.err, logs());
    assert!(again.err.contains("already active"), "{}", again.err);
    sh("mount -o ro /dev/airlock/web /mnt && test -s /mnt/etc/os-release && umount /mnt").ok();
    nothing_is_orphaned();
}

/// One volume and one snapshot of it: nothing else in the device table, the pool or the store.
fn nothing_is_orphaned() {
    assert_eq!(pids("airlock-dm-worker"), Vec::<u32>::new());
    assert_eq!(partials(), Vec::<String>::new());
    let ids = thin_ids();
    println!("devices {:?}, thin ids {ids:?}, no partial download", devices());
    assert_eq!(ids.len(), 3, "base, volume, snapshot");
    assert_eq!(devices().len(), 2, "pool and snapshot");
    let leftovers = sh("find /var/lib/airlock/blobs -type f | wc -l").ok().out;
    assert_eq!(leftovers.trim(), "1", "one blob");
}

/// Killed while bytes arrive.
pub(crate) fn during_download() {
    ready();
    let source = "s3://images/large/large.tar";
    let command = begin(source);
    wait_for("the download is under way", 60, || {
        sh("find /var/lib/airlock/blobs/partial -type f -size +4M").out.lines().count() > 0
    });
    kill_and_see(command, source);
}

/// Killed while the worker writes.
pub(crate) fn during_extraction() {
    ready();
    let source = format!("s3://images/{}", std::env::var("IMAGE_KEY").unwrap());
    let command = begin(&source);
    wait_for("an extraction is under way", 240, || !pids("airlock-dm-worker").is_empty());
    sleep(Duration::from_secs(2));
    assert_ne!(pids("airlock-dm-worker"), Vec::<u32>::new(), "it is still under way");
    kill_and_see(command, &source);
}

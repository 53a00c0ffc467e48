//! A device that hangs in the kernel, for real.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::machine::{airlock, data_hangs, logs, mounted, pids, ready_with, sh, wait_for};

/// The name of a snapshot's device in the device table.
fn device_of(snapshot: &str) -> String {
    let node = fs::canonicalize(format!("/dev/airlock/{snapshot}")).unwrap();
    let node = node.file_name().unwrap().to_string_lossy().into_owned();
    fs::read_to_string(format!("/sys/block/{node}/dm/name")).unwrap().trim().to_owned()
}

/// Puts a device without a table in the place of a snapshot's, as a crash leaves one, and somebody
/// who waits for its events. The kernel removes no device that a call still holds: whoever asks
/// for it waits where no signal reaches (`__dm_destroy`), until the other call ends.
fn half_made(device: &str) -> Child {
    let uuid = sh(&format!("dmsetup info -c --noheadings -o uuid {device}")).ok().out;
    sh(&format!("dmsetup remove {device} && dmsetup create {device} -u {} --notable", uuid.trim()))
        .ok();
    let waits = Command::new("dmsetup").args(["wait", device]).spawn().unwrap();
    sleep(Duration::from_secs(1));
    waits
}

/// Of a thread that runs at this very moment the kernel tells no stack, so one look says little.
fn hangs_in_the_kernel() -> bool {
    let stack = format!("cat /proc/{}/task/*/stack", pids("airlock-dm-broker")[0]);
    sh(&stack).out.contains("dm_destroy")
}

fn log_says(words: &str) -> bool {
    let log = sh("journalctl --no-pager -o cat -u airlock-dm-helper").out;
    log.lines().any(|line| words.split(' ').all(|word| line.contains(word)))
}

/// Its deadline passes and it is named; pulls and activations go on; when the kernel answers, that
/// is recorded and the snapshot is as usable as before.
pub(crate) fn a_hung_device() {
    ready_with("[pool]\ndata_size = \"1 GiB\"\n[limits]\ndevice_seconds = 20\n");
    airlock("run s3://images/small/small.tar --name web").ok();
    let device = device_of("web");
    let mut holder = half_made(&device);

    let mut activate = Command::new("airlock");
    activate.args(["activate", "small:small", "--name", "web"]);
    let activate = activate.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the kernel holds the broker's call", 15, hangs_in_the_kernel);
    airlock("run s3://images/small/other.tar --name other").ok();
    airlock("pool status").ok();
    wait_for("the call still hangs", 10, hangs_in_the_kernel);
    let sees = |root: &std::path::Path| fs::read_to_string(root.join("etc/os-release")).unwrap();
    assert_eq!(mounted("/dev/airlock/other", sees), "ID=other\n");

    let late = activate.wait_with_output().unwrap();
    let late: crate::machine::Ended = late.into();
    late.fails(8, "device.late");
    wait_for("the log names it", 10, || log_says(&format!("device-late {device} operation=")));
    wait_for("the call still hangs", 10, hangs_in_the_kernel);
    airlock("activate small:small --name web").fails(8, "device.quarantined");
    let doctor = airlock("doctor");
    assert!(doctor.out.contains(&format!("{device} hangs")), "{}{}", doctor.out, doctor.err);
    airlock("activate small:other --name third").ok();
    airlock("deactivate third").ok();

    holder.kill().unwrap();
    holder.wait().unwrap();
    wait_for("the late result", 20, || log_says(&format!("late-result {device} result=done")));
    assert!((0..20).all(|_look| !hangs_in_the_kernel()));
    airlock("activate small:small --name web").ok();
    assert_eq!(mounted("/dev/airlock/web", sees), "ID=small\n");
    airlock("deactivate web").ok();
    a_volume_that_cannot_be_mounted();
    println!("{}", sh("journalctl --no-pager -o cat -u airlock-dm-helper | grep -E 'late'").out);
}

/// The worker that mounts it hangs, and nobody else.
fn a_volume_that_cannot_be_mounted() {
    sh("echo 3 > /proc/sys/vm/drop_caches").ok();
    data_hangs(true);
    let mut run = Command::new("airlock");
    run.args(["run", "s3://images/small/third.tar", "--name", "fourth"]);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let hangs = || {
        let stacks = "for p in $(pgrep -f airlock-dm-worker); do cat /proc/$p/stack; done";
        let stacks = sh(stacks).out;
        ["vfs_get_tree", "bread"].iter().all(|call| stacks.contains(call))
    };
    wait_for("the kernel holds the worker's mount", 15, hangs);
    airlock("activate small:small --name web").ok();
    airlock("deactivate web").ok();
    assert!(hangs(), "{}", logs());
    let late: crate::machine::Ended = run.wait_with_output().unwrap().into();
    late.fails(8, "device.late");
    wait_for("the log names it", 10, || log_says("device-late operation=\"make a detached"));
    airlock("activate small:small --name web").ok();
    data_hangs(false);
    wait_for("the late result", 30, || log_says("late-result WorkerLate"));
    airlock("run s3://images/small/third.tar --name fourth").ok();
    let sees = |root: &std::path::Path| fs::read_to_string(root.join("etc/os-release")).unwrap();
    assert_eq!(mounted("/dev/airlock/fourth", sees), "ID=third\n");
    airlock("deactivate web").ok();
    airlock("deactivate fourth").ok();
}

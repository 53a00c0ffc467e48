//! A pool that runs full grows while what is on it is in use, and through a kill at the worst moment.

use std::fs;
use std::process::Command;

use crate::machine::{airlock, logs, ready_with, sh, start, wait_for};

const CONFIG: &str = "[pool]\ndata_size = \"128 MiB\"\nmetadata_size = \"2 MiB\"\n\
                      data_limit = \"400 MiB\"\nmetadata_limit = \"32 MiB\"\nvolume_size = \"1 GiB\"\n";

/// A figure of `pool status`, in bytes.
fn figure(name: &str) -> u64 {
    let status = airlock("pool status --output json").ok().json();
    status["usage"][name].as_u64().unwrap_or_else(|| panic!("{name}: {status}"))
}

fn table() -> String {
    sh("dmsetup table airlock-pool; dmsetup info -c --noheadings -o suspended airlock-pool")
        .ok()
        .out
}

pub(crate) fn a_pool_grows_in_use() {
    ready_with(CONFIG);
    airlock("run s3://images/small/small.tar --name web").ok();
    // Written to all the while by somebody who never stops.
    let mut writer = Command::new("sh")
        .args(["-c", "while :; do dd if=/dev/urandom of=/dev/airlock/web bs=64k count=1 seek=64 conv=notrunc,fsync status=none || echo failed >>/tmp/writer; sleep 0.05; done"])
        .spawn()
        .unwrap();
    data_grows();
    killed_between_file_and_table();
    metadata_grows();
    limits_hold();
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert!(fs::read_to_string("/tmp/writer").is_err(), "a write failed");
    let kept =
        sh("dd if=/dev/airlock/web bs=1M skip=100 count=64 status=none | sha256sum").ok().out;
    assert_eq!(kept, sh("sha256sum </tmp/noise").ok().out, "what was written before is there");
    println!("{}", airlock("pool status").ok().out);
}

/// Filled until nothing new is begun; larger, it goes on.
fn data_grows() {
    sh("head -c 67108864 /dev/urandom >/tmp/noise && dd if=/tmp/noise of=/dev/airlock/web bs=1M seek=100 conv=notrunc,fsync status=none").ok();
    let used = figure("data_used_bytes");
    let full = sh(
        "dd if=/dev/zero of=/dev/airlock/web bs=1M seek=200 count=100 conv=notrunc oflag=direct",
    );
    assert_ne!(full.code, Some(0), "the pool has {used} of 128 MiB in use and took 100 more");
    airlock("activate s3://images/small/small.tar --name other").fails(5, "pool.full");
    let larger = airlock("pool extend --data '256 MiB'").ok();
    println!("{}{}", larger.err, larger.out);
    assert_eq!(figure("data_total_bytes"), 256 << 20);
    assert!(table().starts_with("0 524288 thin-pool"), "{}", table());
    sh("dd if=/dev/zero of=/dev/airlock/web bs=1M seek=200 count=100 conv=notrunc oflag=direct")
        .ok();
    airlock("activate s3://images/small/small.tar --name other").ok();
    airlock("deactivate other").ok();
    let again = airlock("pool extend --data '256 MiB'").ok();
    assert!(again.err.contains("nothing to do"), "{}", again.err);
}

/// The file has grown and nobody was told: as a kill between the two leaves it.
fn killed_between_file_and_table() {
    sh("systemctl stop airlock.service airlock-dm-helper.service").ok();
    sh("truncate -s 300M /var/lib/airlock-helper/data.img").ok();
    start();
    let setup = airlock("pool setup");
    assert_eq!(setup.code, Some(0), "{}\n{}", setup.err, logs());
    assert_eq!(figure("data_total_bytes"), 300 << 20);
    // Killed by the kernel's own hand, at moments nobody chose: the answer may be lost, the pool is
    // never suspended and always one of the two sizes.
    for round in 1..=4_u64 {
        let size = 300 + 16 * round;
        let mut asking = Command::new("airlock")
            .args(["pool", "extend", "--data", &format!("{size} MiB")])
            .spawn()
            .unwrap();
        sh(&format!("sleep 0.{round}5; systemctl kill -s KILL airlock-dm-helper.service"));
        asking.wait().unwrap();
        sh("systemctl reset-failed airlock-dm-helper.service");
        start();
        wait_for("the pool", 60, || airlock("pool setup").code == Some(0));
        assert!(table().trim_end().ends_with("Active"), "{}", table());
        airlock(&format!("pool extend --data '{size} MiB'")).ok();
        assert_eq!(figure("data_total_bytes"), size << 20);
    }
}

/// The kernel sees the larger metadata device when the pool is resumed.
fn metadata_grows() {
    let total = figure("metadata_total_bytes");
    airlock("pool extend --metadata '16 MiB'").ok();
    assert_eq!((total, figure("metadata_total_bytes")), (2 << 20, 16 << 20));
    airlock("activate s3://images/small/small.tar --name more").ok();
    airlock("deactivate more").ok();
}

fn limits_hold() {
    airlock("pool extend --data '401 MiB'").fails(3, "pool.limit");
    airlock("pool extend --metadata '33 MiB'").fails(3, "pool.limit");
    assert_eq!((figure("data_limit_bytes"), figure("metadata_limit_bytes")), (400 << 20, 32 << 20));
}

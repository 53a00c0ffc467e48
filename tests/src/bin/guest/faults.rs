//! Bad input and a bad day: each ends in a clear message, and loses nothing.

use std::fs;

use crate::machine::{
    airlock, credentials, devices, partials, ready, ready_with, sh, start, thin_ids, wait_for,
};

/// Nothing of the pool and nothing of the blob store is left of an attempt that failed.
fn nothing_is_left() {
    assert_eq!(devices(), ["airlock-pool"]);
    assert_eq!(thin_ids(), [0], "the base volume alone is left");
}

/// What the host looks like where a hostile archive would want to write.
fn host_state() -> String {
    sh("find /etc /usr/bin /root /home /tmp /var/tmp -xdev -printf '%p %y %m %U %G %s %T@ %l\n' | sort; sha256sum /etc/passwd /etc/shadow").out
}

/// Archives whose entries lead out of the volume: refused by name, and the host is as it was.
pub(crate) fn archives_that_try_to_leave() {
    ready();
    let cases = [
        ("dotdot", "name.dotdot"),
        ("hardlink", "link.missing"),
        ("absolute", "name.absolute"),
        ("device", "kind.device"),
    ];
    let before = host_state();
    for (key, rule) in cases {
        airlock(&format!("run s3://images/hostile/{key}.tar --name x")).fails(3, rule);
        nothing_is_left();
    }
    // An absolute link is legal, and leads inside the volume only: so does what follows it.
    airlock("run s3://images/hostile/symlink.tar --name x").ok();
    let look = "cat /mnt/etc/airlock-was-here; readlink /mnt/link";
    let seen = sh(&format!("mount -o ro /dev/airlock/x /mnt && ({look}); umount /mnt"));
    assert_eq!(seen.ok().out, "leaked\n/etc\n");
    airlock("deactivate x").ok();
    airlock("rm hostile:symlink").ok();
    nothing_is_left();
    let after = host_state();
    for (line, was) in after.lines().zip(before.lines()) {
        assert_eq!(line, was, "the host changed");
    }
    assert_eq!(after, before, "the host changed");
    assert!(!std::path::Path::new("/etc/airlock-was-here").exists());
    println!("the host is as it was");
}

/// What is wrong with the input is said, with the exit status of its class.
pub(crate) fn bad_input() {
    ready();
    airlock("run s3://images/no/such-key.tar").fails(4, "s3://images/no/such-key.tar");
    airlock("run s3://no-such-bucket/x.tar").fails(4, "no-such-bucket");
    airlock("run s3://images/bad/truncated.tar").fails(3, "archive.truncated");
    airlock("run s3://images/bad/noise.tar").fails(3, "archive.not_tar");
    airlock("run s3://images/bad/cut.tar.gz").fails(3, "archive.compressed");
    airlock("run images/x.tar").fails(2, "s3://");
    airlock("activate no-such-image").fails(4, "no-such-image");
    airlock("deactivate no-such-snapshot").fails(4, "no-such-snapshot");
    nothing_is_left();
    assert_eq!(partials(), Vec::<String>::new());
    let access_key = std::env::var("S3_ACCESS_KEY").unwrap();
    credentials(&access_key, "wrong-secret");
    sh("systemctl restart airlock.service").ok();
    airlock("run s3://images/bad/noise.tar").fails(3, "denied");
    let text = airlock("run s3://images/bad/noise.tar").err;
    assert!(!text.contains("wrong-secret") && !text.contains(&access_key), "{text}");
}

/// An image that is larger than the pool: refused or failed by name, the pool stays well, and what
/// was active goes on.
pub(crate) fn full_pool() {
    ready_with("[pool]\ndata_size = \"128 MiB\"\n");
    airlock("run s3://images/small/small.tar --name small").ok();
    let ended = airlock("run s3://images/large/large.tar.zst --name large");
    // 64 MiB fit beside the small image; the second copy of them does not.
    let ended = if ended.code == Some(0) {
        airlock("run s3://images/large/other.tar --name other")
    } else {
        ended
    };
    ended.fails(5, "pool.full");
    let small = sh("mount -o ro /dev/airlock/small /mnt && cat /mnt/etc/os-release && umount /mnt");
    assert!(small.ok().out.contains("ID="));
    let status = airlock("pool status --output json").ok().json();
    println!("{status}");
}

/// A disk without room for the blob: said, and the next try goes on once there is room.
pub(crate) fn full_disk() {
    ready();
    sh("systemctl stop airlock.service").ok();
    sh("truncate -s 48M /small.img && mke2fs -q -F -t ext4 /small.img && mount -o loop /small.img /mnt && cp -a /var/lib/airlock/. /mnt/ && umount /mnt && mount -o loop /small.img /var/lib/airlock && chown airlock:airlock /var/lib/airlock").ok();
    fs::write("/etc/airlock/daemon.d/reserve.toml", "[limits]\ndisk_reserve = \"1 MiB\"\n")
        .or_else(|_| {
            fs::create_dir_all("/etc/airlock/daemon.d")?;
            fs::write("/etc/airlock/daemon.d/reserve.toml", "[limits]\ndisk_reserve = \"1 MiB\"\n")
        })
        .unwrap();
    start();
    airlock("run s3://images/large/large.tar --name large").fails(5, "disk.full");
    airlock("run s3://images/small/small.tar --name small").ok();
}

/// Without its helper the daemon says so, with the line that starts it; then the work goes on.
pub(crate) fn helper_down() {
    ready();
    sh("systemctl stop airlock-dm-helper.socket airlock-dm-helper.service").ok();
    airlock("run s3://images/small/small.tar --name small")
        .fails(5, "systemctl start airlock-dm-helper");
    sh("systemctl start airlock-dm-helper.socket").ok();
    wait_for("a run once the helper is back", 60, || {
        airlock("run s3://images/small/small.tar --name small").code == Some(0)
    });
    let other = sh("setpriv --reuid nobody --clear-groups airlock images");
    other.fails(5, "groups airlock");
    sh("systemctl stop airlock.socket airlock.service").ok();
    airlock("images").fails(5, "systemctl start airlock");
}

//! A reboot: pool and active snapshot come back, with what was written.

use crate::machine::{airlock, install, logs, sh, start, wait_for};

/// State lives on the data disk, which outlives the machine.
fn state_on_data_disk(fresh: bool) {
    if fresh {
        sh("mke2fs -q -F -t ext4 -E lazy_itable_init=1 /dev/vdc").ok();
    }
    sh("mkdir -p /srv/data && mount /dev/vdc /srv/data && mkdir -p /srv/data/airlock /srv/data/airlock-helper").ok();
    for name in ["airlock", "airlock-helper"] {
        sh(&format!("mkdir -p /var/lib/{name} && mount --bind /srv/data/{name} /var/lib/{name}"))
            .ok();
    }
}

/// The first life of the machine.
pub(crate) fn before() {
    state_on_data_disk(true);
    install("[pool]\ndata_size = \"1 GiB\"\n");
    start();
    airlock("pool setup").ok();
    airlock("run s3://images/small/small.tar --name web").ok();
    sh("mount /dev/airlock/web /mnt && echo written-before > /mnt/var/kept && umount /mnt && sync")
        .ok();
    airlock("run s3://images/small/small.tar --name mounted --mount").ok();
    sh("echo mounted-before > /run/airlock/mnt/mounted/var/kept && sync").ok();
    sh("systemctl stop airlock.service airlock-dm-helper.service; sync").ok();
}

/// The second, after a cold boot: another kernel, an empty device table.
pub(crate) fn after() {
    assert_eq!(sh("dmsetup ls").out.trim(), "No devices found");
    state_on_data_disk(false);
    install("[pool]\ndata_size = \"1 GiB\"\n");
    start();
    wait_for("the snapshot is active again", 60, || sh("test -b /dev/airlock/web").code == Some(0));
    let kept = sh("mount /dev/airlock/web /mnt && cat /mnt/var/kept && umount /mnt").ok().out;
    assert_eq!(kept, "written-before\n");
    wait_for("the mount is back", 60, || {
        sh("cat /run/airlock/mnt/mounted/var/kept").out == "mounted-before\n"
    });
    let again = airlock("run s3://images/small/small.tar --name web").ok();
    assert!(again.err.contains("already active"), "{}\n{}", again.err, logs());
    println!("{}{}", airlock("snapshots").ok().out, airlock("pool status").ok().out);
}

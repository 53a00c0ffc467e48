//! The pool is taken down by root at the machine, and comes back; or is gone for good.

use crate::machine::{airlock, devices, logs, ready, sh, start, wait_for};

const HELPER: &str = "/usr/libexec/airlock/airlock-dm-helper";

fn loops() -> String {
    sh("losetup -ln -O BACK-FILE | grep airlock").out
}

fn files() -> String {
    sh("ls /var/lib/airlock-helper").ok().out
}

pub(crate) fn detached_and_destroyed() {
    ready();
    airlock("run s3://images/small/small.tar --name web").ok();
    airlock("activate s3://images/small/small.tar --name inside --mount").ok();
    sh("echo kept >/run/airlock/mnt/inside/kept").ok();
    sh("mount /dev/airlock/web /mnt && echo kept >/mnt/kept && umount /mnt").ok();
    sh(&format!("{HELPER} pool detach")).fails(6, "another helper holds");
    sh("systemctl stop airlock.socket airlock.service airlock-dm-helper.socket airlock-dm-helper.service").ok();
    let before = (devices(), files(), loops());
    sh(&format!("{HELPER} pool detach")).fails(1, "mounted or held open");
    assert_eq!((devices(), files(), loops()), before, "refused, it changed nothing");

    sh("umount /run/airlock/mnt/inside").ok();
    println!("{}", sh(&format!("{HELPER} pool detach")).ok().err);
    assert_eq!((devices(), loops()), (vec![], String::new()));
    assert_eq!(files(), before.1);
    assert_eq!(sh("ls /dev/airlock").ok().out, "");
    start();
    wait_for("all is there again", 60, || {
        sh("cat /run/airlock/mnt/inside/kept; mount -o ro /dev/airlock/web /mnt && cat /mnt/kept && umount /mnt").out
            == "kept\nkept\n"
    });

    airlock("deactivate inside").ok();
    sh("systemctl stop airlock.socket airlock.service airlock-dm-helper.socket airlock-dm-helper.service").ok();
    let before = (devices(), files(), loops());
    let dry = sh(&format!("{HELPER} pool destroy")).ok();
    println!("{}", dry.err);
    assert!(dry.err.contains("would remove data.img"), "{}", dry.err);
    assert_eq!((devices(), files(), loops()), before, "it only said what it would do");
    println!("{}", sh(&format!("{HELPER} pool destroy --force")).ok().err);
    assert_eq!((devices(), loops()), (vec![], String::new()));
    assert_eq!(files(), "lock\n");
    sh("rm -rf /var/lib/airlock/*").ok();
    start();
    let setup = airlock("pool setup");
    assert_eq!(setup.code, Some(0), "{}\n{}", setup.err, logs());
}

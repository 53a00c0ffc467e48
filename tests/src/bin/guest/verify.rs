//! A sealed volume that somebody wrote to behind airlock's back, as root can, is found out.

use crate::machine::{airlock, devices, logs, ready, sh, thin_ids};

/// Runs a line in the volume of a thin id, mounted writable. It cannot be told by its size, its
/// ledger or its device afterwards.
fn tamper(thin: u32, line: &str) {
    let sectors = sh("blockdev --getsz /dev/airlock/one").ok().out;
    let pool = sh("dmsetup info -c --noheadings -o major,minor airlock-pool").ok().out;
    let table = format!("0 {} thin {} {thin}", sectors.trim(), pool.trim());
    sh(&format!("dmsetup create evil --table '{table}' && mount /dev/mapper/evil /mnt")).ok();
    let changed = sh(&format!("cd /mnt && {line}"));
    sh("sync; umount /mnt; udevadm settle; dmsetup remove evil").ok();
    changed.ok();
}

/// Each change is named by its entry, of the image that it was made to and no other; and taken
/// back, it was never there.
pub(crate) fn tampered_volumes_are_named() {
    ready();
    airlock("run s3://images/verify/one.tar --name one").ok();
    airlock("pull s3://images/verify/two.tar").ok();
    assert_eq!(thin_ids(), [0, 1, 2, 3]);
    let whole = airlock("verify --all").ok();
    assert_eq!(whole.out.matches("is as it was extracted").count(), 2, "{}", whole.out);
    let cases = [
        ("printf x | dd of=etc/os-release conv=notrunc", "etc/os-release", "content"),
        ("chmod 4755 usr/tool", "usr/tool", "mode"),
        ("python3 -c 'import os; os.setxattr(\"usr\", \"user.a\", b\"1\")'", "usr", "attributes"),
        ("rm usr/tool", "usr/tool", "is missing"),
    ];
    let back = "printf I | dd of=etc/os-release conv=notrunc; chmod 755 usr/tool;
                python3 -c 'import os; os.removexattr(\"usr\", \"user.a\")' || true";
    for (line, path, what) in cases {
        tamper(1, line);
        let told = airlock("verify verify:one");
        assert!(told.err.contains(path) && told.err.contains(what), "{}\n{}", told.err, logs());
        told.fails(3, "is not what was extracted");
        airlock("verify verify:two").ok();
        if what != "is missing" {
            tamper(1, back);
            airlock("verify verify:one").ok();
        }
    }
    let all = airlock("verify --all --output json");
    assert_eq!(all.code, Some(3), "{}", all.err);
    let verdicts = all.json();
    assert_eq!(verdicts["items"][0]["verdict"], "differs");
    assert_eq!(verdicts["items"][0]["path"], "usr/tool");
    assert_eq!(verdicts["items"][1]["verdict"], "sound");
    assert_eq!(devices(), ["airlock-pool", "airlock-v000002"], "no device of a volume is left");
    manifests_go_with_their_volumes();
}

fn manifests_go_with_their_volumes() {
    let list = || sh("ls /var/lib/airlock-helper/trees").ok().out;
    assert_eq!(list(), "1\n3\n");
    airlock("rm verify:two").ok();
    crate::machine::wait_for("the manifest to go", 10, || list() == "1\n");
    // As a crash between the ledger's record and the removal would leave it.
    sh("touch /var/lib/airlock-helper/trees/77").ok();
    sh("systemctl restart airlock-dm-helper.service").ok();
    crate::machine::wait_for("the orphan to go", 30, || list() == "1\n");
}

//! Snapshots that are mounted on the host instead of being handed out, and snapshots that grow.

use std::process::Command;

use crate::machine::{airlock, devices, logs, ready_with, sh, start, wait_for};

const SOURCE: &str = "s3://images/small/small.tar";

pub(crate) fn are_safe_and_come_back() {
    ready_with(
        "[pool]\ndata_size = \"1 GiB\"\nvolume_size = \"1 GiB\"\n[node]\ngroup = \"users\"\nmode = \"0640\"\n",
    );
    mounted_and_busy();
    nodes_keep_their_group();
    read_only();
    handed_out_is_never_mounted();
    grown();
    killed_at_any_moment();
    assert_eq!(sh("findmnt -rn -o TARGET | grep /run/airlock").out, "", "no mount is left");
    assert_eq!(sh("ls -A /run/airlock/mnt").ok().out, "", "no directory is left");
    assert_eq!(devices(), ["airlock-pool"]);
}

/// Options as the kernel lists them.
fn options(name: &str) -> String {
    sh(&format!("findmnt -rn -o OPTIONS /run/airlock/mnt/{name}")).ok().out
}

fn mounted_and_busy() {
    let run = airlock(&format!("run {SOURCE} --name web --mount"));
    assert_eq!(run.code, Some(0), "{}\n{}", run.err, logs());
    assert_eq!(run.out, "/run/airlock/mnt/web\n");
    let options = options("web");
    assert!(options.contains("nosuid,nodev") && options.starts_with("rw"), "{options}");
    sh("grep -q ID=small /run/airlock/mnt/web/etc/os-release && echo mine >/run/airlock/mnt/web/mine").ok();
    assert_eq!(sh("stat -c %a:%G /run/airlock/mnt").ok().out, "750:users\n");
    assert_ne!(sh("test -e /dev/airlock/web").code, Some(0), "it is not handed out");
    println!("{}", airlock("snapshots").ok().out);

    // A restart of both services changes nothing.
    sh("systemctl restart airlock-dm-helper.service airlock.service").ok();
    let again = airlock(&format!("run {SOURCE} --name web --mount")).ok();
    assert!(again.err.contains("already active"), "{}", again.err);
    assert_eq!(sh("findmnt -rn /run/airlock/mnt/web | wc -l").ok().out, "1\n");
    airlock(&format!("activate {SOURCE} --name web")).fails(6, "snapshot.mounted");

    let mut holder =
        Command::new("sleep").arg("600").current_dir("/run/airlock/mnt/web/etc").spawn().unwrap();
    airlock("deactivate web").fails(7, "web is in use");
    assert_eq!(sh("cat /run/airlock/mnt/web/mine").ok().out, "mine\n", "it stays as it was");
    holder.kill().unwrap();
    holder.wait().unwrap();
    airlock("deactivate web").ok();
    assert_eq!(devices(), ["airlock-pool"]);
}

/// udev has its say at each event, and says the same.
fn nodes_keep_their_group() {
    airlock(&format!("activate {SOURCE} --name node")).ok();
    airlock(&format!("activate {SOURCE} --name inside --mount")).ok();
    let minor = |name: &str| {
        let device = sh(&format!("findmnt -rn -o MAJ:MIN /run/airlock/mnt/{name}")).ok().out;
        device.trim().rsplit_once(':').unwrap().1.to_owned()
    };
    let mounted = format!("/dev/dm-{}", minor("inside"));
    for action in ["add", "change"] {
        sh(&format!("udevadm trigger --settle --subsystem-match=block --action={action}")).ok();
        let of = |path: &str| sh(&format!("stat -L -c %a:%U:%G {path}")).ok().out;
        assert_eq!(of("/dev/airlock/node"), "640:root:users\n", "after {action}");
        assert_eq!(of(&mounted), "600:root:root\n", "after {action}");
    }
    airlock("deactivate node inside").ok();
}

fn read_only() {
    airlock(&format!("activate {SOURCE} --name fixed --mount --read-only")).ok();
    assert!(options("fixed").starts_with("ro"), "{}", options("fixed"));
    assert_ne!(sh("touch /run/airlock/mnt/fixed/x").code, Some(0));
    airlock("deactivate fixed").ok();
}

fn handed_out_is_never_mounted() {
    airlock(&format!("activate {SOURCE} --name raw")).ok();
    sh("dd if=/dev/urandom of=/dev/airlock/raw bs=4096 count=4 conv=fsync status=none").ok();
    airlock(&format!("activate {SOURCE} --name raw --mount")).fails(6, "snapshot.handed_out");
    sh("systemctl restart airlock-dm-helper.service").ok();
    airlock(&format!("activate {SOURCE} --name raw --mount")).fails(6, "snapshot.handed_out");
    airlock("deactivate raw").ok();
}

fn grown() {
    let device = airlock(&format!("activate {SOURCE} --name large --size 3GiB"));
    assert_eq!(device.code, Some(0), "{}\n{}", device.err, logs());
    assert_eq!(sh("blockdev --getsize64 /dev/airlock/large").ok().out, "3221225472\n");
    sh("e2fsck -fn /dev/airlock/large").ok();
    let blocks = sh("dumpe2fs -h /dev/airlock/large 2>/dev/null | awk '/^Block count/ {print $3}'");
    assert_eq!(blocks.ok().out, "786432\n");
    airlock(&format!("activate {SOURCE} --name large --size 4GiB")).fails(6, "snapshot.other");
    airlock(&format!("activate {SOURCE} --name small --size 512MiB")).fails(3, "snapshot.size");
    airlock(&format!("activate {SOURCE} --name huge --size 200GiB")).fails(3, "snapshot.size");
    airlock("deactivate large").ok();
    airlock(&format!("activate {SOURCE} --name both --size 2GiB --mount")).ok();
    let bytes: u64 =
        sh("df -B1 --output=size /run/airlock/mnt/both | tail -1").ok().out.trim().parse().unwrap();
    assert!(bytes > 1 << 30, "{bytes}");
    airlock("deactivate both").ok();
}

/// Killed while it mounts and unmounts, the helper ends in one of the two states, and says so.
fn killed_at_any_moment() {
    for round in 1..=5_u32 {
        let mut asking = Command::new("sh")
            .args([
                "-c",
                &format!("airlock activate {SOURCE} --name k --mount; airlock deactivate k"),
            ])
            .spawn()
            .unwrap();
        sh(&format!("sleep 0.{round}; systemctl kill -s KILL airlock-dm-helper.service"));
        asking.wait().unwrap();
        sh("systemctl reset-failed airlock-dm-helper.service");
        start();
        wait_for("it is mounted", 60, || {
            airlock(&format!("activate {SOURCE} --name k --mount")).code == Some(0)
        });
        assert_eq!(sh("findmnt -rn /run/airlock/mnt/k | wc -l").ok().out, "1\n");
        sh("grep -q ID=small /run/airlock/mnt/k/etc/os-release").ok();
        wait_for("it is gone", 60, || airlock("deactivate k --if-exists").code == Some(0));
    }
}

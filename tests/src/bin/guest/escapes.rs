//! A worker and a broker that were taken over, in the places of the real ones, on a real pool.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use airlock_policy::digest::Digest;
use airlock_tests::escapes::{MALFORMED, REPORTS, control, install, outcomes};
use airlock_tests::helper_client::Client;
use airlock_tests::report::Case;
use serde_json::{Value, json};

use crate::machine::{airlock, logs, main_pid, ready_with, sh, wait_for};
use crate::survey::{controller, give_blob};

const ATTACKER: &str = "bin/attacker";
const PROGRAMS: &str = "/usr/libexec/airlock";
const CONFIG: &str = "[pool]\ndata_size = \"1 GiB\"\n";

/// All of it; the cases go to `escapes.json`.
pub(crate) fn all() {
    ready_with(CONFIG);
    airlock("run s3://images/small/small.tar --name web").ok();
    sh("systemctl stop airlock.service airlock.socket").ok();
    // A failed start is what some of the attempts end in: no limit on starting again.
    sh("mkdir -p /etc/systemd/system/airlock-dm-helper.service.d && printf '[Unit]\\nStartLimitIntervalSec=0\\n[Service]\\nRestart=no\\n' > /etc/systemd/system/airlock-dm-helper.service.d/sweep.conf && systemctl daemon-reload").ok();
    let control = unconfined();
    let mut cases = workers(&control);
    cases.extend(brokers(&control));
    let list: Vec<Value> = cases.iter().map(Case::json).collect();
    fs::write("/run/escapes.json", Value::from(list).to_string()).unwrap();
    // What the attempts left is a helper that works.
    put("airlock-dm-broker", "bin/airlock-dm-broker");
    fs::write("/etc/airlock/dm-helper.toml", CONFIG).unwrap();
    sh("dmsetup remove somebodys-data airlock-v0000aa").ok();
    crate::machine::start();
    let again = airlock("run s3://images/small/small.tar --name web");
    assert!(
        again.code == Some(0) && again.err.contains("already active"),
        "{}{}",
        again.err,
        logs()
    );
    sh("mount -o ro /dev/airlock/web /mnt && test -s /mnt/etc/os-release && umount /mnt").ok();
}

fn put(place: &str, program: &str) {
    sh("systemctl stop airlock-dm-helper.service").ok();
    install(Path::new(program), &Path::new(PROGRAMS).join(place));
}

fn unconfined() -> HashMap<String, String> {
    sh("truncate -s 64M /srv/scratch.img && mke2fs -q -F -t ext4 -b 4096 /srv/scratch.img && mkdir -p /srv/scratch && mount -o loop /srv/scratch.img /srv/scratch").ok();
    let control = control(Path::new(ATTACKER), Path::new("/srv/scratch"), Path::new("/srv"));
    sh("umount /srv/scratch").ok();
    control
}

/// Has the worker extract a blob, whatever comes of it.
fn extract(client: &mut Client, blob: &str) -> Value {
    let volume = Digest::of(blob.as_bytes()).to_string();
    let digest = give_blob(blob.as_bytes());
    let created = client.ask("CreateVolume", json!({"volume": volume, "parent": null})).unwrap();
    assert_eq!(created["Ok"], "done", "{created}\n{}", logs());
    loop {
        let fields = json!({"volume": volume, "blob": digest, "diff_id": digest});
        let answer = client.ask("ApplyLayer", fields).unwrap();
        if answer["Ok"]["running"].is_null() {
            return answer;
        }
    }
}

fn workers(control: &HashMap<String, String>) -> Vec<Case> {
    put("airlock-dm-worker", ATTACKER);
    sh("systemctl start airlock-dm-helper.socket").ok();
    let mut client = Client::connect(controller()).unwrap();
    client.ask("EnsurePool", json!({"create": false})).unwrap();
    let launcher = main_pid("airlock-dm-helper.service");
    let answer = extract(&mut client, "attempts /run/worker.json");
    println!("the extraction ends with {answer}");
    let mut cases = outcomes(Path::new("/run/worker.json"), control);
    for how in REPORTS {
        let answer = extract(&mut client, &format!("report {how}"));
        let welcome = client.ask("PoolStatus", json!({}));
        let lives = main_pid("airlock-dm-helper.service") == launcher;
        let is_well = lives && welcome.is_ok_and(|status| status["Ok"]["up"].is_object());
        let outcome = if is_well && answer["Err"].is_object() { "refused" } else { "breach" };
        cases.push(Case::new(format!("report {how}"), outcome, answer.to_string()));
    }
    put("airlock-dm-worker", "bin/airlock-dm-worker");
    prefixed("worker", cases)
}

fn brokers(control: &HashMap<String, String>) -> Vec<Case> {
    // Devices of somebody else's, one of them under a name and uuid of ours.
    sh("dmsetup create somebodys-data --table '0 2048 linear /dev/vdc 0'").ok();
    sh("dmsetup create airlock-v0000aa --uuid AIRLOCK-airlock-v0000aa --table '0 2048 linear /dev/vdc 2048'").ok();
    // The base volume, as a broker can map it.
    let pool = sh("dmsetup table airlock-v000002 | cut -d' ' -f4").ok().out;
    let size = sh("dmsetup table airlock-v000002 | cut -d' ' -f2").ok().out;
    let table = format!("0 {} thin {} 0", size.trim(), pool.trim());
    sh(&format!("dmsetup create airlock-v000000 --uuid AIRLOCK-airlock-v000000 --table '{table}'"))
        .ok();
    let before = sh("sha256sum < /dev/mapper/somebodys-data; dmsetup table | sort").ok().out;
    put("airlock-dm-broker", ATTACKER);
    fs::write("/etc/airlock/dm-helper.toml", format!("# attempts: /run/broker.json\n{CONFIG}"))
        .unwrap();
    sh("systemctl start airlock-dm-helper.service").ok();
    wait_for("the broker's attempts", 120, || Path::new("/run/broker.json").exists());
    let mut cases = outcomes(Path::new("/run/broker.json"), control);
    for how in MALFORMED {
        sh("systemctl stop airlock-dm-helper.service").ok();
        fs::write("/etc/airlock/dm-helper.toml", format!("# malformed: {how}\n{CONFIG}")).unwrap();
        sh("systemctl reset-failed airlock-dm-helper.service; systemctl start --no-block airlock-dm-helper.service").ok();
        wait_for("the launcher ends", 30, || {
            sh("systemctl is-failed airlock-dm-helper.service").code == Some(0)
        });
        let line = sh("journalctl -u airlock-dm-helper.service -o cat --no-pager -n 20 | grep ' ends: ' | tail -n 1").out;
        let ended = line.contains("malformed errand") || line.contains("the broker ended");
        let outcome = if ended { "refused" } else { "breach" };
        cases.push(Case::new(format!("message {how}"), outcome, line.trim()));
    }
    let after = sh("sha256sum < /dev/mapper/somebodys-data; dmsetup table | sort").ok().out;
    assert_eq!(after, before, "the device table, or another's device, changed");
    sh("dmsetup remove airlock-v000000").ok();
    sh("systemctl reset-failed airlock-dm-helper.service; systemctl start airlock-dm-helper.socket").ok();
    prefixed("broker", cases)
}

fn prefixed(who: &str, cases: Vec<Case>) -> Vec<Case> {
    let named = |case: Case| Case { case: format!("{who}/{}", case.case), ..case };
    cases.into_iter().map(named).collect()
}

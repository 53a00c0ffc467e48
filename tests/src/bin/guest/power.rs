//! Power cuts: what a machine finds on its disk when it comes back.
//!
//! `before` makes a pool with one sealed and active image, and stops cleanly. `during` works until
//! the power goes. `after` sees that what was sealed is as it was, that what was under way is completed
//! or undone, and that database, ledger and pool agree.

use std::collections::BTreeSet;
use std::fs;

use airlock_tests::tree;
use serde_json::Value;

use crate::machine::{
    airlock, devices, install, logs, mounted, partials, sh, start, thin_ids, wait_for,
};

const CONFIG: &str = "[pool]\ndata_size = \"1 GiB\"\n";
/// What was there before.
const SEALED: &str = "s3://images/power/sealed.tar.gz";
/// What is under way when the power goes.
const COMING: &str = "s3://images/power/coming.tar.gz";

/// State lies on the data disk, which outlives the machine.
fn mount_state(fresh: bool) {
    if fresh {
        sh("mke2fs -q -F -t ext4 -E lazy_itable_init=1 /dev/vdc").ok();
    }
    sh("mkdir -p /srv/data && mount /dev/vdc /srv/data").ok();
    for name in ["airlock", "airlock-helper"] {
        sh(&format!(
            "mkdir -p /srv/data/{name} /var/lib/{name} && mount --bind /srv/data/{name} /var/lib/{name}"
        ))
        .ok();
    }
}

fn tree_of(name: &str) -> String {
    mounted(&format!("/dev/airlock/{name}"), |root| tree::list(root).unwrap())
}

/// A pool with one image, active as `kept`. Its tree is left on the disk as `kept.tree`.
pub(crate) fn before() {
    mount_state(true);
    install(CONFIG);
    start();
    airlock("pool setup").ok();
    airlock(&format!("run {SEALED} --name kept --read-only")).ok();
    fs::write("/srv/data/kept.tree", tree_of("kept")).unwrap();
    // The pool writes its metadata once a second: after that nothing is left to be flushed.
    sh("systemctl stop airlock.service airlock-dm-helper.service; sync; sleep 2; sync").ok();
}

/// Pulls and activates for ever: a new image, and more snapshots of the old one.
pub(crate) fn during() {
    mount_state(false);
    install(CONFIG);
    start();
    drop(std::process::Command::new("airlock").args(["run", COMING, "--name", "web"]).spawn());
    for number in 0.. {
        // The power may go at any line of this, and each may be refused or cut off.
        drop(sh(&format!("airlock activate sealed --name more-{}", number % 3)));
        drop(sh(&format!("airlock deactivate more-{}", (number + 1) % 3)));
    }
}

/// The next life of the machine.
pub(crate) fn after() {
    mount_state(false);
    install(CONFIG);
    start();
    wait_for("nothing is under way", 240, || {
        let runs = sh("airlock runs --output json");
        runs.code == Some(0) && runs.json()["items"].as_array().is_some_and(Vec::is_empty)
    });
    let kept = fs::read_to_string("/srv/data/kept.tree").unwrap();
    let differences = tree::differences(&kept, &tree_of("kept"));
    assert!(differences.is_empty(), "what was sealed changed: {}", differences.join("; "));
    let again = airlock(&format!("run {COMING} --name web"));
    assert_eq!(again.code, Some(0), "{}\n{}", again.err, logs());
    println!(
        "web: {}",
        if again.err.contains("already active") { "completed" } else { "undone, done again" }
    );
    let expected = fs::read_to_string("coming.tree").unwrap();
    let differences = tree::differences(&expected, &tree_of("web"));
    assert!(differences.is_empty(), "web is not its image: {}", differences.join("; "));
    three_truths_agree();
}

/// Database, ledger and pool know of the same volumes and snapshots, and of nothing else.
fn three_truths_agree() {
    let snapshots = names(&airlock("snapshots --output json").ok().json());
    let images = airlock("images --output json").ok().json()["items"].as_array().unwrap().len();
    assert_eq!(images, 2, "images");
    let ids = thin_ids();
    // The base volume, a volume an image (each has one layer), the snapshots.
    assert_eq!(
        ids.len(),
        1 + images + snapshots.len(),
        "thin ids {ids:?}, snapshots {snapshots:?}"
    );
    assert_eq!(devices().len(), 1 + snapshots.len(), "devices {:?}", devices());
    assert_eq!(partials(), Vec::<String>::new());
    let links = fs::read_dir("/dev/airlock").unwrap().flatten();
    let links: BTreeSet<String> =
        links.map(|l| l.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(links, snapshots, "links and snapshots");
    let blobs = sh("find /var/lib/airlock/blobs/sha256 -type f | wc -l").ok().out;
    assert_eq!(blobs.trim(), "2", "blobs");
    println!("agree: {} thin ids, snapshots {snapshots:?}", ids.len());
}

fn names(page: &Value) -> BTreeSet<String> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

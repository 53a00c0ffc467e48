//! What there must be once everything has settled: database, ledger, pool, blobs, devices, mounts.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use airlock_tests::helper_client::Client;
use serde_json::json;

use crate::machine::{airlock, devices, logs, partials, sh, thin_ids};
use crate::survey::{blocks, controller};

/// How long a restart may take to see to what was left half done.
const SETTLED: Duration = Duration::from_secs(30);

/// A sealed image and an active snapshot of it, which no case may change.
#[derive(Debug)]
pub(super) struct Kept {
    blocks: String,
    content: String,
}

impl Kept {
    /// Makes them, where they are not there yet.
    pub(super) fn activate() {
        airlock("run s3://images/small/small.tar --name kept --read-only").ok();
    }

    /// Makes them in a new pool, and looks at them.
    pub(super) fn make() -> Self {
        Self::activate();
        let (blocks, content) = (blocks(1), content());
        Self { blocks, content }
    }

    /// Requires that they are what they were, to the last byte.
    pub(super) fn verify(&self) {
        assert_eq!(content(), self.content, "the snapshot in use changed");
        airlock("verify small:small").ok();
    }
}

fn content() -> String {
    sh("dd if=/dev/airlock/kept bs=1M iflag=direct status=none | sha256sum").ok().out
}

/// Waits until the daemon answers and no run goes on.
pub(super) fn recovered() -> Result<(), String> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_mins(2) {
        let runs = sh("airlock runs --output json");
        if runs.code == Some(0) && runs.json()["items"].as_array().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        sleep(Duration::from_millis(100));
    }
    Err(format!("something goes on after two minutes: {}\n{}", sh("airlock runs").out, logs()))
}

/// The id and state of the newest run of a source.
pub(super) fn newest_run(source: &str) -> Option<(String, String)> {
    let runs = airlock("runs --all --output json").ok().json();
    let of_source = runs["items"].as_array()?.iter().filter(|run| run["source"] == source);
    let newest = of_source.max_by_key(|run| run["submitted_at"].as_str().map(str::to_owned))?;
    let text = |key: &str| newest[key].as_str().unwrap_or_default().to_owned();
    Some((text("run"), text("state")))
}

/// What is there and should not be, or the other way round, after some time to settle. `web`:
/// whether the image of the cases is here and active.
pub(super) fn left_behind(kept: Option<&Kept>, web: bool) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let left = look(kept, web);
        if left.is_empty() || begin.elapsed() > SETTLED {
            return left;
        }
        sleep(Duration::from_millis(500));
    }
}

fn look(kept: Option<&Kept>, web: bool) -> Vec<String> {
    let mut left = Vec::new();
    let mut must = |what: &str, found: &dyn std::fmt::Debug, holds: bool| {
        if !holds {
            left.push(format!("{what}: {found:?}"));
        }
    };
    let snapshots: Vec<&str> =
        [("kept", kept.is_some()), ("web", web)].iter().filter(|it| it.1).map(|it| it.0).collect();
    let images = snapshots.len();

    let listed = |words: &str, key: &str| -> BTreeSet<String> {
        let page = sh(&format!("airlock {words} --output json"));
        let items = (page.code == Some(0)).then(|| page.json()["items"].clone());
        let items = items.and_then(|items| items.as_array().cloned()).unwrap_or_default();
        items.iter().filter_map(|item| item[key].as_str().map(str::to_owned)).collect()
    };
    let known = listed("images", "digest");
    must("images on record", &known, known.len() == images);
    let active = listed("snapshots", "name");
    must("snapshots on record", &active, active.iter().eq(snapshots.iter()));

    // The base volume, a volume an image, the snapshots.
    let (ids, ledger) = (thin_ids(), ledger());
    must("thin ids", &ids, ids.len() == 1 + images + snapshots.len());
    must("the ledger, where the pool has other ids", &(&ledger, &ids), ids[1..] == ledger[..]);
    let names = devices();
    must("devices", &names, names.len() == 1 + snapshots.len());
    let doctor = sh("airlock doctor --fix --dry-run");
    must("the doctor", &doctor, doctor.code == Some(0) && doctor.out.is_empty());

    let lines = |line: &str| sh(line).out.lines().map(str::to_owned).collect::<Vec<_>>();
    let blobs = lines("cd /var/lib/airlock/blobs/sha256 && ls");
    must("blobs", &blobs, blobs.len() == images);
    let wrong =
        lines("cd /var/lib/airlock/blobs/sha256 && ls | xargs -r sha256sum | awk '$1 != $2'");
    must("blobs whose digest is not their name", &wrong, wrong.is_empty());
    must("partial downloads", &partials(), partials().is_empty());
    let names_of_devices = lines("ls -A /dev/airlock 2>/dev/null");
    must("links", &names_of_devices, names_of_devices == snapshots);
    let loops = lines("losetup -n -O BACK-FILE | sort");
    let of_pool =
        ["data.img", "metadata.img"].map(|name| format!("/var/lib/airlock-helper/{name}"));
    must("loop devices", &loops, loops == of_pool);
    let mounts = lines(
        "grep -e ' /dev/mapper/airlock' -e ' /dev/dm-' -e /run/airlock/mnt/ /proc/*/mountinfo",
    );
    must("mounts", &mounts, mounts.is_empty());
    let points = lines("ls -A /run/airlock/mnt 2>/dev/null");
    must("directories to mount on", &points, points.is_empty());
    let files = lines("ls -A /var/lib/airlock-helper | grep -v -x -e trees -e past");
    must(
        "the helper's files",
        &files,
        files == ["data.img", "ledger", "ledger.new", "lock", "metadata.img"],
    );
    let trees = lines("ls -A /var/lib/airlock-helper/trees 2>/dev/null");
    must("manifests", &trees, trees.len() == images);
    let suspended = lines("dmsetup info -c --noheadings -o name,suspended | grep -i :suspended");
    must("suspended devices", &suspended, suspended.is_empty());
    if let Some(kept) = kept {
        must("the sealed volume's blocks", &"they changed", blocks(1) == kept.blocks);
    }
    left
}

/// The thin ids of the ledger; none where the helper does not answer.
fn ledger() -> Vec<u32> {
    let ask = || {
        let mut client = Client::connect(controller()).ok()?;
        client.ask("ListVolumes", json!({"after": null})).ok()
    };
    let answer = ask().unwrap_or_default();
    let items = answer["Ok"]["items"].as_array().cloned().unwrap_or_default();
    items.iter().filter_map(|item| u32::try_from(item["thin"].as_u64()?).ok()).collect()
}

//! `kill -9` of the helper's processes at random moments of a pull and activation: the next request
//! succeeds, nothing is orphaned, and no sealed volume changes.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use airlock_tests::helper_client::Client;
use airlock_tests::report::Case;
use serde_json::{Value, json};

use crate::machine::{airlock, devices, logs, partials, pids, ready_with, sh, thin_ids, wait_for};
use crate::survey::{Survey, controller};

const SOURCE: &str = "s3://images/kill/kill.tar";
/// Whom the cases kill, in turn.
const VICTIMS: [&str; 3] = ["airlock-dm-broker", "airlock-dm-helper", "airlock-dm-worker"];

/// Pseudo-random numbers (xorshift64): the moments must be repeatable, not secret.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below.max(1)
    }
}

/// All cases; they go to `helper-kills.json`.
pub(crate) fn all() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let count: u64 = number("AIRLOCK_SWEEP_CASES").unwrap_or(6);
    let now = std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs());
    let seed = number("AIRLOCK_SWEEP_SEED").unwrap_or(now).max(1);
    println!("{count} kills, AIRLOCK_SWEEP_SEED={seed}");
    let mut dice = Dice(seed);
    ready_with("[pool]\ndata_size = \"1 GiB\"\nvolume_size = \"64 MiB\"\n");
    // What must not change: a sealed image, and a snapshot of it that is in use.
    airlock("run s3://images/small/small.tar --name kept").ok();
    sh("dmsetup create somebodys-data --table '0 2048 linear /dev/vdc 0'").ok();
    let whole = timed();
    let before = Survey::take(1);
    let content =
        || sh("dd if=/dev/airlock/kept bs=1M iflag=direct status=none | sha256sum").ok().out;
    let kept = content();
    let mut cases = Vec::new();
    for case in 0..count {
        let victim = VICTIMS[usize::try_from(case).unwrap() % VICTIMS.len()];
        // Spread over the run: each case has a part of it, and a moment in that part.
        let part = u64::try_from(whole.as_millis()).unwrap() / count;
        let moment = Duration::from_millis(part * case + dice.roll(part));
        let (name, outcome, detail) = kill(victim, moment, &mut dice);
        let changed = Survey::take(1).differences(&before);
        let (outcome, detail) = if changed.is_empty() {
            (outcome, detail)
        } else {
            ("changed".to_owned(), changed.join("; "))
        };
        let when = if victim == "airlock-dm-worker" {
            "while it extracted".to_owned()
        } else {
            format!("after {} ms", moment.as_millis())
        };
        let shown = format!("{:02}: {name} killed {when}", case + 1);
        println!("{shown}: {outcome}: {detail}");
        cases.push(Case::new(shown, outcome, detail).json());
    }
    assert_eq!(content(), kept, "the snapshot in use changed");
    fs::write("/run/helper-kills.json", Value::from(cases).to_string()).unwrap();
}

/// How long a pull and activation takes, from nothing; everything is removed again.
fn timed() -> Duration {
    let begin = Instant::now();
    airlock(&format!("run {SOURCE} --name web")).ok();
    let whole = begin.elapsed();
    remove();
    whole
}

fn remove() {
    airlock("deactivate web").ok();
    airlock("rm kill:kill").ok();
}

fn begin() -> std::process::Child {
    Command::new("airlock")
        .args(["run", SOURCE, "--name", "web"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills a process at a moment of a run. Answers who was killed, how it ended, and what was seen.
fn kill(victim: &str, moment: Duration, dice: &mut Dice) -> (String, String, String) {
    let mut running = begin();
    if victim == "airlock-dm-worker" {
        // It lives for a part of the run only: killed at a moment of that part.
        while pids(victim).is_empty() && running.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(5));
        }
        sleep(Duration::from_millis(dice.roll(400)));
    } else {
        sleep(moment);
    }
    // A worker that has just ended has no moment left: then whom it worked for.
    let name = if pids(victim).is_empty() { "airlock-dm-broker" } else { victim };
    let killed: Vec<u32> = pids(name);
    for pid in &killed {
        drop(sh(&format!("kill -9 {pid}")));
    }
    let Output { status, stderr, .. } = running.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&stderr).into_owned();
    let first = match status.code() {
        Some(0) => "the run finished all the same".to_owned(),
        code => {
            let line = told.lines().find(|line| line.contains('✗')).unwrap_or_default();
            if line.is_empty() {
                return (name.to_owned(), "silent".to_owned(), format!("{code:?}: {told}"));
            }
            format!("the run said {line:?}")
        }
    };
    let again = again();
    let left = left_behind();
    let (outcome, detail) = match (again, left.is_empty()) {
        (None, _) => {
            ("broken".to_owned(), format!("{first}; a later run did not succeed\n{}", logs()))
        }
        (Some(_), false) => ("orphaned".to_owned(), left.join("; ")),
        (Some(time), true) => (
            "clean".to_owned(),
            format!("{first}; the next one succeeded after {} ms", time.as_millis()),
        ),
    };
    remove();
    (format!("{name} ({})", killed.len()), outcome, detail)
}

/// Asks again until it is done; `None` where it never is.
fn again() -> Option<Duration> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_mins(1) {
        if sh(&format!("airlock run {SOURCE} --name web")).code == Some(0) {
            return Some(begin.elapsed());
        }
        sleep(Duration::from_millis(200));
    }
    None
}

/// What is there and should not be.
fn left_behind() -> Vec<String> {
    let mut left = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            left.push(what);
        }
    };
    wait_for("the workers' ends", 10, || pids("airlock-dm-worker").is_empty());
    let ids = thin_ids();
    must(ids.len() == 5, format!("thin ids {ids:?}: base, two volumes, two snapshots"));
    let listed = ledger();
    must(listed == ids[1..], format!("the ledger has {listed:?}, the pool {ids:?}"));
    let names = devices();
    must(names.len() == 3, format!("devices {names:?}: the pool and two snapshots"));
    let files = partials();
    must(files.is_empty(), format!("partial files {files:?}"));
    let links = sh("ls /dev/airlock").ok().out;
    must(links == "kept\nweb\n", format!("links {links:?}"));
    left
}

/// The thin ids of the ledger.
fn ledger() -> Vec<u32> {
    let mut client = Client::connect(controller()).unwrap();
    let answer = client.ask("ListVolumes", json!({"after": null})).unwrap();
    let items = answer["Ok"]["items"].as_array().cloned().unwrap_or_default();
    items.iter().filter_map(|item| u32::try_from(item["thin"].as_u64()?).ok()).collect()
}

//! A worker and a broker that were taken over, inside the real confinement, on this kernel.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and starts the programs that it is about"
)]

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use airlock_dm_launcher::errand::{Desk, extract};
use airlock_dm_launcher::program::Program;
use airlock_dm_launcher::startup::user_namespace;
use airlock_policy::errand::{Answer, Failure, Stage};
use airlock_policy::helper_config::HelperConfig;
use airlock_policy::worker::WORKER;
use airlock_tests::escapes::{MALFORMED, REPORTS, control, install, outcomes};
use airlock_tests::extraction::{base_volume, desk, envelope, extracted, input, programs};
use airlock_tests::report::{Case, record};

const GIB: u64 = 1 << 30;

/// A desk whose worker is the attacker.
fn hostile_desk(folder: &Path) -> Desk {
    install(&programs().join("attacker"), &folder.join(WORKER));
    let worker = Program::open(folder, WORKER).unwrap();
    let namespace = user_namespace::make(&worker).unwrap();
    let state = File::open(folder).unwrap().into();
    Desk::new(HelperConfig::default(), state, worker, (namespace, 0))
}

/// What the attempts come to with nothing in the way, on a scratch volume of this machine.
fn control_run(work: &Path) -> std::collections::HashMap<String, String> {
    airlock_tests::loopback::with_ext4(GIB / 4, |root| {
        control(&programs().join("attacker"), root, work)
    })
}

#[test]
fn no_escape_from_the_workers_confinement_works() {
    let folder = tempfile::tempdir().unwrap();
    let control = control_run(folder.path());
    let volume = base_volume(&desk(HelperConfig::default()), GIB);
    let desk = hostile_desk(folder.path());
    let (blob, results) = (folder.path().join("blob"), folder.path().join("results.json"));
    fs::write(&blob, format!("attempts {}", results.display())).unwrap();
    let answer = extracted(&desk, &volume, &blob);
    assert!(matches!(answer, Answer::Failed(Failure { stage: Stage::Write, .. })), "{answer:?}");
    let mut cases = outcomes(&results, &control);
    assert!(cases.len() >= 20, "{}", cases.len());
    for how in REPORTS {
        fs::write(&blob, format!("report {how}")).unwrap();
        cases.push(distrusted(&desk, &volume, &blob, how));
    }
    let breaches = record("escapes", "native/worker", &cases, &["breach"]);
    assert!(breaches.is_empty(), "{breaches:#?}");
}

/// The launcher takes a worker that abuses its reports for one that died, and goes on.
fn distrusted(desk: &Desk, volume: &airlock_tests::loopback::Loop, blob: &Path, how: &str) -> Case {
    let begin = Instant::now();
    let file = File::open(blob).unwrap();
    let mut worker =
        extract::start(desk, volume.as_fd(), input(file.as_fd()), &envelope()).unwrap();
    while worker.reports().is_some() && begin.elapsed() < Duration::from_secs(30) {
        worker.read_report();
    }
    let answer = worker.conclude();
    let died = answer == Answer::Failed(Failure { stage: Stage::WorkerDied, errno: 0 });
    let outcome = if died { "refused" } else { "breach" };
    Case::new(format!("report {how}"), outcome, format!("the errand ends with {answer:?}"))
}

/// A helper whose broker is the attacker, started as its unit starts it, with this line in its
/// configuration. Returns what `look` says; the launcher is ended.
fn with_broker<T>(line: &str, look: impl FnOnce(&Path, &mut std::process::Child) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for (from, to) in [
        ("airlock-dm-helper", "airlock-dm-helper"),
        ("airlock-dm-worker", "airlock-dm-worker"),
        ("attacker", "airlock-dm-broker"),
    ] {
        install(&programs().join(from), &bin.join(to));
    }
    let path = folder.path().display();
    let config = format!(
        "{line}\ncontroller_user = \"nobody\"\nsocket = \"{path}/run/s\"\nstate = \"{path}/state\"\n"
    );
    fs::write(folder.path().join("c.toml"), config.replace("FOLDER", &path.to_string())).unwrap();
    let mut launcher = Command::new("setpriv")
        .arg("--bounding-set=-all,+sys_admin,+setuid,+setgid,+setpcap")
        .arg(bin.join("airlock-dm-helper"))
        .arg("--config")
        .arg(folder.path().join("c.toml"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let seen = look(folder.path(), &mut launcher);
    drop(launcher.kill());
    launcher.wait().unwrap();
    seen
}

#[test]
fn no_escape_from_the_brokers_confinement_works() {
    let work = tempfile::tempdir().unwrap();
    let control = control_run(work.path());
    let mut cases = with_broker("# attempts: FOLDER/state/results.json", |folder, launcher| {
        let results = folder.join("state/results.json");
        let begin = Instant::now();
        while !results.exists() {
            assert!(launcher.try_wait().unwrap().is_none(), "the launcher ended");
            assert!(begin.elapsed() < Duration::from_mins(1), "the attacker never finished");
            std::thread::sleep(Duration::from_millis(20));
        }
        outcomes(&results, &control)
    });
    // Errands are refused here for want of a pool: in the VM for their own sake.
    cases.retain(|case| !case.case.starts_with("have "));
    assert!(cases.len() >= 10, "{}", cases.len());
    for how in MALFORMED {
        cases.push(with_broker(&format!("# malformed: {how}"), |_, launcher| {
            let status = launcher.wait().unwrap();
            let mut text = String::new();
            std::io::Read::read_to_string(launcher.stderr.as_mut().unwrap(), &mut text).unwrap();
            // An empty message is the end of the link, to a socket of this kind.
            let said = text.contains("malformed errand") || text.contains("the broker ended");
            let ended = status.code() == Some(1) && said;
            let outcome = if ended { "refused" } else { "breach" };
            Case::new(format!("message {how}"), outcome, text.trim().to_owned())
        }));
    }
    let breaches = record("escapes", "native/broker", &cases, &["breach"]);
    assert!(breaches.is_empty(), "{breaches:#?}");
}

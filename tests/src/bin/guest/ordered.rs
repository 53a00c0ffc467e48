//! Work that is ordered ahead: it begins in its turn, also when the daemon was restarted in between.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::machine::{airlock, logs, ready, sh, wait_for};

/// A command that waits for the run that it asked for.
struct Ordered {
    run: String,
    command: Child,
}

fn going_on() -> BTreeSet<String> {
    airlock("runs --quiet").ok().out.lines().map(str::to_owned).collect()
}

/// Begins a command, and answers once its run is on record.
fn order(words: &str) -> Ordered {
    println!("$ airlock {words} &");
    let before = going_on();
    let mut command = Command::new("airlock");
    command.args(words.split(' ')).stdout(Stdio::null()).stderr(Stdio::piped());
    let command = command.spawn().unwrap();
    let mut new = None;
    wait_for("its run is on record", 60, || {
        new = going_on().difference(&before).next().cloned();
        new.is_some()
    });
    Ordered { run: new.unwrap(), command }
}

fn shown(run: &str) -> Value {
    airlock(&format!("runs show {run} --output json")).ok().json()
}

impl Ordered {
    /// Waits for its end: the exit status, and what was said.
    fn ends(self) -> (Option<i32>, String, Value) {
        let Self { run, command } = self;
        let output = command.wait_with_output().unwrap();
        let (code, said) = (output.status.code(), String::from_utf8_lossy(&output.stderr));
        println!("--- {run}: exit {code:?}\n{said}");
        (code, said.into_owned(), shown(&run))
    }
}

/// A run with a delay, one after it, a pull after that which fails, and two after that: one fails, too,
/// and one goes on all the same.
pub(crate) fn ordered_ahead() {
    ready();
    let first = order("run s3://images/ahead/0.tar --name first --delay 1m");
    let second = order(&format!("run s3://images/ahead/1.tar --name second --after {}", first.run));
    let missing = order(&format!("pull s3://images/ahead/missing.tar --after {}", second.run));
    let skipped = order(&format!("pull s3://images/ahead/2.tar --after {}", missing.run));
    let after = &missing.run;
    let anyway =
        format!("run s3://images/ahead/3.tar --name anyway --after {after} --if-failed run");
    let anyway = order(&anyway);
    for waiting in [&first, &second, &missing, &skipped, &anyway] {
        assert_eq!(shown(&waiting.run)["state"], "queued", "{}", logs());
    }
    sh("systemctl restart airlock.service").ok();
    assert_eq!(going_on().len(), 5, "{}", logs());

    let (code, _, first) = first.ends();
    assert_eq!((code, &first["state"]), (Some(0), &Value::from("done")), "{}", logs());
    let (code, _, second) = second.ends();
    assert_eq!((code, &second["after"]), (Some(0), &first["run"]), "{}", logs());
    let (code, _, missing) = missing.ends();
    assert_eq!((code, &missing["state"]), (Some(4), &Value::from("failed")));
    let (code, said, skipped) = skipped.ends();
    assert!(code != Some(0) && said.contains(missing["run"].as_str().unwrap()), "{said}");
    assert_eq!(skipped["state"], "failed");
    let stages = skipped["stages"].as_array().unwrap();
    assert!(stages.iter().all(|stage| stage["state"] == "pending"), "none was begun: {stages:?}");
    let (code, _, anyway) = anyway.ends();
    assert_eq!((code, &anyway["state"]), (Some(0), &Value::from("done")), "{}", logs());

    let time = |run: &Value, of: &str| run[of].as_str().unwrap().to_owned();
    assert!(time(&first, "ended_at") >= time(&first, "not_before"));
    let ends = [&first, &second, &missing, &anyway].map(|run| time(run, "ended_at"));
    assert!(ends.is_sorted(), "{ends:?}");
    let names = airlock("snapshots --quiet").ok().out;
    assert_eq!(names.lines().collect::<Vec<_>>(), ["anyway", "first", "second"]);
}

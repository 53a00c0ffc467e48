//! What the attacker (`src/bin/attacker`) reports, joined with what its control run says.
#![expect(clippy::unwrap_used, clippy::implicit_hasher, reason = "tests fail by panicking")]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::report::Case;

/// The ways in which a worker abuses its report pipe. Whatever it sends, it ends as one that died.
pub const REPORTS: [&str; 9] = [
    "a part of a message",
    "noise",
    "zeros",
    "one message and a half",
    "another's report",
    "what no worker says",
    "more after its last report",
    "a flood of progress",
    "as much as the pipe holds",
];

/// Messages of a broker that are no errand. Each ends the launcher.
pub const MALFORMED: [&str; 9] = [
    "short",
    "long",
    "empty kind",
    "unknown kind",
    "padding",
    "request id",
    "noise",
    "link name",
    "another kind of end",
];

/// Installs the attacker in the place of a program.
///
/// # Panics
///
/// When it cannot be.
pub fn install(attacker: &Path, place: &Path) {
    // Not over a file that runs.
    drop(fs::remove_file(place));
    fs::copy(attacker, place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
}

/// Makes every attempt unconfined, on a folder of a scratch filesystem, and returns what that says
/// of each: whether its failure elsewhere means something, and why.
///
/// # Panics
///
/// When the attacker cannot be run, or an attempt fails unconfined for no reason that is known:
/// then a refusal would mean nothing.
pub fn control(attacker: &Path, folder: &Path, work: &Path) -> HashMap<String, String> {
    let (blob, results) = (work.join("control-blob"), work.join("control.json"));
    fs::write(&blob, "nothing").unwrap();
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o755)).unwrap();
    let status = Command::new(attacker)
        .args(["control".as_ref(), folder.as_os_str(), blob.as_os_str(), results.as_os_str()])
        .status()
        .unwrap();
    assert!(status.success(), "the control run: {status}");
    let outcomes: Vec<Value> = serde_json::from_slice(&fs::read(results).unwrap()).unwrap();
    let meaningless: Vec<&Value> =
        outcomes.iter().filter(|outcome| outcome["means_something"] != true).collect();
    assert!(meaningless.is_empty(), "a refusal of these would mean nothing: {meaningless:#?}");
    let text = |outcome: &Value, name: &str| outcome[name].as_str().unwrap().to_owned();
    outcomes.iter().map(|outcome| (text(outcome, "case"), text(outcome, "detail"))).collect()
}

/// What the attacker wrote, with the control's word beside each attempt.
///
/// # Panics
///
/// When there is nothing, or a broker's own errand was refused too.
pub fn outcomes(results: &Path, control: &HashMap<String, String>) -> Vec<Case> {
    let text = fs::read_to_string(results)
        .unwrap_or_else(|error| panic!("the attacker left no {}: {error}", results.display()));
    let mut list: Vec<Value> = serde_json::from_str(&text).unwrap();
    if let Some(own) = list.pop_if(|last| last["own"].is_array()) {
        assert_eq!(own["own"][0]["outcome"], "breach", "its own errand must be done: {own}");
    }
    Case::list(&Value::from(list).to_string())
        .into_iter()
        .map(|Case { case, outcome, detail }| {
            let beside = control.get(&case).map_or(String::new(), |word| format!("; {word}"));
            Case::new(case, outcome, format!("{detail}{beside}"))
        })
        .collect()
}

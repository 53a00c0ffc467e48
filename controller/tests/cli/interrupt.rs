//! Leaving: signals and time limits stop the watching, never the run.

use std::process::{Child, Output, Stdio};
use std::time::Duration;

use airlock_protocol::control::RunState;
use rustix::process::{Pid, Signal, kill_process};

use super::double::{Daemon, Script};
use super::tests::{airlock, text};
use super::views::run;

/// A run that goes on for ever.
fn endless() -> Script {
    Script { views: [run(RunState::Running)].into(), ..Script::default() }
}

fn watching(daemon: &Daemon, arguments: &[&str]) -> Child {
    let mut command = airlock(&daemon.socket());
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // Until it has submitted, and a little more.
    while daemon.script().submitted.is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(100));
    child
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn end(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

#[test]
fn the_first_ctrl_c_leaves_the_run_and_says_how_to_come_back() {
    let daemon = Daemon::start("leave", endless());
    let child = watching(&daemon, &["run", "s3://images/golang/2.tar"]);
    send(&child, Signal::INT);
    let told = end(child);
    assert_eq!((told.status.code(), text(&told.stdout)), (Some(130), String::new()));
    let words = text(&told.stderr);
    assert!(words.contains("left run k7f29qxm: it goes on\n"), "{words}");
    assert!(words.contains("airlock runs watch k7f29qxm\n"), "{words}");
    assert!(words.contains("airlock cancel k7f29qxm"), "{words}");
    assert_eq!(daemon.script().cancelled.len(), 0);
}

#[test]
fn the_second_ctrl_c_cancels() {
    let daemon = Daemon::start("cancel", endless());
    let child = watching(&daemon, &["pull", "s3://images/golang/2.tar"]);
    send(&child, Signal::INT);
    std::thread::sleep(Duration::from_millis(300));
    send(&child, Signal::INT);
    let told = end(child);
    assert_eq!(told.status.code(), Some(130));
    assert!(text(&told.stderr).ends_with("cancelled run k7f29qxm\n"), "{}", text(&told.stderr));
    assert_eq!(daemon.script().cancelled.len(), 1);
}

#[test]
fn sigterm_and_sighup_leave_at_once() {
    for (name, signal) in [("term", Signal::TERM), ("hup", Signal::HUP)] {
        let daemon = Daemon::start(name, endless());
        let child = watching(&daemon, &["pull", "-o", "json", "s3://images/golang/2.tar"]);
        let begun = std::time::Instant::now();
        send(&child, signal);
        let told = end(child);
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(told.status.code(), Some(143));
        assert_eq!(daemon.script().cancelled.len(), 0);
        let error: serde_json::Value = serde_json::from_slice(&told.stderr).unwrap();
        assert_eq!((&error["code"], &error["exit"]), (&"interrupted".into(), &143.into()));
        let stream = text(&told.stdout);
        let last: serde_json::Value = serde_json::from_str(stream.lines().last().unwrap()).unwrap();
        assert_eq!((&last["type"], &last["ok"]), (&"result".into(), &false.into()));
        assert_eq!(last["state"], "running");
    }
}

#[test]
fn a_time_limit_ends_the_waiting_and_not_the_run() {
    let daemon = Daemon::start("limit", Script { poll: Duration::from_secs(1), ..endless() });
    let mut command = airlock(&daemon.socket());
    command.args(["run", "s3://images/golang/2.tar", "--timeout", "500ms"]);
    let told = command.output().unwrap();
    assert_eq!((told.status.code(), text(&told.stdout)), (Some(8), String::new()));
    let words = text(&told.stderr);
    assert!(words.contains("✗ timed out: run k7f29qxm is not over after 0.5s\n"), "{words}");
    assert!(words.contains("the run goes on\n"), "{words}");
    assert_eq!(daemon.script().cancelled.len(), 0);
}

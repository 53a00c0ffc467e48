//! Results, errors and exit statuses.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use airlock_protocol::control::{ErrorClass, RunKind, RunState, Work};
use serde_json::Value;

use super::double::{Daemon, Script};
use super::views::{HOSTILE, fault, run};
use airlock_protocol::PROTOCOL;

/// The command as a script starts it: no terminal, an environment of its own.
pub(super) fn airlock(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_airlock"));
    command.env_clear().env("LC_ALL", "C.UTF-8").env("TERM", "xterm");
    command.env("AIRLOCK_SOCKET", socket).stdin(Stdio::null());
    command
}

pub(super) fn ask(daemon: &Daemon, arguments: &[&str]) -> Output {
    airlock(&daemon.socket()).args(arguments).output().unwrap()
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What is written without a terminal has no CR, no ESC and nothing else that drives one.
pub(super) fn assert_harmless(text: &str) {
    let bad = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
    assert_eq!(bad, None, "{text:?}");
}

pub(super) fn json_lines(bytes: &[u8]) -> Vec<Value> {
    text(bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn views(states: &[RunState]) -> Script {
    Script { views: states.iter().map(|state| run(*state)).collect(), ..Script::default() }
}

#[test]
fn each_class_of_error_has_its_exit_status_and_its_word() {
    for (class, exit, word, name) in [
        (ErrorClass::Internal, 1, "internal error", "internal"),
        (ErrorClass::Usage, 2, "usage", "usage"),
        (ErrorClass::Refused, 3, "refused", "refused"),
        (ErrorClass::NotFound, 4, "not found", "not_found"),
        (ErrorClass::Unavailable, 5, "unavailable", "unavailable"),
        (ErrorClass::Conflict, 6, "conflict", "conflict"),
        (ErrorClass::Busy, 7, "busy", "busy"),
        (ErrorClass::Timeout, 8, "timed out", "timeout"),
    ] {
        let script = Script { fault: Some(fault(class)), ..Script::default() };
        let daemon = Daemon::start(name, script);
        let told = ask(&daemon, &["images"]);
        assert_eq!((told.status.code(), told.stdout.as_slice()), (Some(exit), &b""[..]));
        let words = text(&told.stderr);
        assert!(
            words.starts_with(&format!("✗ {word}: no luck with a\\x1b[2Jb\\u{{202e}}c\n")),
            "{words}"
        );
        assert!(words.contains("\n  cause   the cause\n  entry   a\\x1b"), "{words}");
        assert!(words.ends_with("  code    test.code\n  next    airlock doctor\n"), "{words}");
        assert_harmless(&words);

        let told = ask(&daemon, &["images", "--output", "json"]);
        assert_eq!((told.status.code(), told.stdout.as_slice()), (Some(exit), &b""[..]));
        let [error] = json_lines(&told.stderr).try_into().unwrap();
        assert_eq!(error["schema"], "airlock.error/1");
        assert_eq!((&error["class"], &error["exit"]), (&Value::from(name), &Value::from(exit)));
        assert_eq!(error["facts"][0]["text"], HOSTILE);
        assert!(error["request"].as_str().is_some_and(|id| id.len() == 28), "{error}");
    }
}

#[test]
fn run_writes_the_device_and_nothing_else_to_stdout() {
    let daemon = Daemon::start("device", Script::default());
    let told = ask(&daemon, &["run", "s3://images/golang/2.tar", "--name", "web", "--read-only"]);
    assert_eq!(text(&told.stdout), "/dev/airlock/web\n");
    assert_eq!(told.status.code(), Some(0));
    let words = text(&told.stderr);
    assert_harmless(&words);
    for line in [
        "k7f29qxm run a\\x1b[2Jb\\u{202e}c s3://images/golang/2.tar\n",
        "k7f29qxm download ok note a\\x1b[2Jb\\u{202e}c in 0.2s\n",
        "k7f29qxm activate ok ",
        "✓ web is active: golang:2, rw, 8.0 GiB in 1.0s\n",
        "  digest    sha256:9c9c",
        "  reused    nothing\n",
    ] {
        assert!(words.contains(line), "{line:?} is not in {words}");
    }
    let Some(Work::Run { source, activation }) = daemon.script().submitted.pop() else {
        panic!("not a run")
    };
    assert_eq!(source.to_string(), "s3://images/golang/2.tar");
    assert_eq!(activation.name.unwrap().as_str(), "web");
    assert!(activation.read_only);
}

#[test]
fn quiet_writes_the_device_or_the_digest_alone() {
    let daemon = Daemon::start("quiet", Script::default());
    let told = ask(&daemon, &["run", "-q", "s3://images/golang/2.tar"]);
    assert_eq!(
        (text(&told.stdout), text(&told.stderr)),
        ("/dev/airlock/web\n".into(), String::new())
    );

    let mut done = run(RunState::Done);
    done.kind = RunKind::Pull;
    let result = done.result.as_mut().unwrap();
    (result.device, result.snapshot) = (None, None);
    let daemon = Daemon::start("digest", Script { views: [done].into(), ..Script::default() });
    let told = ask(&daemon, &["pull", "--quiet", "s3://images/golang/2.tar"]);
    let digest = format!("sha256:{}\n", "9c".repeat(32));
    assert_eq!((text(&told.stdout), text(&told.stderr)), (digest, String::new()));
    let told = ask(&daemon, &["pull", "s3://images/golang/2.tar"]);
    assert_eq!(text(&told.stdout), "");
    assert!(text(&told.stderr).contains("✓ golang:2 is here in 1.0s\n"));
}

#[test]
fn a_stream_is_json_and_ends_with_its_result() {
    let daemon =
        Daemon::start("stream", views(&[RunState::Running, RunState::Waiting, RunState::Done]));
    let told = ask(&daemon, &["run", "s3://images/golang/2.tar", "--output", "json"]);
    assert_eq!((told.status.code(), text(&told.stderr)), (Some(0), String::new()));
    let lines = json_lines(&told.stdout);
    let kinds: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["progress", "progress", "result"]);
    for line in &lines {
        assert_eq!(line["schema"], "airlock.run/1");
        assert_eq!(line["run"], "k7f29qxm");
        assert_eq!(line["subject"], HOSTILE);
        assert_eq!(line["submitted_at"], "2026-11-24T10:41:07.021Z");
        assert!(line["at"].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!((&lines[0]["ok"], &lines[2]["ok"]), (&Value::Null, &Value::Bool(true)));
    assert_eq!(lines[2]["result"]["device"], "/dev/airlock/web");
    assert_eq!(lines[2]["result"]["device_bytes"], 8_u64 << 30);
    assert_eq!(lines[0]["result"], Value::Null);
}

#[test]
fn a_run_that_failed_ends_the_command_with_its_class() {
    let daemon = Daemon::start("failed", views(&[RunState::Running, RunState::Failed]));
    let told = ask(&daemon, &["runs", "watch", "k7f29qxm"]);
    assert_eq!((told.status.code(), text(&told.stdout)), (Some(3), String::new()));
    let words = text(&told.stderr);
    assert!(words.contains("✗ refused: no luck"), "{words}");
    assert!(words.ends_with("          airlock runs show k7f29qxm\n"), "{words}");

    let told = ask(&daemon, &["runs", "watch", "k7f29qxm", "--output", "json"]);
    assert_eq!(told.status.code(), Some(3));
    let last = json_lines(&told.stdout).pop().unwrap();
    assert_eq!((&last["type"], &last["ok"]), (&"result".into(), &Value::Bool(false)));
    assert_eq!(last["error"]["code"], "test.code");
    let [error] = json_lines(&told.stderr).try_into().unwrap();
    assert_eq!((&error["run"], &error["exit"]), (&"k7f29qxm".into(), &3.into()));
}

#[test]
fn of_several_sources_all_are_tried_and_a_shared_class_is_the_exit() {
    let two = ["pull", "s3://images/a.tar", "s3://images/b.tar", "s3://images/c.tar"];
    let refused = || Some(fault(ErrorClass::Refused));
    let mixed = [refused(), Some(fault(ErrorClass::Busy)), None];
    for (name, submissions, exit) in
        [("shared", [refused(), None, refused()], 3), ("mixed", mixed, 1)]
    {
        let script = Script { submissions: submissions.into(), ..Script::default() };
        let daemon = Daemon::start(name, script);
        let told = ask(&daemon, &two);
        assert_eq!(told.status.code(), Some(exit), "{}", text(&told.stderr));
        assert_eq!(daemon.script().submitted.len(), 3);
    }
    let daemon = Daemon::start("one-name", Script::default());
    let told = ask(&daemon, &["run", "s3://images/a.tar", "s3://images/b.tar", "--name", "web"]);
    assert_eq!((told.status.code(), daemon.script().submitted.len()), (Some(2), 0));
}

#[test]
fn a_relative_file_becomes_absolute() {
    let daemon = Daemon::start("relative", Script::default());
    let mut command = airlock(&daemon.socket());
    let told = command.args(["pull", "tar:x.tar"]).current_dir("/srv").output().unwrap();
    assert_eq!(told.status.code(), Some(0));
    let Some(Work::Pull { source }) = daemon.script().submitted.pop() else { panic!("not a pull") };
    assert_eq!(source.to_string(), "tar:/srv/x.tar");
}

#[test]
fn no_socket_no_permission_and_a_slow_daemon_are_three_messages() {
    let told = airlock(Path::new("/nonexistent/control.sock")).arg("images").output().unwrap();
    assert_eq!(told.status.code(), Some(5));
    let words = text(&told.stderr);
    assert!(words.contains("does not listen at /nonexistent/control.sock"), "{words}");
    assert!(words.contains("next    systemctl start airlock.socket"), "{words}");

    let slow = Script { delay: Duration::from_secs(5), ..Script::default() };
    let daemon = Daemon::start("slow", slow);
    let told = ask(&daemon, &["images", "--timeout", "300ms"]);
    assert_eq!(told.status.code(), Some(8));
    let words = text(&told.stderr);
    assert!(
        words.contains("✗ timed out: the daemon did not answer \"images\" within 0.3s"),
        "{words}"
    );

    let daemon = Daemon::start("forbidden", Script::default());
    let told = as_a_stranger(&daemon);
    assert_eq!(told.status.code(), Some(5));
    let words = text(&told.stderr);
    assert!(words.contains("may not speak to the daemon"), "{words}");
    assert!(words.contains("--groups airlock"), "{words}");
}

/// Runs the command as somebody who may not open the socket. Root may open any, so root becomes
/// nobody, whom the build's folder may be closed to: hence the copy.
fn as_a_stranger(daemon: &Daemon) -> Output {
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&daemon.socket(), 0o600);
    if !rustix::process::geteuid().is_root() {
        mode(&daemon.socket(), 0o000);
        return ask(daemon, &["images"]);
    }
    mode(daemon.folder(), 0o755);
    let copy = daemon.folder().join("airlock");
    std::fs::copy(env!("CARGO_BIN_EXE_airlock"), &copy).unwrap();
    let mut command = Command::new(&copy);
    command.env_clear().env("AIRLOCK_SOCKET", daemon.socket()).arg("images").uid(65_534);
    command.output().unwrap()
}

#[test]
fn another_protocol_is_said_and_not_guessed() {
    let daemon = Daemon::start("skew", Script { protocol: 77, ..Script::default() });
    let told = ask(&daemon, &["images"]);
    assert_eq!(told.status.code(), Some(5));
    let said = format!("the daemon speaks protocol 77, this command {PROTOCOL}");
    assert!(text(&told.stderr).contains(&said));
    let told = ask(&daemon, &["version", "--output", "json"]);
    let [versions] = json_lines(&told.stdout).try_into().unwrap();
    assert_eq!(versions["schema"], "airlock.version/1");
    assert_eq!(versions["daemon"]["protocol"], 77);
    assert_eq!(versions["daemon"]["version"], "9.8.7");
    assert_eq!(versions["helper"], Value::Null);
}

#[test]
fn a_daemon_that_restarts_is_waited_for() {
    let mut script = views(&[RunState::Running, RunState::Running, RunState::Done]);
    script.hang_ups = 1;
    let daemon = Daemon::start("restart", script);
    let told = ask(&daemon, &["run", "s3://images/golang/2.tar"]);
    assert_eq!((told.status.code(), text(&told.stdout)), (Some(0), "/dev/airlock/web\n".into()));
    assert_eq!(daemon.script().hang_ups, 0);
}

#[test]
fn a_wrong_command_line_is_json_too_where_json_was_asked_for() {
    for arguments in [
        &["images", "--bogus", "--output", "json"][..],
        &["--output=json", "pull", "ftp://x"],
        &["-o", "json", "images", "--timeout", "30"],
    ] {
        let told = airlock(Path::new("/nonexistent")).args(arguments).output().unwrap();
        assert_eq!((told.status.code(), told.stdout.as_slice()), (Some(2), &b""[..]));
        let [error] = json_lines(&told.stderr).try_into().unwrap();
        assert_eq!((&error["class"], &error["exit"]), (&"usage".into(), &2.into()));
    }
    let told = airlock(Path::new("/nonexistent")).args(["imgaes"]).output().unwrap();
    assert_eq!(told.status.code(), Some(2));
    assert!(text(&told.stderr).contains("images"), "{}", text(&told.stderr));
}

#[test]
fn a_result_that_cannot_be_written_is_an_error_and_a_reader_that_left_is_none() {
    let daemon = Daemon::start("full", Script::default());
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = airlock(&daemon.socket());
    let told = command.arg("images").stdout(full).output().unwrap();
    assert_eq!(told.status.code(), Some(1));
    assert!(text(&told.stderr).contains("failed to write to stdout"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let told = airlock(&daemon.socket()).arg("images").stdout(writer).output().unwrap();
    assert_eq!((told.status.code(), text(&told.stderr)), (Some(0), String::new()));
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let mut command = airlock(Path::new("/nonexistent"));
        let told = command.args(["completions", shell]).output().unwrap();
        assert_eq!(told.status.code(), Some(0));
        let script = text(&told.stdout);
        assert!(script.contains("deactivate") && script.contains("if-exists"), "{shell}");
    }
}

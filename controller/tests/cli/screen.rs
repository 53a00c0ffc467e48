//! The command on a terminal: a real one, by its other end.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;

use airlock_protocol::control::RunState;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::double::{Daemon, Script};
use super::tests::airlock;
use super::views::run;

/// Runs the command with stdout and stderr on a terminal; answers all that it wrote there.
fn on_a_terminal(daemon: &Daemon, term: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = OsString::from_vec(ptsname(&master, Vec::new()).unwrap().into_bytes());
    let slave = File::options().read(true).write(true).open(name).unwrap();
    let mut command = airlock(&daemon.socket());
    command.env("TERM", term).env("COLUMNS", "80").args(arguments);
    command.stdout(slave.try_clone().unwrap()).stderr(slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    let reader = std::thread::spawn(move || {
        let (mut master, mut text) = (File::from(master), Vec::new());
        // A master whose other end is closed says EIO: that is the end, and what came is kept.
        assert!(master.read_to_end(&mut text).is_err());
        text
    });
    let code = child.wait().unwrap().code();
    (code, String::from_utf8(reader.join().unwrap()).unwrap())
}

fn slow_run() -> Script {
    let mut views = vec![run(RunState::Running); 12];
    views.push(run(RunState::Done));
    Script { views: views.into(), ..Script::default() }
}

#[test]
fn a_terminal_sees_moving_lines_that_give_way_to_the_result() {
    let daemon = Daemon::start("bar", slow_run());
    let (code, text) = on_a_terminal(&daemon, "xterm", &["run", "s3://images/golang/2.tar"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("\x1b["), "{text:?}");
    assert!(text.contains(" 25%  1.0 of 4.0 MiB"), "{text:?}");
    assert!(text.contains("Ctrl-C leaves it running"), "{text:?}");
    assert!(text.ends_with("/dev/airlock/web\r\n"), "{text:?}");
    let result = text.rfind("is active").unwrap();
    assert!(text.rfind("Ctrl-C leaves").unwrap() < result, "{text:?}");
    // Five frames a second for the 1.2 s that the run takes here, and no more.
    let frames = text.matches("Ctrl-C leaves").count();
    assert!((2..=10).contains(&frames), "{frames} frames");
    assert!(!text.contains("\x1b[2Jb") && !text.contains('\u{202e}'), "{text:?}");
}

#[test]
fn what_is_over_at_once_is_not_drawn() {
    let script = Script { views: [run(RunState::Done)].into(), ..Script::default() };
    let daemon = Daemon::start("flash", script);
    let arguments = ["run", "s3://images/golang/2.tar", "--color", "never"];
    let (_, text) = on_a_terminal(&daemon, "xterm", &arguments);
    assert!(text.starts_with("✓ web is active"), "{text:?}");
    assert!(!text.contains('\x1b'), "{text:?}");
}

#[test]
fn a_dumb_terminal_sees_plain_lines_in_ascii() {
    let daemon = Daemon::start("dumb", slow_run());
    let (_, text) = on_a_terminal(&daemon, "dumb", &["run", "s3://images/golang/2.tar"]);
    assert!(text.is_ascii() && !text.contains('\x1b'), "{text:?}");
    assert!(text.contains("k7f29qxm download ok"), "{text:?}");
    assert!(text.contains("+ web is active"), "{text:?}");
}

//! When runs begin, and which belong together.

use airlock_protocol::control::{ChildView, IfFailed, RunState, Start, When};
use serde_json::Value;

use super::double::{Daemon, Script};
use super::tests::{ask, assert_harmless, json_lines, text};
use super::views::{HOSTILE, run};

#[test]
fn when_a_run_is_to_begin_reaches_the_daemon_as_it_was_asked() {
    let after = Some("h2d8vv0c".parse().unwrap());
    for (arguments, expected) in [
        (&["--after", "h2d8vv0c"][..], When { after: after.clone(), ..When::default() }),
        (
            &["--after", "h2d8vv0c", "--if-failed", "run", "--delay", "10m"],
            When { after, if_failed: IfFailed::Run, start: Some(Start::Delay(600_000)) },
        ),
        (
            &["--at", "2026-11-24T10:41:07.021Z"],
            When { start: Some(Start::At(1_795_516_867_021)), ..When::default() },
        ),
    ] {
        for sources in [&["s3://images/a.tar"][..], &["s3://images/a.tar", "s3://images/b.tar"]] {
            let daemon = Daemon::start("when", Script::default());
            let all: Vec<_> = ["pull"].iter().chain(sources).chain(arguments).copied().collect();
            let told = ask(&daemon, &all);
            assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
            assert_eq!(daemon.script().submitted.len(), sources.len());
            assert_eq!(daemon.script().when, Some(expected.clone()));
        }
    }
    let daemon = Daemon::start("when-not", Script::default());
    for wrong in [
        &["--if-failed", "run"][..],
        &["--delay", "10"],
        &["--at", "03:00"],
        &["--at", "2026-11-24T10:41:07Z", "--delay", "1m"],
        &["--after", "golang:2"],
    ] {
        let all: Vec<_> = ["pull", "s3://images/a.tar"].iter().chain(wrong).copied().collect();
        assert_eq!(ask(&daemon, &all).status.code(), Some(2), "{wrong:?}");
    }
    assert!(daemon.script().submitted.is_empty());
}

#[test]
fn a_run_shows_what_it_waits_for_and_whom_it_stands_for() {
    let mut waiting = run(RunState::Queued);
    waiting.stages.clear();
    waiting.links.after = Some("h2d8vv0c".parse().unwrap());
    waiting.links.waits = true;
    let child = ChildView {
        run: "p3mw81tz".parse().unwrap(),
        subject: HOSTILE.to_owned(),
        state: RunState::Done,
    };
    waiting.links.children = vec![child];
    let script = Script { views: [waiting].into(), ..Script::default() };
    let daemon = Daemon::start("links", script);
    let table = text(&ask(&daemon, &["runs"]).stdout);
    assert!(table.contains("after h2d8vv0c"), "{table}");
    let page = text(&ask(&daemon, &["runs", "show", "k7f29qxm"]).stdout);
    assert_harmless(&page);
    assert!(page.contains("begins  after h2d8vv0c"), "{page}");
    assert!(page.contains("child   p3mw81tz"), "{page}");
    let told = ask(&daemon, &["runs", "show", "k7f29qxm", "--output", "json"]);
    let [document] = json_lines(&told.stdout).try_into().unwrap();
    assert_eq!(document["after"], "h2d8vv0c");
    assert_eq!(document["if_failed"], "skip");
    assert_eq!((&document["parent"], &document["not_before"]), (&Value::Null, &Value::Null));
    assert_eq!(document["children"][0]["state"], "done");
}

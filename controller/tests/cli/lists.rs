//! Lists, pages and what acts on names.

use std::path::Path;
use std::time::{Duration, Instant};

use airlock_protocol::control::RunState;
use serde_json::Value;

use super::double::{Daemon, Script};
use super::tests::{airlock, ask, assert_harmless, json_lines, text};
use super::views::{HOSTILE, image, run};

#[test]
fn lists_turn_pages_and_hostile_names_drive_nothing() {
    let images = vec![image("golang:2"), image(HOSTILE)];
    let daemon = Daemon::start("pages", Script { images, ..Script::default() });
    let told = ask(&daemon, &["images"]);
    assert_eq!((told.status.code(), text(&told.stderr)), (Some(0), String::new()));
    let table = text(&told.stdout);
    assert_harmless(&table);
    assert_eq!(table.lines().count(), 3);
    assert!(table.starts_with("IMAGE               DIGEST  "), "{table}");
    assert!(table.contains("\na\\x1b[2Jb\\u{202e}c  9c9c9c9c9c9c  "), "{table}");

    let told = ask(&daemon, &["images", "-o", "json"]);
    let [list] = json_lines(&told.stdout).try_into().unwrap();
    assert_eq!((&list["schema"], &list["next"]), (&"airlock.images/1".into(), &Value::Null));
    assert_eq!(list["items"][1]["name"], HOSTILE);
    assert_eq!(list["items"][0]["file_bytes"], 4 << 20);

    let ascii = airlock(&daemon.socket()).env("LC_ALL", "C").arg("images").output().unwrap();
    assert!(ascii.stdout.is_ascii());
}

#[test]
fn every_list_and_page_is_json_on_stdout_alone() {
    let daemon = Daemon::start("schemas", Script::default());
    for (arguments, schema) in [
        (&["images"][..], "airlock.images/1"),
        (&["snapshots"], "airlock.snapshots/1"),
        (&["inspect", "golang:2"], "airlock.image/1"),
        (&["inspect", "web"], "airlock.snapshot/1"),
        (&["deactivate", "web"], "airlock.deactivated/1"),
        (&["rm", "golang:2"], "airlock.removed/1"),
        (&["verify", "golang:2"], "airlock.verified/1"),
        (&["pool", "setup"], "airlock.pool/1"),
        (&["pool", "status"], "airlock.pool/1"),
        (&["runs"], "airlock.runs/1"),
        (&["runs", "show", "k7f29qxm"], "airlock.run/1"),
        (&["cancel", "k7f29qxm"], "airlock.cancelled/1"),
        (&["doctor"], "airlock.doctor/1"),
        (&["doctor", "--fix"], "airlock.repair/1"),
        (&["doctor", "--fix", "--dry-run"], "airlock.repair/1"),
        (&["version"], "airlock.version/1"),
    ] {
        let mut command = airlock(&daemon.socket());
        command.env("LC_ALL", "de_DE.UTF-8").args(arguments).args(["--output", "json"]);
        let told = command.output().unwrap();
        assert_eq!((told.status.code(), text(&told.stderr)), (Some(0), String::new()));
        let [document] = json_lines(&told.stdout).try_into().unwrap();
        assert_eq!(document["schema"], schema);
        let plain = ask(&daemon, arguments);
        assert_eq!(plain.status.code(), Some(0), "{arguments:?}");
        assert_harmless(&text(&plain.stdout));
        assert!(!plain.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn what_is_named_and_absent_is_four_unless_it_may_be() {
    let daemon = Daemon::start("absent", Script::default());
    for (arguments, exit) in [
        (&["deactivate", "web", "gone"][..], 4),
        (&["deactivate", "web", "gone", "--if-exists"], 0),
        (&["rm", "absent"], 4),
        (&["verify", "golang:2"], 0),
        (&["verify", "golang:2", "damaged"], 3),
        (&["verify", "rotten"], 3),
        (&["verify", "unlike", "--output", "json"], 3),
        (&["verify", "absent"], 4),
        (&["verify"], 2),
        (&["rm", "absent", "--if-exists"], 0),
        (&["rm", "absent", "busy"], 1),
        (&["rm", "absent", "busy", "--if-exists"], 7),
        (&["inspect", "-q", "golang:2"], 0),
        (&["inspect", "-q", "nothing"], 4),
        (&["deactivate", "Not a name"], 2),
        (&["cancel", "short"], 2),
    ] {
        let told = ask(&daemon, arguments);
        assert_eq!(told.status.code(), Some(exit), "{arguments:?}: {}", text(&told.stderr));
    }
    let told = ask(&daemon, &["inspect", "-q", "nothing"]);
    assert_eq!((text(&told.stdout), text(&told.stderr)), (String::new(), String::new()));
    let told = ask(&daemon, &["deactivate", "gone", "web"]);
    assert_eq!(text(&told.stdout), "✓ web is deactivated: golang:2\n");
}

#[test]
fn a_repair_lists_what_it_will_do_then_what_it_did() {
    let daemon = Daemon::start("repair", Script::default());
    let told = ask(&daemon, &["doctor", "--fix"]);
    assert_eq!(told.status.code(), Some(0));
    assert!(text(&told.stderr).contains("snapshot web  text\n"), "{}", text(&told.stderr));
    assert_eq!(text(&told.stdout), "✓ snapshot web  text\n! volume x      text\n");
    let daemon = Daemon::start("no-repair", Script { images: Vec::new(), ..Script::default() });
    let told = ask(&daemon, &["doctor", "--fix"]);
    assert_eq!(told.status.code(), Some(5), "one failed: {}", text(&told.stdout));
    let wrong = ask(&daemon, &["doctor", "--dry-run"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_doctor_who_finds_that_work_is_refused_says_five() {
    let daemon = Daemon::start("well", Script::default());
    let told = ask(&daemon, &["doctor"]);
    assert_eq!(told.status.code(), Some(0));
    assert!(text(&told.stdout).contains("! disk    text\n          next  remedy\n"));
    let daemon = Daemon::start("ill", Script { images: vec![], ..Script::default() });
    assert_eq!(ask(&daemon, &["doctor"]).status.code(), Some(5));
    assert_eq!(ask(&daemon, &["doctor", "-o", "json"]).status.code(), Some(5));
}

#[test]
fn the_preflight_needs_nothing_and_takes_no_time() {
    let begun = Instant::now();
    let mut command = airlock(Path::new("/nonexistent"));
    let told = command.args(["doctor", "--preflight", "-o", "json"]).output().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    let [document] = json_lines(&told.stdout).try_into().unwrap();
    assert_eq!(document["schema"], "airlock.doctor/1");
    let items = document["items"].as_array().unwrap();
    let missing = items.iter().any(|item| item["state"] == "missing");
    assert_eq!(told.status.code(), Some(if missing { 5 } else { 0 }));
    assert_eq!(items.len(), 14);
    for item in items {
        let well = item["state"] == "ok";
        assert_eq!(item["remedy"].as_array().unwrap().is_empty(), well, "{item}");
    }
}

#[test]
fn machines_show_what_holds_and_what_would_by_default() {
    let daemon = Daemon::start("machines", Script::default());
    let told = ask(&daemon, &["runs", "machines"]);
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: Vec<_> = text(&told.stdout).lines().map(words).collect();
    assert_eq!(
        shown,
        [
            "MACHINE STATE ATTEMPTS DEADLINE LONGEST WAIT QUEUE RUNNING QUEUED AGAIN DEFAULT",
            "download download 9 1 h 30 s downloads 5 2 1 attempts 6, deadline none",
            "",
            "QUEUE LIMIT RUNNING QUEUED DEFAULT",
            "downloads 5 5 2 -",
        ]
    );
    let told = ask(&daemon, &["runs", "machines", "--output", "json"]);
    let [document] = json_lines(&told.stdout).try_into().unwrap();
    assert_eq!(document["schema"], "airlock.machines/1");
    let state = &document["machines"][0]["states"][0];
    assert_eq!(
        (&state["attempts"]["value"], &state["attempts"]["default"]),
        (&9.into(), &6.into())
    );
    assert_eq!(state["deadline_ms"]["default"], Value::Null);
    assert_eq!(document["queues"][0]["limit"]["value"], 5);
}

#[test]
fn filters_are_the_daemons_business_and_the_order_is_the_commands() {
    let mut views: Vec<_> = [RunState::Done, RunState::Failed, RunState::Running].map(run).into();
    for (n, view) in views.iter_mut().enumerate() {
        view.run = format!("k7f29qx{n}").parse().unwrap();
        view.submitted_at += i64::try_from(n).unwrap();
    }
    let daemon = Daemon::start("filters", Script { views: views.into(), ..Script::default() });
    let runs = |more: &[&str]| {
        let told = ask(&daemon, &[&["runs", "-q"], more].concat());
        assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
        text(&told.stdout).lines().map(|line| line.replace("k7f29qx", "")).collect::<String>()
    };
    assert_eq!(runs(&["--all"]), "210");
    assert_eq!(runs(&["--all", "--reverse"]), "012");
    assert_eq!(runs(&["--all", "--sort", "state"]), "012");
    assert_eq!(
        runs(&["--status", "failed", "--source", "s3://images/", "--older-than", "7d"]),
        "1"
    );
    let mut listed = daemon.script().listed;
    let last = listed.pop().unwrap();
    assert_eq!((last.all, last.status), (false, Some(RunState::Failed)));
    assert_eq!(last.source.as_deref(), Some("s3://images/"));
    let week = 7 * 86_400_000;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let ago = i64::try_from(now.as_millis()).unwrap() - last.before.unwrap();
    assert!((week..week + 60_000).contains(&ago), "{ago}");
    assert!(listed.iter().all(|asked| asked.all && asked.before.is_none()));
    let told = ask(&daemon, &["images", "--older-than", "7"]);
    assert_eq!(told.status.code(), Some(2), "a number alone could be any unit");
}

#[test]
fn the_manual_names_every_column_of_every_list() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let manual = std::fs::read_to_string(path).unwrap();
    let daemon = Daemon::start("columns", Script::default());
    for list in ["images", "snapshots", "runs"] {
        let told = ask(&daemon, &[list]);
        let heading = text(&told.stdout).lines().next().unwrap().to_owned();
        for column in heading.split_whitespace() {
            let said = format!("| `{list}` | {column} |");
            assert!(manual.contains(&said), "{said}");
        }
    }
}

#[test]
fn a_retry_is_watched_as_any_run_is() {
    let daemon = Daemon::start("retry", Script::default());
    let told = ask(&daemon, &["retry", "k7f29qxm"]);
    assert_eq!((told.status.code(), text(&told.stdout)), (Some(0), "/dev/airlock/web\n".into()));
    let retried: Vec<_> = daemon.script().retried.iter().map(ToString::to_string).collect();
    assert_eq!(retried, ["k7f29qxm"]);
    let told = ask(&daemon, &["retry", "k7f29qxm", "--output", "json"]);
    let last = json_lines(&told.stdout).pop().unwrap();
    assert_eq!((&last["type"], &last["retry_of"]), (&"result".into(), &Value::Null));
}

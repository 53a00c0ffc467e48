//! Views for the tests of what is shown of them.

use airlock_policy::digest::Digest;
use airlock_protocol::control::{
    ErrorClass, Fault, Links, Reused, RunKind, RunResult, RunState, RunView, StageState, StageView,
};

/// A run in the midst of its download.
pub(crate) fn run() -> RunView {
    let stage = |name: &str, state, took_ms, total_bytes, note: Option<&str>| StageView {
        name: name.to_owned(),
        state,
        done_bytes: 0,
        total_bytes,
        entries: None,
        took_ms,
        attempt: 1,
        note: note.map(str::to_owned),
    };
    RunView {
        run: "k7f29qxm".parse().unwrap(),
        kind: RunKind::Run,
        subject: "golang:2".to_owned(),
        source: Some("s3://images/golang/2.tar".to_owned()),
        state: RunState::Running,
        stages: vec![
            stage("resolve", StageState::Done, 240, None, Some("412.6 MiB, 3 layers")),
            stage("download", StageState::Running, 2_800, Some(432_642_458), None),
            stage("validate", StageState::Pending, 0, None, None),
            stage("unpack", StageState::Pending, 0, None, None),
            stage("activate", StageState::Pending, 0, None, None),
        ],
        steps: vec![],
        retry_of: None,
        retried_as: None,
        archived_at: None,
        version: 7,
        submitted_at: 1_795_516_867_021,
        ended_at: None,
        result: None,
        fault: None,
        links: Links::default(),
    }
}

/// What came of it.
pub(crate) fn result() -> RunResult {
    RunResult {
        image: "golang:2".to_owned(),
        digest: Digest::from_bytes([0x9c; 32]),
        snapshot: Some("web".parse().unwrap()),
        device: Some("/dev/airlock/web".to_owned()),
        device_bytes: Some(8 << 30),
        read_only: false,
        reused: Reused { blob: true, volume: false, snapshot: false },
        changed: true,
        fetched_bytes: 331_979_162,
        took_ms: 12_100,
    }
}

/// An endpoint that fails, in hostile words.
pub(crate) fn fault() -> Fault {
    Fault {
        code: "s3.unavailable".to_owned(),
        class: ErrorClass::Unavailable,
        message: "the S3 endpoint kept \x1b[31mfailing".to_owned(),
        cause: vec!["503 SlowDown from s3.internal".to_owned()],
        facts: vec![],
        remedy: vec![],
    }
}

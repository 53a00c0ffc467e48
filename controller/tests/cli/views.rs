//! What the scripted daemon shows.

use airlock_policy::digest::{BlobDigest, ChainId, DiffId, Digest, TreeDigest};
use airlock_protocol::control::{
    ErrorClass, Fault, ImageState, ImageView, LayerView, Links, MachineView, MachinesView,
    QueueView, Reused, RunKind, RunResult, RunState, RunView, Setting, SnapshotView, StageState,
    StageView, StateRules,
};

/// A name that would drive a terminal.
pub(crate) const HOSTILE: &str = "a\x1b[2Jb\u{202e}c";

/// A fault of this class, with a hostile name in it.
pub(crate) fn fault(class: ErrorClass) -> Fault {
    Fault {
        code: "test.code".to_owned(),
        class,
        message: format!("no luck with {HOSTILE}"),
        cause: vec!["the cause".to_owned()],
        facts: vec![("entry".to_owned(), HOSTILE.to_owned())],
        remedy: vec!["airlock doctor".to_owned()],
    }
}

/// A run in this state.
pub(crate) fn run(state: RunState) -> RunView {
    let done = state == RunState::Done;
    let part = |name: &str| StageView {
        name: name.to_owned(),
        state: if done { StageState::Done } else { StageState::Running },
        done_bytes: 1 << 20,
        total_bytes: Some(4 << 20),
        entries: None,
        took_ms: 240,
        attempt: 1,
        note: done.then(|| format!("note {HOSTILE}")),
    };
    let device = "/dev/airlock/web".to_owned();
    RunView {
        run: "k7f29qxm".parse().unwrap(),
        kind: RunKind::Run,
        subject: HOSTILE.to_owned(),
        source: Some("s3://images/golang/2.tar".to_owned()),
        state,
        stages: vec![part("download"), part("activate")],
        steps: vec![],
        retry_of: None,
        retried_as: None,
        archived_at: None,
        version: if done { 99 } else { 1 },
        submitted_at: 1_795_516_867_021,
        ended_at: state.is_over().then_some(1_795_516_868_021),
        result: done.then(|| RunResult {
            image: "golang:2".to_owned(),
            digest: Digest::from_bytes([0x9c; 32]),
            snapshot: Some("web".parse().unwrap()),
            device: Some(device),
            device_bytes: Some(8 << 30),
            read_only: false,
            reused: Reused::default(),
            changed: true,
            fetched_bytes: 1 << 20,
            took_ms: 1000,
        }),
        fault: (state == RunState::Failed).then(|| fault(ErrorClass::Refused)),
        links: Links::default(),
    }
}

/// An image of this name.
pub(crate) fn image(name: &str) -> ImageView {
    let digest = Digest::from_bytes([0x9c; 32]);
    ImageView {
        name: name.to_owned(),
        digest,
        sources: vec!["s3://images/golang/2.tar".to_owned()],
        state: ImageState::Active,
        blob_bytes: 1 << 20,
        file_bytes: Some(4 << 20),
        layers: vec![LayerView {
            blob: BlobDigest(digest),
            blob_bytes: 1 << 20,
            diff_id: DiffId(digest),
            chain_id: ChainId(digest),
            entries: 7,
            file_bytes: 4 << 20,
        }],
        unwrapped: false,
        tree: Some(TreeDigest(digest)),
        snapshots: vec!["web".parse().unwrap()],
        created_at: 1_795_516_867_021,
        used_at: 1_795_516_867_021,
    }
}

/// The snapshot `web`.
pub(crate) fn snapshot() -> SnapshotView {
    SnapshotView {
        name: "web".parse().unwrap(),
        image: "golang:2".to_owned(),
        digest: Digest::from_bytes([0x9c; 32]),
        device: "/dev/airlock/web".to_owned(),
        mapped: true,
        read_only: false,
        bytes: 8 << 30,
        created_at: 1_795_516_867_021,
    }
}

/// One machine of one state, that is not as it is by default, and its queue, that is.
pub(crate) fn machines() -> MachinesView {
    let waits = |value| Setting { value, default: value };
    let state = StateRules {
        state: "download".to_owned(),
        attempts: Setting { value: 9, default: 6 },
        deadline_ms: Setting { value: Some(3_600_000), default: None },
        first_wait_ms: waits(100),
        longest_wait_ms: waits(30_000),
        queue: Some("downloads".to_owned()),
        running: 5,
        queued: 2,
        waiting: 1,
    };
    let limit = Setting { value: Some(5), default: Some(5) };
    let queue = QueueView { queue: "downloads".to_owned(), limit, running: 5, queued: 2 };
    MachinesView {
        machines: vec![MachineView { machine: "download".to_owned(), states: vec![state] }],
        queues: vec![queue],
        wait_factor: Setting { value: 2, default: 2 },
    }
}

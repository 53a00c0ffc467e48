//! On real SQLite, in a real folder.

use airlock_policy::digest::{BlobDigest, ChainId, DiffId, Digest};

use super::flow::{Move, NewFlow};
use super::image::BlobRow;
use super::snapshot::SnapshotRow;
use super::*;
use crate::flow::machines;
use crate::testing::TempDir;

fn open(dir: &TempDir) -> Store {
    Store::open(dir.path(), &machines()).unwrap()
}

fn new_flow(subject: &str) -> NewFlow {
    NewFlow {
        machine: "unpack",
        definition: 1,
        subject: subject.to_owned(),
        state: "check_unpacked",
        input: "{}".to_owned(),
        request: "r1".to_owned(),
    }
}

fn step(from: flow::FlowRow, event: &'static str, target: &'static str) -> Move {
    Move {
        event,
        target,
        attempt: 1,
        ends: target == "done",
        subject: from.subject.clone(),
        data: "{}".to_owned(),
        fault: None,
        started_at: now(),
        outcome: None,
        from,
    }
}

fn blob(content: &[u8]) -> BlobRow {
    let digest = Digest::of(content);
    let (digest, diff_id) = (BlobDigest(digest), DiffId(digest));
    BlobRow { digest, diff_id, bytes: 5, inode: u64::MAX, mtime_ns: -1, entries: 3, file_bytes: 4 }
}

#[tokio::test]
async fn a_transition_that_is_not_in_the_table_is_refused_by_the_database() {
    let dir = TempDir::new();
    let store = open(&dir);
    let refused = store
        .write(|tx| {
            let id = flow::begin(tx, &new_flow("x"))?;
            flow::advance(tx, &step(flow::find(tx, id)?, "sealed", "done"))
        })
        .await
        .unwrap_err();
    assert!(matches!(refused, StoreFault::Sqlite(_)), "{refused:?}");
    assert!(store.read(flow::unfinished).await.unwrap().is_empty(), "rolled back");
    store
        .write(|tx| {
            let id = flow::begin(tx, &new_flow("x"))?;
            flow::advance(tx, &step(flow::find(tx, id)?, "held", "done"))
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn whoever_moves_a_flow_second_changes_nothing_at_all() {
    let dir = TempDir::new();
    let store = open(&dir);
    let stale = store
        .write(|tx| {
            let id = flow::begin(tx, &new_flow("x"))?;
            let read = flow::find(tx, id)?;
            flow::advance(tx, &step(read.clone(), "absent", "create_device"))?;
            Ok(read)
        })
        .await
        .unwrap();
    let id = stale.id;
    let second = store
        .write(move |tx| {
            image::record(tx, &blob(b"x"), Digest::of(b"x"), "x")?;
            flow::advance(tx, &step(stale, "held", "done"))
        })
        .await;
    assert!(matches!(second, Err(StoreFault::Moved)), "{second:?}");
    let (at, count, found) = store
        .read(move |tx| {
            let row = flow::find(tx, id)?;
            Ok((row.state, flow::steps(tx, id)?.len(), image::find(tx, Digest::of(b"x"))?))
        })
        .await
        .unwrap();
    assert_eq!((at.as_str(), count), ("create_device", 1));
    assert!(found.is_none());
}

#[tokio::test]
async fn a_subject_has_one_flow_at_a_time() {
    let dir = TempDir::new();
    let store = open(&dir);
    store.write(|tx| flow::begin(tx, &new_flow("x"))).await.unwrap();
    assert!(store.write(|tx| flow::begin(tx, &new_flow("x"))).await.is_err());
    store.write(|tx| flow::begin(tx, &new_flow("y"))).await.unwrap();
}

#[tokio::test]
async fn the_event_log_is_only_appended_to() {
    let dir = TempDir::new();
    let store = open(&dir);
    let changed = store
        .write(|tx| {
            let id = flow::begin(tx, &new_flow("x"))?;
            flow::advance(tx, &step(flow::find(tx, id)?, "held", "done"))?;
            Ok(tx.execute("UPDATE steps SET outcome = 'x'", [])?)
        })
        .await
        .unwrap_err();
    assert!(format!("{changed:?}").contains("only ever appended"), "{changed:?}");
}

#[tokio::test]
async fn what_is_active_was_unpacked_and_what_is_unpacked_was_fetched() {
    let dir = TempDir::new();
    let store = open(&dir);
    let (image, row) = (Digest::of(b"x"), blob(b"x"));
    let chain_id = ChainId::of(None, row.diff_id);
    let snapshot = SnapshotRow {
        name: "x".parse().unwrap(),
        image,
        chain_id,
        read_only: false,
        is_default: true,
        bytes: 1,
        leaving: false,
        created_at: 0,
    };
    let fetched = store.write(move |tx| image::record_sealed(tx, chain_id, None, row.diff_id));
    assert!(fetched.await.is_err(), "a volume without a layer");
    store.write(move |tx| image::record(tx, &row, image, "x")).await.unwrap();
    let early = {
        let snapshot = snapshot.clone();
        store.write(move |tx| snapshot::record(tx, &snapshot)).await
    };
    assert!(early.is_err(), "a snapshot of what was not unpacked");
    let bare = store.write(|tx| Ok(tx.execute("DELETE FROM image_layers", [])?)).await;
    assert!(bare.is_err(), "an image without its layer");
    store.write(move |tx| image::record_sealed(tx, chain_id, None, row.diff_id)).await.unwrap();
    store.write(move |tx| snapshot::record(tx, &snapshot)).await.unwrap();
    let removed = store.write(move |tx| image::remove(tx, image)).await;
    assert!(removed.is_err(), "an active image cannot go");
    store.write(|tx| snapshot::remove(tx, "x")).await.unwrap();
    let left = store.write(move |tx| image::remove(tx, image)).await.unwrap();
    assert_eq!((left.volumes, left.blobs), (vec![chain_id], vec![row.digest]));
    assert_eq!(store.read(image::doomed).await.unwrap(), [chain_id]);
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_blob_row_keeps_every_bit_of_an_inode_number() {
    let dir = TempDir::new();
    let store = open(&dir);
    let row = blob(b"x");
    store.write(move |tx| image::record(tx, &row, Digest::of(b"x"), "x")).await.unwrap();
    assert_eq!(store.read(move |tx| image::blob(tx, row.digest)).await.unwrap(), Some(row));
}

#[tokio::test]
async fn an_unclean_stop_is_noticed_once() {
    let dir = TempDir::new();
    let first = open(&dir);
    assert!(!first.was_unclean(), "a new database");
    drop(first);
    let second = open(&dir);
    assert!(second.was_unclean());
    second.close_cleanly().await.unwrap();
    drop(second);
    assert!(!open(&dir).was_unclean());
}

#[test]
fn damage_is_found_after_an_unclean_stop() {
    let dir = TempDir::new();
    drop(open(&dir));
    let path = dir.path().join("airlock.sqlite");
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    connection.execute("INSERT INTO blobs VALUES ('a', 'no such layer', 1, 1, 1, 1)", []).unwrap();
    drop(connection);
    let fault = Store::open(dir.path(), &machines()).unwrap_err();
    assert!(matches!(fault, StoreFault::Damaged(_)), "{fault:?}");
}

#[tokio::test]
async fn every_connection_has_its_settings() {
    let dir = TempDir::new();
    let store = open(&dir);
    let settings = |tx: &Transaction<'_>| {
        let number = |name: &str| tx.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let mode: String = tx.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        Ok((number("foreign_keys")?, number("synchronous")?, number("busy_timeout")?, mode))
    };
    let expected = (1, 2, 5000, "wal".to_owned());
    assert_eq!(store.write(settings).await.unwrap(), expected);
    assert_eq!(store.read(settings).await.unwrap(), expected);
}

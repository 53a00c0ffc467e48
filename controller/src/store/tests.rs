//! On real SQLite, in a real folder.

mod archive;
mod lists;
mod plans;

use airlock_policy::digest::{BlobDigest, ChainId, DiffId, Digest, TreeDigest};

use super::flow::{Move, NewFlow};
use super::image::{BlobRow, SealedRow};
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
        timings: Vec::new(),
        from,
    }
}

fn blob(content: &[u8]) -> BlobRow {
    let digest = Digest::of(content);
    let (digest, diff_id) = (BlobDigest(digest), DiffId(digest));
    BlobRow {
        digest,
        diff_id,
        bytes: 5,
        inode: u64::MAX,
        mtime_ns: -1,
        entries: 3,
        file_bytes: 4,
        wrapped: content == b"wrapped",
    }
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
            Ok((
                row.state,
                tx.query_row("SELECT count(*) FROM steps WHERE flow = ?1", [id], |row| {
                    row.get::<_, u32>(0)
                })?,
                image::find(tx, Digest::of(b"x"))?,
            ))
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
    let sealed = SealedRow { chain_id, parent: None, diff_id: row.diff_id, tree: None };
    let fetched = store.write(move |tx| image::record_sealed(tx, &sealed));
    assert!(fetched.await.is_err(), "a volume without a layer");
    store.write(move |tx| image::record(tx, &row, image, "x")).await.unwrap();
    let early = {
        let snapshot = snapshot.clone();
        store.write(move |tx| snapshot::record(tx, &snapshot)).await
    };
    assert!(early.is_err(), "a snapshot of what was not unpacked");
    let bare = store.write(|tx| Ok(tx.execute("DELETE FROM image_layers", [])?)).await;
    assert!(bare.is_err(), "an image without its layer");
    store.write(move |tx| image::record_sealed(tx, &sealed)).await.unwrap();
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
async fn an_unwrapped_image_has_a_chain_id_of_its_own() {
    let dir = TempDir::new();
    let store = open(&dir);
    let row = blob(b"wrapped");
    store.write(move |tx| image::record(tx, &row, row.digest.0, "x")).await.unwrap();
    let (image, known) = store
        .read(move |tx| Ok((image::find(tx, row.digest.0)?, image::blob(tx, row.digest)?)))
        .await
        .unwrap();
    assert_eq!((image.unwrap().chain_id, known), (ChainId::unwrapped(row.diff_id), Some(row)));
}

#[tokio::test]
async fn the_tree_of_a_volume_is_filled_in_once_and_never_replaced() {
    let dir = TempDir::new();
    let store = open(&dir);
    let row = blob(b"x");
    store.write(move |tx| image::record(tx, &row, row.digest.0, "x")).await.unwrap();
    let tree = |text: &str| Some(TreeDigest(Digest::of(text.as_bytes())));
    for (given, known) in [(None, None), (tree("a"), tree("a")), (tree("b"), tree("a"))] {
        let (chain_id, diff_id) = (row.chain_id(), row.diff_id);
        let sealed = SealedRow { chain_id, parent: None, diff_id, tree: given };
        store.write(move |tx| image::record_sealed(tx, &sealed)).await.unwrap();
        assert_eq!(store.read(move |tx| image::tree(tx, chain_id)).await.unwrap(), known);
    }
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

#[tokio::test(flavor = "multi_thread")]
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
    // More readers at once than are kept, so that each has a connection of its own.
    let count = READERS + 3;
    let together = Arc::new(std::sync::Barrier::new(count));
    let readers: Vec<_> = (0..count)
        .map(|_| {
            let (store, together) = (store.clone(), Arc::clone(&together));
            tokio::spawn(async move {
                let all_are_open = move |tx: &Transaction<'_>| {
                    together.wait();
                    settings(tx)
                };
                store.read(all_are_open).await
            })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_read_beside_the_writer_and_see_what_was_committed() {
    let dir = TempDir::new();
    let store = open(&dir);
    let (begun, go_on) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let writer = store.clone();
    let writing = tokio::spawn(async move {
        let slow = move |tx: &Transaction<'_>| {
            flow::begin(tx, &new_flow("x"))?;
            begun.0.send(()).unwrap();
            go_on.1.recv().unwrap();
            Ok(())
        };
        writer.write(slow).await
    });
    tokio::task::spawn_blocking(move || begun.1.recv().unwrap()).await.unwrap();
    assert!(store.read(flow::unfinished).await.unwrap().is_empty(), "not committed yet");
    go_on.0.send(()).unwrap();
    writing.await.unwrap().unwrap();
    assert_eq!(store.read(flow::unfinished).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_the_backup_from_before_it() {
    let dir = TempDir::new();
    let store = open(&dir);
    let known = migrate::ALL.len();
    let name = format!("before-migration-{known}-20260101T000000Z.sqlite");
    let backup = dir.path().join("backups").join(name);
    std::fs::create_dir_all(backup.parent().unwrap()).unwrap();
    store.write(|tx| Ok(tx.pragma_update(None, "user_version", 99)?)).await.unwrap();
    restore::back_up_file(&file_of(dir.path()), &backup).unwrap();
    drop(store);
    let refused = Store::open(dir.path(), &machines()).unwrap_err().fault_at_start(dir.path());
    assert_eq!((refused.code.as_str(), refused.class.exit()), ("db.newer", 6));
    let named = format!("airlock db restore {}", backup.display());
    assert!(refused.remedy.contains(&named), "{refused:?}");
}

#[tokio::test]
async fn what_is_no_database_is_damage_and_says_what_helps() {
    let dir = TempDir::new();
    std::fs::write(file_of(dir.path()), b"not a database at all, of no length that helps").unwrap();
    let refused = Store::open(dir.path(), &machines()).unwrap_err().fault_at_start(dir.path());
    assert_eq!(refused.code, "db.damaged", "{refused:?}");
    assert_eq!(refused.remedy[0], "airlock db set-aside");
    let aside = restore::set_aside(dir.path()).unwrap().unwrap();
    assert!(aside.exists() && !file_of(dir.path()).exists());
    open(&dir);
}

#[tokio::test]
async fn a_restored_database_has_dropped_what_was_under_way_and_lost_nothing_of_the_other() {
    let dir = TempDir::new();
    let store = open(&dir);
    store.settle().await.unwrap();
    let row = blob(b"x");
    let (image, chain_id) = (Digest::of(b"x"), ChainId::of(None, row.diff_id));
    store
        .write(move |tx| {
            image::record(tx, &row, image, "x")?;
            image::record_sealed(
                tx,
                &SealedRow { chain_id, parent: None, diff_id: row.diff_id, tree: None },
            )?;
            tx.execute("INSERT INTO doomed VALUES ('sha256:00', 1)", [])?;
            flow::begin(tx, &new_flow("x"))
        })
        .await
        .unwrap();
    let backup = store.back_up(7).await.unwrap();
    store.write(|tx| flow::begin(tx, &new_flow("after the backup"))).await.unwrap();
    drop(store);
    let kept = restore::restore(dir.path(), &backup).unwrap().unwrap();
    let store = open(&dir);
    assert!(store.is_unsettled().await.unwrap(), "blobs and volumes of later may be here");
    assert!(store.read(flow::unfinished).await.unwrap().is_empty());
    assert!(store.read(image::doomed).await.unwrap().is_empty());
    assert!(store.read(move |tx| image::find(tx, image)).await.unwrap().unwrap().unpacked);
    store.check().await.unwrap();
    // What was there is whole, journal and all.
    let old = Connection::open(kept).unwrap();
    let flows = old.query_row("SELECT count(*) FROM flows", [], |row| row.get(0));
    assert_eq!(flows, Ok(2));
}

#[tokio::test]
async fn a_new_database_is_unsettled_until_it_is_said_to_be_whole() {
    let dir = TempDir::new();
    let store = open(&dir);
    assert!(store.is_unsettled().await.unwrap());
    drop(store);
    let store = open(&dir);
    assert!(store.is_unsettled().await.unwrap(), "a restart changes nothing about it");
    store.settle().await.unwrap();
    drop(store);
    assert!(!open(&dir).is_unsettled().await.unwrap());
}

/// Waits until a check has come to its end.
async fn verdict(store: &Store) -> Verdict {
    for _ in 0..1000 {
        if store.verdict() != Verdict::Checking {
            return store.verdict();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no verdict");
}

#[tokio::test]
async fn a_check_that_takes_long_goes_on_beside_what_is_read_and_written() {
    let dir = TempDir::new();
    drop(open(&dir));
    let store = Store::open_after(None, dir.path(), &machines()).unwrap();
    store.settle().await.unwrap();
    assert!(store.was_unclean());
    store.write(|tx| flow::begin(tx, &new_flow("x"))).await.unwrap();
    assert_eq!(verdict(&store).await, Verdict::Sound);
    assert!(store.is_trusted().await.unwrap());
    store.close_cleanly().await.unwrap();
    drop(store);
    let store = open(&dir);
    assert!(!store.was_unclean() && store.verdict() == Verdict::Sound);
}

#[tokio::test]
async fn damage_that_is_found_late_ends_all_writing_and_no_reading() {
    let dir = TempDir::new();
    {
        let store = open(&dir);
        store.settle().await.unwrap();
        // A reference to nothing: damage that hinders no statement.
        let bare = Connection::open(file_of(dir.path())).unwrap();
        bare.pragma_update(None, "foreign_keys", false).unwrap();
        bare.execute("INSERT INTO blobs VALUES ('a', 'no such layer', 1, 1, 1, 1)", []).unwrap();
    }
    let store = Store::open_after(None, dir.path(), &machines()).unwrap();
    let Verdict::Damaged(why) = verdict(&store).await else { panic!("sound") };
    assert!(why.contains("refers"), "{why}");
    let refused = store.write(|tx| flow::begin(tx, &new_flow("x"))).await.unwrap_err();
    assert_eq!(refused.fault().code, "db.damaged");
    assert!(store.read(flow::unfinished).await.unwrap().is_empty());
    assert!(!store.is_trusted().await.unwrap());
    store.close_cleanly().await.unwrap();
    drop(store);
    // The next start is told before it begins.
    let refused = Store::open(dir.path(), &machines()).unwrap_err();
    assert!(matches!(refused, StoreFault::Damaged(_)), "{refused:?}");
}

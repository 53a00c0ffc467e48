//! How SQLite finds what is asked for: by an index, never by reading a whole table.

use std::collections::BTreeSet;

use airlock_protocol::control::{ImageState, RunId};
use rusqlite::trace::{TraceEvent, TraceEventCodes};

use super::*;
use crate::flow::{Activate, Download, Unpack};
use crate::store::run::{RunCursor, RunFilter, Standing};

/// Every question that a command, a page of a list or a flow puts to the database. The few that
/// only a start, a repair or a removal puts may read what they are about in full.
fn ask_everything(tx: &Transaction<'_>) -> Result<(), StoreFault> {
    let (digest, chain) = (Digest::of(b"x"), ChainId(Digest::of(b"x")));
    let run_id: RunId = "k7f29qxm".to_owned().try_into().unwrap();
    drop(image::find(tx, digest)?);
    drop(image::by_prefix(tx, "0123456789ab")?);
    drop(image::by_name(tx, "x")?);
    for status in [ImageState::Downloaded, ImageState::Unpacked, ImageState::Active] {
        let filter = image::ImageFilter { status: Some(status), ..image::ImageFilter::default() };
        drop(image::page(tx, &filter, Some(("x", "y")), 100)?);
    }
    drop(image::page(tx, &image::ImageFilter::default(), None, 100)?);
    drop(image::layer_views(tx, digest)?);
    let _: Option<BlobRow> = image::blob(tx, BlobDigest(digest))?;
    let _: bool = image::is_sealed(tx, chain)?;
    drop(source::find(tx, "s3://a/b")?);
    drop(source::of_image(tx, digest)?);
    drop(snapshot::find(tx, "x")?);
    drop(snapshot::page(tx, &snapshot::SnapshotFilter::default(), "x", 100)?);
    drop(snapshot::of_image(tx, digest)?);
    drop(snapshot::default_of(tx, digest)?);
    drop(run::find(tx, &run_id)?);
    drop(run::active(tx, "key")?);
    let _: bool = run::goes_on(tx, &run_id)?;
    drop(run::at_flow(tx, 1)?);
    drop(run::works_on(tx, digest)?);
    for standing in [None, Some(Standing::Running), Some(Standing::Failed)] {
        for source in [None, Some("s3://a/".to_owned())] {
            let filter = RunFilter { standing, source, before: None };
            let (id, source) = ("x".to_owned(), "s3://a/b".to_owned());
            drop(run::page(tx, &filter, Some(&RunCursor { time: 1, id, source }), 100)?);
        }
    }
    drop(run::retried_as(tx, &run_id)?);
    drop(history::find(tx, &run_id)?);
    let _: usize = history::forget(tx, 1, 100)?;
    drop(run::flows(tx, &run_id)?);
    drop(run::due(tx, 1)?);
    let _: Option<i64> = run::next_time(tx)?;
    drop(run::following(tx, &run_id)?);
    drop(run::children(tx, &run_id)?);
    drop(run::of_flow(tx, 1)?);
    drop(flow::active(tx, Unpack::NAME, "x")?);
    drop(flow::active(tx, Activate::NAME, "x")?);
    drop(flow::unfinished(tx)?);
    drop(flow::of_run(tx, &run_id)?);
    drop(flow::steps(tx, &run_id, true)?);
    let _: Option<flow::FlowId> = flow::newest(tx, Unpack::NAME, "x")?;
    drop(run::ids_at(tx, 1)?);
    drop(flow::downloads_since(tx, Download::NAME, 1)?);
    let _: Option<Digest> = reconcile::image_of_volume(tx, chain)?;
    Ok(())
}

#[test]
fn no_question_of_a_list_reads_a_whole_table() {
    let dir = TempDir::new();
    drop(open(&dir));
    let mut connection = connect(&file_of(dir.path()), OpenFlags::empty()).unwrap();
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let note = Arc::clone(&asked);
    let trace = move |event: TraceEvent<'_>| {
        if let TraceEvent::Stmt(statement, _) = event {
            note.lock().unwrap().insert(statement.sql().into_owned());
        }
    };
    connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(trace)).unwrap();
    ask_everything(&connection.transaction().unwrap()).unwrap();
    connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, None::<fn(TraceEvent<'_>)>).unwrap();
    let asked: Vec<String> = asked.lock().unwrap().iter().cloned().collect();
    let selects: Vec<_> = asked.iter().filter(|sql| sql.starts_with("SELECT")).collect();
    assert!(selects.len() >= 24, "{selects:#?}");
    let mut slow = Vec::new();
    for sql in selects {
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = plan.raw_query().mapped(|row| row.get::<_, String>(3));
        for step in steps.map(Result::unwrap) {
            // That index holds what has not ended, and nothing else.
            let reads_all = step.starts_with("SCAN") && !step.ends_with("INDEX flows_going_on");
            if reads_all || step.contains("TEMP B-TREE") {
                slow.push(format!("{step}: {sql}"));
            }
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
}

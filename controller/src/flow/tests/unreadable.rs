//! One record is damaged, in every way that there is, while several runs are in flight: it is set
//! aside and told of, and all others come to their ends.

use airlock_protocol::control::{ListRuns, RunId, RunState, RunView, Work};
use rusqlite::Connection;

use super::{Host, Up, run_of};
use crate::store::{flow, unreadable};
use crate::testing::image::rootfs;

/// Changes the database as only damage or another version can.
fn damage(host: &Host, sql: &str) {
    let raw = Connection::open(host.dir.path().join("airlock.sqlite")).unwrap();
    raw.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON").unwrap();
    assert_eq!(raw.execute(sql, []).unwrap(), 1, "{sql}");
}

/// Three runs that wait for extractions, and the daemon that has died meanwhile: the next start
/// looks through the whole database.
async fn three_in_flight(host: &Host) -> Vec<RunId> {
    host.helper.state().polls = u32::MAX;
    let up = host.up();
    let mut runs = Vec::new();
    for name in ["a", "b", "c"] {
        runs.push(up.begin(run_of(&host.file(&format!("{name}.tar"), &rootfs(name)))).await);
    }
    for _ in 0..500 {
        let all = up.engine.world().store.read(flow::unfinished).await.unwrap();
        if all.iter().filter(|row| row.state == "extract_layers").count() == 3 {
            assert!(up.engine.drain(std::time::Duration::from_secs(10)).await);
            return runs;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the runs do not come to their extractions");
}

fn every() -> ListRuns {
    ListRuns { all: true, ..ListRuns::default() }
}

async fn listed(up: &Up) -> Vec<RunView> {
    up.engine.views(ListRuns::default(), 100).await.unwrap().0
}

/// What must hold however one of three was damaged.
async fn all_else_goes_on(host: &Host, up: &Up, others: &[RunId], what: &str) {
    for other in others {
        let view = up.end(other).await;
        assert_eq!(view.state, RunState::Done, "{what}: {view:#?}");
    }
    let again = host.file("a.tar", &rootfs("a"));
    let again = up.begin(run_of(&again)).await;
    assert_eq!(up.end(&again).await.state, RunState::Done, "{what}");
    let store = &up.engine.world().store;
    assert!(store.read(flow::unfinished).await.unwrap().is_empty(), "{what}: a flow is left");
    assert_eq!(store.read(unreadable::all).await.unwrap().len(), 1, "{what}");
    // Steps of another machine than their flow's are damage that nobody can undo.
    if !what.starts_with("machine") {
        store.check().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_cannot_be_gone_on_with_is_set_aside_and_blocks_nothing() {
    for (what, code) in [
        ("state = 'folded'", "run.definition"),
        ("machine = 'origami'", "run.definition"),
        ("definition = 999", "run.definition"),
        ("state = 'done'", "run.definition"),
        ("input = '{}'", "run.unreadable"),
        ("input = '{\"vol'", "run.unreadable"),
        ("data = '7'", "run.unreadable"),
        ("data = '{\"held\": 7}'", "run.unreadable"),
        ("state = CAST(x'ff' AS TEXT)", "run.unreadable"),
        ("request = CAST(x'ff' AS TEXT)", "run.unreadable"),
        ("attempt = -1", "run.unreadable"),
        ("interruptions = 99999999999", "run.unreadable"),
        ("step = 0", "run.unreadable"),
    ] {
        let host = Host::new();
        let runs = three_in_flight(&host).await;
        let (a, others) = runs.split_first().unwrap();
        let of = format!("id = (SELECT flow FROM runs WHERE id = '{a}')");
        damage(&host, &format!("UPDATE flows SET {what} WHERE {of}"));
        host.helper.state().polls = 0;
        let up = host.up();
        up.engine.resume(true).await.unwrap();
        let view = up.end(a).await;
        assert_eq!(view.state, RunState::Failed, "{what}");
        let fault = view.fault.unwrap();
        assert_eq!(fault.code, code, "{what}: {fault:?}");
        assert!(
            fault.facts.iter().any(|(label, text)| label == "record" && text.starts_with("flow "))
        );
        assert!(fault.facts.iter().any(|(label, _)| label == "why") && !fault.remedy.is_empty());
        all_else_goes_on(&host, &up, others, what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_read_is_set_aside_shown_and_blocks_nothing() {
    for (what, is_listed_as_itself) in [
        ("id = 'NO RUN ID'", false),
        ("id = CAST(x'ff' AS TEXT)", false),
        ("kind = 'origami'", true),
        ("state = 'folded'", true),
        ("tally = '7'", true),
        ("tally = '{\"im'", true),
        ("fault = '[]'", true),
        ("image = 'none'", true),
        ("activation = '[]'", true),
        ("subject = CAST(x'ff' AS TEXT)", true),
        ("uid = -1", true),
        ("position = -1", true),
    ] {
        let host = Host::new();
        let runs = three_in_flight(&host).await;
        let (a, others) = runs.split_first().unwrap();
        damage(&host, &format!("UPDATE runs SET {what} WHERE id = '{a}'"));
        host.helper.state().polls = 0;
        let up = host.up();
        up.engine.resume(true).await.unwrap();
        // By default what has ended is not listed; what could not be read is.
        let shown = listed(&up).await;
        let shown = shown.iter().find(|run| run.state == RunState::Unreadable);
        let shown = shown.unwrap_or_else(|| panic!("{what}: not shown"));
        assert_eq!(shown.fault.as_ref().unwrap().code, "run.unreadable", "{what}");
        assert_eq!(shown.run == *a, is_listed_as_itself, "{what}");
        let all = up.engine.views(every(), 100).await.unwrap().0;
        assert_eq!(all.len(), 3, "{what}");
        all_else_goes_on(&host, &up, others, what).await;
        let record = up.engine.world().store.read(|tx| {
            Ok(tx.query_row("SELECT record FROM unreadable", [], |row| row.get::<_, String>(0))?)
        });
        let record = record.await.unwrap();
        assert!(record.contains("\"submitted_at\":"), "all that it held is kept: {record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_midst_of_work_takes_along_no_run_but_the_damaged_one() {
    let host = Host::new();
    host.helper.state().polls = u32::MAX;
    let up = host.up();
    let source = host.file("a.tar", &rootfs("a"));
    let pull = up.begin(Work::Pull { source: source.clone() }).await;
    let run = up.begin(run_of(&source)).await;
    for _ in 0..500 {
        let all = up.engine.world().store.read(flow::unfinished).await.unwrap();
        if all.len() == 1 && up.engine.waiting_for(all[0].id).await.unwrap() == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    damage(&host, &format!("UPDATE runs SET tally = '7' WHERE id = '{pull}'"));
    host.helper.state().polls = 0;
    assert_eq!(up.end(&run).await.state, RunState::Done);
    assert_eq!(up.end(&pull).await.state, RunState::Unreadable);
    // It ended, long ago as it were: a list of thousands must not fail for it.
    damage(&host, &format!("UPDATE runs SET tally = '7' WHERE id = '{run}'"));
    let all = up.engine.views(every(), 100).await.unwrap().0;
    assert!(all.iter().all(|view| view.state == RunState::Unreadable), "{all:#?}");
    assert_eq!(all.len(), 2);
    damage(&host, &format!("UPDATE runs SET state = 'failed', fault = '[]' WHERE id = '{run}'"));
    assert_eq!(up.engine.views(every(), 100).await.unwrap_err().code, "run.unreadable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_flow_has_ended_without_it_does_not_wait_for_ever() {
    let host = Host::new();
    let runs = three_in_flight(&host).await;
    let of = format!("id = (SELECT flow FROM runs WHERE id = '{}')", runs[0]);
    damage(&host, &format!("UPDATE flows SET ended_at = 1 WHERE {of}"));
    host.helper.state().polls = 0;
    let up = host.up();
    up.engine.resume(false).await.unwrap();
    let view = up.end(&runs[0]).await;
    assert_eq!(
        (view.state, view.fault.unwrap().code.as_str()),
        (RunState::Failed, "run.unreadable")
    );
    for other in &runs[1..] {
        assert_eq!(up.end(other).await.state, RunState::Done);
    }
}

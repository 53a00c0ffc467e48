//! What goes of runs that ended long ago, and what stays.

#![expect(clippy::arithmetic_side_effects, reason = "small numbers of tests")]

use airlock_protocol::control::{Fault, RunId};

use super::*;
use crate::store::history::{Archived, Keep};
use crate::store::run::Standing;

fn id(n: i64) -> RunId {
    format!("{n:08}").try_into().unwrap()
}

/// A run that went through one flow of its own and one that all share, and ended at `n`.
fn plant(tx: &Transaction<'_>, n: i64, state: &str) -> Result<(), StoreFault> {
    let own = flow::begin(tx, &new_flow(&format!("own {n}")))?;
    flow::advance(tx, &step(flow::find(tx, own)?, "held", "done"))?;
    tx.execute(
        "INSERT INTO runs (id, kind, key, subject, flow, position, state, tally, request, uid, \
         submitted_at, ended_at) VALUES (?1, 'pull', ?1, 'x', ?2, 0, ?3, '{}', 'r', 0, ?4, ?4)",
        (id(n).as_str(), own, state, n),
    )?;
    for flow in [1, own] {
        tx.execute("INSERT INTO run_flows VALUES (?1, ?2)", (id(n).as_str(), flow))?;
    }
    Ok(())
}

/// Ten runs that are done, at 10 to 19, and flow 1 that all of them went through.
async fn ten(dir: &TempDir) -> Store {
    let store = open(dir);
    let plant_all = |tx: &Transaction<'_>| {
        let shared = flow::begin(tx, &new_flow("shared"))?;
        flow::advance(tx, &step(flow::find(tx, shared)?, "held", "done"))?;
        (10..20).try_for_each(|n| plant(tx, n, "done"))
    };
    store.write(plant_all).await.unwrap();
    store
}

const ALL: Keep = Keep { since: 0, runs: 1000, parts_since: i64::MAX };

async fn sweep(store: &Store, keep: Keep) -> Archived {
    let mut sum = Archived::default();
    let mut after = None;
    loop {
        let place = after.clone();
        let one =
            store.write(move |tx| history::archive(tx, &keep, place.as_ref(), 3)).await.unwrap();
        assert!(one.runs + one.referred <= 3, "{one:?}");
        sum.runs += one.runs;
        sum.flows += one.flows;
        sum.referred += one.referred;
        after = one.next;
        if after.is_none() {
            return sum;
        }
    }
}

async fn count(store: &Store, table: &'static str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    store.read(move |tx| Ok(tx.query_row(&sql, [], |row| row.get(0))?)).await.unwrap()
}

#[tokio::test]
async fn what_is_older_or_more_than_is_kept_goes_and_nothing_else() {
    let dir = TempDir::new();
    let store = ten(&dir).await;
    assert_eq!(sweep(&store, ALL).await, Archived::default());
    let aged = sweep(&store, Keep { since: 13, ..ALL }).await;
    assert_eq!((aged.runs, aged.flows, aged.referred), (3, 3, 0));
    let counted = sweep(&store, Keep { runs: 4, ..ALL }).await;
    assert_eq!((counted.runs, counted.flows), (3, 3));
    assert_eq!(count(&store, "runs").await, 4);
    // Theirs, and the one that they share: with a step each.
    assert_eq!((count(&store, "flows").await, count(&store, "steps").await), (5, 5));
    let rest = sweep(&store, Keep { runs: 0, ..ALL }).await;
    assert_eq!((rest.runs, rest.flows), (4, 5));
    assert_eq!((count(&store, "run_flows").await, count(&store, "steps").await), (0, 0));
    store.check().await.unwrap();
}

#[tokio::test]
async fn what_something_refers_to_or_goes_on_stays() {
    let dir = TempDir::new();
    let store = ten(&dir).await;
    let refer = |tx: &Transaction<'_>| {
        // 19 does 12 again; 18 goes on.
        tx.execute(
            "UPDATE runs SET retry_of = ?1 WHERE id = ?2",
            (id(12).as_str(), id(19).as_str()),
        )?;
        tx.execute(
            "UPDATE runs SET state = 'running', ended_at = NULL WHERE id = ?1",
            [id(18).as_str()],
        )?;
        Ok(())
    };
    store.write(refer).await.unwrap();
    let swept = sweep(&store, Keep { runs: 1, ..ALL }).await;
    assert_eq!((swept.runs, swept.flows, swept.referred), (7, 7, 1));
    let left = store.read(|tx| {
        let found = |n| Ok::<_, StoreFault>(run::find(tx, &id(n))?.is_some());
        Ok([found(12)?, found(13)?, found(18)?, found(19)?])
    });
    assert_eq!(left.await.unwrap(), [true, false, true, true]);
    // Once what refers to it is gone, so may it.
    let swept = sweep(&store, Keep { runs: 0, ..ALL }).await;
    assert_eq!((swept.runs, swept.referred), (1, 1));
    assert_eq!(sweep(&store, Keep { runs: 0, ..ALL }).await.runs, 1);
    assert_eq!(count(&store, "runs").await, 1);
}

#[tokio::test]
async fn a_failed_run_is_kept_as_long_as_what_it_fetched() {
    let dir = TempDir::new();
    let store = ten(&dir).await;
    store.write(|tx| plant(tx, 5, "failed")).await.unwrap();
    let keep = Keep { since: i64::MAX, runs: 0, parts_since: 5 };
    assert_eq!(sweep(&store, keep).await.runs, 10);
    assert_eq!(count(&store, "runs").await, 1);
    assert_eq!(sweep(&store, Keep { parts_since: 6, ..keep }).await.runs, 1);
}

#[tokio::test]
async fn the_bare_outcome_is_left_and_goes_in_its_time() {
    let dir = TempDir::new();
    let store = ten(&dir).await;
    let fault = Fault {
        code: "blob.digest".to_owned(),
        class: airlock_protocol::control::ErrorClass::Refused,
        message: "no".to_owned(),
        cause: vec![],
        facts: vec![],
        remedy: vec![],
    };
    let json = serde_json::to_string(&fault).unwrap();
    let fail = move |tx: &Transaction<'_>| {
        Ok(tx.execute(
            "UPDATE runs SET state = 'failed', fault = ?1 WHERE id = ?2",
            (json, id(11).as_str()),
        )?)
    };
    store.write(fail).await.unwrap();
    sweep(&store, Keep { since: 12, ..ALL }).await;
    let (gone, kept) = store
        .read(|tx| Ok((history::find(tx, &id(11))?, history::find(tx, &id(12))?)))
        .await
        .unwrap();
    assert!(kept.is_none());
    let (outcome, archived_at) = gone.unwrap();
    assert_eq!((outcome.standing, outcome.ended_at), (Standing::Failed, Some(11)));
    assert_eq!(outcome.fault, Some(fault));
    let forget = |before| store.write(move |tx| history::forget(tx, before, 100));
    assert_eq!(forget(archived_at - 10_000).await.unwrap(), 0);
    assert_eq!(forget(now() + 1).await.unwrap(), 2);
    assert_eq!(count(&store, "archived_runs").await, 0);
}

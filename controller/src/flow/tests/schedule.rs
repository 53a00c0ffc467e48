//! Runs that begin later, after others, or as several: each way with the others, and across restarts.

use std::time::Duration;

use airlock_protocol::control::{
    Activation, ErrorClass, Fault, IfFailed, RunId, RunState, RunView, Start, When, Work,
};

use rusqlite::Transaction;

use super::{Host, Up, order};
use crate::store::{flow, history, now, run};
use crate::testing::image::rootfs;

const SKIP: IfFailed = IfFailed::Skip;
const ANYWAY: IfFailed = IfFailed::Run;

fn after(run: &RunId, if_failed: IfFailed) -> When {
    When { after: Some(run.clone()), if_failed, start: None }
}

fn delay(ms: u64) -> When {
    When { start: Some(Start::Delay(ms)), ..When::default() }
}

impl Up {
    async fn ask(&self, work: Work, when: When) -> Result<RunId, Fault> {
        self.engine.submit(super::Order { when, ..order(work) }).await
    }

    async fn ask_all(&self, works: Vec<Work>, when: When) -> RunId {
        let who = ("r1".to_owned().try_into().unwrap(), 0);
        self.engine.submit_all(works, when, who).await.unwrap()
    }

    async fn state(&self, id: &RunId) -> RunState {
        self.engine.view(id, false).await.unwrap().state
    }

    /// How often anything was downloaded.
    async fn looks(&self) -> i64 {
        let count = self.engine.world().store.read(|tx| {
            let sql = "SELECT count(*) FROM flows WHERE machine = 'download'";
            Ok(tx.query_row(sql, [], |row| row.get(0))?)
        });
        count.await.unwrap()
    }
}

/// Stops the daemon or lets it die, and starts the next one.
async fn again(host: &Host, up: Up) -> Up {
    assert!(up.engine.drain(Duration::from_secs(10)).await);
    drop(up);
    let up = host.up();
    up.engine.resume(true).await.unwrap();
    up
}

/// Removes a run's record, as the removal of old history does.
async fn remove(up: &Up, run: &RunId) {
    let run = run.clone();
    let removed = up
        .engine
        .world()
        .store
        .write(move |tx| Ok(tx.execute("DELETE FROM runs WHERE id = ?1", [run.as_str()])?));
    assert_eq!(removed.await.unwrap(), 1);
}

fn code(view: &RunView) -> &str {
    view.fault.as_ref().map_or("", |fault| fault.code.as_str())
}

/// A pull of a file that is written once: one that changes is another story.
fn pull(host: &Host, name: &str) -> Work {
    let path = host.dir.path().join(format!("{name}.tar"));
    if !path.exists() {
        host.file(&format!("{name}.tar"), &rootfs(name));
    }
    Work::Pull { source: format!("tar:{}", path.display()).parse().unwrap() }
}

fn none(name: &str) -> Work {
    Work::Pull { source: format!("tar:/nowhere/{name}.tar").parse().unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_follows_another_begins_when_that_is_done_also_after_a_restart() {
    for restart in [false, true] {
        let host = Host::new();
        host.helper.state().polls = u32::MAX;
        let mut up = host.up();
        let first = up.begin(pull(&host, "a")).await;
        let second = up.ask(pull(&host, "b"), after(&first, SKIP)).await.unwrap();
        let third = up.ask(pull(&host, "c"), after(&second, SKIP)).await.unwrap();
        up.at("extract_layers").await;
        let view = up.engine.view(&second, false).await.unwrap();
        assert_eq!((view.state, view.links.after), (RunState::Queued, Some(first.clone())));
        assert!(view.links.waits);
        assert_eq!(up.looks().await, 1);
        if restart {
            up = again(&host, up).await;
            assert_eq!(up.state(&third).await, RunState::Queued);
            assert_eq!(up.looks().await, 1);
        }
        host.helper.state().polls = 0;
        for run in [&first, &second, &third] {
            assert_eq!(up.end(run).await.state, RunState::Done);
        }
        let ended = |view: RunView| view.ended_at.unwrap();
        let (a, b) = (ended(up.end(&first).await), ended(up.end(&second).await));
        assert!(a <= b && !up.end(&second).await.links.waits);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_run_that_was_not_done_is_told_so_or_runs_all_the_same() {
    for cancelled in [false, true] {
        for restart in [false, true] {
            let host = Host::new();
            host.helper.state().polls = u32::MAX;
            let mut up = host.up();
            let first = up.begin(pull(&host, "a")).await;
            up.at("extract_layers").await;
            let skipped = up.ask(pull(&host, "b"), after(&first, SKIP)).await.unwrap();
            let so_too = up.ask(pull(&host, "d"), after(&skipped, SKIP)).await.unwrap();
            let anyway = up.ask(pull(&host, "c"), after(&first, ANYWAY)).await.unwrap();
            if restart {
                up = again(&host, up).await;
            }
            if cancelled {
                up.engine.cancel_run(&first).await.unwrap();
            } else {
                let gone = airlock_protocol::not_done::NotDone::Refused(
                    airlock_protocol::not_done::Refusal::PoolFull,
                );
                host.helper.state().instead.insert("apply_layer", (gone, 1));
            }
            host.helper.state().polls = 0;
            let view = up.end(&skipped).await;
            assert_eq!((view.state, code(&view)), (RunState::Failed, "run.after_failed"));
            let fault = view.fault.clone().unwrap();
            assert!(fault.message.contains(first.as_str()), "{fault:?}");
            assert_eq!(fault.class, ErrorClass::Conflict);
            let view = up.end(&so_too).await;
            assert_eq!(code(&view), "run.after_failed");
            assert!(view.fault.unwrap().message.contains(skipped.as_str()));
            assert_eq!(up.end(&anyway).await.state, RunState::Done);
            assert_ne!(up.end(&first).await.state, RunState::Done);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_run_that_is_over_already_is_judged_at_once() {
    let host = Host::new();
    let up = host.up();
    let failed = up.begin(none("x")).await;
    up.end(&failed).await;
    let done = up.begin(pull(&host, "a")).await;
    up.end(&done).await;
    let skipped = up.ask(pull(&host, "b"), after(&failed, SKIP)).await.unwrap();
    let view = up.end(&skipped).await;
    assert_eq!((view.state, code(&view)), (RunState::Failed, "run.after_failed"));
    let anyway = up.ask(pull(&host, "b"), after(&failed, ANYWAY)).await.unwrap();
    assert_eq!(up.end(&anyway).await.state, RunState::Done);
    let next = up.ask(pull(&host, "c"), after(&done, SKIP)).await.unwrap();
    assert_eq!(up.end(&next).await.state, RunState::Done);
    let unknown: RunId = "zzzzzzzz".parse().unwrap();
    let refused = up.ask(pull(&host, "d"), after(&unknown, SKIP)).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.class), ("run.unknown", ErrorClass::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_run_begins_at_its_time_and_not_before_also_after_a_restart() {
    for restart in [false, true] {
        let host = Host::new();
        let mut up = host.up();
        let late = up.ask(pull(&host, "a"), delay(1500)).await.unwrap();
        let at = When { start: Some(Start::At(now() + 1500)), ..When::default() };
        let at = up.ask(pull(&host, "b"), at).await.unwrap();
        let past = When { start: Some(Start::At(1)), ..When::default() };
        let past = up.ask(pull(&host, "c"), past).await.unwrap();
        assert_eq!(up.end(&past).await.state, RunState::Done);
        let view = up.engine.view(&late, false).await.unwrap();
        assert_eq!(view.state, RunState::Queued);
        let not_before = view.links.not_before.unwrap();
        if restart {
            up = again(&host, up).await;
        }
        for run in [&late, &at] {
            let view = up.end(run).await;
            assert_eq!(view.state, RunState::Done);
            let not_before = view.links.not_before.unwrap();
            assert!(view.ended_at.unwrap() >= not_before && now() < not_before + 10_000);
            assert!(view.steps[0].started_at >= not_before, "{view:#?}");
        }
        assert!(not_before > view.submitted_at);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delay_and_after_hold_together_whichever_is_fulfilled_first() {
    for restart in [false, true] {
        for (ms, first_ends_early) in [(1500, true), (1, false)] {
            let host = Host::new();
            host.helper.state().polls = if first_ends_early { 0 } else { u32::MAX };
            let mut up = host.up();
            let first = up.begin(pull(&host, "a")).await;
            let when = When { start: Some(Start::Delay(ms)), ..after(&first, SKIP) };
            let second = up.ask(pull(&host, "b"), when).await.unwrap();
            if first_ends_early {
                assert_eq!(up.end(&first).await.state, RunState::Done);
            } else {
                up.at("extract_layers").await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(up.state(&second).await, RunState::Queued, "{ms}");
            if restart {
                up = again(&host, up).await;
                assert_eq!(up.state(&second).await, RunState::Queued, "{ms}");
            }
            if restart && first_ends_early {
                // That it was done is known even when its record is gone.
                remove(&up, &first).await;
                up = again(&host, up).await;
            }
            host.helper.state().polls = 0;
            let view = up.end(&second).await;
            assert_eq!(view.state, RunState::Done);
            assert!(view.steps[0].started_at >= view.links.not_before.unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_run_whose_record_was_removed_meanwhile_says_so() {
    for (if_failed, state, why) in
        [(SKIP, RunState::Failed, "run.after_unknown"), (ANYWAY, RunState::Done, "")]
    {
        let host = Host::new();
        host.helper.state().polls = u32::MAX;
        let up = host.up();
        let first = up.begin(pull(&host, "a")).await;
        let second = up.ask(pull(&host, "b"), after(&first, if_failed)).await.unwrap();
        up.at("extract_layers").await;
        assert!(up.engine.drain(Duration::from_secs(10)).await);
        let store = up.engine.world().store.clone();
        let removed = store
            .write(move |tx| Ok(tx.execute("DELETE FROM runs WHERE id = ?1", [first.as_str()])?));
        assert_eq!(removed.await.unwrap(), 1);
        host.helper.state().polls = 0;
        let up = again(&host, up).await;
        let view = up.end(&second).await;
        assert_eq!((view.state, code(&view)), (state, why));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_time_or_a_run_can_be_cancelled_and_is_the_same_when_asked_again() {
    let host = Host::new();
    host.helper.state().polls = u32::MAX;
    let up = host.up();
    let first = up.begin(pull(&host, "a")).await;
    let late = up.ask(pull(&host, "b"), delay(60_000)).await.unwrap();
    let next = up.ask(pull(&host, "b"), after(&first, SKIP)).await.unwrap();
    let queued = up.begin(pull(&host, "b")).await;
    assert!(late != next && next != queued && queued != late);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(up.ask(pull(&host, "b"), delay(60_000)).await.unwrap(), late);
    assert_eq!(up.ask(pull(&host, "b"), after(&first, SKIP)).await.unwrap(), next);
    assert_ne!(up.ask(pull(&host, "b"), after(&first, ANYWAY)).await.unwrap(), next);
    let up = again(&host, up).await;
    assert_eq!(up.ask(pull(&host, "b"), delay(60_000)).await.unwrap(), late);
    for run in [&late, &next] {
        up.engine.cancel_run(run).await.unwrap();
        assert_eq!(up.state(run).await, RunState::Cancelled);
    }
    let again_late = up.ask(pull(&host, "b"), delay(60_000)).await.unwrap();
    assert_ne!(again_late, late, "what was cancelled is not what is asked for now");
    host.helper.state().polls = 0;
    assert_eq!(up.end(&first).await.state, RunState::Done);
    assert_eq!(up.state(&next).await, RunState::Cancelled, "it does not rise again");
    up.engine.cancel_run(&again_late).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activation_that_follows_a_pull_finds_the_image_that_it_brought() {
    for restart in [false, true] {
        let host = Host::new();
        host.helper.state().polls = u32::MAX;
        let mut up = host.up();
        let first = up.begin(pull(&host, "web")).await;
        let work = || Work::Activate { image: "web".to_owned(), activation: Activation::default() };
        assert_eq!(up.engine.submit(order(work())).await.unwrap_err().code, "name.unknown");
        let second = up.ask(work(), after(&first, SKIP)).await.unwrap();
        let lost = Work::Activate { image: "nix".to_owned(), activation: Activation::default() };
        let lost = up.ask(lost, after(&first, SKIP)).await.unwrap();
        if restart {
            up = again(&host, up).await;
        }
        host.helper.state().polls = 0;
        let view = up.end(&second).await;
        assert_eq!(view.state, RunState::Done, "{view:#?}");
        assert_eq!(view.result.unwrap().device.as_deref(), Some("/dev/airlock/web"));
        let view = up.end(&lost).await;
        assert_eq!((view.state, code(&view)), (RunState::Failed, "name.unknown"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_ends_as_the_worst_of_its_children_also_after_a_restart() {
    for restart in [false, true] {
        let host = Host::new();
        host.helper.state().polls = u32::MAX;
        let mut up = host.up();
        let all = || vec![pull(&host, "a"), none("x"), pull(&host, "b"), pull(&host, "a")];
        let parent = up.ask_all(all(), When::default()).await;
        assert_eq!(up.ask_all(all(), When::default()).await, parent);
        // One that does what a child does is a run of its own, and nothing is done twice.
        let own = up.begin(pull(&host, "a")).await;
        up.at("extract_layers").await;
        let view = up.engine.view(&parent, false).await.unwrap();
        assert_eq!(view.state, RunState::Running);
        let subjects: Vec<_> = view.links.children.iter().map(|c| c.subject.as_str()).collect();
        assert_eq!(subjects, ["a", "x", "b"]);
        if restart {
            up = again(&host, up).await;
        }
        host.helper.state().polls = 0;
        let view = up.end(&parent).await;
        assert_eq!((view.state, code(&view)), (RunState::Failed, "run.children"));
        let child = up.end(&view.links.children[0].run).await;
        assert_eq!(child.state, RunState::Done, "{child:#?}");
        // All that failed is of one class: so is the parent.
        assert_eq!(view.fault.clone().unwrap().class, ErrorClass::NotFound, "{view:#?}");
        let states: Vec<_> = view.links.children.iter().map(|child| child.state).collect();
        assert_eq!(states, [RunState::Done, RunState::Failed, RunState::Done]);
        let child = up.end(&view.links.children[0].run).await;
        assert_eq!(child.links.parent, Some(parent.clone()));
        up.end(&own).await;
        assert_eq!(host.helper.asked("extractions"), 2);
        let good = up.ask_all(vec![pull(&host, "a"), pull(&host, "b")], When::default()).await;
        assert_eq!(up.end(&good).await.state, RunState::Done);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_is_cancelled_takes_all_its_children_along_and_who_follows_it_is_told() {
    for restart in [false, true] {
        let host = Host::new();
        host.helper.state().polls = u32::MAX;
        let mut up = host.up();
        let parent = up.ask_all(vec![pull(&host, "a"), pull(&host, "b")], When::default()).await;
        let late = up.ask_all(vec![pull(&host, "a"), pull(&host, "b")], delay(60_000)).await;
        let next = up.ask_all(vec![pull(&host, "c"), pull(&host, "d")], after(&parent, SKIP)).await;
        up.at("extract_layers").await;
        if restart {
            up = again(&host, up).await;
        }
        assert_eq!(up.state(&late).await, RunState::Queued);
        for run in [&late, &parent] {
            up.engine.cancel_run(run).await.unwrap();
            let view = up.engine.view(run, false).await.unwrap();
            assert_eq!(view.state, RunState::Cancelled);
            assert!(view.links.children.iter().all(|child| child.state == RunState::Cancelled));
        }
        let view = up.end(&next).await;
        assert_eq!((view.state, code(&view)), (RunState::Failed, "run.children"));
        let child = up.end(&view.links.children[0].run).await;
        assert_eq!(code(&child), "run.after_failed");
        for _ in 0..500 {
            let left = up.engine.world().store.read(flow::unfinished).await.unwrap();
            if left.is_empty() && host.helper.state().volumes.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(host.helper.state().volumes.is_empty(), "the volumes are taken back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_may_follow_a_parent_and_wait_for_a_time_as_well() {
    for restart in [false, true] {
        let host = Host::new();
        let mut up = host.up();
        let first = up.ask_all(vec![pull(&host, "a"), pull(&host, "b")], When::default()).await;
        let when = When { start: Some(Start::Delay(1200)), ..after(&first, SKIP) };
        let second = up.ask_all(vec![pull(&host, "c"), pull(&host, "d")], when).await;
        assert_eq!(up.end(&first).await.state, RunState::Done);
        assert_eq!(up.state(&second).await, RunState::Queued);
        if restart {
            up = again(&host, up).await;
        }
        let view = up.end(&second).await;
        assert_eq!(view.state, RunState::Done);
        assert!(view.ended_at.unwrap() >= view.links.not_before.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_run_follows_itself_and_a_circle_made_by_damage_is_ended() {
    let host = Host::new();
    let up = host.up();
    let a = up.ask(pull(&host, "a"), delay(60_000)).await.unwrap();
    let b = up.ask(pull(&host, "b"), after(&a, SKIP)).await.unwrap();
    let c = up.ask(pull(&host, "c"), after(&b, SKIP)).await.unwrap();
    let itself = a.clone();
    let store = up.engine.world().store.clone();
    let refused = store.write(move |tx| {
        Ok(tx.execute("UPDATE runs SET follows = id WHERE id = ?1", [itself.as_str()])?)
    });
    assert!(refused.await.is_err(), "the schema has no run that follows itself");
    let (first, last) = (a.clone(), c.clone());
    let circle = store.write(move |tx| {
        let sql = "UPDATE runs SET follows = ?2 WHERE id = ?1";
        Ok(tx.execute(sql, [first.as_str(), last.as_str()])?)
    });
    assert_eq!(circle.await.unwrap(), 1);
    let up = again(&host, up).await;
    for run in [&a, &b, &c] {
        let view = up.end(run).await;
        assert_eq!(view.state, RunState::Failed);
        assert!(matches!(code(&view), "run.after_itself" | "run.after_failed"), "{view:?}");
    }
    assert!(store.read(run::not_begun).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_thousand_runs_falls_with_its_first() {
    let host = Host::new();
    let up = host.up();
    let first = up.ask(pull(&host, "a"), delay(60_000)).await.unwrap();
    let mut last = first.clone();
    for n in 0..1000 {
        last = up.ask(none(&n.to_string()), after(&last, SKIP)).await.unwrap();
    }
    up.engine.cancel_run(&first).await.unwrap();
    assert_eq!(code(&up.end(&last).await), "run.after_failed");
    assert_eq!(up.looks().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_run_whose_history_was_removed_is_judged_by_the_outcome_that_is_left() {
    let host = Host::new();
    let up = host.up();
    let done = up.ask_all(vec![pull(&host, "a"), pull(&host, "b")], When::default()).await;
    let failed = up.begin(none("x")).await;
    for run in [&done, &failed] {
        up.end(run).await;
    }
    let keep = history::Keep { since: i64::MAX, runs: 0, parts_since: i64::MAX };
    for _ in 0..2 {
        let archive = move |tx: &Transaction<'_>| history::archive(tx, &keep, None, 100);
        up.engine.world().store.write(archive).await.unwrap();
    }
    let store = &up.engine.world().store;
    let left = store
        .read(|tx| Ok(tx.query_row("SELECT count(*) FROM runs", [], |row| row.get::<_, i64>(0))?));
    assert_eq!(left.await.unwrap(), 0, "a parent goes after its children");
    let next = up.ask(pull(&host, "c"), after(&done, SKIP)).await.unwrap();
    let skipped = up.ask(pull(&host, "c"), after(&failed, SKIP)).await.unwrap();
    let anyway = up.ask(pull(&host, "c"), after(&failed, ANYWAY)).await.unwrap();
    assert_eq!(up.end(&next).await.state, RunState::Done);
    assert_eq!(code(&up.end(&skipped).await), "run.after_failed");
    assert_eq!(up.end(&anyway).await.state, RunState::Done);
    // A run of which only the outcome is left is still watched to its true end.
    assert_eq!(up.end(&failed).await.state, RunState::Failed);
    assert_eq!(up.end(&done).await.state, RunState::Done);
}

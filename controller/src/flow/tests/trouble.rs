//! What fails, is refused or is cancelled.

use std::time::Duration;

use airlock_policy::source::Source;
use airlock_protocol::control::{ErrorClass, RunState, StageState, Work};
use airlock_protocol::not_done::{NotDone, Refusal, Step, StepFailure};

use super::{Host, run_of};
use crate::store::flow;
use crate::testing::image::{hostile, rootfs};

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_never_attempted_twice() {
    let host = Host::new();
    let up = host.up();
    let full = NotDone::Refused(Refusal::PoolFull);
    host.helper.state().instead.insert("apply_layer", (full, u32::MAX));
    let fault = up.failed(run_of(&host.file("a.tar", &rootfs("a")))).await;
    assert_eq!((fault.code.as_str(), fault.class), ("pool.full", ErrorClass::Unavailable));
    assert!(!fault.remedy.is_empty() && fault.cause.len() >= 2, "{fault:?}");
    assert_eq!(host.helper.asked("apply_layer"), 1);
    assert!(host.helper.state().volumes.is_empty(), "the volume was taken back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_attempted_as_often_as_its_rules_say_and_no_more() {
    let host = Host::new();
    let up = host.up();
    let broken = NotDone::Failed(StepFailure { step: Step::PoolMessage, errno: 5 });
    host.helper.state().instead.insert("create_volume", (broken.clone(), u32::MAX));
    let fault = up.failed(run_of(&host.file("a.tar", &rootfs("a")))).await;
    assert_eq!(fault.code, "helper.failed");
    assert!(fault.facts.contains(&("tried".to_owned(), "4 times".to_owned())), "{fault:?}");
    assert_eq!(host.helper.asked("create_volume"), 4);
    host.helper.state().instead.insert("create_volume", (broken, 2));
    let view = up.done(run_of(&host.file("b.tar", &rootfs("b")))).await;
    let unpack = view.stages.iter().find(|stage| stage.name == "unpack").unwrap();
    assert_eq!(unpack.state, StageState::Done);
    let again =
        view.steps.iter().filter(|step| step.outcome.as_deref().unwrap().starts_with("again"));
    assert_eq!(again.count(), 2, "{view:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_image_is_refused_by_rule_and_leaves_no_blob() {
    let host = Host::new();
    let up = host.up();
    let fault = up.failed(run_of(&host.file("evil.tar", &hostile()))).await;
    assert_eq!((fault.code.as_str(), fault.class), ("name.dotdot", ErrorClass::Refused));
    assert!(up.engine.world().blobs.list().unwrap().is_empty());
    assert_eq!(host.helper.asked("create_volume"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_is_no_root_filesystem_is_thrown_away() {
    let host = Host::new();
    host.helper.state().layout.directories = 1;
    let up = host.up();
    let fault = up.failed(run_of(&host.file("a.tar", &rootfs("a")))).await;
    assert_eq!((fault.code.as_str(), fault.class), ("layout.directories", ErrorClass::Refused));
    assert!(host.helper.state().volumes.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_not_there_and_a_wrong_pin_are_told_as_such() {
    let host = Host::new();
    let up = host.up();
    let none: Source = "tar:/nowhere/x.tar".parse().unwrap();
    assert_eq!(up.failed(Work::Pull { source: none }).await.code, "source.not_found");
    let mut pinned = host.file("a.tar", &rootfs("a"));
    pinned.pin = Some(airlock_policy::digest::Digest::of(b"else"));
    let fault = up.failed(Work::Pull { source: pinned }).await;
    assert_eq!((fault.code.as_str(), fault.class), ("blob.digest", ErrorClass::Refused));
    assert!(up.engine.world().blobs.list().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_takes_its_volume_back_unless_another_waits_for_it() {
    let host = Host::new();
    host.helper.state().polls = u32::MAX;
    let up = host.up();
    let source = host.file("a.tar", &rootfs("a"));
    let one = up.begin(Work::Pull { source: source.clone() }).await;
    up.at("extract_layers").await;
    let two = up.begin(run_of(&source)).await;
    // The second run looks at the source first, then waits for the same extraction.
    for _ in 0..200 {
        let flow = up.engine.world().store.read(flow::unfinished).await.unwrap();
        if flow.len() == 1 && up.engine.waiting_for(flow[0].id).await.unwrap() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    up.engine.cancel_run(&one).await.unwrap();
    assert_eq!(up.end(&one).await.state, RunState::Cancelled);
    assert!(!up.engine.view(&two, false).await.unwrap().state.is_over());
    assert_eq!(host.helper.state().volumes.len(), 1);
    up.engine.cancel_run(&two).await.unwrap();
    assert_eq!(up.end(&two).await.state, RunState::Cancelled);
    for _ in 0..200 {
        if host.helper.state().volumes.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the volume is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_does_nothing_more_however_quick_its_next_states_are() {
    let host = Host::new();
    let up = host.up();
    let broken = NotDone::Failed(StepFailure { step: Step::PoolMessage, errno: 5 });
    host.helper.state().instead.insert("create_volume", (broken, 1));
    let id = up.begin(run_of(&host.file("a.tar", &rootfs("a")))).await;
    // It waits before its second attempt, which would succeed.
    for _ in 0..500 {
        if host.helper.asked("create_volume") == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    up.engine.cancel_run(&id).await.unwrap();
    assert_eq!(up.end(&id).await.state, RunState::Cancelled);
    for _ in 0..500 {
        let left = up.engine.world().store.read(flow::unfinished).await.unwrap();
        if left.is_empty() {
            assert_eq!(host.helper.asked("snapshot"), 0);
            assert!(host.helper.state().volumes.is_empty());
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the flow goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changes_under_a_download_while_another_looks_at_it_fails_neither() {
    let host = Host::new();
    let up = host.up();
    let source = host.file("a.tar", &rootfs("first"));
    let world = up.engine.world();
    let turn = world.locks.hold(&source.place.to_string()).await;
    let run = up.begin(Work::Pull { source: source.clone() }).await;
    up.at("download").await;
    host.file("a.tar", &rootfs("second, and longer"));
    // The look of another run, which does not come to its end before.
    let look = flow::NewFlow {
        machine: "download",
        definition: 1,
        subject: source.to_string(),
        state: "check_exists",
        input: serde_json::to_string(&serde_json::json!({ "source": source })).unwrap(),
        request: "r2".to_owned(),
    };
    let look = world.store.write(move |tx| flow::begin(tx, &look)).await.unwrap();
    drop(turn);
    for _ in 0..500 {
        if up.engine.waiting_for(look).await.unwrap() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let view = up.engine.view(&run, true).await.unwrap();
    assert!(!view.state.is_over(), "{view:#?}");
    up.engine.start(&[look]);
    assert_eq!(up.end(&run).await.state, RunState::Done);
}

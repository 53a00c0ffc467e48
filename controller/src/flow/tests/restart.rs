//! What becomes of runs when the daemon dies, stops or changes, and of records that are not true.

use std::time::Duration;

use airlock_policy::digest::ChainId;
use airlock_protocol::control::{RunState, Work};
use airlock_protocol::reply::VolumeState;

use super::{Host, order, run_of};
use crate::store::{flow, image};
use crate::testing::fake::ids;
use crate::testing::image::rootfs;

#[test]
fn a_daemon_that_died_goes_on_where_it_was() {
    let host = Host::new();
    let tar = rootfs("crash");
    let source = host.file("crash.tar", &tar);
    host.helper.state().polls = u32::MAX;
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let first = runtime();
    let id = first.block_on(async {
        let up = host.up();
        let id = up.begin(run_of(&source)).await;
        up.at("extract_layers").await;
        // Whatever this process knows is lost.
        std::mem::forget(up);
        id
    });
    first.shutdown_timeout(Duration::from_millis(500));
    host.helper.state().polls = 0;
    runtime().block_on(async {
        let up = host.up();
        assert!(up.engine.world().store.was_unclean());
        assert_eq!(up.engine.resume(true).await.unwrap(), 1);
        let view = up.end(&id).await;
        assert_eq!(view.state, RunState::Done, "{view:#?}");
        assert_eq!(view.result.clone().unwrap().device.as_deref(), Some("/dev/airlock/crash"));
        let interrupted = |step: &&airlock_protocol::control::StepRecord| {
            step.outcome.as_deref().is_some_and(|text| text.starts_with("interrupted"))
        };
        assert_eq!(view.steps.iter().filter(interrupted).count(), 1, "{view:#?}");
    });
    assert_eq!(host.helper.asked("extractions"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_leaves_what_takes_long_and_the_next_start_finishes_it() {
    let host = Host::new();
    host.helper.state().polls = u32::MAX;
    let source = host.file("slow.tar", &rootfs("slow"));
    let up = host.up();
    let id = up.begin(run_of(&source)).await;
    up.at("extract_layers").await;
    assert!(up.engine.drain(Duration::from_secs(10)).await);
    assert_eq!(up.engine.view(&id, false).await.unwrap().state, RunState::Queued);
    let refused = up.engine.submit(order(run_of(&source))).await.unwrap_err();
    assert_eq!(refused.code, "daemon.stopping");
    drop(up);
    host.helper.state().polls = 0;
    let up = host.up();
    up.engine.resume(false).await.unwrap();
    assert_eq!(up.end(&id).await.state, RunState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_helper_does_not_confirm_is_repaired() {
    let host = Host::new();
    let up = host.up();
    let tar = rootfs("lost");
    let source = host.file("lost.tar", &tar);
    up.done(Work::Pull { source: source.clone() }).await;
    host.helper.state().volumes.clear();
    let view = up.done(run_of(&source)).await;
    let reused = view.result.unwrap().reused;
    assert!(reused.blob && !reused.volume);
    assert_eq!(host.helper.asked("extractions"), 2);
    let (blob, _, chain) = ids(&tar);
    assert_eq!(host.helper.state().volumes[&chain].state, VolumeState::Sealed);
    // A blob that was tampered with is not believed either.
    let path = host.dir.path().join("blobs/sha256").join(blob.0.hex());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &tar).unwrap();
    let view = up.done(run_of(&source)).await;
    assert!(!view.result.unwrap().reused.blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_of_another_definition_is_given_up_and_says_so() {
    let host = Host::new();
    let source = host.file("a.tar", &rootfs("a"));
    host.helper.state().polls = u32::MAX;
    let up = host.up();
    let id = up.begin(run_of(&source)).await;
    up.at("extract_layers").await;
    assert!(up.engine.drain(Duration::from_secs(10)).await);
    let store = up.engine.world().store.clone();
    store.write(|tx| Ok(tx.execute("UPDATE flows SET definition = 999", [])?)).await.unwrap();
    drop(up);
    drop(store);
    let up = host.up();
    up.engine.resume(false).await.unwrap();
    let view = up.end(&id).await;
    assert_eq!(view.fault.unwrap().code, "run.definition");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_kills_the_daemon_each_time_is_given_up() {
    let host = Host::new();
    let source = host.file("a.tar", &rootfs("a"));
    host.helper.state().polls = u32::MAX;
    let up = host.up();
    let id = up.begin(run_of(&source)).await;
    up.at("extract_layers").await;
    assert!(up.engine.drain(Duration::from_secs(10)).await);
    for _ in 0..10 {
        let store = &up.engine.world().store;
        let noted = store.write(|tx| {
            flow::unfinished(tx)?
                .iter()
                .try_for_each(|row| flow::note_interruption(tx, row).map(|_times| ()))
        });
        noted.await.unwrap();
    }
    drop(up);
    let up = host.up();
    up.engine.resume(false).await.unwrap();
    assert_eq!(up.end(&id).await.fault.unwrap().code, "run.interrupted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_was_begun_comes_before_the_next_unpacking() {
    let host = Host::new();
    let up = host.up();
    let tar = rootfs("a");
    let source = host.file("a.tar", &tar);
    let (_, _, chain): (_, _, ChainId) = ids(&tar);
    up.done(Work::Pull { source: source.clone() }).await;
    let store = &up.engine.world().store;
    let digest = ids(&tar).0.0;
    store.write(move |tx| image::remove(tx, digest)).await.unwrap();
    assert_eq!(host.helper.state().volumes[&chain].state, VolumeState::Sealed);
    up.done(Work::Pull { source }).await;
    assert_eq!(host.helper.asked("extractions"), 2);
    assert!(store.read(image::doomed).await.unwrap().is_empty());
}

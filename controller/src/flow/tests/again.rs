//! Runs that are begun again.

use airlock_protocol::control::{Activation, ErrorClass, RunId, RunState, RunView, Work};
use airlock_protocol::not_done::{NotDone, Refusal};

use super::{Host, Up, order, run_of};
use crate::flow::Order;
use crate::store::history::{self, Keep};
use crate::testing::image::rootfs;

impl Up {
    async fn retry(&self, run: &RunId) -> RunView {
        let work = self.engine.again(run).await.unwrap();
        let again = Order { retry_of: Some(run.clone()), ..order(work) };
        let id = self.engine.submit(again).await.unwrap();
        self.end(&id).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_failed_is_begun_again_with_the_same_order_and_linked() {
    let host = Host::new();
    let up = host.up();
    let source = host.file("a.tar", &rootfs("a"));
    host.helper.state().instead.insert("apply_layer", (NotDone::Refused(Refusal::PoolFull), 1));
    let name = Some("web".parse().unwrap());
    let activation = Activation { name, read_only: true, ..Activation::default() };
    let first = up.begin(Work::Run { source, activation }).await;
    assert_eq!(up.end(&first).await.state, RunState::Failed);
    let again = up.retry(&first).await;
    assert_eq!((again.state, again.retry_of.as_ref()), (RunState::Done, Some(&first)));
    let result = again.result.unwrap();
    assert_eq!((result.device.as_deref(), result.read_only), (Some("/dev/airlock/web"), true));
    assert!(result.reused.blob, "what was fetched is not fetched again");
    let old = up.engine.view(&first, true).await.unwrap();
    assert_eq!((old.state, old.retried_as), (RunState::Failed, Some(again.run)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_activation_is_begun_again_too() {
    let host = Host::new();
    let up = host.up();
    let source = host.file("a.tar", &rootfs("a"));
    up.done(Work::Pull { source }).await;
    let broken = NotDone::Refused(Refusal::Held);
    host.helper.state().instead.insert("snapshot", (broken, u32::MAX));
    let work = Work::Activate { image: "a".to_owned(), activation: Activation::default() };
    let run = up.begin(work).await;
    up.engine.cancel_run(&run).await.unwrap();
    assert!(up.end(&run).await.state.is_over());
    host.helper.state().instead.clear();
    let again = up.retry(&run).await;
    assert_eq!((again.state, again.retry_of), (RunState::Done, Some(run)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_goes_on_is_done_or_unknown_is_not_begun_again() {
    let host = Host::new();
    let up = host.up();
    let source = host.file("a.tar", &rootfs("a"));
    host.helper.state().polls = u32::MAX;
    let run = up.begin(run_of(&source)).await;
    let refused = up.engine.again(&run).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.class), ("run.going_on", ErrorClass::Conflict));
    host.helper.state().polls = 0;
    up.end(&run).await;
    let refused = up.engine.again(&run).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.class), ("run.done", ErrorClass::Conflict));
    let unknown = up.engine.again(&"zzzzzzzz".parse().unwrap()).await.unwrap_err();
    assert_eq!((unknown.code.as_str(), unknown.class), ("run.unknown", ErrorClass::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_history_was_removed_says_so_and_how_it_ended() {
    let host = Host::new();
    let up = host.up();
    let done = up.done(run_of(&host.file("a.tar", &rootfs("a")))).await;
    let keep = Keep { since: i64::MAX, runs: 0, parts_since: i64::MAX };
    let store = &up.engine.world().store;
    let removed = store.write(move |tx| history::archive(tx, &keep, None, 10)).await.unwrap();
    assert_eq!((removed.runs, removed.flows), (1, 3));
    let left = up.engine.view(&done.run, true).await.unwrap();
    assert!(left.archived_at.is_some() && left.stages.is_empty() && left.steps.is_empty());
    assert_eq!((left.state, left.ended_at), (RunState::Done, done.ended_at));
    let (was, is) = (done.result.unwrap(), left.result.unwrap());
    assert_eq!((is.device, is.digest, is.took_ms), (was.device, was.digest, was.took_ms));
    let refused = up.engine.again(&done.run).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.class), ("run.archived", ErrorClass::Conflict));
    up.engine.cancel_run(&done.run).await.unwrap();
    assert_eq!(up.engine.view(&done.run, false).await.unwrap().state, RunState::Done);
}

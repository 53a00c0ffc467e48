//! What the configuration says of attempts, deadlines and queues holds, and is shown.

use std::time::Duration;

use airlock_protocol::control::{MachinesView, RunState, StateRules, Work};
use airlock_protocol::not_done::{NotDone, Step, StepFailure};

use super::{Host, run_of};
use crate::config::TimeSpan;
use crate::testing::image::rootfs;

fn state<'a>(view: &'a MachinesView, name: &str) -> &'a StateRules {
    let states = view.machines.iter().flat_map(|machine| &machine.states);
    states.into_iter().find(|state| state.state == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_deadlines_and_waits_are_those_of_the_configuration() {
    let host = Host::new();
    let up = host.up_with(|config| {
        config.attempts.create_device = 2;
        config.deadlines.extract_layers = TimeSpan::seconds(1);
        config.attempts.extract_layers = 1;
        config.backoff.longest = TimeSpan::millis(200);
    });
    let broken = NotDone::Failed(StepFailure { step: Step::PoolMessage, errno: 5 });
    host.helper.state().instead.insert("create_volume", (broken, 2));
    let fault = up.failed(run_of(&host.file("a.tar", &rootfs("a")))).await;
    assert_eq!(fault.code, "helper.failed");
    assert_eq!(host.helper.asked("create_volume"), 2);
    host.helper.state().polls = u32::MAX;
    let fault = up.failed(run_of(&host.file("b.tar", &rootfs("b")))).await;
    assert_eq!(fault.code, "run.deadline");
    let shown = up.engine.machines().await.unwrap();
    let create = state(&shown, "create_device");
    assert_eq!((create.attempts.value, create.attempts.default), (2, 4));
    assert_eq!((create.longest_wait_ms.value, create.longest_wait_ms.default), (200, 5000));
    let extract = state(&shown, "extract_layers");
    assert_eq!(
        (extract.deadline_ms.value, extract.deadline_ms.default),
        (Some(1000), Some(1_800_000))
    );
    assert_eq!(state(&shown, "download").deadline_ms.value, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_holds_back_what_is_above_its_limit_and_says_so() {
    let host = Host::new();
    host.helper.state().polls = u32::MAX;
    let up = host.up_with(|config| config.queues.unpack = Some(1));
    let mut runs = Vec::new();
    for name in ["a", "b", "c"] {
        let source = host.file(&format!("{name}.tar"), &rootfs(name));
        runs.push(up.begin(Work::Pull { source }).await);
    }
    let mut seen = (0, 0);
    for _ in 0..500 {
        let shown = up.engine.machines().await.unwrap();
        let extract = state(&shown, "extract_layers");
        let queue = shown.queues.iter().find(|queue| queue.queue == "unpack").unwrap();
        assert_eq!((queue.running, queue.queued), (extract.running, extract.queued));
        assert_eq!(queue.limit.value, Some(1));
        assert!(extract.running <= 1, "{shown:?}");
        seen = (extract.running, extract.queued);
        if seen == (1, 2) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(seen, (1, 2));
    let names: Vec<_> =
        up.engine.machines().await.unwrap().machines.into_iter().map(|m| m.machine).collect();
    assert_eq!(names, ["download", "unpack", "activate"]);
    host.helper.state().polls = 0;
    for run in &runs {
        assert_eq!(up.end(run).await.state, RunState::Done);
    }
}

//! Devices that hang: named, left alone, and in nobody's way.

use std::time::{Duration, Instant};

use airlock_policy::errand::Stage;
use airlock_policy::name::ThinId;
use airlock_protocol::not_done::{NotDone, Refusal, Step};
use airlock_protocol::reply::{LayerState, Outcome};
use tokio::time::sleep;

use super::client::{Caller, connect};
use super::rig::{Host, image};

const QUARANTINED: NotDone = NotDone::Refused(Refusal::Quarantined);

fn late_devices(usage: &airlock_protocol::reply::PoolUsage) -> Vec<(Option<u32>, Step)> {
    usage.late.iter().map(|late| (late.thin.map(ThinId::into), late.step)).collect()
}

#[tokio::test]
async fn a_device_that_hangs_is_left_alone_and_all_other_work_goes_on() {
    let host = Host::new();
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    for name in ["web", "db"] {
        broker.snapshot(name, &[1], false).await.unwrap();
    }
    broker.map("web").await.unwrap();
    let hung = "airlock-v000002".to_owned();
    host.sim.0.lock().unwrap().hung.insert(hung.clone());

    let other = Caller { client: connect(&broker.socket).await };
    let begun = Instant::now();
    let unmap = tokio::spawn(async move { (other.unmap("web").await, Instant::now()) });
    sleep(Duration::from_millis(100)).await;
    // While the device is not even late yet.
    image(&broker, &[2]).await.unwrap();
    broker.map("db").await.unwrap();
    broker.usage().await;
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());

    // device_seconds is 1. Who asks for the same device waits until it is late, and no longer.
    assert_eq!(broker.map("web").await, Err(QUARANTINED));
    let (answer, at) = unmap.await.unwrap();
    assert_eq!(answer, Err(NotDone::Late(Step::RemoveDevice)));
    assert!(at.duration_since(begun) < Duration::from_secs(4));
    assert_eq!(broker.delete_snapshot("web").await, Err(QUARANTINED));
    assert_eq!(late_devices(&broker.usage().await), [(Some(2), Step::RemoveDevice)]);
    image(&broker, &[3]).await.unwrap();

    host.sim.0.lock().unwrap().hung.remove(&hung);
    while !broker.usage().await.late.is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(broker.unmap("web").await, Ok(Outcome::AlreadyThere));
    assert_eq!(broker.delete_snapshot("web").await, Ok(Outcome::Done));
}

#[tokio::test]
async fn the_kernels_own_answer_counts_however_late_it_comes() {
    let host = Host::new();
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    broker.snapshot("web", &[1], false).await.unwrap();
    let hung = "airlock-v000002".to_owned();
    host.sim.0.lock().unwrap().hung.insert(hung.clone());
    assert_eq!(broker.map("web").await, Err(NotDone::Late(Step::CreateDevice)));
    host.sim.0.lock().unwrap().hung.remove(&hung);
    while !broker.usage().await.late.is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    // What was asked for has come to be, link and all.
    assert_eq!(broker.map("web").await.unwrap().outcome, Outcome::AlreadyThere);
    assert!(host.launcher.0.lock().unwrap().links.contains_key("web"));
}

#[tokio::test]
async fn a_volume_made_from_one_that_hangs_waits_for_it() {
    let host = Host::new();
    let broker = host.up().await;
    broker.create(&[1]).await.unwrap();
    broker.apply(&[1]).await.unwrap();
    image(&broker, &[5]).await.unwrap();
    let hung = "airlock-v000002".to_owned();
    let other = Caller { client: connect(&broker.socket).await };
    // A deletion that is under way: nothing may be made from the volume meanwhile.
    broker.snapshot("web", &[5], false).await.unwrap();
    broker.delete_snapshot("web").await.unwrap();
    {
        // Its device is there, as a crash may leave it.
        let mut machine = host.sim.0.lock().unwrap();
        let mut device = machine.devices.values().next().unwrap().clone();
        device.minor = 77;
        machine.devices.insert(hung.clone(), device);
        machine.hung.insert(hung.clone());
    }
    let delete = tokio::spawn(async move { other.delete_volume(&[5]).await });
    sleep(Duration::from_millis(100)).await;
    let caller = Caller { client: connect(&broker.socket).await };
    let snapshot = tokio::spawn(async move { caller.snapshot("web", &[5], false).await });
    sleep(Duration::from_millis(100)).await;
    host.sim.0.lock().unwrap().hung.remove(&hung);
    assert_eq!(delete.await.unwrap(), Ok(Outcome::Done));
    assert_eq!(snapshot.await.unwrap(), Err(NotDone::Refused(Refusal::NoSuchVolume)));
}

#[tokio::test]
async fn a_pool_that_hangs_is_named_and_answered_at_once_from_then_on() {
    let host = Host::new();
    let broker = host.up().await;
    host.sim.0.lock().unwrap().hung.insert("airlock-pool".to_owned());
    assert_eq!(broker.create(&[1]).await, Err(NotDone::Late(Step::PoolMessage)));
    let begun = Instant::now();
    assert_eq!(broker.create(&[2]).await, Err(NotDone::Refused(Refusal::LateDevice)));
    assert!(begun.elapsed() < Duration::from_millis(500));
    host.sim.0.lock().unwrap().hung.clear();
    while broker.create(&[1]).await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(broker.create(&[1]).await, Ok(Outcome::AlreadyThere));
}

#[tokio::test]
async fn a_worker_that_cannot_be_ended_is_late_and_its_volume_left_alone() {
    worker_is_late(false, Step::Errand(Stage::WorkerLate)).await;
}

/// An extraction may take half an hour, and a mount no longer than any other device's operation.
#[tokio::test]
async fn a_volume_that_cannot_be_mounted_is_late_after_a_devices_time() {
    worker_is_late(true, Step::Errand(Stage::Mount)).await;
}

async fn worker_is_late(mount_hangs: bool, step: Step) {
    let mut host = Host::new();
    host.config.limits.extract_seconds = if mount_hangs { 1800 } else { 1 };
    let broker = host.up().await;
    broker.create(&[1]).await.unwrap();
    let hold = |hold| {
        let mut launcher = host.launcher.0.lock().unwrap();
        (launcher.hold, launcher.mount_hangs) = (hold, mount_hangs);
    };
    hold(true);
    let late = loop {
        match broker.apply_once(Caller::apply_request(&[1])).await {
            Ok(LayerState::Running(_)) => {}
            other => break other,
        }
    };
    assert!(late == Err(NotDone::Late(step)) || late == Err(QUARANTINED), "{late:?}");
    assert_eq!(broker.apply_once(Caller::apply_request(&[1])).await, Err(QUARANTINED));
    assert_eq!(broker.delete_volume(&[1]).await, Err(QUARANTINED));
    assert_eq!(late_devices(&broker.usage().await), [(Some(1), step)]);
    hold(false);
    image(&broker, &[2]).await.unwrap();

    host.launcher.end_held();
    while !broker.usage().await.late.is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    image(&broker, &[1]).await.unwrap();
}

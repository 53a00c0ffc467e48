//! A snapshot is handed out or mounted, never both; and grown only before either.

use airlock_policy::errand::{Errand, Failure, Stage};
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::{Outcome, What};
use airlock_protocol::request::ListVolumes;

use super::client::{Caller, context, request};
use super::rig::{Host, image};
use super::sim::EBUSY;

const GIB: u64 = 1 << 30;

fn refused<T>(refusal: Refusal) -> Result<T, NotDone> {
    Err(NotDone::Refused(refusal))
}

async fn with_snapshot(host: &Host, read_only: bool) -> super::rig::Broker {
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    broker.snapshot("web", &[1], read_only).await.unwrap();
    broker
}

/// Whether the inventory says that the snapshot is given out by a mount, and is there.
async fn shown(broker: &Caller) -> (bool, bool) {
    let query = ListVolumes { request: request(), after: None };
    let page = broker.client.list_volumes(context(), query).await.unwrap().unwrap();
    let of = |item: &airlock_protocol::reply::Item| match &item.what {
        What::Snapshot(snapshot) => Some((snapshot.mounts, item.minor.is_some())),
        What::Volume(_) => None,
    };
    page.items.iter().find_map(of).unwrap()
}

#[tokio::test]
async fn what_was_handed_out_is_never_mounted_and_what_is_mounted_is_not_handed_out() {
    for read_only in [false, true] {
        let host = Host::new();
        let broker = with_snapshot(&host, read_only).await;
        for outcome in [Outcome::Done, Outcome::AlreadyThere] {
            assert_eq!(broker.mount("web").await.unwrap().outcome, outcome);
        }
        assert_eq!(shown(&broker).await, (true, true));
        assert_eq!(broker.map("web").await, refused(Refusal::Mounted));
        assert_eq!(broker.unmap("web").await, refused(Refusal::Mounted));
        assert_eq!(broker.delete_snapshot("web").await, refused(Refusal::Mapped));
        let as_asked = |errand: &Errand| matches!(errand, Errand::Mount { read_only: r, .. } if *r == read_only);
        assert_eq!(host.launcher.seen().iter().filter(|it| as_asked(it)).count(), 2);
        for outcome in [Outcome::Done, Outcome::AlreadyThere] {
            assert_eq!(broker.unmount("web").await, Ok(outcome));
        }
        assert_eq!(shown(&broker).await, (false, false));
        assert!(host.launcher.0.lock().unwrap().mounts.is_empty());

        // Handed out once, it is not mounted any more: neither now, nor unmapped, nor by the next
        // process.
        broker.map("web").await.unwrap();
        assert_eq!(broker.mount("web").await, refused(Refusal::HandedOut));
        assert_eq!(broker.unmount("web").await, Ok(Outcome::AlreadyThere));
        broker.unmap("web").await.unwrap();
        drop(broker);
        let broker = host.start().await;
        broker.ensure_pool(false).await.unwrap();
        assert_eq!(broker.mount("web").await, refused(Refusal::HandedOut));
        assert_eq!(broker.mount("nobody").await, refused(Refusal::NoSuchSnapshot));
    }
}

#[tokio::test]
async fn a_busy_mount_stays_and_a_failed_one_leaves_nothing() {
    let host = Host::new();
    let broker = with_snapshot(&host, false).await;
    let damaged = Failure { stage: Stage::Attach, errno: 117 };
    host.launcher.0.lock().unwrap().attach = Some(damaged);
    assert_eq!(broker.mount("web").await, Err(damaged.into()));
    assert_eq!(shown(&broker).await, (false, false));
    host.launcher.0.lock().unwrap().attach = None;
    broker.mount("web").await.unwrap();
    host.launcher.0.lock().unwrap().attach = Some(Failure { stage: Stage::Detach, errno: EBUSY });
    assert_eq!(broker.unmount("web").await, refused(Refusal::Held));
    assert_eq!(shown(&broker).await, (true, true));
    host.launcher.0.lock().unwrap().attach = None;
    assert_eq!(broker.unmount("web").await, Ok(Outcome::Done));
}

#[tokio::test]
async fn a_reboot_ends_mounts_and_the_ledger_does_not_claim_otherwise() {
    let host = Host::new();
    let broker = with_snapshot(&host, false).await;
    broker.mount("web").await.unwrap();
    drop(broker);
    host.sim.reboot();
    host.launcher.0.lock().unwrap().mounts.clear();
    let broker = host.start().await;
    broker.ensure_pool(false).await.unwrap();
    assert_eq!(shown(&broker).await, (true, false), "it is to be mounted, and is not there");
    assert_eq!(broker.mount("web").await.unwrap().outcome, Outcome::Done);
    assert!(host.launcher.0.lock().unwrap().mounts.contains("web"));
    host.sim.reboot();
    assert_eq!(broker.unmount("web").await, refused(Refusal::PoolDown));
    drop(broker);
    let broker = host.start().await;
    broker.ensure_pool(false).await.unwrap();
    assert_eq!(broker.unmount("web").await, Ok(Outcome::AlreadyThere));
    broker.delete_snapshot("web").await.unwrap();
}

#[tokio::test]
async fn a_snapshot_only_grows_within_the_limit_and_before_it_is_handed_out() {
    let mut host = Host::new();
    host.config.limits.snapshot_size = airlock_policy::size::ByteSize::gib(20);
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    for bytes in [20 * GIB + 1, 10 * GIB - 1] {
        let taken = broker.sized_snapshot("web", &[1], (true, Some(bytes))).await;
        assert_eq!(taken, refused(Refusal::SnapshotSize));
    }
    for outcome in [Outcome::Done, Outcome::AlreadyThere] {
        let taken = broker.sized_snapshot("web", &[1], (true, Some(12 * GIB))).await;
        assert_eq!(taken, Ok(outcome));
    }
    let other = broker.sized_snapshot("web", &[1], (true, Some(13 * GIB))).await;
    assert_eq!(other, refused(Refusal::OtherSnapshot));
    assert_eq!(broker.map("web").await.unwrap().bytes, 12 * GIB);
    assert!(host.sim.0.lock().unwrap().devices["airlock-v000002"].read_only, "grown, then not");
    // The volume's own size is nothing to grow to.
    broker.sized_snapshot("same", &[1], (false, Some(10 * GIB))).await.unwrap();
    assert_eq!(broker.map("same").await.unwrap().bytes, 10 * GIB);
    let grown = host.launcher.seen().into_iter().filter(|it| matches!(it, Errand::Grow { .. }));
    assert_eq!(grown.count(), 1);
}

#[tokio::test]
async fn a_snapshot_that_could_not_be_grown_is_thrown_away() {
    let host = Host::new();
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    let failure = Failure { stage: Stage::Grow, errno: 0 };
    host.launcher.0.lock().unwrap().grow = Some(failure);
    let taken = broker.sized_snapshot("web", &[1], (false, Some(12 * GIB))).await;
    assert_eq!(taken, Err(failure.into()));
    assert_eq!(broker.map("web").await, refused(Refusal::NoSuchSnapshot));
    assert_eq!(host.sim.0.lock().unwrap().devices.len(), 1, "only the pool");
    host.launcher.0.lock().unwrap().grow = None;
    broker.sized_snapshot("web", &[1], (false, Some(12 * GIB))).await.unwrap();
    assert_eq!(broker.map("web").await.unwrap().bytes, 12 * GIB);
}

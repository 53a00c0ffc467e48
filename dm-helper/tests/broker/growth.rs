//! A pool that grows: within root's limits, in use, and through a crash.

use airlock_policy::errand::Errand;
use airlock_policy::helper_config::PoolPart::{self, Data, Metadata};
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::{Outcome, PoolMode};

use super::launcher::BACKING;
use super::rig::{Host, image};
use super::sim::Death;

const GIB: u64 = 1 << 30;

#[tokio::test]
async fn a_pool_grows_within_its_limits_and_never_shrinks() {
    let mut host = Host::new();
    host.config.pool.data_limit = airlock_policy::size::ByteSize::gib(2);
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    broker.snapshot("web", &[1], false).await.unwrap();
    broker.map("web").await.unwrap();
    let before = broker.usage().await;
    assert_eq!((before.data_total_blocks, before.data_limit_bytes), (1000, Some(2 * GIB)));

    // Twice: the second time there is nothing to do.
    for reloads in [1, 1] {
        let usage = broker.extend(Data, GIB).await.unwrap();
        assert_eq!((usage.data_total_blocks, usage.low_water_blocks), (8192, 819));
        assert_eq!(host.sim.0.lock().unwrap().reloads, reloads);
    }
    // Less than there is: nothing happens.
    assert_eq!(broker.extend(Data, 1).await.unwrap().data_total_blocks, 8192);
    host.sim.0.lock().unwrap().metadata.0 = 8192;
    assert_eq!(broker.extend(Metadata, 32 << 20).await.unwrap().metadata_total_blocks, 8192);
    let too_large = broker.extend(Data, 2 * GIB + 1).await;
    assert_eq!(too_large, Err(NotDone::Refused(Refusal::PoolLimit)));
    let grown = host.launcher.seen().into_iter().filter(|it| matches!(it, Errand::GrowPool { .. }));
    assert_eq!(grown.count(), 4, "what is over the limit does not reach the launcher");
    // The snapshot was mapped all the while.
    assert_eq!(broker.map("web").await.unwrap().outcome, Outcome::AlreadyThere);
}

#[tokio::test]
async fn a_pool_on_block_devices_is_grown_by_root_and_followed() {
    let mut host = Host::new();
    host.config.pool.data_device = Some("/dev/data".into());
    host.config.pool.metadata_device = Some("/dev/metadata".into());
    let broker = host.up().await;
    assert_eq!(broker.usage().await.data_limit_bytes, None);
    assert_eq!(broker.extend(Data, GIB).await, Err(NotDone::Refused(Refusal::PoolDevices)));
    let mut larger = BACKING;
    larger.data.sectors = 512_000;
    host.launcher.0.lock().unwrap().backing = Some(larger);
    assert_eq!(broker.usage().await.data_total_blocks, 2000);
    drop(broker);

    // And after a reboot, where the table is made anew.
    larger.data.sectors = 768_000;
    host.launcher.0.lock().unwrap().backing = Some(larger);
    host.sim.reboot();
    let broker = host.start().await;
    assert_eq!(broker.usage().await.data_total_blocks, 3000);
    drop(broker);
    assert_eq!(host.ledger().book().pool().unwrap().data_sectors, 768_000);
}

#[tokio::test]
async fn a_pool_that_is_read_only_for_want_of_metadata_is_helped_by_more_of_it() {
    let host = Host::new();
    let broker = host.up().await;
    host.sim.0.lock().unwrap().mode = Some("ro");
    assert_eq!(broker.create(&[1]).await, Err(NotDone::Refused(Refusal::PoolUnhealthy)));
    host.sim.0.lock().unwrap().metadata.0 = 8192;
    let usage = broker.extend(Metadata, 32 << 20).await.unwrap();
    assert_eq!((usage.mode, usage.metadata_total_blocks), (PoolMode::ReadWrite, 8192));
    broker.create(&[1]).await.unwrap();
}

#[tokio::test]
async fn a_pool_that_was_left_suspended_is_resumed_by_the_next_start() {
    let host = Host::new();
    let broker = host.up().await;
    host.sim.0.lock().unwrap().stuck = 1;
    broker.extend(Data, GIB).await.unwrap_err();
    drop(broker);
    assert!(host.sim.0.lock().unwrap().devices["airlock-pool"].suspended);
    // Nobody asks for anything.
    let broker = host.start().await;
    for _ in 0..100 {
        if !host.sim.0.lock().unwrap().devices["airlock-pool"].suspended {
            assert_eq!(broker.usage().await.data_total_blocks, 8192, "and what grew is taken up");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("it stays suspended");
}

async fn killed_while_it_grows(part: PoolPart, bytes: u64, death: fn(u32) -> Death) {
    let when = format!("{part:?} {:?}", death(0));
    let host = Host::new();
    let broker = host.up().await;
    if part == Metadata {
        host.sim.0.lock().unwrap().metadata.0 = 8192;
    }
    let next = host.sim.0.lock().unwrap().changes;
    host.sim.0.lock().unwrap().death = death(next);
    broker.extend(part, bytes).await.unwrap_err();
    drop(broker);
    host.sim.0.lock().unwrap().death = Death::Never;
    host.sim.0.lock().unwrap().dead = false;
    let broker = host.start().await;
    let usage = broker.usage().await;
    let expected = if part == Data { (8192, 4096) } else { (1000, 8192) };
    assert_eq!((usage.data_total_blocks, usage.metadata_total_blocks), expected, "{when}");
    assert_eq!(host.sim.0.lock().unwrap().reloads, 1, "{when}");
    image(&broker, &[1]).await.unwrap();
}

/// Killed before or after the table is changed, the next start goes on, to the same end.
#[tokio::test]
async fn killed_while_it_grows_the_pool_is_as_large_after_the_next_start() {
    for death in [Death::Before as fn(u32) -> Death, Death::After] {
        killed_while_it_grows(Data, GIB, death).await;
        killed_while_it_grows(Metadata, 32 << 20, death).await;
    }
}

//! Killed at any call to the device table, the next broker finishes or undoes what was begun.

use std::collections::BTreeSet;

use airlock_policy::errand::Errand;
use airlock_protocol::not_done::NotDone;

use super::client::Caller;
use super::rig::{Host, image};
use super::sim::Death;

/// Everything once, and all of it away again but one image.
async fn scenario(broker: &Caller) -> Result<(), NotDone> {
    broker.ensure_pool(true).await?;
    image(broker, &[1]).await?;
    image(broker, &[1, 2]).await?;
    broker.snapshot("web", &[1, 2], false).await?;
    broker.map("web").await?;
    broker.unmap("web").await?;
    broker.delete_snapshot("web").await?;
    broker.delete_volume(&[1, 2]).await?;
    Ok(())
}

/// Pool, ledger and launcher agree about what there is.
fn assert_agreement(host: &Host, when: &str) {
    // A copy: opening a ledger compacts it, and a broker has this one open.
    let copy = Host::new();
    std::fs::copy(host.folder.0.join("ledger"), copy.folder.0.join("ledger")).unwrap();
    let ledger = copy.ledger();
    let machine = host.sim.0.lock().unwrap();
    let mut known: BTreeSet<u32> = ledger
        .book()
        .things(airlock_policy::name::ThinId::BASE)
        .map(|(thin, _thing)| u32::from(thin))
        .collect();
    known.insert(0);
    assert_eq!(machine.thins, known, "{when}: thin ids");
    assert_eq!(machine.transaction, ledger.book().transaction(), "{when}: transaction");
    assert_eq!(ledger.book().pending(), None, "{when}: pending");
}

/// What is kept beside a volume goes with it. Nobody waits for that, so it is given a moment.
fn assert_manifests_go(host: &Host, when: &str) {
    let volumes: BTreeSet<u32> = host.sim.0.lock().unwrap().thins.clone();
    let mut left = BTreeSet::new();
    for _ in 0..1000 {
        left = BTreeSet::new();
        for errand in host.launcher.seen() {
            if let Errand::Extract { device, .. } = errand {
                left.insert(u32::from(device.thin));
            } else if let Errand::Forget { thin } = errand {
                left.remove(&u32::from(thin));
            }
        }
        if left.is_subset(&volumes) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("{when}: manifests {left:?}, volumes {volumes:?}");
}

async fn die_and_go_on(death: Death, reboots: bool) -> bool {
    let host = Host::new();
    host.sim.0.lock().unwrap().death = death;
    let when = format!("{death:?}, reboots: {reboots}");
    let broker = host.start().await;
    let survived = scenario(&broker).await.is_ok();
    drop(broker);
    if survived {
        return true;
    }
    if reboots {
        host.sim.reboot();
    } else {
        // Only the broker died: devices stay.
        let mut machine = host.sim.0.lock().unwrap();
        machine.dead = false;
        machine.death = Death::Never;
    }
    let broker = host.start().await;
    broker.ensure_pool(true).await.unwrap_or_else(|why| panic!("{when}: {why:?}"));
    assert_agreement(&host, &when);
    assert_manifests_go(&host, &when);
    scenario(&broker).await.unwrap_or_else(|why| panic!("{when}: {why:?}"));
    assert_agreement(&host, &when);
    assert!(host.launcher.0.lock().unwrap().links.is_empty(), "{when}: links");
    false
}

#[tokio::test]
async fn killed_at_any_change_the_next_start_finishes_or_undoes_it() {
    for (reboots, variant) in [
        (true, Death::Before as fn(u32) -> Death),
        (true, Death::After),
        (false, Death::Before),
        (false, Death::After),
    ] {
        let mut deaths = 0;
        while !die_and_go_on(variant(deaths), reboots).await {
            deaths += 1;
        }
        // Pool, base and two images alone are more changes than this.
        assert!(deaths > 20, "only {deaths} changes were tried");
    }
}

#[tokio::test]
async fn a_pool_of_another_transaction_is_left_alone() {
    let host = Host::new();
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    drop(broker);
    host.sim.0.lock().unwrap().transaction += 1;
    let before = host.sim.0.lock().unwrap().thins.clone();
    let broker = host.start().await;
    let failure = broker.ensure_pool(false).await.unwrap_err();
    assert!(failure.to_string().contains("ledger and pool"), "{failure}");
    assert!(broker.create(&[2]).await.is_err());
    assert_eq!(host.sim.0.lock().unwrap().thins, before);
}

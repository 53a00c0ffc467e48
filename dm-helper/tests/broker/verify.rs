//! `verify_volume`: what is compared, who is answered, and what becomes of manifests.

use airlock_policy::digest::{Digest, TreeDigest};
use airlock_policy::errand::{Answer, Errand, Failure, Manifest, Stage};
use airlock_policy::name::ThinId;
use airlock_policy::tree::{Difference, ShownPath};
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::VerifyState;

use super::launcher::TREE;
use super::rig::{Host, image};

fn verifications(host: &Host) -> usize {
    host.launcher.seen().iter().filter(|it| matches!(it, Errand::Verify { .. })).count()
}

#[tokio::test]
async fn a_volume_is_verified_once_for_each_request_and_its_device_goes() {
    let host = Host::new();
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    for _again in 0..2 {
        let verified = broker.verify(&[1], "a").await;
        assert_eq!(verified, Ok(VerifyState::Verified { tree: TREE }));
    }
    assert_eq!(verifications(&host), 1, "the answer is kept for who lost it");
    broker.verify(&[1], "b").await.unwrap();
    assert_eq!(verifications(&host), 2);
    let devices: Vec<_> = host.sim.0.lock().unwrap().devices.keys().cloned().collect();
    assert_eq!(devices, ["airlock-pool"]);
}

#[tokio::test]
async fn the_workers_word_counts_only_with_the_ledgers_digest() {
    let host = Host::new();
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    let says = |answer| host.launcher.0.lock().unwrap().verify = Some(answer);
    says(Answer::Verified { tree: TreeDigest(Digest::of(b"another")) });
    let (what, path) = (Difference::Unnamed, ShownPath::of(b""));
    assert_eq!(broker.verify(&[1], "a").await, Ok(VerifyState::Differs { what, path }));
    let (what, path) = (Difference::Mode, ShownPath::of(b"etc/shadow"));
    says(Answer::Differs { what, path: path.clone() });
    assert_eq!(broker.verify(&[1], "b").await, Ok(VerifyState::Differs { what, path }));
    says(Answer::Failed(Failure { stage: Stage::TreeRead, errno: 5 }));
    assert!(matches!(broker.verify(&[1], "c").await, Err(NotDone::Failed(_))));
}

#[tokio::test]
async fn only_one_sealed_volume_is_read_at_a_time() {
    let host = Host::new();
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    image(&broker, &[2]).await.unwrap();
    broker.create(&[3]).await.unwrap();
    let refused = |refusal| Err(NotDone::Refused(refusal));
    assert_eq!(broker.verify(&[3], "a").await, refused(Refusal::NotSealed));
    assert_eq!(broker.verify(&[4], "a").await, refused(Refusal::NoSuchVolume));
    host.launcher.0.lock().unwrap().hold = true;
    assert!(matches!(broker.verify_once(&[1], "a").await, Ok(VerifyState::Running(_))));
    assert!(matches!(broker.verify_once(&[1], "b").await, Ok(VerifyState::Running(_))));
    assert_eq!(broker.verify_once(&[2], "b").await, refused(Refusal::TooManyChecks));
    assert_eq!(verifications(&host), 1);
    assert!(host.sim.0.lock().unwrap().devices["airlock-v000001"].read_only);
}

#[tokio::test]
async fn what_a_killed_broker_was_reading_is_taken_down_by_the_next() {
    let host = Host::new();
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    host.launcher.0.lock().unwrap().hold = true;
    broker.verify_once(&[1], "a").await.unwrap();
    let devices = || host.sim.0.lock().unwrap().devices.keys().cloned().collect::<Vec<_>>();
    assert_eq!(devices(), ["airlock-pool", "airlock-v000001"]);
    drop(broker);
    host.start().await.ensure_pool(false).await.unwrap();
    assert_eq!(devices(), ["airlock-pool"]);
}

#[tokio::test]
async fn a_layer_is_told_the_manifest_below_and_a_deleted_volumes_is_forgotten() {
    let host = Host::new();
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    image(&broker, &[1, 2]).await.unwrap();
    broker.delete_volume(&[1, 2]).await.unwrap();
    let thin = |number| ThinId::try_from(number).unwrap();
    let below = |errand: Errand| {
        if let Errand::Extract { below, .. } = errand { Some(below) } else { None }
    };
    let seen = host.launcher.seen();
    let belows: Vec<_> = seen.iter().cloned().filter_map(below).collect();
    assert_eq!(belows, [None, Some(Manifest { thin: thin(1), tree: TREE })]);
    // It is not waited for.
    while !host.launcher.seen().contains(&Errand::Forget { thin: thin(2) }) {
        tokio::task::yield_now().await;
    }
}

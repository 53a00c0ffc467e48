//! Each verb: what it does, what it does the second time, what it refuses.

use airlock_policy::digest::{BlobDigest, DiffId, Digest};
use airlock_policy::errand::{Answer, Backing, Errand, Extracted, Failure, Progress, Stage};
use airlock_policy::layout::LayoutFacts;
use airlock_policy::rule::Rule;
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::{LayerState, Outcome, PoolStatus, VolumeState, What};
use airlock_protocol::request::{ListVolumes, QueryPool};

use super::client::{Caller, chain, context, layer, request};
use super::launcher::{BACKING, LAYOUT};
use super::rig::{Host, image};

fn refused<T: std::fmt::Debug>(result: Result<T, NotDone>) -> Refusal {
    match result {
        Err(NotDone::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_pool_is_made_once_and_found_again() {
    let host = Host::new();
    let broker = host.start().await;
    let query = QueryPool { request: request() };
    let status = broker.client.pool_status(context(), query).await.unwrap();
    assert_eq!(status, Ok(PoolStatus::Down));
    assert_eq!(refused(broker.ensure_pool(false).await), Refusal::PoolAbsent);
    assert_eq!(refused(broker.create(&[1]).await), Refusal::PoolDown);
    let PoolStatus::Up(usage) = broker.ensure_pool(true).await.unwrap() else { panic!() };
    assert_eq!((usage.transaction, usage.volumes, usage.low_water_blocks), (2, 0, 100));
    assert_eq!(usage.volume_bytes, 10 << 30);
    drop(broker);

    // After a reboot: checked before it is used, never made or formatted again.
    host.sim.reboot();
    let broker = host.start().await;
    assert_eq!(broker.usage().await.transaction, 2);
    let seen = host.launcher.seen();
    assert!(matches!(
        seen.as_slice(),
        [
            Errand::OpenPool { create: true },
            Errand::Format { .. },
            Errand::OpenPool { create: false },
            Errand::CheckPool
        ]
    ));
}

#[tokio::test]
async fn backing_of_another_size_or_by_somebody_else_is_a_conflict() {
    let host = Host::new();
    // Files that nobody made for us.
    host.launcher.0.lock().unwrap().files = true;
    let broker = host.start().await;
    for _twice in 0..2 {
        assert_eq!(refused(broker.ensure_pool(true).await), Refusal::PoolConflict);
    }
    host.launcher.0.lock().unwrap().files = false;
    broker.ensure_pool(true).await.unwrap();
    drop(broker);
    host.sim.reboot();
    let mut smaller = BACKING;
    smaller.data.sectors -= 1;
    host.launcher.0.lock().unwrap().backing = Some(Backing { fresh: false, ..smaller });
    let broker = host.start().await;
    assert_eq!(refused(broker.ensure_pool(true).await), Refusal::PoolConflict);
    assert!(host.sim.0.lock().unwrap().devices.is_empty());
}

#[tokio::test]
async fn every_verb_may_be_asked_again() {
    let host = Host::new();
    let broker = host.up().await;
    for outcome in [Outcome::Done, Outcome::AlreadyThere] {
        assert_eq!(broker.create(&[1]).await, Ok(outcome));
    }
    for _again in 0..2 {
        let LayerState::Applied(applied) = broker.apply(&[1]).await.unwrap() else { panic!() };
        assert_eq!((applied.entries, applied.file_bytes, applied.layout), (3, 7, LAYOUT));
    }
    for outcome in [Outcome::Done, Outcome::AlreadyThere] {
        assert_eq!(broker.seal(&[1]).await, Ok(outcome));
    }
    assert!(matches!(broker.apply(&[1]).await, Ok(LayerState::Applied(_))));
    for outcome in [Outcome::Done, Outcome::AlreadyThere] {
        assert_eq!(broker.snapshot("web", &[1], true).await, Ok(outcome));
    }
    let first = broker.map("web").await.unwrap();
    let second = broker.map("web").await.unwrap();
    assert_eq!((first.outcome, second.outcome), (Outcome::Done, Outcome::AlreadyThere));
    assert_eq!((first.minor, first.bytes), (second.minor, 10 << 30));
    assert!(host.sim.0.lock().unwrap().devices["airlock-v000002"].read_only);
    for outcome in [Outcome::Done, Outcome::AlreadyThere] {
        assert_eq!(broker.unmap("web").await, Ok(outcome));
    }
    for outcome in [Outcome::Done, Outcome::AlreadyThere] {
        assert_eq!(broker.delete_snapshot("web").await, Ok(outcome));
    }
    for outcome in [Outcome::Done, Outcome::AlreadyThere] {
        assert_eq!(broker.delete_volume(&[1]).await, Ok(outcome));
    }
    let extractions = host.launcher.seen();
    let extractions = extractions.iter().filter(|it| matches!(it, Errand::Extract { .. })).count();
    assert_eq!(extractions, 1);
}

#[tokio::test]
async fn what_contradicts_what_is_there_is_refused() {
    let host = Host::new();
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    image(&broker, &[1, 2]).await.unwrap();
    broker.snapshot("web", &[1, 2], false).await.unwrap();
    broker.create(&[3]).await.unwrap();

    let mut other = Caller::apply_request(&[3]);
    other.blob = layer(9).0;
    other.diff_id = layer(9).1;
    assert_eq!(refused(broker.apply_once(other.clone()).await), Refusal::ChainDigest);
    other.volume = chain(&[1]);
    assert_eq!(refused(broker.apply_once(other).await), Refusal::VolumeSealed);
    assert_eq!(refused(broker.apply(&[7]).await), Refusal::NoSuchVolume);
    assert_eq!(refused(broker.create(&[3, 4]).await), Refusal::ParentNotSealed);
    assert_eq!(refused(broker.seal(&[3]).await), Refusal::NotFilled);
    assert_eq!(refused(broker.seal(&[7]).await), Refusal::NoSuchVolume);
    assert_eq!(refused(broker.snapshot("x", &[3], false).await), Refusal::NotSealed);
    assert_eq!(refused(broker.snapshot("x", &[7], false).await), Refusal::NoSuchVolume);
    assert_eq!(refused(broker.snapshot("web", &[1], false).await), Refusal::OtherSnapshot);
    assert_eq!(refused(broker.snapshot("web", &[1, 2], true).await), Refusal::OtherSnapshot);
    assert_eq!(refused(broker.map("x").await), Refusal::NoSuchSnapshot);
    assert_eq!(refused(broker.unmap("x").await), Refusal::NoSuchSnapshot);
    assert_eq!(refused(broker.delete_volume(&[1]).await), Refusal::HasChildren);
    assert_eq!(refused(broker.delete_volume(&[1, 2]).await), Refusal::HasChildren);
    broker.map("web").await.unwrap();
    assert_eq!(refused(broker.delete_snapshot("web").await), Refusal::Mapped);
    let held = |count| {
        let mut machine = host.sim.0.lock().unwrap();
        machine.devices.get_mut("airlock-v000003").unwrap().open_count = count;
    };
    held(1);
    assert_eq!(refused(broker.unmap("web").await), Refusal::Held);
    assert!(host.launcher.0.lock().unwrap().links.contains_key("web"));
    held(0);
    broker.unmap("web").await.unwrap();
    assert!(host.launcher.0.lock().unwrap().links.is_empty());
}

fn extracted(blob: BlobDigest, diff_id: DiffId) -> Answer {
    let progress = Progress::default();
    Answer::Extracted(Extracted {
        blob,
        diff_id,
        progress,
        file_bytes: 0,
        layout: LAYOUT,
        tree: super::launcher::TREE,
    })
}

#[tokio::test]
async fn a_layer_that_is_not_what_it_claims_is_thrown_away_and_can_be_tried_again() {
    let host = Host::new();
    let broker = host.up().await;
    let (blob, diff_id) = layer(1);
    let other = Digest::of(b"other");
    let rule = Refusal::Layer { rule: Rule::NameDotdot, entry: Some(4) };
    let failed = |stage, errno| Answer::Failed(Failure { stage, errno });
    for (answer, refusal) in [
        (extracted(BlobDigest(other), diff_id), Refusal::BlobDigest),
        (extracted(blob, DiffId(other)), Refusal::LayerDigest),
        (Answer::Refused { rule: Rule::NameDotdot, entry: Some(4) }, rule),
        (failed(Stage::VolumeFull, 28), Refusal::VolumeFull),
    ] {
        broker.create(&[1]).await.unwrap();
        host.launcher.0.lock().unwrap().extract = Some(answer);
        // Asked again, the caller who lost the answer gets it.
        for _again in 0..2 {
            assert_eq!(refused(broker.apply(&[1]).await), refusal);
        }
        assert_eq!(host.sim.0.lock().unwrap().thins.len(), 1, "{refusal:?}: only the base");
        assert_eq!(host.sim.0.lock().unwrap().devices.len(), 1, "{refusal:?}: only the pool");
    }
    broker.create(&[1]).await.unwrap();
    host.launcher.0.lock().unwrap().extract = Some(failed(Stage::WorkerDied, 0));
    assert_eq!(
        broker.apply(&[1]).await,
        Err(NotDone::from(Failure { stage: Stage::WorkerDied, errno: 0 }))
    );
    host.launcher.0.lock().unwrap().extract = None;
    image(&broker, &[1]).await.unwrap();
}

/// Nothing was written, so nothing is thrown away; the same volume is filled at the next try.
#[tokio::test]
async fn a_failure_before_the_first_byte_keeps_the_volume() {
    let host = Host::new();
    let broker = host.up().await;
    broker.create(&[1]).await.unwrap();
    for stage in Stage::ALL.iter().copied().filter(|stage| stage.is_before_worker()) {
        host.launcher.0.lock().unwrap().extract = Some(Answer::Failed(Failure { stage, errno: 2 }));
        broker.apply(&[1]).await.unwrap_err();
        assert_eq!(host.sim.0.lock().unwrap().thins.len(), 2, "{stage:?}: base and volume");
        assert_eq!(host.sim.0.lock().unwrap().devices.len(), 1, "{stage:?}: only the pool");
        assert_eq!(broker.create(&[1]).await, Ok(Outcome::AlreadyThere));
    }
    host.launcher.0.lock().unwrap().extract =
        Some(Answer::Failed(Failure { stage: Stage::BlobOpen, errno: 2 }));
    assert_eq!(refused(broker.apply(&[1]).await), Refusal::BlobAbsent);
    host.launcher.0.lock().unwrap().extract = None;
    broker.apply(&[1]).await.unwrap();
    assert_eq!(broker.seal(&[1]).await, Ok(Outcome::Done));
    assert_eq!(host.sim.0.lock().unwrap().thins, [0, 1].into());
}

#[tokio::test]
async fn a_full_pool_is_called_full_and_takes_nothing_new() {
    let host = Host::new();
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    broker.create(&[2]).await.unwrap();
    host.launcher.0.lock().unwrap().hold = true;
    broker.apply_once(Caller::apply_request(&[2])).await.unwrap();
    host.sim.0.lock().unwrap().used = 990;
    assert_eq!(refused(broker.create(&[3]).await), Refusal::PoolFull);
    assert_eq!(refused(broker.snapshot("web", &[1], false).await), Refusal::PoolFull);
    host.sim.0.lock().unwrap().used = 1000;
    assert_eq!(broker.delete_volume(&[1]).await, Ok(Outcome::Done));
}

#[tokio::test]
async fn an_extraction_is_joined_bounded_and_in_nobodys_way() {
    let mut host = Host::new();
    host.config.limits.extractions = 1;
    let broker = host.up().await;
    image(&broker, &[9]).await.unwrap();
    broker.create(&[1]).await.unwrap();
    broker.create(&[2]).await.unwrap();
    host.launcher.0.lock().unwrap().hold = true;
    for _joined in 0..2 {
        let state = broker.apply_once(Caller::apply_request(&[1])).await.unwrap();
        assert!(matches!(state, LayerState::Running(_)));
    }
    let mut other = Caller::apply_request(&[1]);
    other.blob = layer(8).0;
    assert_eq!(refused(broker.apply_once(other).await), Refusal::OtherLayer);
    assert_eq!(refused(broker.apply(&[2]).await), Refusal::TooManyLayers);
    assert_eq!(refused(broker.delete_volume(&[1]).await), Refusal::Mapped);
    assert_eq!(refused(broker.seal(&[1]).await), Refusal::NotFilled);
    broker.snapshot("web", &[9], false).await.unwrap();
    broker.map("web").await.unwrap();
    let extractions = host.launcher.seen();
    let extractions = extractions.iter().filter(|it| matches!(it, Errand::Extract { .. })).count();
    assert_eq!(extractions, 2);
}

#[tokio::test]
async fn an_image_that_is_no_root_filesystem_is_not_activated() {
    let host = Host::new();
    let broker = host.up().await;
    let (blob, diff_id) = layer(1);
    let layout = LayoutFacts { directories: 1, ..LAYOUT };
    let progress = Progress::default();
    let found =
        Extracted { blob, diff_id, progress, file_bytes: 0, layout, tree: super::launcher::TREE };
    host.launcher.0.lock().unwrap().extract = Some(Answer::Extracted(found));
    image(&broker, &[1]).await.unwrap();
    let refusal = refused(broker.snapshot("web", &[1], false).await);
    assert_eq!(refusal, Refusal::Layout(Rule::LayoutDirectories));
}

#[tokio::test]
async fn the_list_comes_in_pages_in_order() {
    let host = Host::new();
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    for number in 0..70 {
        broker.snapshot(&format!("s{number}"), &[1], false).await.unwrap();
    }
    broker.map("s3").await.unwrap();
    let (mut after, mut all, mut pages) = (None, vec![], 0);
    loop {
        let query = ListVolumes { request: request(), after };
        let page = broker.client.list_volumes(context(), query).await.unwrap().unwrap();
        all.extend(page.items);
        pages += 1;
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!((pages, all.len()), (2, 71));
    assert!(all.is_sorted_by_key(|item| item.thin));
    let What::Volume(volume) = &all[0].what else { panic!() };
    assert_eq!((volume.volume, volume.state), (chain(&[1]), VolumeState::Sealed));
    assert_eq!(volume.layer.unwrap().blob, layer(1).0);
    assert_eq!(all.iter().filter(|item| item.minor.is_some()).count(), 1);
}

#[tokio::test]
async fn there_are_never_more_volumes_than_configured() {
    let mut host = Host::new();
    host.config.limits.volumes = 2;
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    broker.snapshot("web", &[1], false).await.unwrap();
    assert_eq!(refused(broker.create(&[2]).await), Refusal::TooManyVolumes);
    assert_eq!(refused(broker.snapshot("x", &[1], false).await), Refusal::TooManyVolumes);
    assert_eq!(broker.create(&[1]).await, Ok(Outcome::AlreadyThere));
}

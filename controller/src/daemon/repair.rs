//! Brings the database back in line with the helper's ledger and the blobs that are here, or makes
//! it anew from them where it was lost.
//!
//! Nothing is destroyed: volumes, snapshots and blobs stay as they are, only records change. Each
//! change is a transaction of its own, and may be asked for again.

mod blobs;
mod plan;

use airlock_policy::digest::{BlobDigest, ChainId, DiffId};
use airlock_policy::name::RequestId;
use airlock_protocol::control::{Fault, HealthLine, HealthState, RepairLine, RepairOutcome};
use airlock_protocol::not_done::Refusal;
use airlock_protocol::reply::{Item, ItemLayer, SnapshotItem};

use self::blobs::Finding;
use self::plan::{Repair, compare};
use super::Daemon;
use super::health::line;
use crate::store::image::{self, BlobRow, SealedRow};
use crate::store::snapshot::SnapshotRow;
use crate::store::unreadable::{self, SetAside};
use crate::store::{StoreFault, now, reconcile};

/// What came of one change.
enum Ended {
    Done(String),
    Lost(String),
    Failed(String),
    /// A run is at it, and will record it.
    Left,
}

impl From<StoreFault> for Ended {
    fn from(error: StoreFault) -> Self {
        let told = error.fault();
        Self::Failed(told.cause.last().cloned().unwrap_or(told.message))
    }
}

impl Daemon {
    /// Mends what does not agree; with `dry_run` says only what it would do.
    pub(super) async fn repair(
        &self,
        dry_run: bool,
        request: RequestId,
    ) -> Result<Vec<RepairLine>, Fault> {
        let _one_at_a_time = self.world().locks.hold("repair of the records").await;
        let plan = self.differences(&request).await?;
        let blobs = self.unknown_blobs().await?;
        let mut lines = Vec::new();
        if dry_run {
            let blobs = blobs.into_iter().map(|finding| finding.planned());
            lines.extend(blobs.chain(plan.iter().map(planned)));
            lines.extend(self.set_aside(RepairOutcome::Planned).await?);
            return Ok(lines);
        }
        for finding in blobs {
            lines.push(self.adopt_found(finding).await);
        }
        for repair in &plan {
            let ended = self.carry_out(repair, &request).await;
            lines.extend(told(repair, ended));
        }
        lines.extend(self.set_aside(RepairOutcome::Done).await?);
        for line in &lines {
            let RepairLine { subject, outcome, text } = line;
            tracing::info!(request = %request, subject, ?outcome, text, "repaired");
        }
        if lines.iter().all(|line| line.outcome != RepairOutcome::Failed) {
            self.world().store.settle().await.map_err(|error| error.fault())?;
        }
        Ok(lines)
    }

    /// Records that were set aside as unreadable. Once told of, the operator is done with them.
    async fn set_aside(&self, outcome: RepairOutcome) -> Result<Vec<RepairLine>, Fault> {
        let store = &self.world().store;
        let aside = if outcome == RepairOutcome::Done {
            let settled = store.write(|tx| {
                let aside = unreadable::all(tx)?;
                unreadable::settle(tx)?;
                Ok(aside)
            });
            settled.await
        } else {
            store.read(unreadable::all).await
        };
        let line = |SetAside { kind, id, why, .. }| RepairLine {
            subject: format!("{kind} {id}"),
            outcome,
            text: format!("was set aside as unreadable: {why}"),
        };
        Ok(aside.map_err(|error| error.fault())?.into_iter().map(line).collect())
    }

    /// What the helper's ledger and the database say differently. A helper that cannot answer for
    /// its pool is no witness.
    async fn differences(&self, request: &RequestId) -> Result<Vec<Repair>, Fault> {
        let helper = &self.world().helper;
        let what = "ask the helper what is there";
        match helper.ensure_pool(request, false).await {
            Ok(_) => {}
            Err(error) if error.refusal() == Some(Refusal::PoolAbsent) => {}
            Err(error) => return Err(error.fault(what)),
        }
        let ledger: Vec<Item> =
            helper.inventory(request).await.map_err(|error| error.fault(what))?;
        let known = self.world().store.read(reconcile::known).await;
        Ok(compare(&known.map_err(|error| error.fault())?, &ledger))
    }

    async fn carry_out(&self, repair: &Repair, request: &RequestId) -> Ended {
        let store = &self.world().store;
        let done = match repair.clone() {
            Repair::ForgetSnapshot(name) => {
                store.write(move |tx| reconcile::forget_snapshot(tx, &name)).await
            }
            Repair::ForgetVolume(volume) => {
                store.write(move |tx| reconcile::forget_volume(tx, volume)).await
            }
            Repair::AdoptVolume { volume, parent, layer } => {
                let ItemLayer { blob: _, diff_id, tree } = layer;
                let row = SealedRow { chain_id: volume, parent, diff_id, tree };
                store.write(move |tx| reconcile::adopt_volume(tx, &row)).await
            }
            Repair::AdoptImage { volume, layer } => {
                let blob = self.blob_of(layer.blob, layer.diff_id, volume).await;
                match blob {
                    Ok(blob) => {
                        store
                            .write(move |tx| reconcile::adopt_image(tx, &blob).map(|()| true))
                            .await
                    }
                    Err(error) => Err(error),
                }
            }
            Repair::UnknownImage { .. } | Repair::UnknownSnapshot(_) => {
                return Ended::Lost(planned(repair).text);
            }
            Repair::AdoptSnapshot(snapshot) => return self.adopt_snapshot(snapshot, request).await,
        };
        match done {
            Ok(true) => Ended::Done(planned(repair).text),
            Ok(false) => Ended::Left,
            Err(error) => error.into(),
        }
    }

    /// A snapshot's size is asked of the helper, which makes its device appear: it is active.
    async fn adopt_snapshot(&self, found: SnapshotItem, request: &RequestId) -> Ended {
        let SnapshotItem { name, image: chain_id, read_only, mounts, bytes: _ } = found;
        let store = &self.world().store;
        let image = store.read(move |tx| reconcile::image_of_volume(tx, chain_id)).await;
        let image = match image {
            Ok(Some(image)) => image,
            Ok(None) => return Ended::Lost(UNKNOWN_SNAPSHOT.to_owned()),
            Err(error) => return error.into(),
        };
        let mapped = match self.world().give_out(&name, mounts, request).await {
            Ok(mapped) => mapped,
            Err(error) => {
                let told = error.fault("map the snapshot");
                return Ended::Failed(told.cause.last().cloned().unwrap_or(told.message));
            }
        };
        let text = format!("of image {}, on record again", image.short());
        let row = SnapshotRow {
            name,
            image,
            chain_id,
            read_only,
            is_default: false,
            bytes: mapped.bytes,
            leaving: false,
            created_at: now(),
        };
        match store.write(move |tx| reconcile::adopt_snapshot(tx, &row)).await {
            Ok(true) => Ended::Done(text),
            Ok(false) => Ended::Left,
            Err(error) => error.into(),
        }
    }

    /// Ends the caution that a new database is met with, once nothing is there that it does not
    /// know.
    pub(super) async fn settle_if_whole(&self, request: &RequestId) {
        let store = &self.world().store;
        if !store.is_unsettled().await.unwrap_or(false) {
            return;
        }
        let (Ok(plan), Ok(blobs)) = (self.differences(request).await, self.unknown_blobs().await)
        else {
            return;
        };
        if !(plan.is_empty() && blobs.is_empty()) {
            return;
        }
        match store.settle().await {
            Ok(()) => tracing::info!("the database knows all that is there"),
            Err(error) => tracing::warn!(%error, "failed to note that the database is whole"),
        }
    }

    /// Whether ledger, blobs and database agree.
    pub(super) async fn records_health(&self, request: &RequestId) -> HealthLine {
        let told = (self.differences(request).await, self.world().store.is_unsettled().await);
        let (Ok(plan), Ok(is_unsettled)) = told else {
            return line("records", HealthState::Unknown, "the helper cannot be asked", None);
        };
        let fix = Some("airlock doctor --fix");
        let count = plan.iter().filter(|repair| !repair.is_beyond_us()).count();
        let unknown = plan.len().saturating_sub(count);
        if is_unsettled {
            let text = format!(
                "the database is new or restored, and does not know all that is here \
                 ({count} volumes, images and snapshots, and perhaps blobs)"
            );
            line("records", HealthState::Warning, &text, fix)
        } else if count > 0 {
            let text = format!("database and ledger differ in {count} volumes and snapshots");
            line("records", HealthState::Warning, &text, fix)
        } else if unknown > 0 {
            let text = format!("{unknown} volumes and snapshots are of images not on record");
            line("records", HealthState::Warning, &text, Some("airlock doctor --fix --dry-run"))
        } else {
            line("records", HealthState::Ok, "database and ledger agree", None)
        }
    }

    /// The row of a layer's blob: as it is here, or without a file, which a pull then fetches.
    /// Its volume says whether it was unwrapped.
    async fn blob_of(
        &self,
        digest: BlobDigest,
        diff_id: DiffId,
        volume: ChainId,
    ) -> Result<BlobRow, StoreFault> {
        let known = self.world().store.read(move |tx| image::blob(tx, digest)).await?;
        let unknown = BlobRow {
            digest,
            diff_id,
            bytes: 0,
            inode: 0,
            mtime_ns: 0,
            entries: 0,
            file_bytes: 0,
            wrapped: false,
        };
        let wrapped = volume == ChainId::unwrapped(diff_id);
        Ok(BlobRow { wrapped, ..known.unwrap_or(unknown) })
    }

    async fn adopt_found(&self, finding: Finding) -> RepairLine {
        let subject = finding.subject();
        let (outcome, text) = match self.adopt_blob(finding).await {
            Ended::Done(text) => (RepairOutcome::Done, text),
            Ended::Lost(text) => (RepairOutcome::Lost, text),
            Ended::Failed(text) => (RepairOutcome::Failed, text),
            Ended::Left => (RepairOutcome::Done, "a run is at it".to_owned()),
        };
        RepairLine { subject, outcome, text }
    }
}

/// A change before it is made.
fn planned(repair: &Repair) -> RepairLine {
    let (subject, text) = match repair {
        Repair::ForgetSnapshot(name) => {
            (format!("snapshot {name}"), "unknown to the helper: off the record")
        }
        Repair::ForgetVolume(volume) => {
            (format!("volume {}", volume.0.short()), "not with the helper: off the record")
        }
        Repair::AdoptVolume { volume, .. } => {
            (format!("volume {}", volume.0.short()), "sealed: on record again")
        }
        Repair::AdoptImage { layer, .. } => (
            format!("image {}", layer.blob.0.short()),
            "unpacked: on record again; its name is known once its source is pulled again",
        ),
        Repair::UnknownImage { volume } => (format!("volume {}", volume.0.short()), UNKNOWN_IMAGE),
        Repair::UnknownSnapshot(found) => (format!("snapshot {}", found.name), UNKNOWN_SNAPSHOT),
        Repair::AdoptSnapshot(found) => (format!("snapshot {}", found.name), "on record again"),
    };
    let outcome = if repair.is_beyond_us() { RepairOutcome::Lost } else { RepairOutcome::Planned };
    RepairLine { subject, outcome, text: text.to_owned() }
}

const UNKNOWN_IMAGE: &str = "an image of several layers: its digest is in no ledger; pull its \
                             source again, which unpacks nothing anew";
const UNKNOWN_SNAPSHOT: &str = "active, and of an image that is not on record: pull that, and \
                                activate it under this name, which changes nothing in it";

fn told(repair: &Repair, ended: Ended) -> Option<RepairLine> {
    let (outcome, text) = match ended {
        Ended::Done(text) => (RepairOutcome::Done, text),
        Ended::Lost(text) => (RepairOutcome::Lost, text),
        Ended::Failed(text) => (RepairOutcome::Failed, text),
        Ended::Left => return None,
    };
    Some(RepairLine { outcome, text, ..planned(repair) })
}

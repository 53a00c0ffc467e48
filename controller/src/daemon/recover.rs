//! Brings back what was active, carries on what was begun, and deletes what nobody owns.

use std::collections::HashSet;
use std::time::Duration;

use airlock_protocol::not_done::Refusal;
use airlock_protocol::reply::{VolumeState, What};
use airlock_protocol::request::Target;

use super::Daemon;
use crate::blob::PartialId;
use crate::flow::{Download, Unpack};
use crate::helper::{HelperFault, internal_request};
use crate::source::ObjectInfo;
use crate::store::{Verdict, flow, image, now, snapshot};

/// How long is waited before a helper that does not answer is asked again.
const HELPER_WAIT: Duration = Duration::from_secs(2);

/// How long the parts of a download that failed are kept for the next try, in milliseconds.
pub(super) const KEPT_PARTS: i64 = 7 * 24 * 3600 * 1000;

impl Daemon {
    /// Waits until the helper answers.
    pub(super) async fn greet(&self) {
        let request = internal_request();
        let mut told = false;
        loop {
            match self.world().helper.hello(&request).await {
                Ok(welcome) => {
                    let (version, confined) = (welcome.version, welcome.confined);
                    tracing::info!(version, confined, "the helper answers");
                    break;
                }
                Err(error) if !told => {
                    told = true;
                    let cause = error.fault("greet the helper").cause;
                    tracing::warn!(?cause, "the helper does not answer");
                }
                Err(_) => {}
            }
            tokio::time::sleep(HELPER_WAIT).await;
        }
    }

    /// Does all that a start has to do with a helper that answers.
    pub(super) async fn bring_back(&self) {
        let request = internal_request();
        // Where there is no pool yet, there is nothing to bring back.
        match self.world().helper.ensure_pool(&request, false).await {
            Ok(_) => {}
            Err(error) if error.refusal() == Some(Refusal::PoolAbsent) => {
                tracing::info!("there is no pool yet");
                self.settle_if_whole(&request).await;
                return;
            }
            Err(error) => {
                let cause = error.fault("bring the pool up").cause;
                tracing::error!(?cause, "the pool is not up");
                return;
            }
        }
        self.tidy(true).await;
        self.map_all().await;
    }

    /// Makes the devices of all active snapshots appear again, or mounts them.
    async fn map_all(&self) {
        let request = internal_request();
        let Ok(all) = self.world().store.read(snapshot::all).await else { return };
        // Mounted before, mounted again: a reboot ends mounts, and the helper knows which there were.
        let shown = self.shown(&request).await;
        let (mut mapped, mut failed) = (0_u32, 0_u32);
        for snapshot in all {
            // A deactivation takes turns with this: its device must not come back behind it.
            let _turn = self.world().locks.hold(snapshot.name.as_str()).await;
            let name = snapshot.name.clone();
            let now = self.world().store.read(move |tx| snapshot::find(tx, name.as_str())).await;
            if now.is_ok_and(|row| row.is_none_or(|row| row.leaving)) {
                continue;
            }
            let (mounts, _) = shown.get(&snapshot.name).copied().unwrap_or_default();
            match self.world().give_out(&snapshot.name, mounts, &request).await {
                Ok(_) => mapped = mapped.saturating_add(1),
                Err(error) => {
                    failed = failed.saturating_add(1);
                    let cause = error.fault("map the snapshot").cause;
                    tracing::error!(snapshot = %snapshot.name, ?cause, "a snapshot is not back");
                }
            }
        }
        tracing::info!(mapped, failed, "active snapshots are back");
    }

    /// Carries on removals that were begun, and deletes volumes that nobody owns.
    pub(super) async fn tidy(&self, is_first: bool) {
        // Nothing is deleted on the word of a database that may be damaged.
        if self.world().store.verdict() != Verdict::Sound {
            return;
        }
        self.settle_if_whole(&internal_request()).await;
        self.carry_on_removals().await;
        match self.delete_orphans(is_first).await {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "the ledger was not looked through"),
        }
    }

    async fn carry_on_removals(&self) {
        let found = self.world().store.read(|tx| Ok((snapshot::all(tx)?, image::doomed(tx)?)));
        let Ok((snapshots, doomed)) = found.await else { return };
        for snapshot in snapshots.into_iter().filter(|snapshot| snapshot.leaving) {
            if let Err(fault) = self.take_away(&snapshot.name, &internal_request()).await {
                tracing::warn!(snapshot = %snapshot.name, ?fault, "not deactivated yet");
            }
        }
        if let Err(fault) = self.delete_doomed(&doomed, &internal_request()).await {
            tracing::warn!(?fault, "volumes of removed images are still there");
        }
    }

    /// Deletes volumes that are not sealed and that no flow works on. What is sealed and unknown
    /// is kept: it may be all that is left of a lost database.
    async fn delete_orphans(&self, is_first: bool) -> Result<(), HelperFault> {
        let (helper, store, request) =
            (&self.world().helper, &self.world().store, internal_request());
        for item in helper.inventory(&request).await? {
            let What::Volume(volume) = item.what else { continue };
            let chain_id = volume.volume;
            let owned = store.read(move |tx| {
                let worked_on = flow::is_active(tx, Unpack::NAME, &chain_id.to_string())?;
                let doomed = image::doomed(tx)?.contains(&chain_id);
                Ok(worked_on || doomed || image::is_sealed(tx, chain_id)?)
            });
            // What cannot be read is not judged.
            if owned.await.unwrap_or(true) {
                continue;
            }
            if volume.state == VolumeState::Sealed {
                if is_first {
                    tracing::warn!(volume = %chain_id, "a sealed volume is on nobody's record: kept");
                }
                continue;
            }
            match helper.delete_volume(&request, Target::Volume(chain_id)).await {
                Ok(_) => tracing::info!(volume = %chain_id, "deleted a volume without an owner"),
                Err(error) => {
                    tracing::info!(volume = %chain_id, %error, "a volume without an owner stays");
                }
            }
        }
        Ok(())
    }

    /// Removes parts of downloads that nobody will go on with, and blobs on nobody's record.
    pub(super) async fn sweep_blobs(&self) {
        // What a lost database does not know may be all that is left of it.
        if !self.world().store.is_trusted().await.unwrap_or(false) {
            tracing::warn!("the database is new, restored or being checked: no blob is swept away");
            return;
        }
        let since = now().saturating_sub(KEPT_PARTS);
        let found = self.world().store.read(move |tx| {
            Ok((flow::downloads_since(tx, Download::NAME, since)?, image::all_blobs(tx)?))
        });
        let Ok((downloads, recorded)) = found.await else { return };
        let mut parts = HashSet::new();
        let mut needed: HashSet<_> = recorded.into_iter().collect();
        for (input, data) in downloads {
            let Some(download) = Download::read(&input, &data) else { continue };
            needed.extend(download.blob);
            if let Some(seen) = download.seen {
                let (etag, version) = (seen.etag, seen.version);
                let info =
                    ObjectInfo { bytes: seen.bytes, etag, version, modified_ms: seen.modified };
                parts.insert(PartialId::of(&download.place, &info));
            }
        }
        let blobs = self.world().blobs.clone();
        let swept = tokio::task::spawn_blocking(move || {
            let swept = blobs.sweep(&parts)?;
            let mut removed = 0_u32;
            for blob in blobs.list()?.into_iter().filter(|blob| !needed.contains(blob)) {
                removed = removed.saturating_add(u32::from(blobs.remove(blob)?));
            }
            Ok::<_, std::io::Error>((swept, removed))
        });
        match swept.await {
            Ok(Ok((swept, removed))) => {
                tracing::info!(
                    files = swept.files,
                    bytes = swept.bytes,
                    removed,
                    "swept the blobs"
                );
            }
            Ok(Err(error)) => tracing::warn!(%error, "failed to sweep the blobs"),
            Err(error) => tracing::error!(%error, "the sweep of the blobs ended early"),
        }
    }
}

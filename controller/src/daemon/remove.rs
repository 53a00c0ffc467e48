//! Deactivation and removal: the intent on record first, then the act, then the record of it.

use airlock_policy::digest::ChainId;
use airlock_policy::name::{RequestId, SnapshotName};
use airlock_protocol::control::{ErrorClass, Fault, ImageView, SnapshotView};
use airlock_protocol::not_done::Refusal;
use airlock_protocol::request::Target;
use rusqlite::Transaction;

use super::{Daemon, holders, images, snapshots};
use crate::fault::{Explain as _, fault};
use crate::flow::{Activate, image_of};
use crate::helper::HelperFault;
use crate::store::image::{ImageRow, Leftovers};
use crate::store::{StoreFault, flow, image, run, snapshot};

impl Daemon {
    /// Takes a snapshot's device away and deletes the snapshot with what was written in it.
    pub(super) async fn deactivate(
        &self,
        name: SnapshotName,
        request: RequestId,
    ) -> Result<SnapshotView, Fault> {
        let _turn = self.world().locks.hold(name.as_str()).await;
        let shown = self.shown(&request).await.get(&name).map(|(mounts, _)| (*mounts, false));
        let asked = name.clone();
        let marked = self.world().store.write(move |tx| {
            let Some(row) = snapshot::find(tx, asked.as_str())? else {
                return Ok(Err(snapshots::unknown(&asked)));
            };
            if flow::is_active(tx, Activate::NAME, asked.as_str())? {
                return Ok(Err(fault(
                    ErrorClass::Busy,
                    "snapshot.activating",
                    format!("{asked} is being activated"),
                )
                .next("airlock runs")));
            }
            let view = snapshots::view(tx, &row, shown)?;
            snapshot::set_leaving(tx, asked.as_str(), true)?;
            Ok(Ok(view))
        });
        let view = marked.await.map_err(|error| error.fault())??;
        self.take_away(&name, &request).await?;
        tracing::info!(snapshot = %name, request = %request, "deactivated");
        Ok(view)
    }

    /// Carries out the removal of a snapshot that is on record as leaving.
    pub(super) async fn take_away(
        &self,
        name: &SnapshotName,
        request: &RequestId,
    ) -> Result<(), Fault> {
        let helper = &self.world().helper;
        match self.world().release(name, request).await {
            Ok(()) => {}
            Err(error) if error.refusal() == Some(Refusal::NoSuchSnapshot) => {}
            Err(error) => {
                if error.refusal().is_some() {
                    // Nothing was changed: it is active as before.
                    self.set_leaving(name, false).await?;
                }
                return Err(self.explain_held(error, name, request).await);
            }
        }
        match helper.delete_volume(request, Target::Snapshot(name.clone())).await {
            Ok(_) => {}
            Err(error) if error.refusal() == Some(Refusal::NoSuchSnapshot) => {}
            Err(error) => return Err(error.fault(&format!("delete the snapshot {name}"))),
        }
        let gone = name.clone();
        let removed = self.world().store.write(move |tx| snapshot::remove(tx, gone.as_str()));
        removed.await.map_err(|error| error.fault())
    }

    async fn set_leaving(&self, name: &SnapshotName, leaving: bool) -> Result<(), Fault> {
        let name = name.clone();
        let set =
            self.world().store.write(move |tx| snapshot::set_leaving(tx, name.as_str(), leaving));
        set.await.map_err(|error| error.fault())
    }

    /// Says who holds a device that cannot be taken away, as far as `/proc` tells.
    async fn explain_held(
        &self,
        error: HelperFault,
        name: &SnapshotName,
        request: &RequestId,
    ) -> Fault {
        let mut told = error.fault(&format!("deactivate {name}"));
        if error.refusal() != Some(Refusal::Held) {
            return told;
        }
        told.message = format!("{name} is in use");
        let (mounts, _) = self.shown(request).await.get(name).copied().unwrap_or_default();
        let Ok(mapped) = self.world().give_out(name, mounts, request).await else { return told };
        let minor = mapped.minor;
        let held = tokio::task::spawn_blocking(move || holders::of(minor)).await;
        for holder in held.unwrap_or_default() {
            told = told.fact("held by", holder);
        }
        told.remedy = vec![format!("airlock deactivate {name}")];
        if !mounts {
            told.remedy.insert(0, format!("umount {}", crate::flow::device_of(name, false)));
        }
        told
    }

    /// Removes an image that is not active, with the blobs and volumes that no other needs.
    pub(super) async fn remove(
        &self,
        text: String,
        request: RequestId,
    ) -> Result<ImageView, Fault> {
        let removed = self.world().store.write(move |tx| {
            let image = match image_of(tx, &text)? {
                Ok(image) => image,
                Err(fault) => return Ok(Err(fault)),
            };
            if let Some(busy) = why_busy(tx, &image)? {
                return Ok(Err(busy));
            }
            let view = images::view(tx, &image, true)?;
            Ok(Ok((view, image::remove(tx, image.digest)?)))
        });
        let (view, left) = removed.await.map_err(|error| error.fault())??;
        let Leftovers { volumes, blobs } = left;
        let files = self.world().blobs.clone();
        let deleted = tokio::task::spawn_blocking(move || {
            blobs.into_iter().try_for_each(|blob| files.remove(blob).map(|_was_there| ()))
        });
        let deleted: std::io::Result<()> = match deleted.await {
            Ok(deleted) => deleted,
            Err(error) => Err(std::io::Error::other(error)),
        };
        if let Err(error) = deleted {
            // On nobody's record by now: the next start sweeps it away.
            tracing::warn!(%error, "a blob of a removed image stays until the next start");
        }
        self.delete_doomed(&volumes, &request).await?;
        tracing::info!(image = view.name, digest = %view.digest, request = %request, "removed");
        Ok(view)
    }

    /// Has the helper delete volumes whose records are gone.
    pub(super) async fn delete_doomed(
        &self,
        volumes: &[ChainId],
        request: &RequestId,
    ) -> Result<(), Fault> {
        for volume in volumes.iter().copied() {
            let (helper, store) = (&self.world().helper, &self.world().store);
            let gone = helper.delete_volume(request, Target::Volume(volume)).await;
            match gone {
                Ok(_) => {}
                Err(error) if error.refusal() == Some(Refusal::NoSuchVolume) => {}
                Err(error) => {
                    return Err(error.fault("delete the image's volume").fact(
                        "state",
                        "the image is removed; its volume goes when the helper can",
                    ));
                }
            }
            let forgotten = store.write(move |tx| image::forget_doomed(tx, volume)).await;
            forgotten.map_err(|error| error.fault())?;
        }
        Ok(())
    }
}

fn why_busy(tx: &Transaction<'_>, image: &ImageRow) -> Result<Option<Fault>, StoreFault> {
    let active = snapshot::of_image(tx, image.digest)?;
    if !active.is_empty() {
        let name = &image.name;
        let mut busy = fault(ErrorClass::Busy, "image.active", format!("{name} is active"));
        for snapshot in active {
            busy = busy
                .fact("snapshot", snapshot.name.to_string())
                .next(format!("airlock deactivate {}", snapshot.name));
        }
        return Ok(Some(busy));
    }
    Ok(run::works_on(tx, image.digest)?.map(|run| {
        fault(ErrorClass::Busy, "image.busy", format!("a run works on {}", image.name))
            .fact("run", run.clone())
            .next(format!("airlock cancel {run}"))
    }))
}

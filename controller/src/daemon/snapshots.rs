//! Snapshots as people see them.

use std::collections::HashMap;

use airlock_policy::name::{RequestId, SnapshotName};
use airlock_protocol::control::{ErrorClass, Fault, ListSnapshots, Listing, SnapshotView};
use airlock_protocol::reply::{Item, What};
use rusqlite::Transaction;

use super::{Daemon, page};
use crate::fault::{Explain as _, fault};
use crate::flow::{device_of, name_of};
use crate::store::snapshot::{SnapshotFilter, SnapshotRow};
use crate::store::{StoreFault, image, snapshot};

/// A snapshot with its image's name; what the helper says of it is whether it mounts it, and whether
/// its device is there.
pub(super) fn view(
    tx: &Transaction<'_>,
    row: &SnapshotRow,
    shown: Option<(bool, bool)>,
) -> Result<SnapshotView, StoreFault> {
    let image = image::find(tx, row.image)?.ok_or(StoreFault::Unreadable("snapshots.image"))?;
    let (mounts, mapped) = shown.unwrap_or_default();
    Ok(SnapshotView {
        name: row.name.clone(),
        image: name_of(tx, &image)?,
        digest: row.image,
        device: device_of(&row.name, mounts),
        mapped,
        read_only: row.read_only,
        bytes: row.bytes,
        created_at: row.created_at,
    })
}

/// The fault of asking for a snapshot that is not there.
pub(super) fn unknown(name: &SnapshotName) -> Fault {
    fault(ErrorClass::NotFound, "snapshot.unknown", format!("there is no snapshot {name}"))
        .next("airlock snapshots")
}

impl Daemon {
    /// A page of snapshots, by name.
    pub(super) async fn snapshots(
        &self,
        asked: ListSnapshots,
        request: &RequestId,
    ) -> Result<Listing<SnapshotView>, Fault> {
        let shown = self.shown(request).await;
        let ListSnapshots { mapped, source, before, after } = asked;
        let filter = SnapshotFilter { source, before };
        let listed = self.world().store.read(move |tx| {
            let after = after.as_deref().unwrap_or("");
            let (rows, next) = snapshot::page(tx, &filter, after, page::ROWS)?;
            let items: Result<Vec<_>, _> =
                rows.iter().map(|row| view(tx, row, shown.get(&row.name).copied())).collect();
            Ok((items?, next))
        });
        let (mut items, next) = listed.await.map_err(|error| error.fault())?;
        // Whether its device is there, the helper says and not the database.
        items.retain(|view| mapped.is_none_or(|mapped| view.mapped == mapped));
        Ok(page::until(items, next, |view| view.name.to_string()))
    }

    /// One snapshot.
    pub(super) async fn one_snapshot(
        &self,
        name: SnapshotName,
        request: &RequestId,
    ) -> Result<SnapshotView, Fault> {
        let shown = self.shown(request).await.get(&name).copied();
        let found = self.world().store.read(move |tx| {
            snapshot::find(tx, name.as_str())?
                .map(|row| view(tx, &row, shown))
                .transpose()
                .map(|found| found.ok_or_else(|| unknown(&name)))
        });
        found.await.map_err(|error| error.fault())?
    }

    /// Of each snapshot, whether the helper mounts it, and whether its device is there; nothing if it
    /// does not answer.
    pub(super) async fn shown(&self, request: &RequestId) -> HashMap<SnapshotName, (bool, bool)> {
        let items = self.world().helper.inventory(request).await.unwrap_or_default();
        let of = |item: Item| match item.what {
            What::Snapshot(snapshot) => {
                Some((snapshot.name, (snapshot.mounts, item.minor.is_some())))
            }
            What::Volume(_) => None,
        };
        items.into_iter().filter_map(of).collect()
    }
}

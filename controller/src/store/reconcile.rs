//! The database beside what is really there: what it knows, what it takes on, what it forgets.

use std::collections::{HashMap, HashSet};

use airlock_policy::digest::{ChainId, Digest};
use airlock_policy::name::SnapshotName;
use rusqlite::{OptionalExtension as _, Transaction};

use super::image::{self, BlobRow, SealedRow};
use super::snapshot::{self, SnapshotRow};
use super::{StoreFault, flow, now, parsed, signed};
use crate::flow::{Activate, Unpack};

/// What the database knows of volumes and snapshots.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The sealed volumes, each with the one below it.
    pub volumes: HashMap<ChainId, Option<ChainId>>,
    /// Volumes that are still to be deleted.
    pub doomed: HashSet<ChainId>,
    /// The volumes that images are made of.
    pub tops: HashSet<ChainId>,
    /// Snapshots.
    pub snapshots: HashSet<SnapshotName>,
}

/// Reads what the database knows.
pub fn known(tx: &Transaction<'_>) -> Result<Known, StoreFault> {
    let mut known = Known { doomed: image::doomed(tx)?.into_iter().collect(), ..Known::default() };
    let mut volumes = tx.prepare("SELECT chain_id, parent FROM volumes")?;
    let mut rows = volumes.query([])?;
    while let Some(row) = rows.next()? {
        let parent = row.get::<_, Option<String>>(1)?;
        let parent = parent.map(|parent| parsed(&parent, "volumes.parent")).transpose()?;
        known.volumes.insert(parsed(&row.get::<_, String>(0)?, "volumes.chain_id")?, parent);
    }
    let mut tops = tx.prepare("SELECT DISTINCT unpacked FROM images WHERE unpacked IS NOT NULL")?;
    let mut rows = tops.query([])?;
    while let Some(row) = rows.next()? {
        known.tops.insert(parsed(&row.get::<_, String>(0)?, "images.unpacked")?);
    }
    known.snapshots = snapshot::all(tx)?.into_iter().map(|row| row.name).collect();
    Ok(known)
}

/// Records a blob and its layer. Figures of the layer that are not known are 0.
pub fn adopt_blob(tx: &Transaction<'_>, blob: &BlobRow) -> Result<(), StoreFault> {
    let BlobRow { diff_id, entries, file_bytes, wrapped, .. } = *blob;
    tx.prepare_cached(
        "INSERT INTO layers (diff_id, entries, file_bytes, wrapped) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (diff_id) DO UPDATE SET entries = ?2, file_bytes = ?3, wrapped = ?4 \
         WHERE entries = 0 AND file_bytes = 0",
    )?
    .execute((diff_id.to_string(), signed(entries), signed(file_bytes), wrapped))?;
    tx.prepare_cached(
        "INSERT INTO blobs VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (digest) DO UPDATE \
         SET bytes = ?3, inode = ?4, mtime_ns = ?5",
    )?
    .execute((
        blob.digest.to_string(),
        blob.diff_id.to_string(),
        signed(blob.bytes),
        blob.inode.cast_signed(),
        blob.mtime_ns,
        now(),
    ))?;
    Ok(())
}

/// Records a volume that the helper has sealed, and its layer, of which no more is known. False
/// where a flow works on it: that records it.
pub fn adopt_volume(tx: &Transaction<'_>, volume: &SealedRow) -> Result<bool, StoreFault> {
    if flow::is_active(tx, Unpack::NAME, &volume.chain_id.to_string())? {
        return Ok(false);
    }
    let wrapped = volume.chain_id == ChainId::unwrapped(volume.diff_id);
    tx.prepare_cached("INSERT OR IGNORE INTO layers VALUES (?1, 0, 0, ?2)")?
        .execute((volume.diff_id.to_string(), wrapped))?;
    image::record_sealed(tx, volume)?;
    Ok(true)
}

/// Records an image of one layer under the name of its digest: what people called it is not known
/// until its source is pulled again.
pub fn adopt_image(tx: &Transaction<'_>, blob: &BlobRow) -> Result<(), StoreFault> {
    let digest = blob.digest.0;
    image::record(tx, blob, digest, &digest.short())?;
    let (chain_id, diff_id) = (blob.chain_id(), blob.diff_id);
    if image::is_sealed(tx, chain_id)? {
        image::record_sealed(tx, &SealedRow { chain_id, parent: None, diff_id, tree: None })?;
    }
    Ok(())
}

/// The image that a volume is, where one is on record. Several may be: their tars are the same.
pub fn image_of_volume(
    tx: &Transaction<'_>,
    volume: ChainId,
) -> Result<Option<Digest>, StoreFault> {
    let found = tx
        .prepare_cached("SELECT digest FROM images WHERE unpacked = ?1 ORDER BY digest LIMIT 1")?
        .query_row([volume.to_string()], |row| row.get::<_, String>(0))
        .optional()?;
    found.map(|digest| parsed(&digest, "images.digest")).transpose()
}

/// Records a snapshot that the helper has. False where a flow or a removal works on it.
pub fn adopt_snapshot(tx: &Transaction<'_>, row: &SnapshotRow) -> Result<bool, StoreFault> {
    let name = row.name.as_str();
    if flow::is_active(tx, Activate::NAME, name)? || snapshot::find(tx, name)?.is_some() {
        return Ok(false);
    }
    snapshot::record(tx, row)?;
    Ok(true)
}

/// Forgets a snapshot that the helper does not know. False where a flow works on it.
pub fn forget_snapshot(tx: &Transaction<'_>, name: &SnapshotName) -> Result<bool, StoreFault> {
    if flow::is_active(tx, Activate::NAME, name.as_str())? {
        return Ok(false);
    }
    snapshot::remove(tx, name.as_str())?;
    Ok(true)
}

/// Forgets a volume that the helper does not have: its images are no longer unpacked. False where
/// a flow works on it.
pub fn forget_volume(tx: &Transaction<'_>, volume: ChainId) -> Result<bool, StoreFault> {
    let volume = volume.to_string();
    if flow::is_active(tx, Unpack::NAME, &volume)? {
        return Ok(false);
    }
    tx.execute("UPDATE images SET unpacked = NULL WHERE unpacked = ?1", [&volume])?;
    tx.execute("DELETE FROM volumes WHERE chain_id = ?1", [&volume])?;
    Ok(true)
}

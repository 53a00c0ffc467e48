//! What goes with an image, and what is still to go.

use airlock_policy::digest::{BlobDigest, ChainId, Digest};
use rusqlite::Transaction;

use super::{is_sealed, layers};
use crate::store::{StoreFault, now, parsed};

/// What a removed image leaves to be deleted.
#[derive(Clone, Debug, Default)]
pub struct Leftovers {
    /// Volumes that no other image needs, uppermost first; each is in `doomed` by now.
    pub volumes: Vec<ChainId>,
    /// Blobs that no other image needs.
    pub blobs: Vec<BlobDigest>,
}

/// Deletes an image's rows, and those of the blobs and volumes that no other image needs.
/// It must have no snapshot.
pub fn remove(tx: &Transaction<'_>, digest: Digest) -> Result<Leftovers, StoreFault> {
    let layers = layers(tx, digest)?;
    tx.execute("DELETE FROM images WHERE digest = ?1", [digest.to_string()])?;
    let mut left = Leftovers::default();
    for layer in layers.iter().rev() {
        let chain = layer.chain_id.to_string();
        let needed = tx
            .prepare_cached("SELECT 1 FROM image_layers WHERE chain_id = ?1")?
            .exists([&chain])?;
        let known = is_sealed(tx, layer.chain_id)?;
        if !needed && known {
            tx.execute("DELETE FROM volumes WHERE chain_id = ?1", [&chain])?;
            tx.execute("INSERT OR IGNORE INTO doomed VALUES (?1, ?2)", (&chain, now()))?;
            left.volumes.push(layer.chain_id);
        }
    }
    for layer in &layers {
        let blob = layer.blob.to_string();
        let needed =
            tx.prepare_cached("SELECT 1 FROM image_layers WHERE blob = ?1")?.exists([&blob])?;
        if !needed {
            tx.execute("DELETE FROM blobs WHERE digest = ?1", [&blob])?;
            left.blobs.push(layer.blob);
        }
        tx.execute(
            "DELETE FROM layers WHERE diff_id = ?1 \
             AND NOT EXISTS (SELECT 1 FROM blobs WHERE diff_id = ?1) \
             AND NOT EXISTS (SELECT 1 FROM volumes WHERE diff_id = ?1) \
             AND NOT EXISTS (SELECT 1 FROM image_layers WHERE diff_id = ?1)",
            [layer.diff_id.to_string()],
        )?;
    }
    Ok(left)
}

/// Volumes that the helper is still to delete.
pub fn doomed(tx: &Transaction<'_>) -> Result<Vec<ChainId>, StoreFault> {
    // The younger ones are uppermost: a volume goes before its parent.
    let mut statement =
        tx.prepare_cached("SELECT chain_id FROM doomed ORDER BY since, chain_id")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    rows.map(|chain| parsed(&chain?, "doomed.chain_id")).collect()
}

/// Notes that the helper deleted a volume.
pub fn forget_doomed(tx: &Transaction<'_>, chain_id: ChainId) -> Result<(), StoreFault> {
    tx.execute("DELETE FROM doomed WHERE chain_id = ?1", [chain_id.to_string()])?;
    Ok(())
}

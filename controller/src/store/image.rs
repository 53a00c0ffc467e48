//! Images, their layers, the blobs and the volumes that hold them.

mod page;
mod removal;

use airlock_policy::digest::{BlobDigest, ChainId, DiffId, Digest, TreeDigest};
use airlock_protocol::control::LayerView;
use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{StoreFault, now, parsed, reconcile, unsigned};

pub use page::{ImageFilter, page};
pub use removal::{Leftovers, doomed, forget_doomed, remove};

/// An image as it is stored.
#[derive(Clone, Debug)]
pub struct ImageRow {
    /// Its digest.
    pub digest: Digest,
    /// The name of the source it was first fetched from.
    pub name: String,
    /// The chain id of its uppermost layer.
    pub chain_id: ChainId,
    /// Whether its volume is sealed.
    pub unpacked: bool,
    /// When it was first fetched.
    pub created_at: i64,
    /// When it was last pulled or activated.
    pub used_at: i64,
}

/// A blob and what the scan of it found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlobRow {
    /// Its digest.
    pub digest: BlobDigest,
    /// The digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// Bytes of the file.
    pub bytes: u64,
    /// The file's inode number.
    pub inode: u64,
    /// The file's modification time, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Entries of the layer.
    pub entries: u64,
    /// Bytes of the layer's files.
    pub file_bytes: u64,
    /// Whether the layer alone is a root filesystem that is unwrapped.
    pub wrapped: bool,
}

impl BlobRow {
    /// The chain id of the image that it alone makes up.
    pub fn chain_id(&self) -> ChainId {
        if self.wrapped {
            ChainId::unwrapped(self.diff_id)
        } else {
            ChainId::of(None, self.diff_id)
        }
    }
}

/// A volume that is sealed.
#[derive(Clone, Copy, Debug)]
pub struct SealedRow {
    /// Its chain id.
    pub chain_id: ChainId,
    /// The volume below it.
    pub parent: Option<ChainId>,
    /// Its layer.
    pub diff_id: DiffId,
    /// The digest of all that is in it, where that is known.
    pub tree: Option<TreeDigest>,
}

/// A layer of an image, by position.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LayerRow {
    /// The blob.
    pub blob: BlobDigest,
    /// The digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// The identity of the layer on top of those below it.
    pub chain_id: ChainId,
}

const IMAGE: &str = "digest, name, chain_id, unpacked IS NOT NULL, created_at, used_at";

type RawImage = (String, String, String, bool, i64, i64);

fn raw(row: &Row<'_>) -> rusqlite::Result<RawImage> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
}

fn image(raw: RawImage) -> Result<ImageRow, StoreFault> {
    let (digest, name, chain_id, unpacked, created_at, used_at) = raw;
    Ok(ImageRow {
        digest: parsed(&digest, "images.digest")?,
        name,
        chain_id: parsed(&chain_id, "images.chain_id")?,
        unpacked,
        created_at,
        used_at,
    })
}

/// The image of this digest.
pub fn find(tx: &Transaction<'_>, digest: Digest) -> Result<Option<ImageRow>, StoreFault> {
    tx.prepare_cached(&format!("SELECT {IMAGE} FROM images WHERE digest = ?1"))?
        .query_row([digest.to_string()], raw)
        .optional()?
        .map(image)
        .transpose()
}

/// Images whose digest starts with these hex digits, at most nine of them.
pub fn by_prefix(tx: &Transaction<'_>, hex: &str) -> Result<Vec<ImageRow>, StoreFault> {
    let sql =
        format!("SELECT {IMAGE} FROM images WHERE digest >= ?1 AND digest < ?1 || 'g' LIMIT 9");
    let mut statement = tx.prepare_cached(&sql)?;
    let rows = statement.query_map([format!("sha256:{hex}")], raw)?;
    rows.map(|row| image(row?)).collect()
}

/// Images that sources of this name hold; where no source has it, images first fetched under it.
pub fn by_name(tx: &Transaction<'_>, name: &str) -> Result<Vec<ImageRow>, StoreFault> {
    let sources = "SELECT image FROM sources WHERE name = ?1";
    for filter in [
        format!("digest IN ({sources})"),
        "name = ?1 AND digest NOT IN (SELECT image FROM sources)".to_owned(),
        "name = ?1".to_owned(),
    ] {
        let sql = format!("SELECT {IMAGE} FROM images WHERE {filter} ORDER BY digest LIMIT 9");
        let mut statement = tx.prepare_cached(&sql)?;
        let rows = statement.query_map([name], raw)?;
        let found: Vec<_> = rows.map(|row| image(row?)).collect::<Result<_, _>>()?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// The layers of an image, lowest first.
pub fn layers(tx: &Transaction<'_>, digest: Digest) -> Result<Vec<LayerRow>, StoreFault> {
    let mut statement = tx.prepare_cached(
        "SELECT blob, diff_id, chain_id FROM image_layers WHERE image = ?1 ORDER BY position",
    )?;
    let rows = statement.query_map([digest.to_string()], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
    })?;
    rows.map(|row| {
        let (blob, diff_id, chain_id) = row?;
        Ok(LayerRow {
            blob: parsed(&blob, "image_layers.blob")?,
            diff_id: parsed(&diff_id, "image_layers.diff_id")?,
            chain_id: parsed(&chain_id, "image_layers.chain_id")?,
        })
    })
    .collect()
}

/// The layers of an image with all their figures, lowest first.
pub fn layer_views(tx: &Transaction<'_>, digest: Digest) -> Result<Vec<LayerView>, StoreFault> {
    let mut statement = tx.prepare_cached(
        "SELECT i.blob, i.diff_id, i.chain_id, b.bytes, l.entries, l.file_bytes \
         FROM image_layers i LEFT JOIN blobs b ON b.digest = i.blob \
         LEFT JOIN layers l ON l.diff_id = b.diff_id WHERE i.image = ?1 ORDER BY i.position",
    )?;
    let rows = statement.query_map([digest.to_string()], |row| {
        let names = [0, 1, 2].map(|column| row.get::<_, String>(column));
        let figures = [3, 4, 5].map(|column| row.get::<_, Option<i64>>(column));
        Ok((names, figures))
    })?;
    rows.map(|row| {
        let ([blob, diff_id, chain_id], [blob_bytes, entries, file_bytes]) = row?;
        let figure = |figure: rusqlite::Result<Option<i64>>| {
            Ok::<_, StoreFault>(unsigned(
                figure?.ok_or(StoreFault::Unreadable("image_layers.blob"))?,
            ))
        };
        Ok(LayerView {
            blob: parsed(&blob?, "image_layers.blob")?,
            blob_bytes: figure(blob_bytes)?,
            diff_id: parsed(&diff_id?, "image_layers.diff_id")?,
            chain_id: parsed(&chain_id?, "image_layers.chain_id")?,
            entries: figure(entries)?,
            file_bytes: figure(file_bytes)?,
        })
    })
    .collect()
}

/// The blob of this digest, if it was validated.
pub fn blob(tx: &Transaction<'_>, digest: BlobDigest) -> Result<Option<BlobRow>, StoreFault> {
    let row = tx
        .prepare_cached(
            "SELECT b.diff_id, b.bytes, b.inode, b.mtime_ns, l.entries, l.file_bytes, l.wrapped \
             FROM blobs b JOIN layers l USING (diff_id) WHERE b.digest = ?1",
        )?
        .query_row([digest.to_string()], |row| {
            Ok((
                row.get::<_, String>(0)?,
                [1, 2, 3, 4, 5, 6].map(|column| row.get::<_, i64>(column)),
            ))
        })
        .optional()?;
    let Some((diff_id, [bytes, inode, mtime_ns, entries, file_bytes, wrapped])) = row else {
        return Ok(None);
    };
    Ok(Some(BlobRow {
        digest,
        diff_id: parsed(&diff_id, "blobs.diff_id")?,
        bytes: unsigned(bytes?),
        // Inode numbers use all 64 bits: stored by their bits, not by their value.
        inode: inode?.cast_unsigned(),
        mtime_ns: mtime_ns?,
        entries: unsigned(entries?),
        file_bytes: unsigned(file_bytes?),
        wrapped: wrapped? != 0,
    }))
}

/// Every blob that is on record.
pub fn all_blobs(tx: &Transaction<'_>) -> Result<Vec<BlobDigest>, StoreFault> {
    let mut statement = tx.prepare_cached("SELECT digest FROM blobs")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    rows.map(|digest| parsed(&digest?, "blobs.digest")).collect()
}

/// Records a validated blob, its layer, and the image that it alone makes up.
pub fn record(
    tx: &Transaction<'_>,
    blob: &BlobRow,
    image: Digest,
    name: &str,
) -> Result<(), StoreFault> {
    let (diff_id, digest) = (blob.diff_id.to_string(), blob.digest.to_string());
    let chain_id = blob.chain_id().to_string();
    reconcile::adopt_blob(tx, blob)?;
    tx.prepare_cached(
        "INSERT INTO images (digest, name, top, chain_id, created_at, used_at) \
         VALUES (?1, ?2, 0, ?3, ?4, ?4) ON CONFLICT (digest) DO UPDATE SET used_at = ?4",
    )?
    .execute((image.to_string(), name, &chain_id, now()))?;
    tx.prepare_cached("INSERT OR IGNORE INTO image_layers VALUES (?1, 0, ?2, ?3, ?4)")?
        .execute((image.to_string(), &digest, &diff_id, &chain_id))?;
    Ok(())
}

/// Records a sealed volume, and every image whose last layer it holds as unpacked.
pub fn record_sealed(tx: &Transaction<'_>, volume: &SealedRow) -> Result<(), StoreFault> {
    let SealedRow { chain_id, parent, diff_id, tree } = volume;
    let chain = chain_id.to_string();
    tx.prepare_cached(
        "INSERT INTO volumes (chain_id, parent, diff_id, sealed_at, tree) \
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (chain_id) DO UPDATE SET tree = ?5 \
         WHERE tree IS NULL",
    )?
    .execute((
        &chain,
        parent.map(|parent| parent.to_string()),
        diff_id.to_string(),
        now(),
        tree.map(|tree| tree.to_string()),
    ))?;
    tx.prepare_cached("UPDATE images SET unpacked = ?1 WHERE chain_id = ?1 AND unpacked IS NULL")?
        .execute([&chain])?;
    Ok(())
}

/// The digest of all that is in a volume; `None` where there is no such volume, or it is not known.
pub fn tree(tx: &Transaction<'_>, volume: ChainId) -> Result<Option<TreeDigest>, StoreFault> {
    let tree = tx
        .prepare_cached("SELECT tree FROM volumes WHERE chain_id = ?1")?
        .query_row([volume.to_string()], |row| row.get::<_, Option<String>>(0))
        .optional()?
        .flatten();
    tree.map(|tree| parsed(&tree, "volumes.tree")).transpose()
}

/// Notes the digest of all that is in a volume, where it was not known.
pub fn note_tree(
    tx: &Transaction<'_>,
    volume: ChainId,
    tree: TreeDigest,
) -> Result<(), StoreFault> {
    tx.prepare_cached("UPDATE volumes SET tree = ?2 WHERE chain_id = ?1 AND tree IS NULL")?
        .execute([volume.to_string(), tree.to_string()])?;
    Ok(())
}

/// Notes that a blob's file is not what was validated: the next pull fetches it again.
pub fn forget_file(tx: &Transaction<'_>, blob: BlobDigest) -> Result<(), StoreFault> {
    tx.prepare_cached("UPDATE blobs SET inode = 0, mtime_ns = 0 WHERE digest = ?1")?
        .execute([blob.to_string()])?;
    Ok(())
}

/// Whether this volume is on record as sealed.
pub fn is_sealed(tx: &Transaction<'_>, chain_id: ChainId) -> Result<bool, StoreFault> {
    let sql = "SELECT 1 FROM volumes WHERE chain_id = ?1";
    Ok(tx.prepare_cached(sql)?.exists([chain_id.to_string()])?)
}

/// Marks a volume's images as used now.
pub fn touch(tx: &Transaction<'_>, digest: Digest) -> Result<(), StoreFault> {
    tx.prepare_cached("UPDATE images SET used_at = ?2 WHERE digest = ?1")?
        .execute((digest.to_string(), now()))?;
    Ok(())
}

//! Activated snapshots.

use airlock_policy::digest::{ChainId, Digest};
use airlock_policy::name::SnapshotName;
use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::run::end_of;
use super::{StoreFault, now, parsed, signed, unsigned};

/// A snapshot as it is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SnapshotRow {
    /// Its name.
    pub name: SnapshotName,
    /// The image it was taken of.
    pub image: Digest,
    /// The chain id of the image's volume.
    pub chain_id: ChainId,
    /// Whether its device refuses writes.
    pub read_only: bool,
    /// Whether it is the image's default snapshot.
    pub is_default: bool,
    /// The device's size.
    pub bytes: u64,
    /// Whether its removal was begun.
    pub leaving: bool,
    /// When it was made.
    pub created_at: i64,
}

const COLUMNS: &str =
    "name, image, chain_id, read_only, is_default, bytes, state = 'leaving', created_at";

type Raw = (String, String, String, bool, bool, i64, bool, i64);

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
        row.get(6)?,
        row.get(7)?,
    ))
}

fn snapshot(raw: Raw) -> Result<SnapshotRow, StoreFault> {
    let (name, image, chain_id, read_only, is_default, bytes, leaving, created_at) = raw;
    Ok(SnapshotRow {
        name: parsed(&name, "snapshots.name")?,
        image: parsed(&image, "snapshots.image")?,
        chain_id: parsed(&chain_id, "snapshots.chain_id")?,
        read_only,
        is_default,
        bytes: unsigned(bytes),
        leaving,
        created_at,
    })
}

fn many(
    tx: &Transaction<'_>,
    filter: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<SnapshotRow>, StoreFault> {
    let sql = format!("SELECT {COLUMNS} FROM snapshots WHERE {filter}");
    let mut statement = tx.prepare_cached(&sql)?;
    let rows = statement.query_map(parameters, raw)?;
    rows.map(|row| snapshot(row?)).collect()
}

/// The snapshot of this name.
pub fn find(tx: &Transaction<'_>, name: &str) -> Result<Option<SnapshotRow>, StoreFault> {
    let sql = format!("SELECT {COLUMNS} FROM snapshots WHERE name = ?1");
    let row = tx.prepare_cached(&sql)?.query_row([name], raw).optional()?;
    row.map(snapshot).transpose()
}

/// Which snapshots are listed.
#[derive(Clone, Debug, Default)]
pub struct SnapshotFilter {
    /// Those of an image that came from a source that begins with this.
    pub source: Option<String>,
    /// Those made then or before.
    pub before: Option<i64>,
}

/// How many snapshots are looked at for one page.
const LOOKED_AT: u32 = 1000;

/// A page of snapshots in order of name, after that one, and what the next comes after.
pub fn page(
    tx: &Transaction<'_>,
    filter: &SnapshotFilter,
    after: &str,
    limit: u32,
) -> Result<(Vec<SnapshotRow>, Option<String>), StoreFault> {
    let last: Option<String> = tx
        .prepare_cached(
            "SELECT name FROM snapshots WHERE name > ?1 ORDER BY name LIMIT 1 OFFSET ?2",
        )?
        .query_row((after, LOOKED_AT.saturating_sub(1)), |row| row.get(0))
        .optional()?;
    let (start, end) = match &filter.source {
        None => (None, None),
        Some(source) => (Some(source), Some(end_of(source))),
    };
    let rows = many(
        tx,
        "name > ?1 AND name <= ?2 AND (?3 IS NULL OR created_at <= ?3) AND (?4 IS NULL OR EXISTS \
         (SELECT 1 FROM sources WHERE image = snapshots.image AND place >= ?4 AND place < ?5)) \
         ORDER BY name LIMIT ?6",
        (after, last.clone().unwrap_or_else(|| end_of("")), filter.before, start, end, limit),
    )?;
    let is_full = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = match rows.last() {
        Some(row) if is_full => Some(row.name.to_string()),
        Some(_) | None => last,
    };
    Ok((rows, next))
}

/// Every snapshot.
pub fn all(tx: &Transaction<'_>) -> Result<Vec<SnapshotRow>, StoreFault> {
    many(tx, "TRUE ORDER BY name", [])
}

/// The snapshots of an image, by name, at most 64.
pub fn of_image(tx: &Transaction<'_>, image: Digest) -> Result<Vec<SnapshotRow>, StoreFault> {
    many(tx, "image = ?1 ORDER BY name LIMIT 64", [image.to_string()])
}

/// An image's default snapshot.
pub fn default_of(tx: &Transaction<'_>, image: Digest) -> Result<Option<SnapshotRow>, StoreFault> {
    Ok(many(tx, "image = ?1 AND is_default = 1", [image.to_string()])?.pop())
}

/// Records a snapshot that the helper made.
pub fn record(tx: &Transaction<'_>, snapshot: &SnapshotRow) -> Result<(), StoreFault> {
    let SnapshotRow { name, image, chain_id, read_only, is_default, bytes, .. } = snapshot;
    tx.prepare_cached(
        "INSERT INTO snapshots VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'active', ?7) \
         ON CONFLICT (name) DO UPDATE SET bytes = ?6, state = 'active' \
         WHERE image = ?2 AND read_only = ?4",
    )?
    .execute((
        name.as_str(),
        image.to_string(),
        chain_id.to_string(),
        read_only,
        is_default,
        signed(*bytes),
        now(),
    ))?;
    Ok(())
}

/// Notes whether a snapshot's removal was begun.
pub fn set_leaving(tx: &Transaction<'_>, name: &str, leaving: bool) -> Result<(), StoreFault> {
    let state = if leaving { "leaving" } else { "active" };
    tx.execute("UPDATE snapshots SET state = ?2 WHERE name = ?1", (name, state))?;
    Ok(())
}

/// Forgets a snapshot that the helper deleted.
pub fn remove(tx: &Transaction<'_>, name: &str) -> Result<(), StoreFault> {
    tx.execute("DELETE FROM snapshots WHERE name = ?1", [name])?;
    Ok(())
}

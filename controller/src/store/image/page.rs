//! Pages of images.

use airlock_protocol::control::ImageState;
use rusqlite::{OptionalExtension as _, Transaction};

use super::{IMAGE, ImageRow, image, raw};
use crate::store::StoreFault;
use crate::store::run::end_of;

/// Which images are listed.
#[derive(Clone, Debug, Default)]
pub struct ImageFilter {
    /// Those that are so far, and no further.
    pub status: Option<ImageState>,
    /// Those that came from a source that begins with this.
    pub source: Option<String>,
    /// Those used last then or before.
    pub before: Option<i64>,
}

/// Name and digest, by which images are ordered.
type ImageCursor = (String, String);

/// How many images are looked at for one page: so a page of few among very many takes no longer
/// than any other, but may be empty and lead on.
const LOOKED_AT: u32 = 1000;

/// A page of images in order of name and digest, after that one, and what the next comes after.
pub fn page(
    tx: &Transaction<'_>,
    filter: &ImageFilter,
    after: Option<(&str, &str)>,
    limit: u32,
) -> Result<(Vec<ImageRow>, Option<ImageCursor>), StoreFault> {
    let (name, digest) = after.unwrap_or(("", ""));
    let last = tx
        .prepare_cached(
            "SELECT name, digest FROM images WHERE (name, digest) > (?1, ?2) \
             ORDER BY name, digest LIMIT 1 OFFSET ?3",
        )?
        .query_row((name, digest, LOOKED_AT.saturating_sub(1)), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let (last_name, last_digest) = last.clone().unwrap_or_else(|| (end_of(""), String::new()));
    let (start, end) = match &filter.source {
        None => (None, None),
        Some(source) => (Some(source), Some(end_of(source))),
    };
    // Parameters that a filter does not need are compared with nothing.
    let active = "EXISTS (SELECT 1 FROM snapshots WHERE image = images.digest)";
    let status = match filter.status {
        None => "TRUE".to_owned(),
        // The sign keeps SQLite from an index that would not give the order.
        Some(ImageState::Downloaded) => "+unpacked IS NULL".to_owned(),
        Some(ImageState::Unpacked) => format!("+unpacked IS NOT NULL AND NOT {active}"),
        Some(ImageState::Active) => active.to_owned(),
    };
    let sql = format!(
        "SELECT {IMAGE} FROM images WHERE (name, digest) > (?1, ?2) AND (name, digest) <= (?3, ?4) \
         AND {status} AND (?5 IS NULL OR used_at <= ?5) AND (?6 IS NULL OR EXISTS \
         (SELECT 1 FROM sources WHERE image = images.digest AND place >= ?6 AND place < ?7)) \
         ORDER BY name, digest LIMIT ?8"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let parameters = (name, digest, last_name, last_digest, filter.before, start, end, limit);
    let rows = statement.query_map(parameters, raw)?;
    let rows: Vec<ImageRow> = rows.map(|row| image(row?)).collect::<Result<_, _>>()?;
    let is_full = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = match rows.last() {
        Some(row) if is_full => Some((row.name.clone(), row.digest.to_string())),
        Some(_) | None => last,
    };
    Ok((rows, next))
}

//! What each place held when it was last looked at.

use airlock_policy::digest::Digest;
use rusqlite::{OptionalExtension as _, Transaction};
use serde::{Deserialize, Serialize};

use super::{StoreFault, now, parsed, signed, unsigned};

/// What tells one version of a place's content from another.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Seen {
    /// Its size.
    pub bytes: u64,
    /// Its `ETag`.
    pub etag: Option<String>,
    /// Its version id.
    pub version: Option<String>,
    /// When it was last changed, in Unix milliseconds.
    pub modified: Option<i64>,
}

impl Seen {
    /// Whether a place that was seen so still holds the same: by its version, else by its
    /// `ETag`, and by the time of its last change only where a server gives neither.
    pub fn is_still(&self, now: &Self) -> bool {
        let Self { bytes, etag, version, modified } = self;
        let same = |before: &Option<String>, now: &Option<String>| {
            before.as_ref().zip(now.as_ref()).map(|(before, now)| before == now)
        };
        *bytes == now.bytes
            && (same(version, &now.version) == Some(true)
                || same(etag, &now.etag).unwrap_or_else(|| {
                    same(version, &now.version).is_none() && *modified == now.modified
                }))
    }
}

/// Records what a place holds.
pub fn record(
    tx: &Transaction<'_>,
    place: &str,
    name: &str,
    image: Digest,
    seen: &Seen,
) -> Result<(), StoreFault> {
    let Seen { bytes, etag, version, modified } = seen;
    tx.prepare_cached(
        "INSERT INTO sources VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (place) \
         DO UPDATE SET name = ?2, image = ?3, bytes = ?4, etag = ?5, version = ?6, \
         modified = ?7, checked_at = ?8",
    )?
    .execute((
        place,
        name,
        image.to_string(),
        signed(*bytes),
        etag,
        version,
        modified,
        now(),
    ))?;
    Ok(())
}

/// What a place held, and which image that was.
pub fn find(tx: &Transaction<'_>, place: &str) -> Result<Option<(Digest, Seen)>, StoreFault> {
    let row = tx
        .prepare_cached(
            "SELECT image, bytes, etag, version, modified FROM sources WHERE place = ?1",
        )?
        .query_row([place], |row| {
            let bytes: i64 = row.get(1)?;
            let (etag, version, modified) = (row.get(2)?, row.get(3)?, row.get(4)?);
            let seen = Seen { bytes: unsigned(bytes), etag, version, modified };
            Ok((row.get::<_, String>(0)?, seen))
        })
        .optional()?;
    row.map(|(digest, seen)| Ok((parsed(&digest, "sources.image")?, seen))).transpose()
}

/// The places that hold an image and the names they give it, the one looked at last first.
pub fn of_image(tx: &Transaction<'_>, image: Digest) -> Result<Vec<(String, String)>, StoreFault> {
    let mut statement = tx.prepare_cached(
        "SELECT place, name FROM sources WHERE image = ?1 ORDER BY checked_at DESC, place LIMIT 32",
    )?;
    let rows = statement.query_map([image.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_object_is_told_by_version_else_etag_else_time() {
        let text = |word: &str| Some(word.to_owned());
        let seen = |bytes, version, etag, modified| Seen { bytes, etag, version, modified };
        let before = seen(7, text("v1"), text("e1"), Some(1));
        let same = [
            seen(7, text("v1"), text("e1"), Some(1)),
            seen(7, text("v1"), None, Some(2)),
            // Put there anew, with the same content.
            seen(7, text("v2"), text("e1"), Some(2)),
            seen(7, None, text("e1"), Some(2)),
        ];
        assert!(same.iter().all(|now| before.is_still(now)), "{same:?}");
        let other = [
            seen(8, text("v1"), text("e1"), Some(1)),
            seen(7, text("v2"), text("e2"), Some(1)),
            seen(7, text("v2"), None, Some(1)),
            seen(7, None, text("e2"), Some(1)),
        ];
        assert!(other.iter().all(|now| !before.is_still(now)), "{other:?}");
        let bare = |modified| seen(7, None, None, modified);
        assert!(bare(Some(1)).is_still(&bare(Some(1))));
        assert!(!bare(Some(1)).is_still(&bare(Some(2))));
    }
}

//! Lists of runs, a page at a time, each by an index.

use rusqlite::Transaction;

use super::{RunRow, Standing, many};
use crate::store::StoreFault;

/// Which runs are listed.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Those that stand so; all where absent.
    pub standing: Option<Standing>,
    /// Those whose source begins with this.
    pub source: Option<String>,
    /// Those submitted then or before.
    pub before: Option<i64>,
}

/// The run that ends a page.
#[derive(Clone, Debug)]
pub struct RunCursor {
    /// When it was submitted.
    pub time: i64,
    /// Its id.
    pub id: String,
    /// Its source.
    pub source: String,
}

/// A page of runs, newest first, after that one. Those of sources that begin alike come source by
/// source, unless they go on: of these there are few.
pub fn page(
    tx: &Transaction<'_>,
    filter: &RunFilter,
    after: Option<&RunCursor>,
    limit: u32,
) -> Result<Vec<RunRow>, StoreFault> {
    let newest = filter.before.unwrap_or(i64::MAX);
    let (time, id) = after.map_or((newest, ""), |run| (run.time.min(newest), run.id.as_str()));
    // A statement each, so that each has its index: most runs have ended. A sign before a column
    // keeps SQLite from that column's index, which would not give the order.
    let by = if filter.source.is_some() { "+" } else { "" };
    let which = match filter.standing {
        None => String::new(),
        Some(Standing::Running) => "ended_at IS NULL AND ".to_owned(),
        Some(ended) => format!("{by}state = '{}' AND ", ended.name()),
    };
    let within = "submitted_at <= ?1 AND (submitted_at < ?1 OR id > ?2)";
    let order = "ORDER BY submitted_at DESC, id LIMIT ?3";
    let Some(source) = &filter.source else {
        return many(tx, &format!("{which}{within} {order}"), (time, id, limit));
    };
    let end = end_of(source);
    if filter.standing == Some(Standing::Running) {
        let sources = "+source >= ?4 AND +source < ?5";
        let filter = format!("{which}{within} AND {sources} {order}");
        return many(tx, &filter, (time, id, limit, source, end));
    }
    // The rest of the source that the page before ended in, then the sources behind it.
    let mut found = Vec::new();
    let mut from = source.as_str();
    let mut behind = ">=";
    if let Some(last) = after {
        let rest = format!("source = ?4 AND {which}{within} {order}");
        found = many(tx, &rest, (time, id, limit, &last.source))?;
        (from, behind) = (&last.source, ">");
    }
    let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(limit));
    let others = format!(
        "source {behind} ?1 AND source < ?2 AND {which}submitted_at <= ?3 \
         ORDER BY source, submitted_at DESC, id LIMIT ?4"
    );
    found.extend(many(tx, &others, (from, end, newest, left))?);
    Ok(found)
}

/// What comes behind every text that begins with this.
pub(in crate::store) fn end_of(start: &str) -> String {
    format!("{start}{}", char::MAX)
}

//! Pages of lists: as much as fits a frame, and where to go on.

use airlock_protocol::control::Listing;
use airlock_protocol::wire::MAX_FRAME;
use serde::Serialize;

/// Rows that are looked at for one page.
pub(super) const ROWS: u32 = 100;

/// What a page's items may take on the wire, with room for the frame around them.
const MAX_BYTES: usize = MAX_FRAME / 4 * 3;

/// Makes a page of the first of these items, as many as fit; `cursor` names an item for the next
/// page to begin after. `is_all`: whether there is nothing behind them.
pub(super) fn of<T: Serialize>(
    items: Vec<T>,
    is_all: bool,
    cursor: impl Fn(&T) -> String,
) -> Listing<T> {
    let next = items.last().filter(|_| !is_all).map(&cursor);
    until(items, next, cursor)
}

/// The same, where what the next page begins after is known: not always the last item, where a
/// filter left out what came behind it.
pub(super) fn until<T: Serialize>(
    items: Vec<T>,
    next: Option<String>,
    cursor: impl Fn(&T) -> String,
) -> Listing<T> {
    let mut left = MAX_BYTES;
    let mut kept: Vec<T> = Vec::new();
    let count = items.len();
    for item in items {
        let mut size = Counted(0);
        let size = serde_json::to_writer(&mut size, &item).map_or(usize::MAX, |()| size.0);
        // One item alone always goes through, or the list would never end.
        if size > left && !kept.is_empty() {
            break;
        }
        left = left.saturating_sub(size);
        kept.push(item);
    }
    let next = if kept.len() == count { next } else { kept.last().map(cursor) };
    Listing { items: kept, next }
}

/// Counts what is written.
struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// As many of these items as fit one page, which leads nowhere: the last says how many were left out.
pub(super) fn head<T: Serialize>(items: Vec<T>, rest: impl FnOnce(usize) -> T) -> Listing<T> {
    let count = items.len();
    let mut page = of(items, true, |_item| String::new());
    let left = count.saturating_sub(page.items.len());
    if left > 0 {
        page.items.push(rest(left));
    }
    Listing { items: page.items, next: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_never_outgrows_a_frame_and_leads_on() {
        let all: Vec<String> = (0..50).map(|n| format!("{n:04}{}", "x".repeat(9_000))).collect();
        let mut seen = 0;
        let mut rest = all.clone();
        loop {
            let page = of(rest.clone(), true, |item| item.chars().take(4).collect());
            assert!(serde_json::to_vec(&page).unwrap().len() < MAX_FRAME);
            seen += page.items.len();
            let Some(next) = page.next else { break };
            rest.retain(|item| !item.starts_with(&next) && *item > next);
        }
        assert_eq!(seen, all.len());
        assert!(of(Vec::<String>::new(), true, String::clone).next.is_none());
    }
}

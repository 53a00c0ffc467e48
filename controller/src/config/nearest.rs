//! Which known key a mistyped one looks like.

/// The candidate with the fewest edits to `text`, if that is few enough to be a typing mistake.
pub(super) fn nearest<'a>(
    text: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let near_enough = (text.chars().count() / 3).max(2);
    candidates
        .map(|candidate| (distance(text, candidate), candidate))
        .filter(|(edits, _)| *edits <= near_enough)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// The insertions, deletions and substitutions that lead from one text to the other
/// (Levenshtein, row by row).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (line, a) in from.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, b) in row.iter_mut().skip(1).zip(to.chars()) {
            let substituted = diagonal.saturating_add(usize::from(a != b));
            diagonal = *cell;
            left = substituted.min(cell.saturating_add(1)).min(left.saturating_add(1));
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        for (a, b, edits) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("abc", "abc", 0)]
        {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn suggests_a_typing_mistake_and_nothing_else() {
        let keys = ["s3.endpoint", "s3.region", "state_dir"];
        assert_eq!(nearest("s3.endpiont", keys.into_iter()), Some("s3.endpoint"));
        assert_eq!(nearest("statedir", keys.into_iter()), Some("state_dir"));
        assert_eq!(nearest("colour", keys.into_iter()), None);
    }
}

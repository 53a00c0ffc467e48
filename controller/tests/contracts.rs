//! docs/durable-state-contracts.md against what it speaks of: the machines' tables, the helper's verbs,
//! the crash points.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use airlock_crash_points::Point;

    const PAGE: &str = include_str!("../../docs/durable-state-contracts.md");
    const SERVICE: &str = include_str!("../../protocol/src/service.rs");
    const WORDS: [&str; 5] = ["skip", "retry", "resume", "clean up", "check"];

    /// A row with five columns of one of the page's tables.
    struct Contract {
        names: Vec<String>,
        restart: &'static str,
        points: Vec<String>,
    }

    /// What stands between backquotes.
    fn quoted(text: &str) -> Vec<String> {
        text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    fn contracts() -> Vec<Contract> {
        let rows = PAGE.lines().filter(|line| line.starts_with("| `"));
        let cells = rows.map(|row| row.trim_matches('|').split(" | ").collect::<Vec<_>>());
        let of_row = |cells: Vec<&'static str>| Contract {
            names: quoted(cells[0]),
            restart: cells[3],
            points: quoted(cells[4]),
        };
        cells.filter(|cells| cells.len() == 5).map(of_row).collect()
    }

    fn named() -> BTreeSet<String> {
        contracts().into_iter().flat_map(|contract| contract.names).collect()
    }

    #[test]
    fn each_state_of_each_machine_has_a_row_and_no_other_has() {
        let rows = airlock::flow::machines();
        let states = rows.iter().flat_map(|row| {
            [(row.0, row.1), (row.0, row.3)].map(|(machine, state)| format!("{machine}/{state}"))
        });
        let listed = named().into_iter().filter(|name| name.contains('/'));
        assert_eq!(listed.collect::<BTreeSet<_>>(), states.collect());
    }

    #[test]
    fn each_verb_that_changes_something_has_a_row_and_no_other_has() {
        let mut verbs = BTreeSet::from(["deactivate".to_owned(), "rm".to_owned()]);
        for page in SERVICE.split("- **Changes:** ").skip(1) {
            let verb = page.split("async fn ").nth(1).unwrap().split('(').next().unwrap();
            if !page.starts_with("nothing.") {
                verbs.insert(verb.to_owned());
            }
        }
        let listed = named().into_iter().filter(|name| !name.contains('/'));
        assert_eq!(listed.collect::<BTreeSet<_>>(), verbs);
    }

    #[test]
    fn each_row_says_what_a_restart_does_in_one_of_the_five_words_and_where_it_is_tried() {
        for Contract { names, restart, points } in contracts() {
            let says = WORDS.iter().any(|word| restart.starts_with(word));
            assert!(says, "{names:?}: {restart}");
            assert!(!points.is_empty(), "{names:?} has no crash point");
        }
    }

    #[test]
    fn each_crash_point_is_on_the_page_and_no_other_is() {
        let programs = ["daemon:", "broker:", "launcher:", "worker:"];
        let listed = quoted(PAGE).into_iter();
        let listed = listed.filter(|name| programs.iter().any(|program| name.starts_with(program)));
        let points = Point::ALL.iter().map(|point| point.name().to_owned());
        assert_eq!(listed.collect::<BTreeSet<_>>(), points.collect());
    }
}

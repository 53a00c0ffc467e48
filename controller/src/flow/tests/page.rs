//! `docs/fsm-flows.md` says of each state what the code and the defaults say.

use std::fmt::Write as _;

use crate::config::{BackoffConfig, QueuesConfig, S3Config, TimeSpan};
use crate::flow::machine::{Event as _, State};
use crate::flow::queue::Queue;
use crate::flow::rules::Settings;
use crate::flow::step::Machine;
use crate::flow::{Activate, Download, Unpack};

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fsm-flows.md");
    std::fs::read_to_string(path).unwrap()
}

/// The cells of the rows of the table beneath a heading, without its own heading.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, rest) = page.split_once(&format!("\n## {heading}")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let lines = section.lines().filter(|line| line.starts_with('|')).skip(2);
    lines
        .map(|line| {
            let line = line.strip_prefix('|').unwrap().strip_suffix('|').unwrap();
            line.split('|').map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

fn expected<M: Machine>() -> Vec<Vec<String>> {
    let settings = Settings::default();
    let lasting = M::State::ALL.iter().copied().filter(|state| !state.is_end());
    let row = |state: M::State| {
        let rules = M::rules(state, &settings);
        let ends = ["failed", "cancelled"];
        let mut next = String::new();
        for (from, event, to) in M::State::TABLE {
            if *from == state && !ends.contains(&to.name()) {
                write!(next, "; `{}`: {}", event.name(), to.name()).unwrap();
            }
        }
        let span = |span: std::time::Duration| {
            TimeSpan::millis(span.as_millis().try_into().unwrap()).to_string()
        };
        vec![
            format!("`{}`", state.name()),
            next.trim_start_matches("; ").to_owned(),
            rules.attempts.to_string(),
            rules.deadline.map_or("none".to_owned(), span),
            rules.queue.map_or(String::new(), |queue| queue.name().to_owned()),
        ]
    };
    lasting.map(row).collect()
}

#[test]
fn the_page_of_the_flows_says_what_the_code_does() {
    let page = page();
    for (heading, expected) in [
        ("Download:", expected::<Download>()),
        ("Unpack:", expected::<Unpack>()),
        ("Activate:", expected::<Activate>()),
    ] {
        let found = rows(&page, heading);
        for row in &found {
            assert!(row[1].len() > 10 && row[2].len() > 10, "{row:?} says nothing");
        }
        let found: Vec<Vec<String>> =
            found.into_iter().map(|row| [&row[..1], &row[3..]].concat()).collect();
        assert_eq!(found, expected, "{heading}");
    }
    let queues: Vec<_> = rows(&page, "Queues").into_iter().map(|row| row[..2].concat()).collect();
    let default = QueuesConfig::default();
    let limit = |queue: Queue| match queue {
        Queue::Unpack => "one a core, up to 4".to_owned(),
        Queue::Download | Queue::Activate => {
            queue.limit(&default).map_or("none".to_owned(), |limit| limit.to_string())
        }
    };
    assert_eq!(queues, Queue::ALL.map(|queue| format!("{}{}", queue.name(), limit(queue))));
}

#[test]
fn the_page_of_the_flows_names_the_defaults_of_waits_and_requests() {
    let page = page();
    let BackoffConfig { first, factor, longest, longest_s3 } = BackoffConfig::default();
    let S3Config { stall_timeout, attempts, .. } = S3Config::default();
    for said in [
        format!("`backoff.first` ({first})"),
        format!("`backoff.factor` ({factor})"),
        format!("`backoff.longest` ({longest})"),
        format!("`backoff.longest_s3` ({longest_s3})"),
        format!("`s3.stall_timeout` ({stall_timeout})"),
        format!("`s3.attempts` ({attempts})"),
    ] {
        assert!(page.contains(&said), "{said}");
    }
}

//! Hostile archives, our own and those of others, each through the scan and the real worker.
#![expect(clippy::print_stderr, reason = "a test fails by panicking, and says what it saw")]

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use airlock_policy::helper_config::HelperConfig;
use airlock_policy::rule::Rule;
use airlock_tests::extraction::{Template, desk};
use airlock_tests::hostile::run::{Canary, Outcome, run};
use airlock_tests::hostile::{End, cases, outside};
use airlock_tests::tell;

/// As large as dm-helper.toml has it by default; only what is written takes room.
const VOLUME: u64 = 10 << 30;

/// Says how a run went, and fails if anything was wrong with it.
fn conclude(what: &str, outcomes: &[(String, Outcome)]) {
    let mut failures = Vec::new();
    let (mut memory, mut time) = (0, Duration::ZERO);
    for (name, Outcome { said, faults, peak_rss_kib, time: took }) in outcomes {
        eprintln!("{name}: {said}");
        failures.extend(faults.iter().map(|fault| format!("{name}: {fault}")));
        memory = memory.max(*peak_rss_kib);
        time = time.max(*took);
    }
    let (count, failed) = (outcomes.len(), failures.len());
    tell(&format!("{count} {what}: {failed} faults; worker at most {memory} KiB, {time:.1?}"));
    assert!(failures.is_empty(), "{failed} failures\n{}", failures.join("\n"));
}

#[test]
fn every_hostile_archive_ends_by_its_rule_in_scan_and_worker_and_the_host_is_unchanged() {
    let canary = Canary::new();
    let mut desk = desk(HelperConfig::default());
    let template = Template::new(&desk, VOLUME);
    let outcomes: Vec<_> = cases::all(canary.name())
        .iter()
        .map(|case| {
            let said = format!("{:44} {}", case.name, case.attack);
            (said, run(case, &mut desk, &template, &canary))
        })
        .collect();
    conclude("hostile archives of our own", &outcomes);
}

#[test]
fn every_rule_that_an_archive_can_break_has_a_case() {
    let cases = cases::all("canary");
    let broken: HashSet<Rule> = cases
        .iter()
        .filter_map(|case| match case.end {
            End::Refused(rule) | End::RefusedByWorker(rule) | End::BadLayout(rule) => Some(rule),
            End::Accepted(_) => None,
        })
        .collect();
    for rule in Rule::ALL {
        assert!(broken.contains(rule), "no case breaks {rule}");
    }
    let names: HashSet<&str> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
}

#[test]
fn every_outside_archive_ends_as_it_safely_may_in_the_worker_too() {
    let Some(folder) = std::env::var_os("AIRLOCK_HOSTILE_CORPUS") else {
        let cases = outside::CASES;
        tell(&format!(
            "NOT RUN: {cases} outside archives, since AIRLOCK_HOSTILE_CORPUS is not set"
        ));
        return;
    };
    let desk = desk(HelperConfig::default());
    let template = Template::new(&desk, VOLUME);
    let outcomes: Vec<_> = outside::rows(Path::new(&folder))
        .iter()
        .map(|row| {
            let file = row.path.file_name().unwrap().to_string_lossy();
            let said = format!("{:6} {:15} {file}", row.safe, row.class);
            (said, outside::run(row, &desk, &template))
        })
        .collect();
    let like = |name| outcomes.iter().filter(|(_, o)| o.said.ends_with(name)).count();
    let (gnu, bsd) = (like(", as GNU tar"), like(", as bsdtar"));
    let what = format!("outside archives ({gnu} trees as GNU tar's, {bsd} more as bsdtar's)");
    conclude(&what, &outcomes);
}

//! What the command line understands, and what its help says.

use clap::CommandFactory as _;

use super::*;

#[test]
fn the_definition_is_consistent() {
    CommandLine::command().debug_assert();
}

#[test]
fn a_relative_file_is_seen_from_here() {
    let here = std::env::current_dir().unwrap();
    let here = here.to_str().unwrap();
    assert_eq!(parse_source("tar:x.tar").unwrap().to_string(), format!("tar:{here}/x.tar"));
    let pin = "a1".repeat(32);
    let pinned = parse_source(&format!("tar:/srv/x@sha256:{pin}")).unwrap();
    assert_eq!(pinned.to_string(), format!("tar:/srv/x@sha256:{pin}"));
    assert!(parse_source("tar:").is_err());
    assert!(parse_source("x.tar").is_err());
}

fn visit(command: &mut clap::Command, path: &str, seen: &mut Vec<String>) {
    let short = command.render_help().to_string();
    assert!(short.lines().count() <= 24, "{path} -h has {}:\n{short}", short.lines().count());
    let long = command.render_long_help().to_string();
    assert!(long.contains("Exit status:"), "{path} --help:\n{long}");
    let examples =
        long.lines().filter(|line| line.starts_with("  $ ") && line.contains("airlock ")).count();
    assert!(examples >= 2, "{path} --help has {examples} examples:\n{long}");
    seen.push(path.to_owned());
    for inner in command.get_subcommands_mut() {
        let path = format!("{path} {}", inner.get_name());
        visit(inner, &path, seen);
    }
}

#[test]
fn every_short_help_fits_a_screen_and_every_long_one_has_examples_and_exit_codes() {
    let mut command = CommandLine::command();
    command.build();
    let mut seen = Vec::new();
    visit(&mut command, "airlock", &mut seen);
    assert_eq!(seen.len(), 29, "{seen:?}");
}

#[test]
fn every_example_is_a_command_that_is_understood() {
    let mut tried = Vec::new();
    for text in help::ALL {
        for line in text.lines().filter_map(|line| line.strip_prefix("  $ ")) {
            let line = line.replace("dev=$(", "").replace(')', "");
            let command = line.split(" > ").next().and_then(|line| line.split(" | ").next());
            let words = command.unwrap().split_whitespace();
            let parsed = CommandLine::try_parse_from(words);
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
            tried.push(line);
        }
    }
    assert!(tried.len() >= 30, "{tried:?}");
}

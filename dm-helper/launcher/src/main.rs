//! `airlock-dm-helper`: the privileged side's first process. Starts the broker, then works for it.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use airlock_dm_launcher::log::log;
use airlock_dm_launcher::serve::Ended;
use airlock_dm_launcher::startup::{NotStarted, start};
use airlock_dm_launcher::teardown::{self, Teardown};
use airlock_policy::told::chain;
use lexopt::Arg;

const USAGE: &str = "\
Usage: airlock-dm-helper [--config FILE]
       airlock-dm-helper pool detach|destroy [--force] [--config FILE]

Starts airlock's privileged helper. Run by systemd; needs CAP_SYS_ADMIN, CAP_SETUID, CAP_SETGID
and CAP_SETPCAP, and keeps the first.

pool detach takes the pool's devices and loop devices away; its files stay, and the next start
brings them back. pool destroy removes the files too, for good: without --force it only says what
it would do. Both are for root, with the services stopped, and refuse while anything is in use.

  --config FILE  root's configuration [/etc/airlock/dm-helper.toml]
  --version      prints the version
";

/// Somebody else works for this state directory.
const EXIT_SECOND: u8 = 6;
/// The arguments are wrong, as sysexits(3) and systemd have it.
const EXIT_USAGE: u8 = 64;

/// What the arguments ask for.
enum Wish {
    Run(PathBuf),
    TakeDown(PathBuf, Teardown),
    Print(String),
}

fn main() -> ExitCode {
    let config = match wish(std::env::args_os()) {
        Ok(Wish::Run(config)) => config,
        Ok(Wish::TakeDown(config, what)) => {
            return match teardown::run(&config, what) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => not_started("take the pool down", &error),
            };
        }
        Ok(Wish::Print(text)) => {
            // A closed stdout is nobody's concern.
            drop(std::io::stdout().write_all(text.as_bytes()));
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            log(&format!("failed to understand the arguments: {error}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let mut server = match start(&config) {
        Ok(server) => server,
        Err(error) => return not_started("start", &error),
    };
    match server.run() {
        Ok(Ended::Asked) => ExitCode::SUCCESS,
        Ok(ended) => {
            log(&format!("ends: {ended}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            log(&format!("ends: failed to wait for anything to do: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn not_started(what: &str, error: &NotStarted) -> ExitCode {
    log(&format!("failed to {what}: {}", chain(error)));
    let second = matches!(error, NotStarted::Second(_));
    if second { ExitCode::from(EXIT_SECOND) } else { ExitCode::FAILURE }
}

fn wish(arguments: impl IntoIterator<Item = OsString>) -> Result<Wish, lexopt::Error> {
    let mut config = PathBuf::from("/etc/airlock/dm-helper.toml");
    let (mut words, mut force) = (Vec::new(), false);
    let mut arguments = lexopt::Parser::from_iter(arguments);
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("config") => config = arguments.value()?.into(),
            Arg::Long("force") => force = true,
            Arg::Value(word) => words.push(word.to_string_lossy().into_owned()),
            Arg::Long("help") | Arg::Short('h') => return Ok(Wish::Print(USAGE.to_owned())),
            Arg::Long("version") | Arg::Short('V') => {
                let version = concat!("airlock-dm-helper ", env!("CARGO_PKG_VERSION"), "\n");
                return Ok(Wish::Print(version.to_owned()));
            }
            other @ (Arg::Short(_) | Arg::Long(_)) => {
                return Err(other.unexpected());
            }
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match (words.as_slice(), force) {
        ([], false) => Ok(Wish::Run(config)),
        (["pool", "detach"], false) => Ok(Wish::TakeDown(config, Teardown::Detach)),
        (["pool", "destroy"], true) => Ok(Wish::TakeDown(config, Teardown::Destroy)),
        (["pool", "destroy"], false) => Ok(Wish::TakeDown(config, Teardown::DryRun)),
        _ => Err("no such command: see --help".into()),
    }
}

//! The operator's command: parse, ask the daemon, tell the answer.

mod amount;
mod args;
mod client;
mod command;
mod console;
mod environment;
mod failure;
mod follow;
mod help;
mod json;
mod moment;
mod outcome;
mod pen;
mod printable;
mod progress;
mod report;
#[cfg(test)]
mod sample;
mod table;
mod word;

use std::ffi::OsString;
use std::process::ExitCode;

use airlock_protocol::control::ErrorClass;
use clap::{Parser as _, ValueEnum as _};

use self::args::{Command, CommandLine, Global, ProgressKind, RunsAction};
use self::command::Session;
use self::console::Console;
use self::environment::Environment;
use self::failure::{Exit, Failure, fault};
use self::report::ErrorDocument;

pub(crate) use self::environment::search_path;

/// Where the daemon listens, unless it is said otherwise.
const SOCKET: &str = "/run/airlock/control.sock";

/// Does what the command line asks, and says how it ended (airlock(1), EXIT STATUS).
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let environment = Environment::read();
    let line = match CommandLine::try_parse_from(&arguments) {
        Ok(line) => line,
        Err(error) => return misunderstood(&error, &arguments),
    };
    let (console, end) = match session(&line.global, &environment) {
        Ok(session) => (session.console, dispatch(&session, line.command)),
        Err((console, failure)) => (console, Err(failure)),
    };
    let exit = end.unwrap_or_else(|failure| {
        console.fail(&failure);
        failure.exit()
    });
    ExitCode::from(exit.0)
}

fn session(global: &Global, environment: &Environment) -> Result<Session, (Console, Failure)> {
    let said = environment.progress.as_deref();
    let progress = said.map(|kind| ProgressKind::from_str(kind, false)).transpose();
    let kind = global.progress.or(progress.clone().ok().flatten()).unwrap_or(ProgressKind::Auto);
    let console = Console::new(global, kind, environment);
    if progress.is_err() {
        let what = "AIRLOCK_PROGRESS is none of auto, bar, plain and none";
        return Err((console, fault("usage", ErrorClass::Usage, what).into()));
    }
    let socket = global.socket.clone().or_else(|| environment.socket.clone());
    Ok(Session { console, socket: socket.unwrap_or_else(|| SOCKET.into()), limit: global.timeout })
}

fn dispatch(session: &Session, command: Command) -> Result<Exit, Failure> {
    use command::{
        completions, daemon, db, doctor, inspect, list, machines, pool, remove, runs, verify,
        version, work,
    };

    match command {
        Command::Pull { sources, when } => wait(work::pull(session, sources, &when)),
        Command::Activate { image, how, when } => wait(work::activate(session, image, how, &when)),
        Command::Run { sources, how, when } => wait(work::run(session, sources, how, &when)),
        Command::Images { status, sort, list } => wait(list::images(session, status, sort, list)),
        Command::Snapshots { status, sort, list } => {
            wait(list::snapshots(session, status, sort, list))
        }
        Command::Inspect { names } => wait(inspect::inspect(session, names)),
        Command::Deactivate { snapshots, if_exists } => {
            wait(remove::deactivate(session, snapshots, if_exists))
        }
        Command::Rm { images, if_exists } => wait(remove::rm(session, images, if_exists)),
        Command::Verify { images, all } => wait(verify::verify(session, images, all)),
        Command::Pool { action } => wait(pool::pool(session, action)),
        Command::Runs { action: Some(RunsAction::Show { run, timing }), .. } => {
            wait(runs::show(session, run, timing))
        }
        Command::Runs { action: Some(RunsAction::Watch { run }), .. } => {
            wait(runs::watch(session, run))
        }
        Command::Runs { action: Some(RunsAction::Machines), .. } => {
            wait(machines::machines(session))
        }
        Command::Runs { all, status, sort, list, action: None } => {
            wait(runs::list(session, (all, status), sort, list))
        }
        Command::Retry { runs } => wait(work::retry(session, runs)),
        Command::Cancel { runs } => wait(remove::cancel(session, runs)),
        Command::Doctor { preflight: true, .. } => doctor::preflight(session),
        Command::Doctor { fix: true, dry_run, .. } => wait(doctor::fix(session, dry_run)),
        Command::Doctor { .. } => wait(doctor::doctor(session)),
        Command::Db { config, action } => db::db(session, config.as_deref(), action),
        Command::Daemon { config } => daemon::daemon(config.as_deref()),
        Command::Version => wait(version::version(session)),
        Command::Completions { shell } => completions::completions(session, shell),
    }
}

/// Waits for a command that speaks to the daemon.
fn wait(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        let what = "failed to start the command's event loop";
        let mut stuck = fault("command.runtime", ErrorClass::Internal, what);
        stuck.cause.push(error.to_string());
        Failure::from(stuck)
    })?;
    runtime.block_on(command)
}

/// Tells what clap made of a command line that it could not make a command of.
fn misunderstood(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if error.use_stderr() && wants_json(arguments) {
        let text = error.render().to_string();
        let what = text.lines().next().unwrap_or_default();
        let what = what.strip_prefix("error: ").unwrap_or(what);
        let mut usage = fault("usage", ErrorClass::Usage, what);
        usage.remedy.push("airlock --help".to_owned());
        console::raw_error(&ErrorDocument::from(&usage.into()));
    } else {
        // Help that nobody reads to its end is no error.
        error.print().unwrap_or_default();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(ErrorClass::Usage.exit()))
}

/// Whether a command line that is wrong asks for JSON all the same.
fn wants_json(arguments: &[OsString]) -> bool {
    let json = |pair: &[OsString]| matches!(pair, [key, value] if (key == "--output" || key == "-o") && value == "json");
    let one = |argument: &OsString| argument == "--output=json" || argument == "-ojson";
    arguments.windows(2).any(json) || arguments.iter().any(one)
}

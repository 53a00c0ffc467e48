//! `db`: the daemon's database as a file, with and without a daemon.

use std::io;
use std::path::{Path, PathBuf};

use airlock_protocol::control::{ErrorClass, Fault};
use serde::Serialize;

use super::Session;
use crate::cli::args::DbAction;
use crate::cli::failure::{Exit, Failure};
use crate::cli::json::Document;
use crate::cli::pen::Sign;
use crate::config::{Config, DEFAULT_DROPINS};
use crate::daemon::DaemonLock;
use crate::fault::{Explain as _, fault};
use crate::store::{StoreFault, file_of, restore};

/// What became of a database.
#[derive(Debug, Serialize)]
struct Told {
    /// What was done: `backup`, `check`, `restore`, `set_aside`.
    action: &'static str,
    /// The file that it was done to, or that it made.
    file: PathBuf,
    /// Where the database that was replaced is kept.
    kept: Option<PathBuf>,
}

/// `db backup|check|restore|set-aside`
pub(crate) fn db(
    session: &Session,
    config: Option<&Path>,
    action: DbAction,
) -> Result<Exit, Failure> {
    let config = Config::load(config, Path::new(DEFAULT_DROPINS));
    let state_dir = config.map_err(|error| Failure::from(error.fault()))?.state_dir;
    let database = file_of(&state_dir);
    let (told, text, next) = match action {
        DbAction::Backup { file } => {
            let made = restore::back_up_file(&database, &file);
            made.map_err(|error| told(&error, "back the database up", &database))?;
            let text = format!("{} is a consistent copy, and was checked", file.display());
            (Told { action: "backup", file, kept: None }, text, None)
        }
        DbAction::Check { file } => {
            let file = file.unwrap_or(database);
            let version = restore::check_file(&file);
            let version = version.map_err(|error| told(&error, "check the database", &file))?;
            let text = format!("{} is sound, schema {version}", file.display());
            (Told { action: "check", file, kept: None }, text, None)
        }
        DbAction::Restore { file } => {
            let _lock = lock(&state_dir)?;
            let kept = restore::restore(&state_dir, &file);
            let kept = kept.map_err(|error| told(&error, "restore the database", &file))?;
            let text = format!("{} is the database now", file.display());
            (Told { action: "restore", file, kept }, text, Some(NEXT))
        }
        DbAction::SetAside => {
            let _lock = lock(&state_dir)?;
            let kept = restore::set_aside(&state_dir);
            let kept = kept.map_err(|error| told(&error, "set the database aside", &database))?;
            let text = "the next start makes a new database".to_owned();
            (Told { action: "set_aside", file: database, kept }, text, Some(NEXT))
        }
    };
    let console = &session.console;
    if console.json {
        console.document(&Document::new("airlock.db/1", told))?;
        return Ok(Exit::OK);
    }
    let pen = console.err;
    console.say(&format!("{} {}\n", pen.signed(Sign::Done), pen.text(&text)));
    if let Some(kept) = &told.kept {
        console.say(&format!("  kept  {}\n", pen.text(&kept.display().to_string())));
    }
    if let Some(next) = next {
        console.say(&format!("  next  {next}\n"));
    }
    Ok(Exit::OK)
}

const NEXT: &str = "systemctl start airlock.service && airlock doctor --fix";

/// Takes the state directory, so that no daemon has the database.
fn lock(state_dir: &Path) -> Result<DaemonLock, Failure> {
    DaemonLock::take(state_dir).map_err(|mut held| {
        if held.class == ErrorClass::Conflict {
            held.remedy = vec!["systemctl stop airlock.socket airlock.service".to_owned()];
        }
        held.into()
    })
}

/// What went wrong, in the operator's words: most of it is a name or a permission.
fn told(error: &StoreFault, what: &str, file: &Path) -> Failure {
    let message = format!("failed to {what} at {}", file.display());
    let failed = |class, code: &str| -> Fault { fault(class, code, &message).because(error) };
    let kind = if let StoreFault::File { source, .. } = error { Some(source.kind()) } else { None };
    if kind == Some(io::ErrorKind::NotFound) {
        return failed(ErrorClass::NotFound, "db.absent").into();
    }
    if kind == Some(io::ErrorKind::AlreadyExists) {
        return failed(ErrorClass::Conflict, "db.exists").into();
    }
    if kind == Some(io::ErrorKind::PermissionDenied) {
        let denied = failed(ErrorClass::Unavailable, "db.permission");
        return denied.next("do the same as root").into();
    }
    let mut told = error.fault();
    told.message = message;
    // What heals the database that is in use does not heal a backup.
    told.remedy.clear();
    told.into()
}

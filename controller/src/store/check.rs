//! The look through the whole database after an unclean stop, on a connection of its own.
//!
//! It reads every page, which takes as long as the database is large (docs/decisions/0012). So a
//! start waits for it a little, which is enough for most, and goes on beside it if it takes longer:
//! what is on record is served and carried on, and nothing is removed by it until the check has
//! passed. If it does not pass, or cannot be carried out, nothing is written any more.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection;

/// What is known of the database's soundness.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It was closed cleanly, or its check has passed.
    Sound,
    /// It is being checked.
    Checking,
    /// It is damaged, or could not be checked: why.
    Damaged(String),
}

/// A check, or none that was needed.
#[derive(Clone, Debug)]
pub(super) struct Check(Arc<(Mutex<Verdict>, Condvar)>);

impl Check {
    /// Of a database that was closed cleanly.
    pub(super) fn unneeded() -> Self {
        Self(Arc::new((Mutex::new(Verdict::Sound), Condvar::new())))
    }

    /// Starts to check a database.
    pub(super) fn start(path: PathBuf) -> Self {
        let check = Self(Arc::new((Mutex::new(Verdict::Checking), Condvar::new())));
        let told = check.clone();
        let begun = std::thread::Builder::new().name("db-check".to_owned()).spawn(move || {
            let checked =
                connection::look(&path).and_then(|look| connection::check_at_start(&look));
            match checked {
                Ok(()) => told.conclude(Verdict::Sound),
                Err(error) => {
                    let fault = error.fault();
                    tracing::error!(cause = ?fault.cause, "the database did not pass its check");
                    let why = fault.cause.last().cloned().unwrap_or(fault.message);
                    told.conclude(Verdict::Damaged(why));
                }
            }
        });
        if let Err(error) = begun {
            check.conclude(Verdict::Damaged(format!("it could not be checked: {error}")));
        }
        check
    }

    /// Waits for the verdict, for so long at most.
    pub(super) fn wait(&self, at_most: Duration) -> Verdict {
        let waits = |verdict: &mut Verdict| *verdict == Verdict::Checking;
        let waited = self.0.1.wait_timeout_while(self.lock(), at_most, waits);
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// What is known so far.
    pub(super) fn verdict(&self) -> Verdict {
        self.lock().clone()
    }

    fn conclude(&self, verdict: Verdict) {
        *self.lock() = verdict;
        self.0.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Verdict> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The day's copy of the database, made by the daemon itself.

use std::time::Duration;

use airlock_policy::size::ByteSize;
use airlock_protocol::control::{HealthLine, HealthState};

use super::Daemon;
use super::health::line;
use crate::store::now;

/// How often is looked whether a copy is due.
const LOOK: Duration = Duration::from_mins(1);

/// And how often while the database is not yet known to be whole, as at the very first start.
const SOON: Duration = Duration::from_secs(5);

/// How long the first copy of all may take to come.
const FIRST: Duration = Duration::from_mins(10);

/// A copy that is older than this many intervals is worth a look.
const LATE: i64 = 2;

impl Daemon {
    /// Makes a copy whenever one is due. Never ends.
    pub(super) async fn keep_backups(self) {
        let keep = usize::try_from(self.config.backup.keep).unwrap_or(1);
        loop {
            // Of a database that does not know what is here, or is not known to be sound, no copy is
            // worth an older one's place.
            let is_whole = self.world().store.is_trusted().await.unwrap_or(false);
            if is_whole && self.is_backup_due() {
                match self.world().store.back_up(keep).await {
                    Ok(path) => tracing::info!(path = %path.display(), "backed the database up"),
                    Err(error) => {
                        let told = error.fault();
                        tracing::error!(code = told.code, cause = ?told.cause, "no backup was made");
                    }
                }
            }
            tokio::time::sleep(if is_whole { LOOK } else { SOON }).await;
        }
    }

    fn is_backup_due(&self) -> bool {
        let newest = self.world().store.backups().newest_daily();
        newest.is_none_or(|kept| age(kept.made_at) >= self.interval())
    }

    /// Seconds from one copy to the next.
    fn interval(&self) -> i64 {
        i64::try_from(self.config.backup.every.duration().as_secs()).unwrap_or(i64::MAX)
    }

    /// How old the newest copy is.
    pub(super) fn backup_health(&self) -> HealthLine {
        let remedy = Some("journalctl -u airlock | grep backup");
        let Some(kept) = self.world().store.backups().newest_daily() else {
            let is_late = self.started.elapsed() > FIRST;
            let state = if is_late { HealthState::Warning } else { HealthState::Ok };
            return line("backup", state, "there is none yet", remedy.filter(|_| is_late));
        };
        let (age, name) = (age(kept.made_at), kept.path.display());
        let bytes = std::fs::metadata(&kept.path).map_or(0, |data| data.len());
        let text = format!("{name}, {}, {} h old", ByteSize(bytes), age / 3600);
        let is_late = age > self.interval().saturating_mul(LATE);
        let state = if is_late { HealthState::Warning } else { HealthState::Ok };
        line("backup", state, &text, remedy.filter(|_| is_late))
    }
}

/// Seconds since then. What was made in the future, as a clock that was set back has it, is new.
fn age(made_at: i64) -> i64 {
    (now() / 1000).saturating_sub(made_at).max(0)
}

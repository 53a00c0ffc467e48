//! What is well and what is not: few lines, each from a look at the thing itself.

use std::iter;
use std::path::Path;

use airlock_policy::name::{DeviceName, RequestId};
use airlock_policy::size::ByteSize;
use airlock_protocol::control::{HealthLine, HealthState, Listing};
use airlock_protocol::reply::{LateOperation, PoolMode, PoolStatus, PoolUsage};

use super::Daemon;
use crate::store::Verdict;
use crate::store::unreadable::{self, SetAside};

/// Use of the pool's data or metadata, in percent, from which on no new work is taken.
const POOL_FAILED: u64 = 90;
/// And from which on it is worth a look.
const POOL_WARNING: u64 = 68;

impl Daemon {
    /// Looks at helper, pool, disks and database.
    pub(super) async fn health(&self, request: &RequestId) -> Listing<HealthLine> {
        let (helper, is_up) = self.helper_health(request).await;
        let pool = if is_up {
            self.pool_health(request).await
        } else {
            vec![line("pool", HealthState::Unknown, "the helper does not answer", None)]
        };
        let mut items = vec![helper];
        items.extend(pool);
        items.extend(self.disk_health());
        items.push(self.database_health().await);
        items.extend(self.unreadable_health().await);
        items.push(self.backup_health());
        if is_up {
            items.push(self.records_health(request).await);
        }
        Listing { items, next: None }
    }

    async fn helper_health(&self, request: &RequestId) -> (HealthLine, bool) {
        match self.world().helper.hello(request).await {
            Ok(welcome) => {
                let text = format!("{}, protocol {}", welcome.version, welcome.protocol);
                let shown = if welcome.confined {
                    line("helper", HealthState::Ok, &format!("{text}, confined"), None)
                } else {
                    let text = format!("{text}, not confined: the kernel lacks something");
                    line("helper", HealthState::Warning, &text, Some("airlock doctor --preflight"))
                };
                (shown, true)
            }
            Err(error) => {
                let told = error.fault("greet the helper");
                let remedy = told.remedy.first().map(String::as_str);
                let text = told.cause.last().unwrap_or(&told.message);
                (line("helper", HealthState::Failed, text, remedy), false)
            }
        }
    }

    async fn pool_health(&self, request: &RequestId) -> Vec<HealthLine> {
        let pool = match self.world().helper.pool_status(request).await {
            Ok(PoolStatus::Up(usage)) => {
                return iter::once(pool_line(&usage))
                    .chain(usage.late.iter().map(late_line))
                    .collect();
            }
            Ok(PoolStatus::Down) => {
                line("pool", HealthState::Failed, "not up", Some("airlock pool setup"))
            }
            Err(error) => {
                let told = error.fault("ask for the pool's status");
                let text = told.cause.last().unwrap_or(&told.message);
                line("pool", HealthState::Unknown, text, told.remedy.first().map(String::as_str))
            }
        };
        vec![pool]
    }

    fn disk_health(&self) -> Vec<HealthLine> {
        let (state, blobs) = (&self.config.state_dir, self.config.blobs_dir());
        let mut lines = vec![disk_line("disk", &blobs, self.config.limits.disk_reserve)];
        let device = |path: &Path| rustix::fs::stat(path).ok().map(|stat| stat.st_dev);
        if device(state) != device(&blobs) {
            lines.push(disk_line("state disk", state, ByteSize::mib(64)));
        }
        lines
    }

    /// A line for the records that were set aside, where there are any.
    async fn unreadable_health(&self) -> Option<HealthLine> {
        let aside = match self.world().store.read(unreadable::all).await {
            Ok(aside) => aside,
            Err(error) => {
                let told = error.fault();
                let text = told.cause.last().unwrap_or(&told.message);
                return Some(line("runs", HealthState::Unknown, text, None));
            }
        };
        let first = aside.first()?;
        let SetAside { kind, id, why, .. } = first;
        let count = aside.len();
        let text = format!("{count} set aside as unreadable, first {kind} {id}: {why}");
        Some(line("runs", HealthState::Warning, &text, Some("airlock doctor --fix")))
    }

    async fn database_health(&self) -> HealthLine {
        match (self.world().store.bytes().await, self.world().store.verdict()) {
            (Ok(_), Verdict::Damaged(why)) => {
                let text = format!("damaged, nothing is written any more: {why}");
                let restore = self.world().store.backups().list().into_iter().next();
                let restore = restore.map(|kept| {
                    format!("stop the daemon, then airlock db restore {}", kept.path.display())
                });
                let set_aside = "stop the daemon, then airlock db set-aside";
                line(
                    "database",
                    HealthState::Failed,
                    &text,
                    Some(restore.as_deref().unwrap_or(set_aside)),
                )
            }
            (Ok(bytes), Verdict::Checking) => {
                let text = format!(
                    "{}, being checked after an unclean stop; nothing is tidied away until then",
                    ByteSize(bytes)
                );
                line("database", HealthState::Warning, &text, None)
            }
            (Ok(bytes), Verdict::Sound) => {
                let text = format!("{}, readable", ByteSize(bytes));
                line("database", HealthState::Ok, &text, None)
            }
            (Err(error), _) => {
                let told = error.fault();
                let text = told.cause.last().unwrap_or(&told.message);
                line("database", HealthState::Failed, text, Some("journalctl -u airlock"))
            }
        }
    }
}

pub(super) fn line(name: &str, state: HealthState, text: &str, remedy: Option<&str>) -> HealthLine {
    let (name, text) = (name.to_owned(), text.to_owned());
    HealthLine { name, state, text, remedy: remedy.map(str::to_owned) }
}

fn percent(used: u64, total: u64) -> u64 {
    used.saturating_mul(100).checked_div(total).unwrap_or(0)
}

fn pool_line(usage: &PoolUsage) -> HealthLine {
    let data = percent(usage.data_used_blocks, usage.data_total_blocks);
    let metadata = percent(usage.metadata_used_blocks, usage.metadata_total_blocks);
    let free = usage.data_total_blocks.saturating_sub(usage.data_used_blocks);
    let free = ByteSize(free.saturating_mul(usage.block_bytes));
    let mode = match usage.mode {
        PoolMode::ReadWrite => "read-write",
        PoolMode::ReadOnly => "read-only",
        PoolMode::OutOfDataSpace => "out of data space",
        PoolMode::Failed => "failed",
    };
    let text = format!("{mode}, data {data}% ({free} free), metadata {metadata}%");
    let most = data.max(metadata);
    if usage.needs_check {
        let text = format!("{text}, needs a check");
        line("pool", HealthState::Failed, &text, Some("airlock doctor"))
    } else if usage.mode != PoolMode::ReadWrite || most >= POOL_FAILED {
        line("pool", HealthState::Failed, &text, Some("airlock images"))
    } else if most >= POOL_WARNING {
        line("pool", HealthState::Warning, &text, Some("airlock images"))
    } else {
        line("pool", HealthState::Ok, &text, None)
    }
}

/// An operation that hangs, and what it is done to: nothing else is done to that meanwhile.
fn late_line(late: &LateOperation) -> HealthLine {
    let LateOperation { thin, step, seconds } = *late;
    let device = thin.map_or(DeviceName::Pool, DeviceName::Thin);
    let text = format!("{device} hangs: to {} takes {seconds} s so far", step.text());
    line("device", HealthState::Failed, &text, Some("journalctl -u airlock-dm-helper"))
}

fn disk_line(name: &str, folder: &Path, reserve: ByteSize) -> HealthLine {
    let disk = match rustix::fs::statvfs(folder) {
        Ok(disk) => disk,
        Err(error) => return line(name, HealthState::Unknown, &error.to_string(), None),
    };
    let free = ByteSize(disk.f_bavail.saturating_mul(disk.f_frsize));
    let text = format!("{free} free in {}, reserve {reserve}", folder.display());
    if free <= reserve {
        line(name, HealthState::Failed, &text, Some("airlock images"))
    } else if free.0 < reserve.0.saturating_mul(2) {
        line(name, HealthState::Warning, &text, Some("airlock images"))
    } else {
        line(name, HealthState::Ok, &text, None)
    }
}

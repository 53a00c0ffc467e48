//! What the helper is put together from, and what several verbs need of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use airlock_policy::errand::{Answer, Errand, ThinDevice};
use airlock_policy::helper_config::HelperConfig;
use airlock_policy::name::{DeviceName, RequestId, ThinId};
use airlock_protocol::not_done::{NotDone, Refusal, Step, StepFailure};
use rustix::io::Errno;

use crate::audit;
use crate::dm::table::Target;
use crate::dm::{Access, ChangeTable, Device};
use crate::errands::Errands;
use crate::ledger::{Book, Ledger};
use crate::permit::refuse;
pub(crate) use crate::turns::Helper;

/// What the helper is put together from.
pub struct Parts {
    /// What root decided.
    pub config: HelperConfig,
    /// The device table.
    pub table: Arc<dyn ChangeTable>,
    /// The ledger.
    pub ledger: Ledger,
    /// The link to the launcher.
    pub errands: Errands,
    /// Whether every part of the process's confinement is in force.
    pub confined: bool,
    /// Ends the process, to be started anew: called when the ledger is broken.
    pub give_up: fn(),
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parts")
    }
}

impl Helper {
    pub(crate) fn book(&self) -> &Book {
        self.ledger.book()
    }

    /// Has the launcher do something short and answer that it is done.
    pub(crate) fn errand(
        &self,
        request: &RequestId,
        errand: &Errand,
        within: Duration,
    ) -> Result<(), NotDone> {
        let answer = self.errands.call(request, errand, within)?;
        if answer == Answer::Done { Ok(()) } else { Err(unexpected(&answer)) }
    }

    pub(crate) fn device_time(&self) -> Duration {
        Duration::from_secs(self.config.limits.device_seconds)
    }

    /// Twice what the launcher gives a tool: it is the launcher that ends the tool, not we.
    pub(crate) fn tool_time(&self) -> Duration {
        Duration::from_secs(self.config.limits.tool_seconds.saturating_mul(2))
    }

    /// What the launcher gives a worker to mount its volume, and time to be gone.
    pub(crate) fn mount_time(&self) -> Duration {
        self.device_time().saturating_add(Duration::from_secs(5))
    }

    /// What the launcher gives a worker, and time to be gone.
    pub(crate) fn extraction_time(&self) -> Duration {
        Duration::from_secs(self.config.limits.extract_seconds).saturating_add(self.device_time())
    }

    /// Likewise for a verification.
    pub(crate) fn verification_time(&self) -> Duration {
        Duration::from_secs(self.config.limits.verify_seconds).saturating_add(self.device_time())
    }

    /// Brings a device up with this table. One that a crash left half made is made anew.
    pub(crate) fn bring_up(
        &mut self,
        name: DeviceName,
        target: &Target,
        access: Access,
    ) -> Result<(Device, bool), NotDone> {
        match self.table.find(name).map_err(NotDone::Failed)? {
            Some(device) if device.live => {
                let (kind, sectors, line) = self.table.loaded(name).map_err(NotDone::Failed)?;
                let read_only = access == Access::ReadOnly;
                // The kernel repeats a table with what it added, behind it.
                let same = kind == target.kind
                    && sectors == target.sectors
                    && line.trim_end() == target.line
                    && device.read_only == read_only;
                if same {
                    return Ok((device, false));
                }
                audit::event("other-table", &[("device", &name), ("table", &line)]);
                Err(NotDone::Failed(StepFailure { step: Step::ReadTable, errno: 0 }))
            }
            half_made => {
                if half_made.is_some() {
                    self.remove(name)?;
                }
                let device = self.create(name, target, access)?;
                Ok((device, true))
            }
        }
    }

    /// Brings a thin device up, in its own size, which mostly is that of every volume of the pool.
    pub(crate) fn bring_up_thin(
        &mut self,
        thin: ThinId,
        access: Access,
        handed_out: bool,
    ) -> Result<(ThinDevice, bool), NotDone> {
        let pool = self.pool_device()?;
        let Some(record) = self.book().pool() else { return refuse(Refusal::PoolDown) };
        let sectors = self.book().sectors(thin).unwrap_or(record.volume_sectors);
        let target = Target { handed_out, ..Target::thin(pool.number, thin, sectors) };
        let (device, made) = self.bring_up(DeviceName::Thin(thin), &target, access)?;
        Ok((ThinDevice { thin, minor: device.number.minor }, made))
    }

    /// Takes a thin device out of the device table, if it is there. Never by force.
    pub(crate) fn take_down(&mut self, thin: ThinId) -> Result<(), NotDone> {
        let name = DeviceName::Thin(thin);
        if self.table.find(name).map_err(NotDone::Failed)?.is_some() {
            self.remove(name)?;
        }
        Ok(())
    }

    /// Has the manifest of a volume that is gone removed. Nobody waits for it: what a crash leaves
    /// is removed at the next start.
    pub(crate) fn forget_manifest(&self, request: &RequestId, thin: ThinId) {
        let told = self.errands.begin(request, &Errand::Forget { thin }, move |answer| {
            if answer != Answer::Done {
                audit::event("orphan", &[("thin", &thin)]);
            }
        });
        if told.is_err() {
            audit::event("orphan", &[("thin", &thin)]);
        }
    }

    pub(crate) fn pool_device(&self) -> Result<Device, NotDone> {
        match self.table.find(DeviceName::Pool).map_err(NotDone::Failed)? {
            Some(device) if device.live => Ok(device),
            Some(_) | None => refuse(Refusal::PoolDown),
        }
    }
}

/// The refusal that a failure for want of somebody letting go of a device is.
pub(crate) fn held_if_busy(failure: NotDone) -> NotDone {
    match failure {
        NotDone::Failed(StepFailure { errno, .. }) if errno == Errno::BUSY.raw_os_error() => {
            NotDone::Refused(Refusal::Held)
        }
        NotDone::Failed(_) | NotDone::Late(_) | NotDone::Refused(_) | NotDone::Stopping => failure,
    }
}

/// The launcher answered an errand with an answer to another kind.
pub(crate) fn unexpected(answer: &Answer) -> NotDone {
    audit::event("odd-answer", &[("answer", &format!("{answer:?}"))]);
    NotDone::Failed(StepFailure { step: Step::Launcher, errno: 0 })
}

//! `mount`: a snapshot is mounted on the host, instead of being handed out (HOST-2).

use std::time::Duration;

use airlock_policy::errand::Errand;
use airlock_policy::helper_config::LimitsConfig;
use airlock_policy::name::DeviceName;
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::Mapped;
use airlock_protocol::request::Mount;

use crate::dm::Access;
use crate::helper::{Helper, held_if_busy};
use crate::ledger::Record;
use crate::permit::{Operation, Permit, refuse};

impl Operation for Mount {
    type Reply = Mapped;

    fn patience(limits: &LimitsConfig) -> Duration {
        Duration::from_secs(limits.tool_seconds.saturating_mul(2))
    }

    fn check(&self, helper: &Helper) -> Result<(), NotDone> {
        helper.require_pool()?;
        let Some(known) = helper.book().snapshot(&self.name) else {
            return refuse(Refusal::NoSuchSnapshot);
        };
        if known.handed_out {
            return refuse(Refusal::HandedOut);
        }
        if !known.is_whole() {
            return refuse(Refusal::NotGrown);
        }
        let device = helper.table.find(DeviceName::Thin(known.thin)).map_err(NotDone::Failed)?;
        if device.is_some() && !known.mounts { refuse(Refusal::Mapped) } else { Ok(()) }
    }

    fn perform(permit: Permit<Self>, helper: &mut Helper) -> Result<Mapped, NotDone> {
        let Self { request, name } = permit.into_request();
        let known = helper.book().snapshot(&name).cloned();
        let known = known.ok_or(NotDone::Refused(Refusal::NoSuchSnapshot))?;
        let (thin, read_only) = (known.thin, known.read_only);
        if !known.mounts {
            // Before the device appears: what is mounted is not handed out, whatever happens.
            helper.record(Record::Mounts { thin, mounts: true })?;
        }
        let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
        let (device, made) = helper.bring_up_thin(thin, access, false)?;
        let errand = Errand::Mount { device, name, read_only };
        if let Err(failure) = helper.errand_on(thin, &request, (errand, helper.tool_time())) {
            // A device that can go was not mounted, or no longer is.
            if helper.take_down(thin).is_ok() {
                helper.record(Record::Mounts { thin, mounts: false })?;
            }
            return Err(held_if_busy(failure));
        }
        Ok(helper.mapped(device, made))
    }
}

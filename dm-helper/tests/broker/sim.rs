//! A device table in memory, with a thin pool that can die at any call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use airlock_dm_helper::dm::table::{Number, Target};
use airlock_dm_helper::dm::{Access, ChangeTable, Device, DeviceTable};
use airlock_policy::name::DeviceName;
use airlock_protocol::not_done::{Step, StepFailure};

pub(crate) const EBUSY: i32 = 16;
const ENODATA: i32 = 61;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const EIO: i32 = 5;

/// When the machine dies: at this change of the device table, counted from 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Death {
    Never,
    /// The call has no effect.
    Before(u32),
    /// The call has its effect, and nobody hears of it.
    After(u32),
}

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) thins: BTreeSet<u32>,
    pub(crate) transaction: u64,
    pub(crate) devices: BTreeMap<String, SimDevice>,
    pub(crate) death: Death,
    pub(crate) changes: u32,
    pub(crate) dead: bool,
    /// Data blocks in use; at first there are 1000.
    pub(crate) used: u64,
    /// Blocks of the metadata device, and as many as the pool knows of.
    pub(crate) metadata: (u64, u64),
    /// What the kernel says of the pool's mode, where it is neither well nor merely full.
    pub(crate) mode: Option<&'static str>,
    /// How often a reload leaves the device suspended.
    pub(crate) stuck: u32,
    /// How often the pool's table was changed.
    pub(crate) reloads: u32,
    /// How long each change of the device table takes, in milliseconds.
    pub(crate) slow: u64,
    /// Devices whose changes hang until they are taken out of here.
    pub(crate) hung: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct SimDevice {
    pub(crate) minor: u32,
    pub(crate) open_count: u32,
    pub(crate) read_only: bool,
    pub(crate) suspended: bool,
    kind: String,
    sectors: u64,
    line: String,
}

/// The table: any number of them look at the same machine.
#[derive(Clone, Debug)]
pub(crate) struct Sim(pub(crate) Arc<Mutex<Machine>>);

impl Sim {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Machine {
            thins: BTreeSet::new(),
            transaction: 0,
            devices: BTreeMap::new(),
            death: Death::Never,
            changes: 0,
            dead: false,
            used: 0,
            metadata: (4096, 4096),
            mode: None,
            stuck: 0,
            reloads: 0,
            slow: 0,
            hung: BTreeSet::new(),
        })))
    }

    /// A power cut: the device table is empty, the pool is as it was committed.
    pub(crate) fn reboot(&self) {
        let mut machine = self.0.lock().unwrap();
        machine.devices.clear();
        machine.death = Death::Never;
        machine.dead = false;
    }

    /// Hangs, as the kernel does: nothing ends it but the device.
    fn hang(&self, name: DeviceName) {
        while self.0.lock().unwrap().hung.contains(&name.to_string()) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    fn alive(&self, step: Step) -> Result<std::sync::MutexGuard<'_, Machine>, StepFailure> {
        let machine = self.0.lock().unwrap();
        if machine.dead { Err(StepFailure { step, errno: EIO }) } else { Ok(machine) }
    }

    fn change<T>(
        &self,
        step: Step,
        effect: impl FnOnce(&mut Machine) -> Result<T, i32>,
    ) -> Result<T, StepFailure> {
        let failure = |errno| StepFailure { step, errno };
        let slow = self.0.lock().unwrap().slow;
        std::thread::sleep(std::time::Duration::from_millis(slow));
        let mut machine = self.alive(step)?;
        let number = machine.changes;
        machine.changes += 1;
        if machine.death == Death::Before(number) {
            machine.dead = true;
            return Err(failure(EIO));
        }
        let result = effect(&mut machine).map_err(failure);
        if machine.death == Death::After(number) {
            machine.dead = true;
            return Err(failure(EIO));
        }
        result
    }
}

impl DeviceTable for Sim {
    fn find(&self, name: DeviceName) -> Result<Option<Device>, StepFailure> {
        let machine = self.alive(Step::ReadTable)?;
        Ok(machine.devices.get(&name.to_string()).map(|device| Device {
            number: Number { major: 253, minor: device.minor },
            open_count: device.open_count,
            live: !device.suspended,
            suspended: device.suspended,
            read_only: device.read_only,
        }))
    }

    fn loaded(&self, name: DeviceName) -> Result<(String, u64, String), StepFailure> {
        let machine = self.alive(Step::ReadTable)?;
        let device = &machine.devices[&name.to_string()];
        Ok((device.kind.clone(), device.sectors, device.line.clone()))
    }

    fn pool_status(&self) -> Result<String, StepFailure> {
        let machine = self.alive(Step::ReadTable)?;
        let (transaction, used) = (machine.transaction, machine.used);
        let total = machine.devices.get("airlock-pool").map_or(0, |pool| pool.sectors / 256);
        let mode = if used == total { "out_of_data_space" } else { "rw" };
        let (mode, metadata) = (machine.mode.unwrap_or(mode), machine.metadata.1);
        Ok(format!(
            "{transaction} 10/{metadata} {used}/{total} - {mode} discard_passdown error_if_no_space - 1024"
        ))
    }

    fn list(&self) -> Result<Vec<(DeviceName, u32)>, StepFailure> {
        let machine = self.alive(Step::ReadTable)?;
        let ours = machine.devices.iter();
        Ok(ours.filter_map(|(name, it)| Some((DeviceName::parse(name)?, it.minor))).collect())
    }
}

impl ChangeTable for Sim {
    fn create(
        &self,
        name: DeviceName,
        target: &Target,
        access: Access,
    ) -> Result<Device, StepFailure> {
        self.hang(name);
        self.change(Step::CreateDevice, |machine| {
            if let DeviceName::Thin(thin) = name
                && !machine.thins.contains(&u32::from(thin))
            {
                return Err(ENODATA);
            }
            let taken: BTreeSet<u32> = machine.devices.values().map(|it| it.minor).collect();
            let minor = (0..9_999).find(|minor| !taken.contains(minor)).unwrap();
            let read_only = access == Access::ReadOnly;
            let device = SimDevice {
                minor,
                open_count: 0,
                read_only,
                suspended: false,
                kind: target.kind.to_owned(),
                sectors: target.sectors,
                line: target.line.clone(),
            };
            if machine.devices.contains_key(&name.to_string()) {
                return Err(EBUSY);
            }
            machine.devices.insert(name.to_string(), device);
            machine.metadata.1 = machine.metadata.0;
            let number = Number { major: 253, minor };
            Ok(Device { number, open_count: 0, live: true, suspended: false, read_only })
        })
    }

    fn reload(&self, name: DeviceName, target: &Target) -> Result<(), StepFailure> {
        self.change(Step::Resume, |machine| {
            machine.reloads += 1;
            let stuck = machine.stuck > 0;
            machine.stuck = machine.stuck.saturating_sub(1);
            let device = machine.devices.get_mut(&name.to_string()).ok_or(ENODATA)?;
            // The kernel shrinks no pool, and suspends it before it says so.
            if stuck || target.sectors < device.sectors {
                device.suspended = true;
                return Err(EIO);
            }
            (device.sectors, device.line) = (target.sectors, target.line.clone());
            machine.metadata.1 = machine.metadata.0;
            if machine.mode == Some("ro") {
                machine.mode = None;
            }
            Ok(())
        })
    }

    fn resume(&self, name: DeviceName) -> Result<(), StepFailure> {
        self.change(Step::Resume, |machine| {
            machine.devices.get_mut(&name.to_string()).ok_or(ENODATA)?.suspended = false;
            Ok(())
        })
    }

    fn remove(&self, name: DeviceName) -> Result<(), StepFailure> {
        self.hang(name);
        self.change(Step::RemoveDevice, |machine| {
            if machine.devices.get(&name.to_string()).is_some_and(|it| it.open_count > 0) {
                return Err(EBUSY);
            }
            machine.devices.remove(&name.to_string());
            Ok(())
        })
    }

    fn message(&self, text: &str) -> Result<(), StepFailure> {
        self.hang(DeviceName::Pool);
        let words: Vec<&str> = text.split(' ').collect();
        let number = |word: &str| word.parse::<u32>().unwrap();
        self.change(Step::PoolMessage, |machine| match words.as_slice() {
            ["create_thin", thin] if machine.thins.insert(number(thin)) => Ok(()),
            ["create_snap", thin, origin]
                if machine.thins.contains(&number(origin))
                    && machine.thins.insert(number(thin)) =>
            {
                Ok(())
            }
            ["create_thin", _] | ["create_snap", _, _] => Err(EEXIST),
            ["delete", thin] => {
                let name = format!("airlock-v{:06x}", number(thin));
                if machine.devices.contains_key(&name) {
                    return Err(EBUSY);
                }
                if machine.thins.remove(&number(thin)) { Ok(()) } else { Err(ENODATA) }
            }
            ["set_transaction_id", old, new] if u64::from(number(old)) == machine.transaction => {
                machine.transaction = u64::from(number(new));
                Ok(())
            }
            _ => Err(EINVAL),
        })
    }
}

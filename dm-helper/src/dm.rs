//! The device table (NAME-2). The only file that names `devicemapper`.
//!
//! That crate waits for udev on a semaphore, without a bound, whenever `/run/udev/control` is to be
//! seen, whatever the flags say. It is never to be seen: see [`crate::confine`].

pub mod status;
pub mod table;

use airlock_policy::name::DeviceName;
use airlock_protocol::not_done::{Step, StepFailure};
use devicemapper::errors::Error as CoreFailure;
use devicemapper::{
    DM, DevId, DeviceInfo, DmError, DmFlags, DmName, DmOptions, DmUdevFlags, DmUuid,
};
use rustix::io::Errno;

use table::{Number, Target};

/// A device of ours in the device table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Device {
    /// Its number.
    pub number: Number,
    /// How many hold it open.
    pub open_count: u32,
    /// Whether it has a table and is not suspended.
    pub live: bool,
    /// Whether it has a table and is suspended: whoever uses it waits.
    pub suspended: bool,
    /// Whether it refuses writes.
    pub read_only: bool,
}

/// Whether a device takes writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// It does.
    ReadWrite,
    /// It does not.
    ReadOnly,
}

/// The device table, as much of it as is airlock's, to look at.
pub trait DeviceTable: Send + Sync {
    /// The device of this name; `None` where there is none. One with another's uuid is a failure.
    fn find(&self, name: DeviceName) -> Result<Option<Device>, StepFailure>;
    /// The type, length and parameters of a live device's table.
    fn loaded(&self, name: DeviceName) -> Result<(String, u64, String), StepFailure>;
    /// The pool's status line.
    fn pool_status(&self) -> Result<String, StepFailure>;
    /// Every device of ours, with its minor number.
    fn list(&self) -> Result<Vec<(DeviceName, u32)>, StepFailure>;
}

/// What changes it. Any of it may hang in the kernel: see [`crate::Worker`].
pub trait ChangeTable: DeviceTable {
    /// Creates a device, loads its table and resumes it. Where any of it fails, nothing is left.
    fn create(
        &self,
        name: DeviceName,
        target: &Target,
        access: Access,
    ) -> Result<Device, StepFailure>;
    /// Gives a live device another table, while it is in use. One call to the kernel suspends it,
    /// changes the table and resumes it: no crash of ours leaves it suspended (POOL-5).
    fn reload(&self, name: DeviceName, target: &Target) -> Result<(), StepFailure>;
    /// Resumes a device.
    fn resume(&self, name: DeviceName) -> Result<(), StepFailure>;
    /// Removes a device that nobody holds. Tries for about a second: udev may be looking at it.
    fn remove(&self, name: DeviceName) -> Result<(), StepFailure>;
    /// Sends the pool a message.
    fn message(&self, text: &str) -> Result<(), StepFailure>;
}

/// The kernel's device table.
pub struct KernelTable(DM);

impl std::fmt::Debug for KernelTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KernelTable")
    }
}

/// `/dev/mapper/control` could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open /dev/mapper/control: is dm_mod loaded, and does the unit allow the device?")]
pub struct NoControl(#[source] DmError);

impl KernelTable {
    /// Opens the control node.
    pub fn open() -> Result<Self, NoControl> {
        DM::new().map(Self).map_err(NoControl)
    }

    fn load_and_resume(
        &self,
        id: &DevId<'_>,
        target: &Target,
        flags: DmFlags,
    ) -> Stepped<DeviceInfo> {
        let lines = [(0, target.sectors, target.kind.to_owned(), target.line.clone())];
        self.0.table_load(id, &lines, options(flags)).map_err(at(Step::LoadTable))?;
        crash_point!(TableLoaded);
        let info = self.0.device_suspend(id, options(DmFlags::empty())).map_err(at(Step::Resume));
        crash_point!(DeviceUp);
        info
    }
}

type Stepped<T> = Result<T, StepFailure>;

impl DeviceTable for KernelTable {
    fn find(&self, name: DeviceName) -> Stepped<Option<Device>> {
        let text = name.to_string();
        let info = match self.0.device_info(&DevId::Name(dm_name(&text)?)) {
            Ok(info) => info,
            Err(error) if errno(&error) == Errno::NXIO.raw_os_error() => return Ok(None),
            Err(error) => return Err(at(Step::ReadTable)(error)),
        };
        let uuid = info.uuid().map(DmUuid::as_bytes);
        let is = |ours: &str| uuid == Some(ours.as_bytes());
        if !is(&name.uuid()) && !is(&name.handed_out_uuid()) {
            return Err(failure(Step::ReadTable, Errno::EXIST));
        }
        Ok(Some(device(&info)))
    }

    fn loaded(&self, name: DeviceName) -> Stepped<(String, u64, String)> {
        line(&self.0, name, DmFlags::DM_STATUS_TABLE)
    }

    fn pool_status(&self) -> Stepped<String> {
        // NOFLUSH: asking must not write metadata.
        line(&self.0, DeviceName::Pool, DmFlags::DM_NOFLUSH).map(|(_kind, _sectors, line)| line)
    }

    fn list(&self) -> Stepped<Vec<(DeviceName, u32)>> {
        let devices = self.0.list_devices().map_err(at(Step::ReadTable))?;
        let ours = devices.iter().filter_map(|(name, number, _event)| {
            let name = DeviceName::parse(std::str::from_utf8(name.as_bytes()).ok()?)?;
            Some((name, number.minor))
        });
        Ok(ours.collect())
    }
}

impl ChangeTable for KernelTable {
    fn create(&self, name: DeviceName, target: &Target, access: Access) -> Stepped<Device> {
        let text = name.to_string();
        let uuid = if target.handed_out { name.handed_out_uuid() } else { name.uuid() };
        let id = DevId::Name(dm_name(&text)?);
        let flags = match access {
            Access::ReadWrite => DmFlags::empty(),
            Access::ReadOnly => DmFlags::DM_READONLY,
        };
        let uuid = DmUuid::new(&uuid).map_err(at(Step::CreateDevice))?;
        self.0
            .device_create(dm_name(&text)?, Some(uuid), options(flags))
            .map_err(at(Step::CreateDevice))?;
        crash_point!(DeviceMade);
        match self.load_and_resume(&id, target, flags) {
            Ok(info) => Ok(device(&info)),
            Err(failure) => {
                // It was made a moment ago, and nothing was ever written through it.
                drop(self.0.device_remove(&id, options(DmFlags::empty())));
                Err(failure)
            }
        }
    }

    fn reload(&self, name: DeviceName, target: &Target) -> Stepped<()> {
        let text = name.to_string();
        let id = DevId::Name(dm_name(&text)?);
        self.load_and_resume(&id, target, DmFlags::empty()).map(drop).inspect_err(|_failure| {
            // Where the kernel came as far as suspending it, with whichever table it has now.
            self.resume(name).ok();
        })
    }

    fn resume(&self, name: DeviceName) -> Stepped<()> {
        let text = name.to_string();
        self.0
            .device_suspend(&DevId::Name(dm_name(&text)?), options(DmFlags::empty()))
            .map(drop)
            .map_err(at(Step::Resume))
    }

    fn remove(&self, name: DeviceName) -> Stepped<()> {
        let text = name.to_string();
        let id = DevId::Name(dm_name(&text)?);
        crash_point!(DeviceRemoving);
        self.0.device_remove(&id, options(DmFlags::empty())).map_err(at(Step::RemoveDevice))?;
        crash_point!(DeviceRemoved);
        Ok(())
    }

    fn message(&self, text: &str) -> Stepped<()> {
        let pool = DeviceName::Pool.to_string();
        let pool = DevId::Name(dm_name(&pool)?);
        crash_point!(MessageSending);
        self.0.target_msg(&pool, None, text).map_err(at(Step::PoolMessage))?;
        crash_point!(MessageSent);
        Ok(())
    }
}

fn line(dm: &DM, name: DeviceName, flags: DmFlags) -> Stepped<(String, u64, String)> {
    let text = name.to_string();
    let (_info, lines) = dm
        .table_status(&DevId::Name(dm_name(&text)?), options(flags))
        .map_err(at(Step::ReadTable))?;
    match <[_; 1]>::try_from(lines) {
        Ok([(0, sectors, kind, line)]) => Ok((kind, sectors, line)),
        Ok(_) | Err(_) => Err(StepFailure { step: Step::ReadTable, errno: 0 }),
    }
}

/// No rule of udev's but the one that makes the node shall act on a device of ours.
fn options(flags: DmFlags) -> DmOptions {
    let udev = DmUdevFlags::DM_UDEV_DISABLE_DM_RULES_FLAG
        | DmUdevFlags::DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG
        | DmUdevFlags::DM_UDEV_DISABLE_DISK_RULES_FLAG
        | DmUdevFlags::DM_UDEV_DISABLE_OTHER_RULES_FLAG
        | DmUdevFlags::DM_UDEV_DISABLE_LIBRARY_FALLBACK;
    DmOptions::default().set_flags(flags).set_udev_flags(udev)
}

fn device(info: &DeviceInfo) -> Device {
    let number = Number { major: info.device().major, minor: info.device().minor };
    let (has_table, suspended) = (
        info.flags().contains(DmFlags::DM_ACTIVE_PRESENT),
        info.flags().contains(DmFlags::DM_SUSPEND),
    );
    Device {
        number,
        open_count: u32::try_from(info.open_count()).unwrap_or(0),
        live: has_table && !suspended,
        suspended: has_table && suspended,
        read_only: info.flags().contains(DmFlags::DM_READONLY),
    }
}

fn dm_name(text: &str) -> Stepped<&DmName> {
    DmName::new(text).map_err(at(Step::ReadTable))
}

fn failure(step: Step, errno: Errno) -> StepFailure {
    StepFailure { step, errno: errno.raw_os_error() }
}

fn at(step: Step) -> impl FnOnce(DmError) -> StepFailure {
    move |error| StepFailure { step, errno: errno(&error) }
}

/// The kernel's reason; 0 where the failure is not the kernel's.
fn errno(error: &DmError) -> i32 {
    match error {
        DmError::Core(CoreFailure::Ioctl(_, _, _, reason)) => {
            std::io::Error::from(**reason).raw_os_error().unwrap_or(0)
        }
        DmError::Core(_) | DmError::Dm(_, _) => 0,
    }
}

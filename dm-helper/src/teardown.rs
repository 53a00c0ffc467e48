//! Takes the pool's devices out of the device table: for root at the machine, with the services
//! stopped, and no verb of the socket (POOL-6, R-309).

use airlock_policy::name::{DeviceName, ThinId};
use airlock_protocol::not_done::StepFailure;

use crate::confine::{self, Unconfined};
use crate::dm::{ChangeTable, KernelTable, NoControl};
use crate::ledger::{Book, Ledger, LedgerFailure, Thing};
use crate::startup::STATE_OF_TEARDOWN;

/// Why nothing, or nothing more, was taken down.
#[derive(Debug, thiserror::Error)]
pub enum NotTakenDown {
    /// The launcher did not leave the state directory.
    #[error("there is no state directory: airlock-dm-helper pool starts this program")]
    State(#[source] std::io::Error),
    /// The ledger cannot be read: nobody knows what is airlock's.
    #[error("the ledger cannot be read")]
    Ledger(#[from] LedgerFailure),
    /// There is no device mapper.
    #[error("there is no device mapper to work with")]
    DeviceMapper(#[from] NoControl),
    /// The confinement could not be put in force.
    #[error("the process is not confined")]
    Confinement(#[from] Unconfined),
    /// A device has a name of ours and is not in the ledger.
    #[error("{0} is not in the ledger: find out whose it is, nothing was changed")]
    Stranger(DeviceName),
    /// A device is in use.
    #[error("{0} is mounted or held open ({1} times): unmount it, nothing was changed")]
    Held(DeviceName, u32),
    /// A step failed; none came after it.
    #[error("{name}: failed to {}, errno {}", .failure.step.text(), .failure.errno)]
    Step {
        /// The device.
        name: DeviceName,
        /// What failed.
        failure: StepFailure,
    },
}

/// Takes everything down, or says what would be; the launcher gave the state directory.
pub fn run(dry_run: bool, tell: impl FnMut(&str)) -> Result<(), NotTakenDown> {
    let state = airlock_sys::inherited::take(STATE_OF_TEARDOWN).map_err(NotTakenDown::State)?;
    let book = Ledger::look(&state)?;
    drop(state);
    let table = KernelTable::open()?;
    confine::confine_forever()?;
    take_down(&table, &book, dry_run, tell)
}

/// Snapshots, then volumes, then the pool; never by force. All is looked at before anything is
/// touched.
pub fn take_down(
    table: &dyn ChangeTable,
    book: &Book,
    dry_run: bool,
    mut tell: impl FnMut(&str),
) -> Result<(), NotTakenDown> {
    let failed = |name| move |failure| NotTakenDown::Step { name, failure };
    let listed = table.list().map_err(failed(DeviceName::Pool))?;
    let mut names = Vec::new();
    for (name, _minor) in listed {
        names.push((order(book, name).ok_or(NotTakenDown::Stranger(name))?, name));
        let device = table.find(name).map_err(failed(name))?;
        // The pool is held by its volumes, which go before it.
        let held = device.map_or(0, |device| device.open_count);
        if name != DeviceName::Pool && held > 0 {
            return Err(NotTakenDown::Held(name, held));
        }
    }
    names.sort_by_key(|(order, _)| *order);
    for (_, name) in names {
        if dry_run {
            tell(&format!("would remove the device {name}"));
        } else {
            table.remove(name).map_err(failed(name))?;
            tell(&format!("removed the device {name}"));
        }
    }
    Ok(())
}

/// When a device goes; `None` where the ledger does not know it.
fn order(book: &Book, name: DeviceName) -> Option<(u8, u32)> {
    match name {
        DeviceName::Pool => book.pool().map(|_known| (2, 0)),
        DeviceName::Thin(ThinId::BASE) => book.base_sealed().map(|_known| (1, 0)),
        DeviceName::Thin(thin) => match book.thing(thin)? {
            Thing::Snapshot(_) => Some((0, thin.into())),
            Thing::Volume(_) => Some((1, thin.into())),
        },
    }
}

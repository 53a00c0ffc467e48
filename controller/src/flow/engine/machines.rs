//! The machines that an engine drives, without their types.

use std::fmt;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::super::machine::{State, rows};
use super::super::step::Machine;
use super::super::unreadable::{no_such_machine, understood};
use super::super::{Activate, Download, Unpack};
use super::{Engine, TakenUp};
use crate::store::flow::FlowRow;
use crate::store::unreadable::BadRecord;
use crate::store::{Row, StoreFault};

type Driven<'a> = BoxFuture<'a, Result<(), StoreFault>>;

/// A machine as an engine drives it.
#[derive(Clone, Copy)]
pub struct Registered {
    name: &'static str,
    rows: fn() -> Vec<Row>,
    knows: fn(&FlowRow) -> Result<(), BadRecord>,
    drive: for<'a> fn(&'a Engine, TakenUp, CancellationToken) -> Driven<'a>,
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Registered {
    /// A machine.
    pub fn of<M: Machine>() -> Self {
        Self {
            name: <M::State as State>::MACHINE,
            rows: rows::<M::State>,
            knows: |row| understood::<M>(row).map(drop),
            drive: |engine, taken_up, cancel| Box::pin(engine.through::<M>(taken_up, cancel)),
        }
    }

    /// The rows of its table, for the database.
    pub fn rows(&self) -> Vec<Row> {
        (self.rows)()
    }

    /// Those that fetch, unpack and activate images.
    pub fn all() -> Vec<Self> {
        vec![Self::of::<Download>(), Self::of::<Unpack>(), Self::of::<Activate>()]
    }
}

/// Whether one of these machines can go on with a flow.
pub(super) fn known(machines: &[Registered], row: &FlowRow) -> Result<(), BadRecord> {
    match machines.iter().find(|machine| machine.name == row.machine) {
        Some(machine) => (machine.knows)(row),
        None => Err(no_such_machine(row)),
    }
}

impl Engine {
    /// Takes a flow through its machine, up to its end or the daemon's.
    pub(super) async fn drive_by_name(
        &self,
        taken_up: TakenUp,
        cancel: CancellationToken,
    ) -> Result<(), StoreFault> {
        let row = &taken_up.row;
        match self.0.machines.iter().find(|machine| machine.name == row.machine) {
            Some(machine) => (machine.drive)(self, taken_up, cancel).await,
            None => self.set_aside(no_such_machine(row)).await,
        }
    }
}

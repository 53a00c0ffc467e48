//! Records that cannot be read or gone on with: each is set aside, the runs that waited for it are
//! told so, and all others go on.

use airlock_protocol::control::Fault;
use rusqlite::Transaction;

use super::effects::Effects;
use super::engine::Engine;
use super::machine::State;
use super::schedule;
use super::step::Machine;
use crate::store::flow::{FlowId, FlowRow};
use crate::store::run::Standing;
use crate::store::unreadable::{BadRecord, DAMAGED, Key, OTHER_VERSION};
use crate::store::{StoreFault, run, unreadable};

/// Sets a record aside and fails the runs that waited for it. False where it was before.
pub(super) fn set_aside(
    tx: &Transaction<'_>,
    bad: &BadRecord,
    effects: &mut Effects,
) -> Result<bool, StoreFault> {
    match &bad.key {
        Key::Flow(id) => {
            if !unreadable::flow(tx, *id, &bad.why)? {
                return Ok(false);
            }
            for run in past(tx, effects, |tx| run::at_flow(tx, *id))? {
                schedule::finish(tx, &run.id, Standing::Failed, Some(&bad.fault()), effects)?;
            }
        }
        Key::Run(key) => {
            let Some(id) = unreadable::run(tx, bad, key)? else { return Ok(false) };
            schedule::over(tx, id, effects)?;
        }
    }
    effects.set_aside.push(bad.clone());
    Ok(true)
}

/// Asks something of the database; sets aside what cannot be read, and asks again.
pub(super) fn past<T>(
    tx: &Transaction<'_>,
    effects: &mut Effects,
    query: impl Fn(&Transaction<'_>) -> Result<T, StoreFault>,
) -> Result<T, StoreFault> {
    loop {
        match query(tx) {
            Err(StoreFault::Record(bad)) => {
                if !set_aside(tx, &bad, effects)? {
                    return Err(StoreFault::Record(bad));
                }
            }
            other => return other,
        }
    }
}

/// Does something about one record. Where that record is to blame that it cannot be done, all of
/// it is undone, and the record set aside.
pub(super) fn alone(
    tx: &Transaction<'_>,
    key: Key,
    effects: &mut Effects,
    work: impl FnOnce(&mut Effects) -> Result<(), StoreFault>,
) -> Result<bool, StoreFault> {
    let before = effects.mark();
    tx.execute_batch("SAVEPOINT alone")?;
    let error = match work(effects) {
        Ok(()) => {
            tx.execute_batch("RELEASE alone")?;
            return Ok(true);
        }
        Err(error) => error,
    };
    let Some(bad) = bad_record(key, &error) else { return Err(error) };
    tx.execute_batch("ROLLBACK TO alone; RELEASE alone")?;
    effects.back_to(before);
    set_aside(tx, &bad, effects)?;
    Ok(false)
}

/// The record that an error is about, if it is about one: `key`, or the one that it names.
pub(super) fn bad_record(key: Key, error: &StoreFault) -> Option<BadRecord> {
    if let StoreFault::Record(bad) = error {
        return Some(bad.as_ref().clone());
    }
    (error.is_of_one_record() || error.is_refusal()).then(|| {
        let why = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
        let why: Vec<_> = why.map(ToString::to_string).collect();
        BadRecord { key, code: DAMAGED, why: why.join(": ") }
    })
}

/// A flow's state, what it was begun with, and what it has found.
pub(super) type Understood<M> =
    (<M as Machine>::State, <M as Machine>::Input, <M as Machine>::Data);

/// What a flow is begun with and has found, where this version can go on with it.
pub(super) fn understood<M: Machine>(row: &FlowRow) -> Result<Understood<M>, BadRecord> {
    let bad = |code, why| BadRecord { key: Key::Flow(row.id), code, why };
    let FlowRow { machine, state, definition, .. } = row;
    if *definition != M::DEFINITION {
        let known = M::DEFINITION;
        let why =
            format!("{machine} has definition {known} here, and it was begun by {definition}");
        return Err(bad(OTHER_VERSION, why));
    }
    let lasting = M::State::parse(state).filter(|state| !state.is_end());
    let Some(known) = lasting else {
        let state = state.escape_debug();
        return Err(bad(OTHER_VERSION, format!("{machine} has no state {state} to go on from")));
    };
    let no_json = |what: &str, error: serde_json::Error| {
        bad(DAMAGED, format!("its {what} is not what a {machine} has: {error}"))
    };
    let input = serde_json::from_str(&row.input).map_err(|error| no_json("input", error))?;
    let data = serde_json::from_str(&row.data).map_err(|error| no_json("data", error))?;
    Ok((known, input, data))
}

/// A flow of a machine that this version does not have.
pub(super) fn no_such_machine(row: &FlowRow) -> BadRecord {
    let why = format!("there is no machine {}", row.machine.escape_debug());
    BadRecord { key: Key::Flow(row.id), code: OTHER_VERSION, why }
}

impl Engine {
    /// Sets a record aside, for good.
    pub(super) async fn set_aside(&self, bad: BadRecord) -> Result<(), StoreFault> {
        let aside = self.world().store.write(move |tx| {
            let mut effects = Effects::default();
            // Whoever set it aside before has told of it.
            if set_aside(tx, &bad, &mut effects)? || unreadable::holds(tx, &bad.key)? {
                return Ok(effects);
            }
            Err(StoreFault::Record(Box::new(bad)))
        });
        self.carry_out(&aside.await?);
        Ok(())
    }

    /// A flow cannot be driven on. What is to blame for that is set aside; where that is the
    /// database or the daemon's end, the flow stays where it is until the next start.
    pub(super) async fn stuck(&self, id: FlowId, error: StoreFault) {
        let error = match bad_record(Key::Flow(id), &error) {
            Some(bad) => match self.set_aside(bad).await {
                Ok(()) => return,
                Err(error) => error,
            },
            None => error,
        };
        let error: Fault = error.fault();
        tracing::error!(flow = id, ?error, "a flow was left: it goes on at the next start");
    }

    /// Reads something, past what cannot be read.
    pub(super) async fn read_past<T, Q>(&self, query: Q) -> Result<T, StoreFault>
    where
        T: Send + 'static,
        Q: Fn(&Transaction<'_>) -> Result<T, StoreFault> + Clone + Send + 'static,
    {
        let mut last = None;
        loop {
            match self.world().store.read(query.clone()).await {
                Err(StoreFault::Record(bad)) if last.as_ref() != Some(&bad.key) => {
                    last = Some(bad.key.clone());
                    self.set_aside(*bad).await?;
                }
                other => return other,
            }
        }
    }
}

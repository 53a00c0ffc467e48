//! From a sealed volume to an active snapshot.
//!
//! `check_snapshot` believes the record only if the helper maps the snapshot, which costs nothing
//! where it is mapped; `create_snapshot` takes and maps it; `register` records it. The flow is on
//! record before the snapshot is taken, so none is ever without an owner.

use std::time::Instant;

use airlock_policy::digest::{ChainId, Digest};
use airlock_policy::name::{RequestId, SnapshotName};
use airlock_protocol::control::{ErrorClass, SubStep};
use airlock_protocol::not_done::Refusal;
use airlock_protocol::reply::{Mapped, Outcome, What};
use airlock_protocol::request::Target;
use serde::{Deserialize, Serialize};

use super::World;
use super::machine::machine;
use super::queue::Queue;
use super::rules::{Rules, Settings};
use super::step::{Machine, Step, StepFault, bug};
use crate::fault::{Explain as _, fault};
use crate::helper::HelperFault;
use crate::store::snapshot::{self, SnapshotRow};

machine! {
    machine "activate";
    states ActivateState {
        CheckSnapshot "check_snapshot",
        CreateSnapshot "create_snapshot",
        Register "register",
        Done "done",
        Failed "failed",
        Cancelled "cancelled",
    }
    events ActivateEvent {
        Held "held",
        Absent "absent",
        Created "created",
        Registered "registered",
        Failed "failed",
        Cancelled "cancelled",
    }
    start CheckSnapshot; end Done, Failed, Cancelled;

    CheckSnapshot                             on Held       => Done;
    CheckSnapshot                             on Absent     => CreateSnapshot;
    CreateSnapshot                            on Created    => Register;
    Register                                  on Registered => Done;
    CheckSnapshot | CreateSnapshot | Register on Failed     => Failed;
    CheckSnapshot | CreateSnapshot | Register on Cancelled  => Cancelled;
}

/// The machine.
#[derive(Clone, Copy, Debug)]
pub struct Activate;

/// What an activation is begun with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ActivateInput {
    /// The snapshot to be.
    pub name: SnapshotName,
    /// The image.
    pub image: Digest,
    /// What people call the image.
    pub image_name: String,
    /// The image's volume.
    pub volume: ChainId,
    /// Whether the device refuses writes.
    pub read_only: bool,
    /// Whether it is the image's default snapshot.
    pub is_default: bool,
    /// Whether it is mounted on the host, instead of being handed out as a device.
    #[serde(default)]
    pub mount: bool,
    /// The size that it is to have, where that is not its image's.
    #[serde(default)]
    pub bytes_asked: Option<u64>,
}

/// What an activation finds out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ActivateData {
    /// Whether there was nothing to do.
    pub held: bool,
    /// Whether this flow took the snapshot, and so may take it back.
    pub is_ours: bool,
    /// The device's size.
    pub bytes: Option<u64>,
    /// The device's minor number.
    pub minor: Option<u32>,
}

impl Activate {
    /// The machine's name.
    pub const NAME: &'static str = "activate";
}

type Answer = Result<ActivateEvent, StepFault>;

impl Machine for Activate {
    type State = ActivateState;
    type Input = ActivateInput;
    type Data = ActivateData;
    const DEFINITION: u32 = 1;
    const JOINED: Option<(ActivateEvent, ActivateState)> = None;

    fn rules(state: ActivateState, settings: &Settings) -> Rules {
        let Settings { attempts, deadlines, .. } = settings;
        match state {
            ActivateState::CheckSnapshot => {
                settings.rules(attempts.check_snapshot, deadlines.check_snapshot)
            }
            ActivateState::CreateSnapshot => settings
                .rules(attempts.create_snapshot, deadlines.create_snapshot)
                .queued(Queue::Activate),
            ActivateState::Register
            | ActivateState::Done
            | ActivateState::Failed
            | ActivateState::Cancelled => settings.rules(attempts.register, deadlines.register),
        }
    }

    fn image(input: &ActivateInput, _data: &ActivateData) -> (Option<String>, Option<String>) {
        (Some(input.image_name.clone()), Some(input.image.to_string()))
    }

    async fn perform(world: &World, state: ActivateState, step: &mut Step<'_, Self>) -> Answer {
        match state {
            ActivateState::CheckSnapshot => check_snapshot(world, step).await,
            ActivateState::CreateSnapshot => create_snapshot(world, step).await,
            ActivateState::Register => register(step),
            ActivateState::Done | ActivateState::Failed | ActivateState::Cancelled => {
                Err(bug("an activation went on after its end"))
            }
        }
    }

    async fn clean_up(world: &World, state: ActivateState, step: &mut Step<'_, Self>) {
        if state == ActivateState::CheckSnapshot {
            return;
        }
        if !step.data.is_ours && !is_left_by_us(world, step.input, &step.request).await {
            return;
        }
        // Nobody was told of the device yet.
        let (helper, name) = (&world.helper, &step.input.name);
        let gone = match world.release(name, &step.request).await {
            Ok(()) => helper.delete_volume(&step.request, Target::Snapshot(name.clone())).await,
            Err(error) => Err(error),
        };
        match gone {
            Ok(_) => {}
            Err(gone) if gone.refusal() == Some(Refusal::NoSuchSnapshot) => {}
            Err(error) => tracing::warn!(%name, %error, "a snapshot could not be taken back"),
        }
    }
}

impl World {
    /// Makes a snapshot's device appear, or mounts it on the host.
    pub(crate) async fn give_out(
        &self,
        name: &SnapshotName,
        mount: bool,
        request: &RequestId,
    ) -> Result<Mapped, HelperFault> {
        if mount {
            self.helper.mount(request, name.clone()).await
        } else {
            self.helper.map(request, name.clone()).await
        }
    }

    /// Ends either.
    pub(crate) async fn release(
        &self,
        name: &SnapshotName,
        request: &RequestId,
    ) -> Result<(), HelperFault> {
        self.helper.unmount(request, name.clone()).await?;
        self.helper.unmap(request, name.clone()).await.map(drop)
    }
}

/// Whether a snapshot is this flow's although it does not remember: the daemon died between taking
/// it and noting so. One of our image that is on nobody's record is, unless the database was lost.
async fn is_left_by_us(world: &World, input: &ActivateInput, request: &RequestId) -> bool {
    let ActivateInput { name, volume, read_only, .. } = input.clone();
    let asked = name.clone();
    let free = world.store.read(move |tx| Ok(snapshot::find(tx, asked.as_str())?.is_none()));
    let is_trusted = world.store.is_trusted();
    if !matches!((free.await, is_trusted.await), (Ok(true), Ok(true))) {
        return false;
    }
    let there = world.helper.inventory(request).await.unwrap_or_default();
    there.into_iter().any(|item| match item.what {
        What::Snapshot(found) => {
            found.name == name && (found.image, found.read_only) == (volume, read_only)
        }
        What::Volume(_) => false,
    })
}

fn failed(error: &HelperFault, step: &Step<'_, Activate>) -> StepFault {
    let ActivateInput { name, image_name, .. } = step.input;
    StepFault::helper(error, &format!("activate {image_name} as {name}"))
        .abort_with(|fault| fault.fact("image", image_name))
}

async fn check_snapshot(world: &World, step: &mut Step<'_, Activate>) -> Answer {
    let input = step.input;
    let name = input.name.clone();
    let record = world.store.read(move |tx| snapshot::find(tx, name.as_str())).await?;
    let Some(record) = record else { return Ok(ActivateEvent::Absent) };
    if let Some(conflict) = conflict(&record, input) {
        return Err(StepFault::Abort(conflict));
    }
    if let Some(bytes) = input.bytes_asked.filter(|bytes| bytes / 4096 != record.bytes / 4096) {
        let taken = format!("{} has {} bytes, not {bytes}", input.name, record.bytes);
        return Err(StepFault::Abort(other(input, taken)));
    }
    match world.give_out(&input.name, input.mount, &step.request).await {
        Ok(mapped) => {
            step.data.held = mapped.outcome == Outcome::AlreadyThere;
            step.data.bytes = Some(mapped.bytes);
            step.data.minor = Some(mapped.minor);
            step.note = Some("the snapshot is active".to_owned());
            Ok(ActivateEvent::Held)
        }
        Err(error) if error.refusal() == Some(Refusal::NoSuchSnapshot) => {
            let name = &input.name;
            tracing::warn!(%name, "a snapshot on record is not with the helper: taking it again");
            Ok(ActivateEvent::Absent)
        }
        Err(error) => Err(failed(&error, step)),
    }
}

/// Why a snapshot of that name is not the one that is asked for.
fn conflict(
    record: &SnapshotRow,
    asked: &ActivateInput,
) -> Option<airlock_protocol::control::Fault> {
    let name = &asked.name;
    let conflict = |message: String| {
        fault(ErrorClass::Conflict, "snapshot.other", message)
            .fact("snapshot", name.to_string())
            .fact("image", record.image.to_string())
    };
    if record.leaving {
        return Some(
            fault(ErrorClass::Busy, "snapshot.leaving", format!("{name} is being deactivated"))
                .next(format!("airlock deactivate {name}")),
        );
    }
    if record.image != asked.image {
        return Some(
            conflict(format!("the name {name} is a snapshot's of another image"))
                .next(format!("airlock activate {} --name OTHER", asked.image.short()))
                .next(format!("airlock deactivate {name}")),
        );
    }
    let mode = |read_only| if read_only { "read-only" } else { "writable" };
    (record.read_only != asked.read_only)
        .then(|| other(asked, format!("{name} is active and {}", mode(record.read_only))))
}

/// The fault of a snapshot that is there, of the same image, and is not what is asked for.
fn other(asked: &ActivateInput, message: String) -> airlock_protocol::control::Fault {
    fault(ErrorClass::Conflict, "snapshot.other", message)
        .fact("snapshot", asked.name.to_string())
        .fact("image", asked.image.to_string())
        .next(format!("airlock activate {} --name OTHER", asked.image.short()))
        .next(format!("airlock deactivate {}", asked.name))
}

async fn create_snapshot(world: &World, step: &mut Step<'_, Activate>) -> Answer {
    let ActivateInput { name, volume, read_only, mount, bytes_asked, .. } = step.input;
    let (helper, begun) = (&world.helper, Instant::now());
    let taken =
        helper.snapshot(&step.request, name.clone(), *volume, (*read_only, *bytes_asked)).await;
    let taken = taken.map_err(|error| failed(&error, step))?;
    step.data.is_ours |= taken == Outcome::Done;
    let mapped = world.give_out(name, *mount, &step.request).await;
    step.took(SubStep::Snapshot, None, begun.elapsed());
    let mapped = mapped.map_err(|error| failed(&error, step))?;
    step.data.bytes = Some(mapped.bytes);
    step.data.minor = Some(mapped.minor);
    Ok(ActivateEvent::Created)
}

fn register(step: &mut Step<'_, Activate>) -> Answer {
    let bytes = step.data.bytes.ok_or_else(|| bug("nothing to register"))?;
    let ActivateInput { name, image, volume, read_only, is_default, .. } = step.input.clone();
    step.note = Some(format!("{name} is active"));
    step.write(move |tx| {
        let row = SnapshotRow {
            name,
            image,
            chain_id: volume,
            read_only,
            is_default,
            bytes,
            leaving: false,
            created_at: crate::store::now(),
        };
        snapshot::record(tx, &row)
    });
    Ok(ActivateEvent::Registered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::machine::checks::check;

    #[test]
    fn the_table_is_whole() {
        use ActivateEvent as E;
        check::<ActivateState>(
            &[E::Held, E::Absent, E::Created, E::Registered, E::Failed, E::Cancelled],
            "
check_snapshot: held>done absent>create_snapshot failed>failed cancelled>cancelled
create_snapshot: created>register failed>failed cancelled>cancelled
register: registered>done failed>failed cancelled>cancelled
done:
failed:
cancelled:",
        );
    }
}

//! From a layer's blob to its sealed volume.
//!
//! `check_unpacked` believes the record only if the helper says that the volume is sealed;
//! `create_device` makes the volume; `extract_layers` has the helper's sandboxed worker extract the
//! blob, while it hashes every byte; `verify_layout` judges the tree's top and seals; `update_db`
//! records it. All verbs may be asked again, so each state is simply done again after a restart.

use std::time::{Duration, Instant};

use airlock_policy::digest::{BlobDigest, ChainId, DiffId, TreeDigest};
use airlock_policy::layout::LayoutFacts;
use airlock_protocol::control::{ErrorClass, SubStep};
use airlock_protocol::not_done::Refusal;
use airlock_protocol::reply::{LayerState, Outcome};
use airlock_protocol::request::Target;
use serde::{Deserialize, Serialize};

use super::World;
use super::machine::machine;
use super::queue::Queue;
use super::rules::{Rules, Settings};
use super::step::{Machine, Step, StepFault, bug};
use crate::fault::{Explain as _, fault};
use crate::helper::HelperFault;
use crate::store::image::{self, SealedRow};

machine! {
    machine "unpack";
    states UnpackState {
        CheckUnpacked "check_unpacked",
        CreateDevice "create_device",
        ExtractLayers "extract_layers",
        VerifyLayout "verify_layout",
        UpdateDb "update_db",
        Done "done",
        Failed "failed",
        Cancelled "cancelled",
    }
    events UnpackEvent {
        Held "held",
        Absent "absent",
        Created "created",
        Extracted "extracted",
        Sealed "sealed",
        Recorded "recorded",
        Failed "failed",
        Cancelled "cancelled",
    }
    start CheckUnpacked; end Done, Failed, Cancelled;

    CheckUnpacked on Held      => Done;
    CheckUnpacked on Absent    => CreateDevice;
    CreateDevice  on Created   => ExtractLayers;
    ExtractLayers on Extracted => VerifyLayout;
    VerifyLayout  on Sealed    => UpdateDb;
    UpdateDb      on Recorded  => Done;
    CheckUnpacked | CreateDevice | ExtractLayers | VerifyLayout | UpdateDb on Failed    => Failed;
    CheckUnpacked | CreateDevice | ExtractLayers | VerifyLayout | UpdateDb on Cancelled => Cancelled;
}

/// The machine.
#[derive(Clone, Copy, Debug)]
pub struct Unpack;

/// What an unpacking is begun with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct UnpackInput {
    /// The volume to be.
    pub volume: ChainId,
    /// The volume below it.
    pub parent: Option<ChainId>,
    /// The layer's blob.
    pub blob: BlobDigest,
    /// Bytes of the blob.
    pub blob_bytes: u64,
    /// The digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// Whether it is the image's last layer, whose tree must look like a root filesystem.
    pub is_last: bool,
    /// What people call the image.
    pub image: String,
}

/// What an unpacking finds out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct UnpackData {
    /// Whether there was nothing to do.
    pub held: bool,
    /// Whether this flow made the volume, and so may take it back.
    pub is_ours: bool,
    /// Entries that were written.
    pub entries: Option<u64>,
    /// What the tree's top looks like.
    pub layout: Option<LayoutFacts>,
    /// The digest of the whole tree.
    pub tree: Option<TreeDigest>,
}

impl Unpack {
    /// The machine's name.
    pub const NAME: &'static str = "unpack";
}

type Answer = Result<UnpackEvent, StepFault>;

impl Machine for Unpack {
    type State = UnpackState;
    type Input = UnpackInput;
    type Data = UnpackData;
    const DEFINITION: u32 = 1;
    const JOINED: Option<(UnpackEvent, UnpackState)> = None;

    fn rules(state: UnpackState, settings: &Settings) -> Rules {
        let Settings { attempts, deadlines, .. } = settings;
        match state {
            UnpackState::CheckUnpacked => {
                settings.rules(attempts.check_unpacked, deadlines.check_unpacked)
            }
            UnpackState::CreateDevice => {
                settings.rules(attempts.create_device, deadlines.create_device)
            }
            UnpackState::ExtractLayers => settings
                .rules(attempts.extract_layers, deadlines.extract_layers)
                .queued(Queue::Unpack)
                .giving_way(),
            UnpackState::VerifyLayout => {
                settings.rules(attempts.verify_layout, deadlines.verify_layout)
            }
            UnpackState::UpdateDb
            | UnpackState::Done
            | UnpackState::Failed
            | UnpackState::Cancelled => settings.rules(attempts.update_db, deadlines.update_db),
        }
    }

    fn image(input: &UnpackInput, _data: &UnpackData) -> (Option<String>, Option<String>) {
        (Some(input.image.clone()), Some(input.blob.to_string()))
    }

    async fn perform(world: &World, state: UnpackState, step: &mut Step<'_, Self>) -> Answer {
        match state {
            UnpackState::CheckUnpacked => check_unpacked(world, step).await,
            UnpackState::CreateDevice => create_device(world, step).await,
            UnpackState::ExtractLayers => extract_layers(world, step).await,
            UnpackState::VerifyLayout => verify_layout(world, step).await,
            UnpackState::UpdateDb => {
                let row = sealed(step);
                step.write(move |tx| image::record_sealed(tx, &row));
                Ok(UnpackEvent::Recorded)
            }
            UnpackState::Done | UnpackState::Failed | UnpackState::Cancelled => {
                Err(bug("an unpacking went on after its end"))
            }
        }
    }

    async fn clean_up(world: &World, state: UnpackState, step: &mut Step<'_, Self>) {
        if state == UnpackState::CheckUnpacked {
            return;
        }
        let volume = step.input.volume;
        let known = world.store.read(move |tx| image::is_sealed(tx, volume)).await;
        // After the loss of the database a volume may be an image that it does not know yet.
        let may_be_older =
            !step.data.is_ours && !matches!(world.store.is_trusted().await, Ok(true));
        if !matches!(known, Ok(false)) || may_be_older {
            return;
        }
        // While its worker still runs the helper refuses: the sweep that follows sees to it.
        match world.helper.delete_volume(&step.request, Target::Volume(volume)).await {
            Ok(_) => {}
            Err(error) => tracing::info!(%volume, %error, "a volume is left for the next sweep"),
        }
    }
}

fn sealed(step: &Step<'_, Unpack>) -> SealedRow {
    let UnpackInput { volume: chain_id, parent, diff_id, .. } = *step.input;
    SealedRow { chain_id, parent, diff_id, tree: step.data.tree }
}

fn failed(error: &HelperFault, step: &Step<'_, Unpack>) -> StepFault {
    let UnpackInput { image, blob, .. } = step.input;
    StepFault::helper(error, &format!("unpack {image}")).abort_with(|fault| {
        if fault.class == ErrorClass::Refused {
            tracing::warn!(
                security = true, source = image, digest = %blob, code = fault.code,
                facts = ?fault.facts, "an image was refused"
            );
        }
        fault.fact("image", image).fact("layer", blob.to_string())
    })
}

async fn check_unpacked(world: &World, step: &mut Step<'_, Unpack>) -> Answer {
    let volume = step.input.volume;
    let (known, doomed) = world
        .store
        .read(move |tx| Ok((image::is_sealed(tx, volume)?, image::doomed(tx)?.contains(&volume))))
        .await?;
    if doomed {
        // Its removal was begun: that comes first.
        let gone = world.helper.delete_volume(&step.request, Target::Volume(volume)).await;
        gone.map_err(|error| failed(&error, step))?;
        world.store.write(move |tx| image::forget_doomed(tx, volume)).await?;
    }
    if !known {
        return Ok(UnpackEvent::Absent);
    }
    match world.helper.seal_volume(&step.request, volume).await {
        Ok(_) => {
            let row = sealed(step);
            step.data.held = true;
            step.note = Some("the volume is here".to_owned());
            // An image that shares the volume of another is unpacked by that.
            step.write(move |tx| image::record_sealed(tx, &row));
            Ok(UnpackEvent::Held)
        }
        Err(error)
            if matches!(error.refusal(), Some(Refusal::NoSuchVolume | Refusal::NotFilled)) =>
        {
            tracing::warn!(%volume, "a volume on record is not with the helper: unpacking again");
            Ok(UnpackEvent::Absent)
        }
        Err(error) => Err(failed(&error, step)),
    }
}

async fn create_device(world: &World, step: &mut Step<'_, Unpack>) -> Answer {
    create(world, step).await?;
    Ok(UnpackEvent::Created)
}

async fn create(world: &World, step: &mut Step<'_, Unpack>) -> Result<(), StepFault> {
    let UnpackInput { volume, parent, .. } = *step.input;
    let begun = Instant::now();
    let made = world.helper.create_volume(&step.request, volume, parent).await;
    step.took(SubStep::Create, None, begun.elapsed());
    let made = made.map_err(|error| failed(&error, step))?;
    step.data.is_ours |= made == Outcome::Done;
    Ok(())
}

/// How long to wait before a helper that extracts as much as it may is asked again.
const FULL_HOUSE: Duration = Duration::from_millis(500);

async fn extract_layers(world: &World, step: &mut Step<'_, Unpack>) -> Answer {
    let UnpackInput { volume, blob, blob_bytes, diff_id, .. } = *step.input;
    // The volume of an extraction that failed was thrown away: made again where it is missing.
    create(world, step).await?;
    // Since when it is known to go on: the wait for a helper that is at its own limit is none of it.
    let mut begun = None;
    loop {
        let asked = Instant::now();
        match world.helper.apply_layer(&step.request, volume, blob, diff_id).await {
            Ok(LayerState::Running(at)) => {
                begun.get_or_insert(asked);
                crash_point!(Extracting);
                step.live.progress(at.blob_bytes, Some(blob_bytes), Some(at.entries));
            }
            Ok(LayerState::Applied(applied)) => {
                step.live.progress(blob_bytes, Some(blob_bytes), Some(applied.entries));
                // After a restart it may have been done long ago.
                if let Some(begun) = begun.or(step.restarted.is_none().then_some(asked)) {
                    step.took(SubStep::Extract, Some(blob_bytes), begun.elapsed());
                }
                step.data.entries = Some(applied.entries);
                step.data.layout = Some(applied.layout);
                step.data.tree = applied.tree;
                step.note = Some(format!("{} entries", applied.entries));
                return Ok(UnpackEvent::Extracted);
            }
            Err(error) => match error.refusal() {
                // Sealed under this chain id, which the helper verified: it holds this very layer.
                Some(Refusal::VolumeSealed) => return Ok(UnpackEvent::Extracted),
                Some(Refusal::NoSuchVolume) => create(world, step).await?,
                Some(Refusal::TooManyLayers) => tokio::time::sleep(FULL_HOUSE).await,
                Some(_) | None => return Err(failed(&error, step)),
            },
        }
        if step.cancel.is_cancelled() {
            return Err(StepFault::Cancelled);
        }
    }
}

async fn verify_layout(world: &World, step: &mut Step<'_, Unpack>) -> Answer {
    let UnpackInput { volume, is_last, blob, ref image, .. } = *step.input;
    let begun = Instant::now();
    if let Some(Err(rule)) = step.data.layout.filter(|_| is_last).map(|facts| facts.verdict()) {
        tracing::warn!(
            security = true, source = image, digest = %blob, code = rule.code(),
            "an image was refused"
        );
        return Err(StepFault::Abort(
            fault(ErrorClass::Refused, rule.code(), format!("{image} is no root filesystem"))
                .fact("image", image)
                .fact("rule", rule.to_string())
                .fact("state", "the volume was thrown away; a security event was logged"),
        ));
    }
    step.took(SubStep::Verify, None, begun.elapsed());
    let begun = Instant::now();
    let sealed = world.helper.seal_volume(&step.request, volume).await;
    step.took(SubStep::Flush, None, begun.elapsed());
    sealed.map_err(|error| failed(&error, step))?;
    Ok(UnpackEvent::Sealed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::machine::checks::check;

    #[test]
    fn the_table_is_whole() {
        use UnpackEvent as E;
        check::<UnpackState>(
            &[
                E::Held,
                E::Absent,
                E::Created,
                E::Extracted,
                E::Sealed,
                E::Recorded,
                E::Failed,
                E::Cancelled,
            ],
            "
check_unpacked: held>done absent>create_device failed>failed cancelled>cancelled
create_device: created>extract_layers failed>failed cancelled>cancelled
extract_layers: extracted>verify_layout failed>failed cancelled>cancelled
verify_layout: sealed>update_db failed>failed cancelled>cancelled
update_db: recorded>done failed>failed cancelled>cancelled
done:
failed:
cancelled:",
        );
    }
}

//! How a run goes on when the flow that it waits for ends: in the very transaction that ends it.

use airlock_policy::digest::Digest;
use airlock_policy::name::{MAX_NAME, SnapshotName};
use airlock_protocol::control::{Activation, ErrorClass, Fault};
use rusqlite::Transaction;
use serde::de::DeserializeOwned;

use super::activate::{ActivateData, ActivateInput, ActivateState};
use super::download::{DownloadData, DownloadInput, DownloadState};
use super::effects::Effects;
use super::machine::State as _;
use super::schedule::finish;
use super::step::Machine;
use super::unpack::{UnpackData, UnpackInput, UnpackState};
use super::unreadable::{alone, past, understood};
use super::{Activate, Download, Unpack};
use crate::fault::{Explain as _, fault};
use crate::store::flow::{FlowRow, NewFlow};
use crate::store::run::{RunRow, Standing};
use crate::store::unreadable::Key;
use crate::store::{StoreFault, flow, image, run, snapshot};

/// Moves every run that waits for this flow, which has just ended.
pub(super) fn ended(
    tx: &Transaction<'_>,
    ended: &FlowRow,
    effects: &mut Effects,
) -> Result<(), StoreFault> {
    for run in past(tx, effects, |tx| run::at_flow(tx, ended.id))? {
        let key = Key::Run(run.id.as_str().into());
        // One that cannot go on hinders none of the others.
        alone(tx, key, effects, |effects| move_on(tx, run, ended, effects))?;
    }
    Ok(())
}

fn move_on(
    tx: &Transaction<'_>,
    mut run: RunRow,
    ended: &FlowRow,
    effects: &mut Effects,
) -> Result<(), StoreFault> {
    match ended.state.as_str() {
        "done" => {
            count(&mut run, ended)?;
            let image = run.image.map(|image| image::find(tx, image)).transpose()?.flatten();
            if image.is_none() && ended.machine == Download::NAME {
                // Removed since the look that found it here: it is fetched again.
                join_or_begin(tx, &run, &anew(&run, ended)?, effects)
            } else {
                go_on(tx, &mut run, effects)
            }
        }
        // It came to wait for the flow while that was being cancelled for others.
        "cancelled" => join_or_begin(tx, &run, &anew(&run, ended)?, effects),
        _ => {
            let why = ended.fault.as_deref().map(serde_json::from_str::<Fault>).transpose()?;
            finish(tx, &run.id, Standing::Failed, why.as_ref(), effects)
        }
    }
}

/// The flow that does again what another was to do.
fn anew(run: &RunRow, ended: &FlowRow) -> Result<NewFlow, StoreFault> {
    let (machine, definition, state, subject) = match ended.machine.as_str() {
        Download::NAME => {
            let input: DownloadInput = serde_json::from_str(&ended.input)?;
            let (state, subject) = (DownloadState::START.name(), input.source.to_string());
            (Download::NAME, Download::DEFINITION, state, subject)
        }
        Unpack::NAME => {
            let state = UnpackState::START.name();
            (Unpack::NAME, Unpack::DEFINITION, state, ended.subject.clone())
        }
        _ => {
            let state = ActivateState::START.name();
            (Activate::NAME, Activate::DEFINITION, state, ended.subject.clone())
        }
    };
    let (input, request) = (ended.input.clone(), run.request.clone());
    Ok(NewFlow { machine, definition, subject, state, input, request })
}

fn data<T: DeserializeOwned>(flow: &FlowRow) -> Result<T, StoreFault> {
    Ok(serde_json::from_str(&flow.data)?)
}

/// Adds to a run what a flow brought it.
fn count(run: &mut RunRow, ended: &FlowRow) -> Result<(), StoreFault> {
    match ended.machine.as_str() {
        Download::NAME => {
            let data: DownloadData = data(ended)?;
            run.image = data.image;
            run.position = 0;
            run.tally.reused.blob = data.held;
            run.tally.reused.volume = true;
            run.tally.changed |= !data.held;
            run.tally.fetched_bytes = data.fetched_bytes;
        }
        Unpack::NAME => {
            let data: UnpackData = data(ended)?;
            run.position = run.position.saturating_add(1);
            run.tally.reused.volume &= data.held;
            run.tally.changed |= !data.held;
        }
        _ => {
            let data: ActivateData = data(ended)?;
            let input: ActivateInput = serde_json::from_str(&ended.input)?;
            run.tally.snapshot = Some(input.name);
            run.tally.device_bytes = data.bytes;
            run.tally.reused.snapshot = data.held;
            run.tally.changed |= !data.held;
        }
    }
    Ok(())
}

/// Puts a run at its next flow, or at its end.
pub(super) fn go_on(
    tx: &Transaction<'_>,
    run: &mut RunRow,
    effects: &mut Effects,
) -> Result<(), StoreFault> {
    let Some(image) = run.image else {
        return Err(StoreFault::Unreadable("runs.image"));
    };
    run::update(tx, run)?;
    let layers = image::layers(tx, image)?;
    let position = usize::try_from(run.position).unwrap_or(usize::MAX);
    if let Some(layer) = layers.get(position) {
        let below = position.checked_sub(1).and_then(|below| layers.get(below));
        let blob = image::blob(tx, layer.blob)?;
        let input = UnpackInput {
            volume: layer.chain_id,
            parent: below.map(|below| below.chain_id),
            blob: layer.blob,
            blob_bytes: blob.map_or(0, |blob| blob.bytes),
            diff_id: layer.diff_id,
            is_last: position.saturating_add(1) == layers.len(),
            image: run.subject.clone(),
        };
        let new = NewFlow {
            machine: Unpack::NAME,
            definition: Unpack::DEFINITION,
            subject: layer.chain_id.to_string(),
            state: UnpackState::START.name(),
            input: serde_json::to_string(&input)?,
            request: run.request.clone(),
        };
        return join_or_begin(tx, run, &new, effects);
    }
    let active = run.tally.snapshot.is_some();
    if let (Some(activation), false) = (run.activation.clone(), active) {
        return match activation_of(tx, run, (image, &activation), effects)? {
            Ok(new) => join_or_begin(tx, run, &new, effects),
            Err(conflict) => finish(tx, &run.id, Standing::Failed, Some(&conflict), effects),
        };
    }
    image::touch(tx, image)?;
    finish(tx, &run.id, Standing::Done, None, effects)
}

/// Puts a run at the flow that is at this subject already, or at a new one.
pub(super) fn join_or_begin(
    tx: &Transaction<'_>,
    run: &RunRow,
    new: &NewFlow,
    effects: &mut Effects,
) -> Result<(), StoreFault> {
    effects.changed.push(run.id.clone());
    if let Some(other) = past(tx, effects, |tx| flow::active(tx, new.machine, &new.subject))? {
        return run::attach(tx, &run.id, other.id);
    }
    let id = flow::begin(tx, new)?;
    effects.start.push(id);
    run::attach(tx, &run.id, id)
}

/// The flow that activates an image, or why its name cannot be had.
fn activation_of(
    tx: &Transaction<'_>,
    run: &RunRow,
    (digest, asked): (Digest, &Activation),
    effects: &mut Effects,
) -> Result<Result<NewFlow, Fault>, StoreFault> {
    let image = image::find(tx, digest)?.ok_or(StoreFault::Unreadable("runs.image"))?;
    let name = match &asked.name {
        Some(name) => name.clone(),
        None => match snapshot::default_of(tx, digest)? {
            Some(snapshot) => snapshot.name,
            None => default_name(&run.subject, digest)?,
        },
    };
    let input = ActivateInput {
        name: name.clone(),
        image: digest,
        image_name: run.subject.clone(),
        volume: image.chain_id,
        read_only: asked.read_only,
        is_default: asked.name.is_none(),
        mount: asked.mount,
        bytes_asked: asked.bytes,
    };
    let other = past(tx, effects, |tx| {
        let other = flow::active(tx, Activate::NAME, name.as_str())?;
        let understood = other.map(|other| understood::<Activate>(&other)).transpose();
        understood.map_err(|bad| StoreFault::Record(Box::new(bad)))
    })?;
    if let Some((_, theirs, _)) = other {
        let theirs_is = (theirs.image, theirs.read_only, theirs.mount, theirs.bytes_asked);
        if theirs_is != (digest, asked.read_only, asked.mount, asked.bytes) {
            return Ok(Err(fault(
                ErrorClass::Conflict,
                "snapshot.other",
                format!("{name} is being activated for another image or in another mode"),
            )
            .fact("image", theirs.image_name)
            .next(format!("airlock activate {} --name OTHER", digest.short()))));
        }
    }
    Ok(Ok(NewFlow {
        machine: Activate::NAME,
        definition: Activate::DEFINITION,
        subject: name.to_string(),
        state: ActivateState::START.name(),
        input: serde_json::to_string(&input)?,
        request: run.request.clone(),
    }))
}

/// The name of an image's default snapshot: `golang-2` for `golang:2`.
fn default_name(image: &str, digest: Digest) -> Result<SnapshotName, StoreFault> {
    let fits = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
    let text: String = image
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if fits(c) { c } else { '-' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(MAX_NAME)
        .collect();
    SnapshotName::try_from(text)
        .or_else(|_invalid| SnapshotName::try_from(format!("image-{}", digest.short())))
        .map_err(|_invalid| StoreFault::Unreadable("images.name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_name_is_made_of_the_images() {
        let digest = Digest::of(b"x");
        let name = |text: &str| default_name(text, digest).unwrap().to_string();
        assert_eq!(name("golang:2"), "golang-2");
        assert_eq!(name("Über Größe_1.2"), "ber-gr--e_1.2");
        assert_eq!(name("a:.tar"), "a-.tar");
        assert_eq!(name("日本"), format!("image-{}", digest.short()));
        assert_eq!(name(&"a".repeat(300)).len(), 128);
    }
}

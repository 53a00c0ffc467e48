//! An order becomes a run on record, or a parent with its children.

use std::collections::BTreeSet;

use airlock_policy::digest::Digest;
use airlock_policy::name::RequestId;
use airlock_policy::source::Source;
use airlock_protocol::control::{Activation, Fault, IfFailed, RunId, RunKind, Start, When, Work};
use rusqlite::Transaction;

use super::super::Download;
use super::super::download::{DownloadInput, DownloadState};
use super::super::effects::Effects;
use super::super::machine::State as _;
use super::super::schedule;
use super::super::step::Machine;
use super::super::unreadable::past;
use super::{Refused, image_of, name_of, no_such_run};
use crate::store::flow::NewFlow;
use crate::store::run::{RunRow, Schedule, Standing, Tally};
use crate::store::{StoreFault, history, now, run};

/// What a run is made from.
pub(super) struct Entry {
    pub(super) work: Work,
    pub(super) when: When,
    pub(super) request: RequestId,
    pub(super) uid: u32,
    /// The run that it does again.
    pub(super) retry_of: Option<RunId>,
    /// Its parent, and its place among that one's children.
    pub(super) parent: Option<(RunId, u32)>,
}

/// Puts a run on record, and begins it if nothing stands in its way.
pub(super) fn enter(
    tx: &Transaction<'_>,
    entry: Entry,
    effects: &mut Effects,
) -> Result<RunId, Refused> {
    let key = match &entry.parent {
        // What a child does may be under way as a run of its own: both wait for the same flows.
        Some((parent, _)) => format!("{parent} {}", key_of(tx, &entry.work, &entry.when)??),
        None => key_of(tx, &entry.work, &entry.when)??,
    };
    if let Some(same) = past(tx, effects, |tx| run::active(tx, &key))? {
        return Ok(same.id);
    }
    let Entry { work, when, request, uid, retry_of, parent } = entry;
    expect_run(tx, when.after.as_ref(), effects)?;
    let (kind, source, wanted, activation) = match work {
        Work::Pull { source } => (RunKind::Pull, Some(source), None, None),
        Work::Run { source, activation } => (RunKind::Run, Some(source), None, Some(activation)),
        Work::Activate { image, activation } => {
            (RunKind::Activate, None, Some(image), Some(activation))
        }
    };
    let waits = when.after.is_some() || when.start.is_some();
    // Now, unless what it waits for may change what the name means.
    let image = match wanted.as_ref().filter(|_| !waits) {
        Some(wanted) => Some(image_of(tx, wanted)??),
        None => None,
    };
    let subject = match (&source, &image, &wanted) {
        (Some(source), _, _) => source.image_name(),
        (None, Some(image), _) => name_of(tx, image)?,
        (None, None, wanted) => wanted.clone().unwrap_or_default(),
    };
    let mut tally = Tally { image: Some(subject.clone()), ..Tally::default() };
    tally.reused.blob = kind == RunKind::Activate;
    tally.reused.volume = kind == RunKind::Activate;
    let submitted_at = now();
    let when = plan(&when, submitted_at);
    let (parent, place) = parent.map_or((None, 0), |(parent, place)| (Some(parent), place));
    let new = RunRow {
        id: run::fresh_id(tx)?,
        kind,
        key,
        subject,
        source: source.as_ref().map(ToString::to_string),
        image: image.map(|image| image.digest),
        activation,
        position: 0,
        flow: None,
        standing: Standing::Running,
        tally,
        fault: None,
        request: request.to_string(),
        uid,
        submitted_at,
        ended_at: None,
        set_aside: false,
        retry_of,
        schedule: Schedule { wanted: wanted.filter(|_| waits), parent, place, ..when },
    };
    run::insert(tx, &new)?;
    let id = new.id.clone();
    effects.changed.push(id.clone());
    schedule::begin_if_due(tx, new, effects)?;
    Ok(id)
}

/// Puts a parent on record, with a child for each work.
pub(super) fn enter_all(
    tx: &Transaction<'_>,
    (works, when): (Vec<Work>, When),
    (request, uid): (RequestId, u32),
    effects: &mut Effects,
) -> Result<RunId, Refused> {
    let mut keys = BTreeSet::new();
    let mut wanted = Vec::new();
    for work in works {
        let key = key_of(tx, &work, &when)??;
        // The same source twice is one child.
        if keys.insert(key) {
            wanted.push(work);
        }
    }
    let all: Vec<_> = keys.into_iter().collect();
    let key = format!("all {}", Digest::of(all.join("\n").as_bytes()));
    if let Some(same) = past(tx, effects, |tx| run::active(tx, &key))? {
        return Ok(same.id);
    }
    expect_run(tx, when.after.as_ref(), effects)?;
    let kind = match wanted.first() {
        Some(Work::Run { .. }) => RunKind::Run,
        Some(Work::Activate { .. }) => RunKind::Activate,
        Some(Work::Pull { .. }) | None => RunKind::Pull,
    };
    let submitted_at = now();
    let members = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
    let parent = RunRow {
        id: run::fresh_id(tx)?,
        kind,
        key,
        subject: format!("{members} images"),
        source: None,
        image: None,
        activation: None,
        position: 0,
        flow: None,
        standing: Standing::Running,
        tally: Tally::default(),
        fault: None,
        request: request.to_string(),
        uid,
        submitted_at,
        ended_at: None,
        set_aside: false,
        retry_of: None,
        schedule: Schedule { members, ..plan(&when, submitted_at) },
    };
    run::insert(tx, &parent)?;
    for (place, work) in (0..).zip(wanted) {
        let (request, parent) = (request.clone(), Some((parent.id.clone(), place)));
        let (when, retry_of) = (when.clone(), None);
        enter(tx, Entry { work, when, request, uid, retry_of, parent }, effects)?;
    }
    effects.changed.push(parent.id.clone());
    Ok(parent.id)
}

/// Refuses to follow a run that is not there.
fn expect_run(
    tx: &Transaction<'_>,
    after: Option<&RunId>,
    effects: &mut Effects,
) -> Result<(), Refused> {
    let Some(after) = after else { return Ok(()) };
    let found = past(tx, effects, |tx| {
        Ok(run::find(tx, after)?.is_some() || history::find(tx, after)?.is_some())
    })?;
    if found { Ok(()) } else { Err(no_such_run(after).into()) }
}

fn plan(when: &When, submitted_at: i64) -> Schedule {
    let not_before = when.start.map(|start| match start {
        Start::At(time) => time,
        Start::Delay(wait) => submitted_at.saturating_add(crate::store::signed(wait)),
    });
    Schedule {
        follows: when.after.clone(),
        runs_anyway: when.if_failed == IfFailed::Run,
        not_before,
        ..Schedule::default()
    }
}

pub(in crate::flow) fn download_of(source: Source, request: &str) -> Result<NewFlow, StoreFault> {
    Ok(NewFlow {
        machine: Download::NAME,
        definition: Download::DEFINITION,
        subject: source.to_string(),
        state: DownloadState::START.name(),
        input: serde_json::to_string(&DownloadInput { source })?,
        request: request.to_owned(),
    })
}

/// What two orders have in common that would do the same at the same time.
fn key_of(
    tx: &Transaction<'_>,
    work: &Work,
    when: &When,
) -> Result<Result<String, Fault>, StoreFault> {
    let (kind, object, activation) = match work {
        Work::Pull { source } => (RunKind::Pull, source.to_string(), None),
        Work::Run { source, activation } => (RunKind::Run, source.to_string(), Some(activation)),
        Work::Activate { image, activation } if *when == When::default() => {
            let image = match image_of(tx, image)? {
                Ok(image) => image.digest.to_string(),
                Err(unknown) => return Ok(Err(unknown)),
            };
            (RunKind::Activate, image, Some(activation))
        }
        Work::Activate { image, activation } => {
            (RunKind::Activate, image.clone(), Some(activation))
        }
    };
    let Activation { name, read_only, mount, bytes } = activation.cloned().unwrap_or_default();
    let name = name.map(String::from).unwrap_or_default();
    let how = format!("{read_only} {mount} {}", bytes.unwrap_or_default());
    let work = format!("{} {object} {name} {how}", run::kind_name(kind));
    // As it was asked: an order that is repeated a second later is the same one.
    let When { after, if_failed, start } = when;
    let anyway = if *if_failed == IfFailed::Run { " anyway" } else { "" };
    let after = after.as_ref().map(|after| format!(" after {after}{anyway}")).unwrap_or_default();
    let start = match start {
        None => String::new(),
        Some(Start::Delay(wait)) => format!(" in {wait}"),
        Some(Start::At(time)) => format!(" at {time}"),
    };
    Ok(Ok(format!("{work}{after}{start}")))
}

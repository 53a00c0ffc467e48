//! How a run begins, and how an operator ends it.

use airlock_policy::name::{MOUNTS, RequestId, SnapshotName};
use airlock_policy::source::Source;
use airlock_protocol::control::{Activation, ErrorClass, Fault, RunId, RunKind, Work};
use rusqlite::Transaction;

use super::download::{DownloadInput, DownloadState};
use super::effects::Effects;
use super::engine::Engine;
use super::machine::State as _;
use super::step::Machine;
use super::unreadable::past;
use super::{Download, chain};
use crate::fault::{Explain as _, fault};
use crate::store::flow::NewFlow;
use crate::store::image::ImageRow;
use crate::store::run::{RunRow, Standing, Tally};
use crate::store::{StoreFault, history, image, now, parsed, run, source, unreadable};

/// What an operator asks for.
#[derive(Clone, Debug)]
pub struct Order {
    /// What to do.
    pub work: Work,
    /// The id of the operator's command.
    pub request: RequestId,
    /// The operator.
    pub uid: u32,
    /// The run that it does again.
    pub retry_of: Option<RunId>,
}

impl Engine {
    /// Begins a run, or answers the one that does the same already.
    pub async fn submit(&self, order: Order) -> Result<RunId, Fault> {
        if self.is_stopping() {
            return Err(fault(
                ErrorClass::Unavailable,
                "daemon.stopping",
                "the daemon is stopping and takes nothing on",
            )
            .next("systemctl start airlock"));
        }
        let begun = self.world().store.write(move |tx| Ok(begin(tx, order)));
        let begun = begun.await.map_err(|error| error.fault())?;
        let (id, effects) = begun.map_err(|refused| match refused {
            Refused::Fault(fault) => fault,
            Refused::Store(error) => error.fault(),
        })?;
        self.carry_out(&effects);
        Ok(id)
    }

    /// What a run that failed or was cancelled was to do.
    pub async fn again(&self, id: &RunId) -> Result<Work, Fault> {
        let wanted = id.clone();
        let found = self.read_past(move |tx| {
            Ok((run::find(tx, &wanted)?, history::find(tx, &wanted)?.is_some()))
        });
        let run = match found.await.map_err(|error| error.fault())? {
            (Some(run), _) => run,
            (None, true) => {
                let message = format!("the history of run {id} was removed: begin it anew");
                return Err(fault(ErrorClass::Conflict, "run.archived", message)
                    .next(format!("airlock runs show {id}")));
            }
            (None, false) => return Err(no_such_run(id)),
        };
        if run.set_aside {
            let message = format!("the record of run {id} could not be read: begin it anew");
            return Err(fault(ErrorClass::Conflict, unreadable::DAMAGED, message)
                .next(format!("airlock runs show {id}")));
        }
        match run.standing {
            Standing::Failed | Standing::Cancelled => {}
            Standing::Running => {
                let message = format!("run {id} has not ended: there is nothing to begin again");
                return Err(fault(ErrorClass::Conflict, "run.going_on", message)
                    .next(format!("airlock runs watch {id}"))
                    .next(format!("airlock cancel {id}")));
            }
            Standing::Done => {
                let message = format!("run {id} is done: there is nothing to begin again");
                return Err(fault(ErrorClass::Conflict, "run.done", message)
                    .next(format!("airlock runs show {id}")));
            }
        }
        work_of(run).map_err(|error| error.fault())
    }

    /// Cancels a run. Its flow ends too, unless another run waits for it.
    pub async fn cancel_run(&self, id: &RunId) -> Result<(), Fault> {
        let (asked, id) = (id.clone(), id.clone());
        let cancelled = self.world().store.write(move |tx| {
            let mut effects = Effects::default();
            let run = past(tx, &mut effects, |tx| run::find(tx, &asked))?;
            let Some(run) = run else {
                // One whose history was removed has ended, and is left alone as any that has.
                return Ok(history::find(tx, &asked)?.map(|_ended| effects));
            };
            chain::finish(tx, &run.id, Standing::Cancelled, None, &mut effects)?;
            if let Some(flow) = run.flow
                && past(tx, &mut effects, |tx| run::at_flow(tx, flow))?.is_empty()
            {
                effects.stop.push(flow);
            }
            Ok(Some(effects))
        });
        let effects = cancelled.await.map_err(|error| error.fault())?;
        self.carry_out(&effects.ok_or_else(|| no_such_run(&id))?);
        Ok(())
    }
}

/// What a run was asked to do.
fn work_of(run: RunRow) -> Result<Work, StoreFault> {
    let RunRow { kind, source, image, activation, .. } = run;
    let source = || -> Result<Source, StoreFault> {
        let source = source.as_deref().ok_or(StoreFault::Unreadable("runs.source"))?;
        parsed(source, "runs.source")
    };
    let activation = activation.unwrap_or_default();
    Ok(match kind {
        RunKind::Pull => Work::Pull { source: source()? },
        RunKind::Run => Work::Run { source: source()?, activation },
        RunKind::Activate => {
            let image = image.ok_or(StoreFault::Unreadable("runs.image"))?;
            Work::Activate { image: image.to_string(), activation }
        }
    })
}

/// The fault of asking for a run that is not there.
pub(crate) fn no_such_run(id: &RunId) -> Fault {
    fault(ErrorClass::NotFound, "run.unknown", format!("there is no run {id}"))
        .next("airlock runs --all")
}

enum Refused {
    Fault(Fault),
    Store(StoreFault),
}

impl From<StoreFault> for Refused {
    fn from(error: StoreFault) -> Self {
        Self::Store(error)
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn begin(tx: &Transaction<'_>, order: Order) -> Result<(RunId, Effects), Refused> {
    let mut effects = Effects::default();
    let Order { work, request, uid, retry_of } = order;
    let (kind, source, image, activation) = match work {
        Work::Pull { source } => (RunKind::Pull, Some(source), None, None),
        Work::Run { source, activation } => (RunKind::Run, Some(source), None, Some(activation)),
        Work::Activate { image, activation } => {
            (RunKind::Activate, None, Some(image_of(tx, &image)??), Some(activation))
        }
    };
    let object = match (&source, &image) {
        (Some(source), _) => source.to_string(),
        (None, Some(image)) => image.digest.to_string(),
        (None, None) => String::new(),
    };
    let key = key(kind, &object, activation.as_ref());
    if let Some(same) = past(tx, &mut effects, |tx| run::active(tx, &key))? {
        return Ok((same.id, effects));
    }
    let subject = match (&source, &image) {
        (Some(source), _) => source.image_name(),
        (None, Some(image)) => name_of(tx, image)?,
        (None, None) => String::new(),
    };
    let mut tally = Tally { image: Some(subject.clone()), ..Tally::default() };
    tally.reused.blob = image.is_some();
    tally.reused.volume = image.is_some();
    let mut new = RunRow {
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
        submitted_at: now(),
        ended_at: None,
        set_aside: false,
        retry_of,
    };
    run::insert(tx, &new)?;
    match source {
        None => chain::go_on(tx, &mut new, &mut effects)?,
        Some(source) => {
            let download = download_of(source, &new.request)?;
            chain::join_or_begin(tx, &new, &download, &mut effects)?;
        }
    }
    Ok((new.id, effects))
}

fn download_of(source: Source, request: &str) -> Result<NewFlow, StoreFault> {
    Ok(NewFlow {
        machine: Download::NAME,
        definition: Download::DEFINITION,
        subject: source.to_string(),
        state: DownloadState::START.name(),
        input: serde_json::to_string(&DownloadInput { source })?,
        request: request.to_owned(),
    })
}

/// What two runs have in common that would do the same.
fn key(kind: RunKind, object: &str, activation: Option<&Activation>) -> String {
    let Activation { name, read_only, mount, bytes } = activation.cloned().unwrap_or_default();
    let name = name.map(String::from).unwrap_or_default();
    let how = format!("{read_only} {mount} {}", bytes.unwrap_or_default());
    format!("{} {object} {name} {how}", run::kind_name(kind))
}

/// What people call an image: after its newest source.
pub(crate) fn name_of(tx: &Transaction<'_>, image: &ImageRow) -> Result<String, StoreFault> {
    let newest = source::of_image(tx, image.digest)?.into_iter().next();
    Ok(newest.map_or_else(|| image.name.clone(), |(_, name)| name))
}

/// Finds the image that an operator means: by name, source, or 12 or more hex digits.
pub fn image_of(tx: &Transaction<'_>, text: &str) -> Result<Result<ImageRow, Fault>, StoreFault> {
    let mut found = Vec::new();
    if let Ok(source) = text.parse::<Source>() {
        let held = source::find(tx, &source.place.to_string())?.map(|(digest, _)| digest);
        let wanted = held.filter(|held| source.pin.is_none_or(|pin| pin == *held)).or(source.pin);
        found.extend(wanted.map(|digest| image::find(tx, digest)).transpose()?.flatten());
    } else {
        found = image::by_name(tx, text)?;
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if found.is_empty() && is_hex && (12..=64).contains(&hex.len()) {
            found = image::by_prefix(tx, hex)?;
        }
    }
    if found.len() > 1 {
        let mut many = fault(
            ErrorClass::Conflict,
            "name.ambiguous",
            format!("{text} may be any of {} images", found.len()),
        );
        for image in &found {
            let place = source::of_image(tx, image.digest)?.into_iter().next();
            let place = place.map_or_else(String::new, |(place, _)| format!("  {place}"));
            many = many.fact("candidate", format!("{}{place}", image.digest.short()));
        }
        return Ok(Err(many.next("airlock images")));
    }
    Ok(found.pop().ok_or_else(|| {
        fault(ErrorClass::NotFound, "name.unknown", format!("there is no image {text}"))
            .next("airlock images")
    }))
}

/// The device of a snapshot, or where it is mounted.
pub fn device_of(name: &SnapshotName, mount: bool) -> String {
    if mount { format!("{MOUNTS}/{name}") } else { format!("/dev/airlock/{name}") }
}

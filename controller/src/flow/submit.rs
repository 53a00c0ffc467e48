//! How a run begins, and how an operator ends it.

use airlock_policy::name::{MOUNTS, RequestId, SnapshotName};
use airlock_policy::source::Source;
use airlock_protocol::control::{Activation, ErrorClass, Fault, RunId, RunKind, Work};
use rusqlite::Transaction;

use super::download::{DownloadInput, DownloadState};
use super::engine::Engine;
use super::machine::State as _;
use super::step::Machine;
use super::{Download, chain};
use crate::fault::{Explain as _, fault};
use crate::store::flow::{FlowId, NewFlow};
use crate::store::image::ImageRow;
use crate::store::run::{RunRow, Standing, Tally};
use crate::store::{StoreFault, image, now, run, source};

/// What an operator asks for.
#[derive(Clone, Debug)]
pub struct Order {
    /// What to do.
    pub work: Work,
    /// The id of the operator's command.
    pub request: RequestId,
    /// The operator.
    pub uid: u32,
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
        let (id, started) = begun.map_err(|refused| match refused {
            Refused::Fault(fault) => fault,
            Refused::Store(error) => error.fault(),
        })?;
        self.world().live.runs_changed(std::slice::from_ref(&id));
        self.start(&started);
        Ok(id)
    }

    /// Cancels a run. Its flow ends too, unless another run waits for it.
    pub async fn cancel_run(&self, id: &RunId) -> Result<(), Fault> {
        let (asked, id) = (id.clone(), id.clone());
        let cancelled = self.world().store.write(move |tx| {
            let Some(run) = run::find(tx, &asked)? else { return Ok(None) };
            run::end(tx, &run.id, Standing::Cancelled, None)?;
            let Some(flow) = run.flow else { return Ok(Some(None)) };
            let alone = run::at_flow(tx, flow)?.is_empty();
            Ok(Some(alone.then_some(flow)))
        });
        match cancelled.await.map_err(|error| error.fault())? {
            None => return Err(no_such_run(&id)),
            Some(None) => {}
            Some(Some(flow)) => self.cancel(flow),
        }
        self.world().live.runs_changed(std::slice::from_ref(&id));
        Ok(())
    }
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

fn begin(tx: &Transaction<'_>, order: Order) -> Result<(RunId, Vec<FlowId>), Refused> {
    let Order { work, request, uid } = order;
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
    if let Some(same) = run::active(tx, &key)? {
        return Ok((same.id, Vec::new()));
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
        id: fresh_id(tx)?,
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
    };
    run::insert(tx, &new)?;
    let started = match source {
        None => chain::go_on(tx, &mut new)?,
        Some(source) => chain::join_or_begin(tx, &new, &download_of(source, &new.request)?)?,
    };
    Ok((new.id, started.into_iter().collect()))
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

fn fresh_id(tx: &Transaction<'_>) -> Result<RunId, StoreFault> {
    // 40 random bits: a clash is looked for all the same, a few times.
    for _ in 0..16 {
        let mut bits = u64::from(super::rules::random()) << 32 | u64::from(super::rules::random());
        let mut text = String::new();
        for _ in 0..8 {
            let digit = usize::try_from(bits & 31).unwrap_or(0);
            let digits = airlock_protocol::control::RUN_DIGITS;
            text.push(digits.get(digit).copied().map_or('0', char::from));
            bits >>= 5;
        }
        let id = RunId::try_from(text).map_err(|_invalid| StoreFault::Unreadable("runs.id"))?;
        if run::find(tx, &id)?.is_none() {
            return Ok(id);
        }
    }
    Err(StoreFault::Unreadable("runs.id"))
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

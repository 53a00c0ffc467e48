//! How a run begins, and how an operator ends it.

mod order;

use airlock_policy::name::{MOUNTS, RequestId, SnapshotName};
use airlock_policy::source::Source;
use airlock_protocol::control::{ErrorClass, Fault, MAX_WORKS, RunId, RunKind, When, Work};
use rusqlite::Transaction;

use self::order::{Entry, enter, enter_all};
use super::effects::Effects;
use super::engine::Engine;
use super::schedule;
use super::unreadable::past;
use crate::fault::{Explain as _, fault};
use crate::store::image::ImageRow;
use crate::store::run::{RunRow, Standing};
use crate::store::{StoreFault, history, image, parsed, run, source, unreadable};

pub(super) use self::order::download_of;

/// What an operator asks for.
#[derive(Clone, Debug)]
pub struct Order {
    /// What to do.
    pub work: Work,
    /// When.
    pub when: When,
    /// The id of the operator's command.
    pub request: RequestId,
    /// The operator.
    pub uid: u32,
    /// The run that it does again.
    pub retry_of: Option<RunId>,
}

impl Engine {
    /// Asks for a run, or answers the one that does the same already.
    pub async fn submit(&self, order: Order) -> Result<RunId, Fault> {
        let Order { work, when, request, uid, retry_of } = order;
        let entry = Entry { work, when, request, uid, retry_of, parent: None };
        self.take_on(move |tx, effects| enter(tx, entry, effects)).await
    }

    /// Asks for several runs under a parent, or answers the parent that does the same already.
    pub async fn submit_all(
        &self,
        works: Vec<Work>,
        when: When,
        (request, uid): (RequestId, u32),
    ) -> Result<RunId, Fault> {
        if works.is_empty() || works.len() > MAX_WORKS {
            let what = format!("an order is of 1 to {MAX_WORKS} runs");
            return Err(fault(ErrorClass::Usage, "usage", what));
        }
        let all = (works, when);
        self.take_on(move |tx, effects| enter_all(tx, all, (request, uid), effects)).await
    }

    async fn take_on(
        &self,
        enter: impl FnOnce(&Transaction<'_>, &mut Effects) -> Result<RunId, Refused> + Send + 'static,
    ) -> Result<RunId, Fault> {
        if self.is_stopping() {
            return Err(fault(
                ErrorClass::Unavailable,
                "daemon.stopping",
                "the daemon is stopping and takes nothing on",
            )
            .next("systemctl start airlock"));
        }
        let entered = self.world().store.write(move |tx| {
            let mut effects = Effects::default();
            // What is refused leaves nothing behind: not a part of several runs, either.
            tx.execute_batch("SAVEPOINT order_")?;
            let entered = enter(tx, &mut effects);
            let end = if entered.is_ok() {
                "RELEASE order_"
            } else {
                "ROLLBACK TO order_; RELEASE order_"
            };
            tx.execute_batch(end)?;
            Ok(entered.map(|id| (id, effects)))
        });
        let entered = entered.await.map_err(|error| error.fault())?;
        let (id, effects) = entered.map_err(|refused| match refused {
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
        if run.schedule.members > 0 {
            let message = format!("run {id} stands for several: begin again those that failed");
            return Err(fault(ErrorClass::Conflict, "run.parent", message)
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

    /// Cancels a run, wherever it is, and all that it stands for. A flow ends too, unless another
    /// run waits for it.
    pub async fn cancel_run(&self, id: &RunId) -> Result<(), Fault> {
        let (asked, id) = (id.clone(), id.clone());
        let cancelled = self.world().store.write(move |tx| {
            let mut effects = Effects::default();
            let run = past(tx, &mut effects, |tx| run::find(tx, &asked))?;
            let Some(run) = run else {
                // One whose history was removed has ended, and is left alone as any that has.
                return Ok(history::find(tx, &asked)?.map(|_ended| effects));
            };
            let mut all = past(tx, &mut effects, |tx| run::children(tx, &run.id))?;
            all.push(run);
            for run in all {
                let why = None;
                schedule::finish(tx, &run.id, Standing::Cancelled, why, &mut effects)?;
                if let Some(flow) = run.flow
                    && past(tx, &mut effects, |tx| run::at_flow(tx, flow))?.is_empty()
                {
                    effects.stop.push(flow);
                }
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
    let RunRow { kind, source, image, activation, schedule, .. } = run;
    let source = || -> Result<Source, StoreFault> {
        let source = source.as_deref().ok_or(StoreFault::Unreadable("runs.source"))?;
        parsed(source, "runs.source")
    };
    let activation = activation.unwrap_or_default();
    Ok(match kind {
        RunKind::Pull => Work::Pull { source: source()? },
        RunKind::Run => Work::Run { source: source()?, activation },
        RunKind::Activate => {
            // Of one that waited in vain, as the operator named it.
            let image = image.map(|image| image.to_string()).or(schedule.wanted);
            let image = image.ok_or(StoreFault::Unreadable("runs.image"))?;
            Work::Activate { image, activation }
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

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What people call an image: after its newest source.
pub(crate) fn name_of(tx: &Transaction<'_>, image: &ImageRow) -> Result<String, StoreFault> {
    Ok(name_by(image, &source::of_image(tx, image.digest)?))
}

/// The same, where its sources were read: places and names, the newest first.
pub(crate) fn name_by(image: &ImageRow, sources: &[(String, String)]) -> String {
    sources.first().map_or(&image.name, |(_, name)| name).clone()
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

//! `deactivate`, `rm`, `cancel`: what was named is acted on, each thing is told, all are tried.

use airlock_policy::name::SnapshotName;
use airlock_protocol::control::RunId;
use serde::Serialize;

use super::Session;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, NoAnswer};
use crate::cli::json::{Document, ImageItem, Items, RunItem, SnapshotItem};
use crate::cli::pen::Sign;

/// `deactivate SNAPSHOT…`
pub(crate) async fn deactivate(
    session: &Session,
    names: Vec<SnapshotName>,
    if_exists: bool,
) -> Result<Exit, Failure> {
    let client = session.client().await?;
    let each = async |name| client.deactivate(name).await;
    let done = all(session, &client, names, if_exists, each).await;
    done.tell("airlock.deactivated/1", SnapshotItem::from, |snapshot| {
        format!("{} is deactivated: {}", snapshot.name, snapshot.image)
    })
}

/// `rm IMAGE…`
pub(crate) async fn rm(
    session: &Session,
    images: Vec<String>,
    if_exists: bool,
) -> Result<Exit, Failure> {
    let client = session.client().await?;
    let each = async |image| client.remove(image).await;
    let done = all(session, &client, images, if_exists, each).await;
    done.tell("airlock.removed/1", ImageItem::from, |image| {
        format!("{} is removed: {}", image.name, image.digest)
    })
}

/// `cancel RUN…`
pub(crate) async fn cancel(session: &Session, runs: Vec<RunId>) -> Result<Exit, Failure> {
    let client = session.client().await?;
    let each = async |run| client.cancel(run).await;
    let done = all(session, &client, runs, false, each).await;
    done.tell("airlock.cancelled/1", RunItem::from, |run| {
        format!("run {} is cancelled: {}", run.run, run.subject)
    })
}

/// What was done, and how the rest ended.
struct Done<'a, V> {
    session: &'a Session,
    views: Vec<V>,
    ends: Vec<Exit>,
}

async fn all<'a, T, V>(
    session: &'a Session,
    client: &Client,
    targets: Vec<T>,
    if_exists: bool,
    each: impl AsyncFn(T) -> Result<V, NoAnswer>,
) -> Done<'a, V> {
    let mut done = Done { session, views: Vec::new(), ends: Vec::new() };
    for target in targets {
        match each(target).await.map_err(|error| client.failed(error)) {
            Ok(view) => done.views.push(view),
            Err(failure) if if_exists && failure.is_absence() => {}
            Err(failure) => {
                session.console.fail(&failure);
                done.ends.push(failure.exit());
            }
        }
    }
    done
}

impl<V> Done<'_, V> {
    fn tell<I: Serialize>(
        self,
        schema: &'static str,
        item: impl Fn(V) -> I,
        words: impl Fn(&V) -> String,
    ) -> Result<Exit, Failure> {
        let console = &self.session.console;
        if console.json {
            let items = Items::new(self.views.into_iter().map(item));
            console.document(&Document::<Items<I>>::new(schema, items))?;
        } else if !console.quiet {
            let sign = console.out.signed(Sign::Done);
            let line = |view| format!("{sign} {}\n", console.out.text(&words(view)));
            console.result(&self.views.iter().map(line).collect::<String>())?;
        }
        Ok(Exit::of(self.ends))
    }
}

//! `pull`, `activate`, `run`: submit, then watch.

use airlock_policy::source::Source;
use airlock_protocol::control::{Activation, ErrorClass, RunId, Work};

use super::Session;
use crate::cli::args::ActivationArgs;
use crate::cli::failure::{Exit, Failure, fault};
use crate::cli::follow::{Signals, follow};

/// `pull SOURCE…`
pub(crate) async fn pull(session: &Session, sources: Vec<Source>) -> Result<Exit, Failure> {
    submit(session, sources.into_iter().map(|source| Work::Pull { source })).await
}

/// `activate IMAGE`
pub(crate) async fn activate(
    session: &Session,
    image: String,
    how: ActivationArgs,
) -> Result<Exit, Failure> {
    submit(session, [Work::Activate { image, activation: activation(&how) }]).await
}

/// `run SOURCE…`
pub(crate) async fn run(
    session: &Session,
    sources: Vec<Source>,
    how: ActivationArgs,
) -> Result<Exit, Failure> {
    if how.name.is_some() && sources.len() > 1 {
        let mut one = fault("usage", ErrorClass::Usage, "one --name cannot name several snapshots");
        one.remedy.push("airlock run SOURCE --name NAME, once for each".to_owned());
        return Err(one.into());
    }
    let activation = activation(&how);
    let work = |source| Work::Run { source, activation: activation.clone() };
    submit(session, sources.into_iter().map(work)).await
}

/// `retry RUN…`
pub(crate) async fn retry(session: &Session, runs: Vec<RunId>) -> Result<Exit, Failure> {
    let mut signals = Signals::new()?;
    let client = session.client().await?;
    let mut targets = Vec::new();
    for run in runs {
        targets.push(client.retry(run).await.map_err(|error| client.failed(error)));
    }
    follow(&session.console, &client, &mut signals, session.limit, targets).await
}

fn activation(how: &ActivationArgs) -> Activation {
    let ActivationArgs { name, read_only, mount, size } = how;
    let bytes = size.map(|size| size.0);
    Activation { name: name.clone(), read_only: *read_only, mount: *mount, bytes }
}

async fn submit(session: &Session, works: impl IntoIterator<Item = Work>) -> Result<Exit, Failure> {
    // Before anything is submitted: a Ctrl-C in between must leave with the run's id, too.
    let mut signals = Signals::new()?;
    let client = session.client().await?;
    let mut targets = Vec::new();
    for work in works {
        targets.push(client.submit(work).await.map_err(|error| client.failed(error)));
    }
    follow(&session.console, &client, &mut signals, session.limit, targets).await
}

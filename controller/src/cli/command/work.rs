//! `pull`, `activate`, `run`: submit, then watch.

use airlock_policy::source::Source;
use airlock_protocol::control::{Activation, ErrorClass, IfFailed, RunId, Start, When, Work};

use super::Session;
use crate::cli::args::{ActivationArgs, OnFailure, WhenArgs};
use crate::cli::failure::{Exit, Failure, fault, millis};
use crate::cli::follow::{Signals, children, follow};

/// `pull SOURCE…`
pub(crate) async fn pull(
    session: &Session,
    sources: Vec<Source>,
    when: &WhenArgs,
) -> Result<Exit, Failure> {
    let works = sources.into_iter().map(|source| Work::Pull { source });
    submit(session, works.collect(), when_of(when)).await
}

/// `activate IMAGE`
pub(crate) async fn activate(
    session: &Session,
    image: String,
    how: ActivationArgs,
    when: &WhenArgs,
) -> Result<Exit, Failure> {
    let work = Work::Activate { image, activation: activation(&how) };
    submit(session, vec![work], when_of(when)).await
}

/// `run SOURCE…`
pub(crate) async fn run(
    session: &Session,
    sources: Vec<Source>,
    how: ActivationArgs,
    when: &WhenArgs,
) -> Result<Exit, Failure> {
    if how.name.is_some() && sources.len() > 1 {
        let mut one = fault("usage", ErrorClass::Usage, "one --name cannot name several snapshots");
        one.remedy.push("airlock run SOURCE --name NAME, once for each".to_owned());
        return Err(one.into());
    }
    let activation = activation(&how);
    let work = |source| Work::Run { source, activation: activation.clone() };
    submit(session, sources.into_iter().map(work).collect(), when_of(when)).await
}

fn when_of(asked: &WhenArgs) -> When {
    let WhenArgs { after, if_failed, delay, at } = asked;
    let if_failed = match if_failed {
        OnFailure::Skip => IfFailed::Skip,
        OnFailure::Run => IfFailed::Run,
    };
    let start = delay.map(|delay| Start::Delay(millis(delay))).or(at.map(Start::At));
    When { after: after.clone(), if_failed, start }
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

async fn submit(session: &Session, works: Vec<Work>, when: When) -> Result<Exit, Failure> {
    // Before anything is submitted: a Ctrl-C in between must leave with the run's id, too.
    let mut signals = Signals::new()?;
    let client = session.client().await?;
    let targets = match <[Work; 1]>::try_from(works) {
        Ok([work]) => {
            vec![client.submit(work, when).await.map_err(|error| client.failed(error))]
        }
        Err(works) => {
            let parent = client.submit_all(works, when).await;
            let parent = parent.map_err(|error| client.failed(error))?;
            children(&client, parent).await
        }
    };
    follow(&session.console, &client, &mut signals, session.limit, targets).await
}

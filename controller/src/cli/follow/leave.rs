//! Leaving runs to themselves: by Ctrl-C, by a signal, or because the waiting took too long.

use std::io;
use std::time::Duration;

use airlock_protocol::control::{ErrorClass, RunView};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::client::Client;
use crate::cli::console::{Console, raw_error};
use crate::cli::failure::{Exit, Failure, fault, millis};
use crate::cli::json::{Document, Line};
use crate::cli::moment;
use crate::cli::pen::Ink;
use crate::cli::report::{ErrorDocument, labelled};

/// How long a second Ctrl-C is waited for.
const SECOND: Duration = Duration::from_secs(2);

/// The signals that end a command, but not its runs.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// Why a command stops watching.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reason {
    /// SIGINT.
    Interrupt,
    /// SIGTERM or SIGHUP.
    Terminate,
    /// The waiting took this long.
    Timeout(Duration),
}

impl Signals {
    /// From now on signals are taken, and kept until they are asked for.
    pub(crate) fn new() -> Result<Self, Failure> {
        let take = |kind| signal(kind).map_err(|error| untaken(&error));
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
            hang_up: take(SignalKind::hangup())?,
        })
    }

    /// Waits for one.
    pub(crate) async fn next(&mut self) -> Reason {
        tokio::select! {
            _ = self.interrupt.recv() => Reason::Interrupt,
            _ = self.terminate.recv() => Reason::Terminate,
            _ = self.hang_up.recv() => Reason::Terminate,
        }
    }
}

fn untaken(error: &io::Error) -> Failure {
    let mut untaken = fault("command.signals", ErrorClass::Internal, "failed to take signals");
    untaken.cause.push(error.to_string());
    untaken.into()
}

/// Says that the runs go on and how to come back; cancels them on a second Ctrl-C.
pub(crate) async fn leave(
    console: &Console,
    client: &Client,
    signals: &mut Signals,
    reason: Reason,
    runs: &[RunView],
) -> Result<Exit, Failure> {
    if console.json {
        for view in runs {
            let line = Line::result(view.clone());
            console.document(&Document::new("airlock.run/1", line))?;
        }
    }
    match reason {
        Reason::Timeout(limit) => {
            for view in runs {
                console.fail(&timed_out(client, view, limit));
            }
            Ok(Exit(ErrorClass::Timeout.exit()))
        }
        Reason::Terminate => {
            say(console, runs, Exit::TERMINATED);
            Ok(Exit::TERMINATED)
        }
        Reason::Interrupt => {
            say(console, runs, Exit::INTERRUPTED);
            let again = tokio::time::timeout(SECOND, signals.next()).await;
            if again == Ok(Reason::Interrupt) {
                cancel(console, client, runs).await;
            }
            Ok(Exit::INTERRUPTED)
        }
    }
}

fn timed_out(client: &Client, view: &RunView, limit: Duration) -> Failure {
    let run = &view.run;
    let what = format!("run {run} is not over after {}", moment::took(millis(limit)));
    let mut late = fault("wait.timeout", ErrorClass::Timeout, what);
    late.facts.push(("state".to_owned(), "the run goes on".to_owned()));
    late.remedy = vec![format!("airlock runs watch {run}"), format!("airlock cancel {run}")];
    Failure { run: Some(run.clone()), request: Some(client.request.clone()), ..late.into() }
}

fn say(console: &Console, runs: &[RunView], exit: Exit) {
    for view in runs {
        let run = &view.run;
        if console.json {
            raw_error(&ErrorDocument::interrupted(run, exit));
            continue;
        }
        let again = if exit == Exit::INTERRUPTED { ", or Ctrl-C again within 2s" } else { "" };
        let labels = [
            ("watch".to_owned(), Ink::Paste, format!("airlock runs watch {run}")),
            ("cancel".to_owned(), Ink::Paste, format!("airlock cancel {run}{again}")),
        ];
        // Even where little is to be said: the id is the way back.
        console
            .must_say(&format!("left run {run}: it goes on\n{}", labelled(console.err, &labels)));
    }
}

async fn cancel(console: &Console, client: &Client, runs: &[RunView]) {
    for view in runs {
        match client.cancel(view.run.clone()).await {
            Ok(view) => console.say(&format!("cancelled run {}\n", view.run)),
            Err(error) => console.fail(&client.failed(error)),
        }
    }
}

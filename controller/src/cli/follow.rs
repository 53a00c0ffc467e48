//! Watches runs to their end. Whoever stops watching stops nothing.

mod leave;

use std::time::{Duration, Instant};

use airlock_protocol::control::{ErrorClass, Fault, RunId, RunKind, RunState, RunView};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::MissedTickBehavior;

pub(crate) use self::leave::Signals;
use self::leave::{Reason, leave};
use super::client::Client;
use super::console::{Console, Progress};
use super::failure::{Exit, Failure, NoAnswer, fault};
use super::json::{Document, Line};
use super::outcome;
use super::progress::Reporter;

/// How often what goes on is drawn: five times a second.
const FRAME: Duration = Duration::from_millis(200);
/// What whoever waits for the end alone says that it has seen.
const ONLY_THE_END: u64 = u64::MAX;
/// How long a daemon that went away is waited for: a restart takes a second or two.
const AWAY: Duration = Duration::from_secs(30);

/// The runs that one stands for, each to be watched; itself, where it stands for none.
pub(crate) async fn children(client: &Client, view: RunView) -> Vec<Result<RunView, Failure>> {
    if view.links.children.is_empty() {
        return vec![Ok(view)];
    }
    let mut views = Vec::new();
    for child in view.links.children {
        views.push(client.show_run(child.run).await.map_err(|error| client.failed(error)));
    }
    views
}

/// Watches runs, each the answer to one of the command's targets, and tells what becomes of them.
pub(crate) async fn follow(
    console: &Console,
    client: &Client,
    signals: &mut Signals,
    limit: Option<Duration>,
    targets: Vec<Result<RunView, Failure>>,
) -> Result<Exit, Failure> {
    let mut followed = Followed::new(console, client);
    for target in targets {
        followed.take(target)?;
    }
    let mut polls: FuturesUnordered<_> = followed.open().map(|open| poll(client, open)).collect();
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    let reason = loop {
        tokio::select! {
            biased;
            reason = signals.next() => break Some(reason),
            news = polls.next() => match news {
                None => break None,
                Some((place, news)) => {
                    if let Some(open) = followed.news(place, news)? {
                        polls.push(poll(client, open));
                    }
                }
            },
            _ = frames.tick() => followed.reporter.tick(),
            () = expiry(deadline) => break Some(Reason::Timeout(limit.unwrap_or_default())),
        }
    };
    drop(polls);
    followed.reporter.stop();
    match reason {
        None => followed.end(),
        Some(reason) => {
            let runs: Vec<_> = followed.open_views().cloned().collect();
            followed.products()?;
            leave(console, client, signals, reason, &runs).await
        }
    }
}

/// The runs of one command, in the order of its targets.
struct Followed<'a> {
    console: &'a Console,
    client: &'a Client,
    reporter: Reporter,
    runs: Vec<Target>,
}

/// What became of a target.
enum Target {
    Open(Box<RunView>),
    Done(Option<String>),
    Failed(Exit),
}

/// A run that is asked for news: its place, its id, and what was seen of it.
type Open = (usize, RunId, u64);

impl<'a> Followed<'a> {
    fn new(console: &'a Console, client: &'a Client) -> Self {
        Self { console, client, reporter: Reporter::new(*console), runs: Vec::new() }
    }

    fn take(&mut self, target: Result<RunView, Failure>) -> Result<(), Failure> {
        let target = match target {
            Ok(view) => {
                self.reporter.news(&view)?;
                self.wait(&view);
                self.judged(view)?
            }
            Err(failure) => {
                self.console.fail(&failure);
                Target::Failed(failure.exit())
            }
        };
        self.runs.push(target);
        Ok(())
    }

    /// What is seen of a run: where nothing is shown of it, nothing is news but its end.
    fn seen(&self, view: &RunView) -> u64 {
        if self.console.progress == Progress::Silent { ONLY_THE_END } else { view.version }
    }

    /// Says what a run waits for that has not begun: that may take long.
    fn wait(&self, view: &RunView) {
        if view.state == RunState::Queued
            && let Some(wait) = outcome::wait(view)
        {
            self.console.say(&format!("{} begins {wait}\n", view.run));
        }
    }

    fn open_views(&self) -> impl Iterator<Item = &RunView> {
        self.runs.iter().filter_map(|target| match target {
            Target::Open(view) => Some(view.as_ref()),
            Target::Done(_) | Target::Failed(_) => None,
        })
    }

    fn open(&self) -> impl Iterator<Item = Open> {
        self.runs.iter().enumerate().filter_map(|(place, target)| match target {
            Target::Open(view) => Some((place, view.run.clone(), self.seen(view))),
            Target::Done(_) | Target::Failed(_) => None,
        })
    }

    /// Takes news of one run; answers it again if there is more to come.
    fn news(
        &mut self,
        place: usize,
        news: Result<RunView, NoAnswer>,
    ) -> Result<Option<Open>, Failure> {
        let target = match news {
            Ok(view) => {
                self.reporter.news(&view)?;
                self.judged(view)?
            }
            Err(error) => {
                self.reporter.stop();
                let failure = self.client.failed(error);
                self.console.fail(&failure);
                Target::Failed(failure.exit())
            }
        };
        let open = match &target {
            Target::Open(view) => Some((place, view.run.clone(), self.seen(view))),
            Target::Done(_) | Target::Failed(_) => None,
        };
        if let Some(slot) = self.runs.get_mut(place) {
            *slot = target;
        }
        Ok(open)
    }

    /// Tells the end of a run that is over.
    fn judged(&mut self, view: RunView) -> Result<Target, Failure> {
        if !view.state.is_over() {
            return Ok(Target::Open(Box::new(view)));
        }
        self.reporter.give_way(&view);
        if self.console.json {
            let line = Line::result(view.clone());
            self.console.document(&Document::new("airlock.run/1", line))?;
        }
        let told = match (view.state, &view.result) {
            (RunState::Done, Some(result)) => outcome::product(&view, result).map(|product| {
                self.console.say(&outcome::block(self.console.err, result));
                // A pull's digest is in the block; only a script wants it on stdout.
                let wanted = view.kind != RunKind::Pull || self.console.quiet;
                Target::Done(wanted.then_some(product))
            }),
            _ => Err(Failure { run: Some(view.run.clone()), ..why(&view).into() }),
        };
        Ok(told.unwrap_or_else(|failure| {
            self.console.fail(&failure);
            Target::Failed(failure.exit())
        }))
    }

    /// Writes what the runs were for, in the order of the command's targets.
    fn products(&self) -> Result<(), Failure> {
        for target in &self.runs {
            if let Target::Done(Some(product)) = target
                && !self.console.json
            {
                self.console.result(&format!("{}\n", self.console.out.text(product)))?;
            }
        }
        Ok(())
    }

    fn end(&self) -> Result<Exit, Failure> {
        self.products()?;
        Ok(Exit::of(self.runs.iter().map(|target| match target {
            Target::Open(_) | Target::Done(_) => Exit::OK,
            Target::Failed(exit) => *exit,
        })))
    }
}

/// Why a run that is over is not done.
fn why(view: &RunView) -> Fault {
    if view.state == RunState::Cancelled {
        let what = format!("run {} was cancelled", view.run);
        return fault("run.cancelled", ErrorClass::Conflict, what);
    }
    view.fault.clone().unwrap_or_else(|| {
        let what = format!("run {} ended without a result or a reason", view.run);
        fault("run.no_result", ErrorClass::Internal, what)
    })
}

async fn expiry(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits for news of one run, also across a restart of the daemon.
async fn poll(client: &Client, open: Open) -> (usize, Result<RunView, NoAnswer>) {
    let (place, run, seen) = open;
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        match client.watch(run.clone(), seen).await {
            Ok(view) => {
                // A daemon that answers at once and without news must not be asked in a tight loop.
                let is_news = seen < ONLY_THE_END && view.version != seen;
                if !is_news && !view.state.is_over() {
                    tokio::time::sleep(FRAME.saturating_sub(asked.elapsed())).await;
                }
                return (place, Ok(view));
            }
            Err(error) if error.is_disconnection() && begun.elapsed() < AWAY => {
                tokio::time::sleep(FRAME).await;
                // If it is not back yet, the next question says so again.
                client.reconnect().await.unwrap_or_default();
            }
            Err(error) => return (place, Err(error)),
        }
    }
}

//! Progress on a terminal: the lines of each run, redrawn at most five times a second.

use std::time::{Duration, Instant};

use airlock_protocol::control::{RunId, RunView, StageState, StageView};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::frame;
use super::meter::Meter;
use super::plain::running;
use crate::cli::failure::millis;
use crate::cli::pen::Pen;

/// What is over sooner is not drawn: a flash is no information.
const QUIET: Duration = Duration::from_millis(200);

/// Draws runs.
#[derive(Debug)]
pub(super) struct Bar {
    pen: Pen,
    width: usize,
    start: Instant,
    runs: Vec<Drawn>,
    /// What is on the screen, all runs in one, so that a frame is drawn at once.
    screen: Option<(ProgressBar, String)>,
}

#[derive(Debug)]
struct Drawn {
    view: RunView,
    meter: Meter,
    seen: Instant,
}

impl Bar {
    /// Draws nothing yet.
    pub(super) fn new(pen: Pen, width: usize) -> Self {
        Self { pen, width, start: Instant::now(), runs: Vec::new(), screen: None }
    }

    /// Takes news; the next tick draws them.
    pub(super) fn news(&mut self, view: &RunView, now: Instant) {
        let place = self.runs.iter().position(|drawn| drawn.view.run == view.run);
        let Some(drawn) = place.and_then(|place| self.runs.get_mut(place)) else {
            self.runs.push(Drawn { view: view.clone(), meter: Meter::default(), seen: now });
            return;
        };
        let name = |view| running(view).map(|stage| stage.name.clone());
        if name(&drawn.view) != name(view) {
            drawn.meter = Meter::default();
        }
        if let Some(stage) = running(view) {
            drawn.meter.sample(now, stage.done_bytes);
        }
        (drawn.view, drawn.seen) = (view.clone(), now);
    }

    /// Draws, if anything changed.
    pub(super) fn tick(&mut self, now: Instant) {
        if now.duration_since(self.start) < QUIET || self.runs.is_empty() {
            return;
        }
        let (pen, width) = (self.pen, self.width);
        let lines = self.runs.iter_mut().flat_map(|drawn| {
            let view = aged(&drawn.view, now.duration_since(drawn.seen));
            frame::lines(pen, width, &view, &mut drawn.meter, now)
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        let (screen, last) = self.screen.get_or_insert_with(|| (screen(), String::new()));
        if *last != text {
            screen.set_message(text.clone());
            *last = text;
        }
    }

    /// Takes a run's lines away; those of the others come back with the next tick.
    pub(super) fn forget(&mut self, run: &RunId) {
        self.runs.retain(|drawn| drawn.view.run != *run);
        self.erase();
    }

    /// Takes everything away.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.erase();
    }

    fn erase(&mut self) {
        if let Some((screen, _)) = self.screen.take() {
            screen.finish_and_clear();
        }
    }
}

/// A run some time after news of it came: what goes on has gone on since, so something moves.
fn aged(view: &RunView, since: Duration) -> RunView {
    let mut view = view.clone();
    let going = |stage: &&mut StageView| stage.state == StageState::Running;
    for stage in view.stages.iter_mut().filter(going) {
        stage.took_ms = stage.took_ms.saturating_add(millis(since));
    }
    view
}

fn screen() -> ProgressBar {
    // The lines are drawn whole by us; the library only moves the cursor.
    let style = ProgressStyle::with_template("{msg}");
    let style = style.unwrap_or_else(|_never| ProgressStyle::default_spinner());
    let target = ProgressDrawTarget::stderr_with_hz(5);
    ProgressBar::with_draw_target(None, target).with_style(style)
}

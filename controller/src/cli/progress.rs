//! What is shown of a run while it goes on: moving lines on a terminal, plain ones elsewhere.

mod bar;
mod frame;
mod meter;
mod plain;

use std::time::Instant;

use airlock_protocol::control::RunView;

use self::bar::Bar;
use self::plain::Plain;
use super::console::{Console, Progress};
use super::failure::Failure;
use super::json::{Document, Line};

/// Shows the runs of one command.
#[derive(Debug)]
pub(crate) struct Reporter {
    console: Console,
    display: Display,
}

#[derive(Debug)]
enum Display {
    Bar(Bar),
    Plain(Plain),
    Json,
    Silent,
}

impl Reporter {
    /// Shows nothing yet.
    pub(crate) fn new(console: Console) -> Self {
        let display = match console.progress {
            Progress::Bar => Display::Bar(Bar::new(console.err, console.err_width.unwrap_or(80))),
            Progress::Plain => Display::Plain(Plain::new(console.err)),
            Progress::Json => Display::Json,
            Progress::Silent => Display::Silent,
        };
        Self { console, display }
    }

    /// Takes news of a run.
    pub(crate) fn news(&mut self, view: &RunView) -> Result<(), Failure> {
        match &mut self.display {
            Display::Bar(bar) => bar.news(view, Instant::now()),
            Display::Plain(plain) => {
                let lines = plain.news(view, Instant::now());
                self.console.say(&lines);
            }
            // The result is a line of its own.
            Display::Json if view.state.is_over() => {}
            Display::Json => {
                let line = Line::progress(view.clone());
                self.console.document(&Document::new("airlock.run/1", line))?;
            }
            Display::Silent => {}
        }
        Ok(())
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self) {
        match &mut self.display {
            Display::Bar(bar) => bar.tick(Instant::now()),
            Display::Plain(plain) => {
                let lines = plain.tick(Instant::now());
                self.console.say(&lines);
            }
            Display::Json | Display::Silent => {}
        }
    }

    /// Takes a run's moving lines away: its result is about to be told.
    pub(crate) fn give_way(&mut self, view: &RunView) {
        if let Display::Bar(bar) = &mut self.display {
            bar.forget(&view.run);
        }
    }

    /// Leaves the terminal clean.
    pub(crate) fn stop(&mut self) {
        if let Display::Bar(bar) = &mut self.display {
            bar.clear();
        }
    }
}

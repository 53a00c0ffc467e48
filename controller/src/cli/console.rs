//! Where a command's words go: results to stdout, everything else to stderr.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use rustix::termios::tcgetwinsize;
use serde::Serialize;

use super::args::{ColorWhen, Global, OutputFormat, ProgressKind};
use super::environment::Environment;
use super::failure::{Failure, fault};
use super::pen::{Ink, Pen};
use super::report::{self, ErrorDocument};
use airlock_protocol::control::ErrorClass;

/// How and where a command speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    /// Whether results and errors are JSON.
    pub(crate) json: bool,
    /// Whether nothing but results and errors is written.
    pub(crate) quiet: bool,
    /// Whether errors carry their ids.
    pub(crate) verbose: bool,
    /// What stdout shows.
    pub(crate) out: Pen,
    /// Columns of stdout, if it is a terminal.
    pub(crate) out_width: Option<usize>,
    /// What stderr shows.
    pub(crate) err: Pen,
    /// Columns of stderr, if it is a terminal.
    pub(crate) err_width: Option<usize>,
    /// How the progress of a run is shown.
    pub(crate) progress: Progress,
}

/// How the progress of a run is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Progress {
    /// As moving lines.
    Bar,
    /// As a line a change of state.
    Plain,
    /// As JSON, a line each.
    Json,
    /// Not at all.
    Silent,
}

impl Console {
    /// Sets it up from options, environment and what stdout and stderr are.
    pub(crate) fn new(global: &Global, kind: ProgressKind, environment: &Environment) -> Self {
        let json = global.output == OutputFormat::Json;
        let (out_tty, err_tty) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let pen =
            |tty| Pen { ascii: environment.ascii, colour: coloured(global, environment, tty) };
        let columns = |tty: bool, size: Option<usize>| {
            tty.then(|| environment.columns.or(size).unwrap_or(80))
        };
        let size = |size: rustix::io::Result<rustix::termios::Winsize>| {
            size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
        };
        let capable = err_tty && !environment.dumb;
        let progress = match kind {
            _ if json => Progress::Json,
            _ if global.quiet => Progress::Silent,
            ProgressKind::None => Progress::Silent,
            ProgressKind::Bar | ProgressKind::Auto if capable => Progress::Bar,
            ProgressKind::Bar | ProgressKind::Auto | ProgressKind::Plain => Progress::Plain,
        };
        Self {
            json,
            quiet: global.quiet,
            verbose: global.verbose,
            out: pen(out_tty),
            out_width: columns(out_tty, size(tcgetwinsize(io::stdout()))),
            err: pen(err_tty),
            err_width: columns(err_tty, size(tcgetwinsize(io::stderr()))),
            progress,
        }
    }

    /// Writes a result.
    #[expect(clippy::unused_self, reason = "only what holds a console writes to stdout")]
    pub(crate) fn result(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // The reader has seen enough: `airlock images | head -1` is no error.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|error| unwritten(&error)),
        }
    }

    /// Writes a result of one item a line.
    pub(crate) fn lines(
        &self,
        items: impl IntoIterator<Item = impl Display>,
    ) -> Result<(), Failure> {
        let lines: Vec<_> = items.into_iter().map(|item| format!("{item}\n")).collect();
        self.result(&lines.concat())
    }

    /// Writes a JSON document as one line of stdout.
    pub(crate) fn document(&self, document: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(document).map_err(|error| {
            let mut unwritten = fault("output.json", ErrorClass::Internal, "failed to write JSON");
            unwritten.cause.push(error.to_string());
            Failure::from(unwritten)
        })?;
        self.result(&format!("{line}\n"))
    }

    /// Says something to whoever looks on; not part of the result.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet && !self.json {
            err(text);
        }
    }

    /// Says something even with `--quiet`.
    pub(crate) fn must_say(&self, text: &str) {
        if !self.json {
            err(text);
        }
    }

    /// Says something only to a person at a terminal.
    pub(crate) fn footer(&self, text: &str) {
        if self.err_width.is_some() && self.out_width.is_some() {
            self.say(&format!("{}\n", self.err.ink(Ink::Dim, text)));
        }
    }

    /// Tells an error.
    pub(crate) fn fail(&self, failure: &Failure) {
        if self.json {
            raw_error(&ErrorDocument::from(failure));
        } else {
            err(&report::text(self.err, failure, self.verbose));
        }
    }
}

fn coloured(global: &Global, environment: &Environment, tty: bool) -> bool {
    match global.color {
        ColorWhen::Always => true,
        ColorWhen::Never => false,
        ColorWhen::Auto => environment.color.unwrap_or(tty && !environment.dumb),
    }
}

/// Tells an error to a program.
pub(crate) fn raw_error(document: &ErrorDocument) {
    // What cannot be written has nowhere to be told.
    let line = serde_json::to_string(document).unwrap_or_default();
    err(&format!("{line}\n"));
}

fn err(text: &str) {
    // With stderr gone there is nobody left to tell.
    io::stderr().lock().write_all(text.as_bytes()).unwrap_or_default();
}

fn unwritten(error: &io::Error) -> Failure {
    let mut unwritten = fault("output.write", ErrorClass::Internal, "failed to write to stdout");
    unwritten.cause.push(error.to_string());
    unwritten.into()
}

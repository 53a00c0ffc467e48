//! What is written to stderr: one line a request, and the few events that are nobody's request.
//!
//! `audit verb=create_volume request=… uid=… pid=… subject=… verdict=done duration_ms=3`. Values are
//! quoted where they hold anything but plain characters, so that no value can pass for a field or a
//! line (LOG-1). No kind of line is written more than so many times a second; the rest is counted,
//! and so are the answers that are not worth a line (LOG-2).

mod pace;

use std::fmt::{self, Display};
use std::io::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use airlock_policy::name::RequestId;
use airlock_protocol::not_done::NotDone;

use pace::Pace;

/// How often what was only counted is written.
pub(crate) const TICK: Duration = Duration::from_secs(1);

static PACE: Mutex<Pace> = Mutex::new(Pace::new());

/// Who asked, as the kernel says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    /// 0 where the kernel did not say.
    pub(crate) pid: i32,
}

/// What was asked, by whom and since when.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) verb: &'static str,
    pub(crate) request: RequestId,
    pub(crate) peer: Peer,
    pub(crate) subject: String,
    pub(crate) since: Instant,
}

impl Asked {
    /// Writes the line.
    pub(crate) fn answered(&self, verdict: &Verdict) {
        let Self { verb, request, peer: Peer { uid, pid }, subject, since } = self;
        if *verdict == Verdict::Polled {
            return pace().count(verb);
        }
        let milliseconds = since.elapsed().as_millis();
        let fields: [(&str, &dyn Display); 7] = [
            ("verb", verb),
            ("request", request),
            ("uid", uid),
            ("pid", pid),
            ("subject", subject),
            ("verdict", verdict),
            ("duration_ms", &milliseconds),
        ];
        write(verb, "audit", &fields);
        crash_point!(RequestDone);
    }
}

/// How a request ended, in a word or a code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Done,
    Begun,
    /// Nothing was asked for but how things are, and nothing is wrong: counted.
    Polled,
    NotDone(NotDone),
}

impl<T> From<&Result<T, NotDone>> for Verdict {
    fn from(result: &Result<T, NotDone>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(not_done) => Self::NotDone(not_done.clone()),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Begun => f.write_str("begun"),
            Self::Polled => f.write_str("polled"),
            Self::NotDone(NotDone::Refused(refusal)) => write!(f, "refused:{}", refusal.code()),
            Self::NotDone(failed) => Display::fmt(failed, f),
        }
    }
}

/// Writes an event that is no request's.
pub(crate) fn event(name: &'static str, fields: &[(&str, &dyn Display)]) {
    write(name, name, fields);
}

/// Sets how many lines of one kind are written in a second.
pub(crate) fn limit(lines: u32) {
    pace().lines = lines;
}

/// Writes what was only counted: to be called each [`TICK`].
pub(crate) fn tick() {
    let due = pace().due(Instant::now());
    for (event, kind, count) in due {
        put(&line(event, &[("kind", &kind), ("count", &count)]));
    }
}

fn write(kind: &'static str, name: &str, fields: &[(&str, &dyn Display)]) {
    if pace().admits(kind) {
        put(&line(name, fields));
    }
}

fn put(line: &str) {
    // Whoever reads the log may be gone: that is no reason to stop.
    drop(io::stderr().lock().write_all(line.as_bytes()));
}

fn pace() -> MutexGuard<'static, Pace> {
    // Numbers are whole at every step.
    PACE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn line(name: &str, fields: &[(&str, &dyn Display)]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/+".contains(c);
    let field = |(key, value): &(&str, &dyn Display)| {
        let value = value.to_string();
        if !value.is_empty() && value.chars().all(plain) {
            format!(" {key}={value}")
        } else {
            format!(" {key}={value:?}")
        }
    };
    [vec![name.to_owned()], fields.iter().map(field).collect(), vec!["\n".to_owned()]]
        .concat()
        .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_can_pass_for_a_field_or_a_line() {
        let hostile = "x verdict=done\naudit verb=map \u{1b}[2J";
        let line = line("audit", &[("verb", &"map"), ("subject", &hostile), ("empty", &"")]);
        assert_eq!(
            line,
            "audit verb=map subject=\"x verdict=done\\naudit verb=map \\u{1b}[2J\" empty=\"\"\n"
        );
    }
}

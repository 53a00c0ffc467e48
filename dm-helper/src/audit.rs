//! What is written to stderr: one line a request, and the few events that are nobody's request.
//!
//! `audit verb=create_volume request=… subject=… verdict=done duration_ms=3`. Values are quoted
//! where they hold anything but plain characters, so that no value can pass for a field or a line
//! (LOG-1).

use std::fmt::{self, Display};
use std::io::{self, Write as _};
use std::time::Instant;

use airlock_policy::name::RequestId;
use airlock_protocol::not_done::NotDone;

/// What was asked, by whom it is known and since when.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) verb: &'static str,
    pub(crate) request: RequestId,
    pub(crate) subject: String,
    pub(crate) since: Instant,
}

impl Asked {
    /// Writes the line.
    pub(crate) fn answered(&self, verdict: &Verdict) {
        let Self { verb, request, subject, since } = self;
        let milliseconds = since.elapsed().as_millis();
        let fields: [(&str, &dyn Display); 5] = [
            ("verb", verb),
            ("request", request),
            ("subject", subject),
            ("verdict", verdict),
            ("duration_ms", &milliseconds),
        ];
        write("audit", &fields);
    }
}

/// How a request ended, in a word or a code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Done,
    Begun,
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
            Self::NotDone(NotDone::Refused(refusal)) => write!(f, "refused:{}", refusal.code()),
            Self::NotDone(failed) => Display::fmt(failed, f),
        }
    }
}

/// Writes an event that is no request's.
pub(crate) fn event(name: &str, fields: &[(&str, &dyn Display)]) {
    write(name, fields);
}

fn write(name: &str, fields: &[(&str, &dyn Display)]) {
    // Whoever reads the log may be gone: that is no reason to stop.
    drop(io::stderr().lock().write_all(line(name, fields).as_bytes()));
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

//! The one renderer of errors, for people and for programs.

use airlock_protocol::control::{Fault, RunId};
use serde::Serialize;

use super::failure::{Exit, Failure};
use super::pen::{Ink, Pen, Sign};

/// An error as lines: sign and class, what; then cause, facts, code, run and what to do next.
pub(crate) fn text(pen: Pen, failure: &Failure, verbose: bool) -> String {
    let Fault { code, class, message, cause, facts, remedy } = failure.fault.as_ref();
    let mut labels: Vec<(String, Ink, String)> = Vec::new();
    labels.extend(cause.iter().map(|cause| ("cause".to_owned(), Ink::Plain, cause.clone())));
    labels.extend(facts.iter().map(|(label, fact)| (label.clone(), Ink::Plain, fact.clone())));
    // The rule's own line starts with the code already.
    if !facts.iter().any(|(_, fact)| fact.starts_with(code.as_str())) {
        labels.push(("code".to_owned(), Ink::Dim, code.clone()));
    }
    if let Some(run) = failure.run.as_ref().filter(|_| verbose) {
        labels.push(("run".to_owned(), Ink::Plain, run.to_string()));
    }
    if let Some(request) = failure.request.as_ref().filter(|_| verbose) {
        labels.push(("request".to_owned(), Ink::Dim, request.to_string()));
    }
    labels.extend(remedy.iter().map(|next| ("next".to_owned(), Ink::Paste, next.clone())));
    if let Some(run) = &failure.run {
        if failure.retry() {
            labels.push(("next".to_owned(), Ink::Paste, format!("airlock retry {run}")));
        }
        labels.push(("next".to_owned(), Ink::Paste, format!("airlock runs show {run}")));
    }
    let head = format!("{} {}: {}", pen.signed(Sign::Failed), class.word(), pen.text(message));
    format!("{head}\n{}", labelled(pen, &labels))
}

/// Lines of label and text; a label that repeats is written once.
pub(crate) fn labelled(pen: Pen, labels: &[(String, Ink, String)]) -> String {
    let labels: Vec<_> =
        labels.iter().map(|(label, ink, text)| (pen.text(label), ink, text)).collect();
    let width = labels.iter().map(|(label, ..)| label.width()).max().unwrap_or(0).max(6);
    let mut lines = Vec::new();
    let mut last = None;
    for (label, ink, text) in &labels {
        let padding = " ".repeat(width.saturating_sub(label.width()));
        let shown = if last == Some(label) { " ".repeat(label.width()) } else { label.to_string() };
        let text = pen.ink(**ink, pen.text(text).as_str());
        lines.push(format!("  {shown}{padding}  {text}\n"));
        last = Some(label);
    }
    lines.concat()
}

/// An error as `airlock.error/1`.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorDocument {
    schema: &'static str,
    #[serde(flatten)]
    error: ErrorBody,
    run: Option<String>,
    request: Option<String>,
}

impl ErrorDocument {
    /// A run that nobody waits for any more: no fault, but the end of the command.
    pub(crate) fn interrupted(run: &RunId, exit: Exit) -> Self {
        Self {
            schema: "airlock.error/1",
            error: ErrorBody {
                code: "interrupted".to_owned(),
                class: "interrupted".to_owned(),
                exit: exit.0,
                retry: false,
                message: format!("left run {run}: it goes on"),
                cause: Vec::new(),
                facts: Vec::new(),
                remedy: vec![format!("airlock runs watch {run}"), format!("airlock cancel {run}")],
            },
            run: Some(run.to_string()),
            request: None,
        }
    }
}

impl From<&Failure> for ErrorDocument {
    fn from(failure: &Failure) -> Self {
        let mut error = ErrorBody::from(failure.fault.as_ref());
        error.retry = failure.retry();
        Self {
            schema: "airlock.error/1",
            error,
            run: failure.run.clone().map(String::from),
            request: failure.request.clone().map(String::from),
        }
    }
}

/// What stands in an error document, and in a run that failed.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody {
    code: String,
    class: String,
    exit: u8,
    retry: bool,
    message: String,
    cause: Vec<String>,
    facts: Vec<Fact>,
    remedy: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Fact {
    label: String,
    text: String,
}

impl From<&Fault> for ErrorBody {
    fn from(fault: &Fault) -> Self {
        let Fault { code, class, message, cause, facts, remedy } = fault.clone();
        let facts = facts.into_iter().map(|(label, text)| Fact { label, text }).collect();
        Self {
            code,
            class: super::word::class(class).to_owned(),
            exit: class.exit(),
            retry: class.retry(),
            message,
            cause,
            facts,
            remedy,
        }
    }
}

#[cfg(test)]
mod tests {
    use airlock_protocol::control::ErrorClass;

    use super::*;

    fn refusal() -> Failure {
        let fault = Fault {
            code: "name.dotdot".to_owned(),
            class: ErrorClass::Refused,
            message: "an entry's name leads out of the image".to_owned(),
            cause: vec![],
            facts: vec![
                ("image".to_owned(), "tool:7".to_owned()),
                ("entry".to_owned(), "usr/lib/\x1b[31mx/../../job".to_owned()),
                ("rule".to_owned(), "name.dotdot (R-202): no \"..\"".to_owned()),
            ],
            remedy: vec!["airlock rm tool:7".to_owned(), "build it anew".to_owned()],
        };
        Failure { run: Some("p3mw81tz".parse().unwrap()), ..fault.into() }
    }

    #[test]
    fn a_refusal_names_what_where_and_which_rule_and_drives_no_terminal() {
        assert_eq!(
            text(Pen::PLAIN, &refusal(), false),
            "x refused: an entry's name leads out of the image
  image   tool:7
  entry   usr/lib/\\x1b[31mx/../../job
  rule    name.dotdot (R-202): no \"..\"
  next    airlock rm tool:7
          build it anew
          airlock runs show p3mw81tz
"
        );
    }

    #[test]
    fn what_may_pass_says_how_to_begin_again() {
        let mut failure = refusal();
        failure.fault.class = ErrorClass::Unavailable;
        let shown = text(Pen::PLAIN, &failure, false);
        assert!(shown.contains("          airlock retry p3mw81tz\n"), "{shown}");
    }

    #[test]
    fn an_error_document_is_one_line_and_keeps_names_whole() {
        let line = serde_json::to_string(&ErrorDocument::from(&refusal())).unwrap();
        assert!(!line.contains('\n'));
        let document: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(document["schema"], "airlock.error/1");
        assert_eq!(document["class"], "refused");
        assert_eq!(document["exit"], 3);
        assert_eq!(document["retry"], false);
        assert_eq!(document["run"], "p3mw81tz");
        assert_eq!(document["request"], serde_json::Value::Null);
        assert_eq!(document["facts"][1]["text"], "usr/lib/\x1b[31mx/../../job");
    }
}

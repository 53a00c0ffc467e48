//! `doctor`: what is well and what is not, with a daemon or before there is one.

use airlock_protocol::control::{ErrorClass, HealthLine, HealthState, RepairLine, RepairOutcome};

use super::Session;
use crate::cli::failure::{Exit, Failure};
use crate::cli::json::{CheckItem, Document, Items, RepairItem};
use crate::cli::pen::{Ink, Pen, Sign};
use crate::cli::{amount, word};
use crate::preflight::{self, Finding, Verdict};

/// `doctor`
pub(crate) async fn doctor(session: &Session) -> Result<Exit, Failure> {
    let client = session.client().await?;
    let health = client.health().await.map_err(|error| client.failed(error))?;
    tell(session, health.items.into_iter().map(Check::from).collect())
}

/// `doctor --preflight`
pub(crate) fn preflight(session: &Session) -> Result<Exit, Failure> {
    tell(session, preflight::look().into_iter().map(Check::from).collect())
}

/// `doctor --fix`
pub(crate) async fn fix(session: &Session, dry_run: bool) -> Result<Exit, Failure> {
    let client = session.client().await?;
    let Session { console, .. } = session;
    if !(console.json || dry_run) {
        let plan = client.repair(true).await.map_err(|error| client.failed(error))?.items;
        console.say(&repairs(console.err, &plan));
        if plan.is_empty() {
            console.say("nothing to mend: database, ledger and blobs agree\n");
        }
    }
    let lines = client.repair(dry_run).await.map_err(|error| client.failed(error))?.items;
    let ill = lines.iter().any(|line| line.outcome == RepairOutcome::Failed);
    if console.json {
        let items = lines.into_iter().map(|RepairLine { subject, outcome, text }| RepairItem {
            subject,
            outcome: word::repair(outcome),
            message: text,
        });
        console.document(&Document::new("airlock.repair/1", Items::<RepairItem>::new(items)))?;
    } else {
        console.result(&repairs(console.out, &lines))?;
    }
    Ok(if ill { Exit(ErrorClass::Unavailable.exit()) } else { Exit::OK })
}

fn repairs(pen: Pen, lines: &[RepairLine]) -> String {
    let width = lines.iter().map(|line| line.subject.len()).max().unwrap_or(0);
    let line = |RepairLine { subject, outcome, text }: &RepairLine| {
        let sign = match outcome {
            RepairOutcome::Planned => Sign::Waiting,
            RepairOutcome::Done => Sign::Done,
            RepairOutcome::Lost => Sign::Warning,
            RepairOutcome::Failed => Sign::Failed,
        };
        let (subject, text) = (pen.text(subject), pen.text(text));
        format!("{} {subject:width$}  {text}\n", pen.signed(sign))
    };
    lines.iter().map(line).collect()
}

/// One line of the doctor.
struct Check {
    sign: Sign,
    item: CheckItem,
    refuses_work: bool,
}

impl From<HealthLine> for Check {
    fn from(line: HealthLine) -> Self {
        let sign = match line.state {
            HealthState::Ok => Sign::Done,
            HealthState::Warning | HealthState::Unknown => Sign::Warning,
            HealthState::Failed => Sign::Failed,
        };
        let (name, state, message) = (line.name, word::health(line.state), line.text);
        let remedy = line.remedy.into_iter().collect();
        let refuses_work = line.state == HealthState::Failed;
        Self { sign, refuses_work, item: CheckItem { name, state, message, remedy } }
    }
}

impl From<Finding> for Check {
    fn from(finding: Finding) -> Self {
        let (sign, state) = match finding.verdict {
            Verdict::Ok => (Sign::Done, "ok"),
            Verdict::Warning => (Sign::Warning, "warning"),
            Verdict::Missing => (Sign::Failed, "missing"),
        };
        let remedy = finding.remedy.into_iter().map(str::to_owned).collect();
        let (name, message) = (finding.name.to_owned(), finding.text);
        let refuses_work = finding.verdict == Verdict::Missing;
        Self { sign, refuses_work, item: CheckItem { name, state, message, remedy } }
    }
}

fn tell(session: &Session, checks: Vec<Check>) -> Result<Exit, Failure> {
    let Session { console, .. } = session;
    let ill = checks.iter().any(|check| check.refuses_work);
    if console.json {
        let items = Items::<CheckItem>::new(checks.into_iter().map(|check| check.item));
        console.document(&Document::new("airlock.doctor/1", items))?;
    } else {
        // Who wants to hear little still hears what is wrong.
        let shown = checks.iter().filter(|check| !console.quiet || check.refuses_work);
        console.result(&page(console.out, &shown.collect::<Vec<_>>()))?;
        console.say(&format!("{}\n", sum(&checks)));
    }
    Ok(if ill { Exit(ErrorClass::Unavailable.exit()) } else { Exit::OK })
}

fn page(pen: Pen, checks: &[&Check]) -> String {
    let name = checks.iter().map(|check| check.item.name.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for Check { sign, item, .. } in checks {
        let (title, text) = (pen.text(&item.name), pen.text(&item.message));
        lines.push(format!("{} {title:name$}  {text}\n", pen.signed(*sign)));
        for next in &item.remedy {
            let next = pen.ink(Ink::Paste, pen.text(next).as_str());
            lines.push(format!("  {:name$}  next  {next}\n", ""));
        }
    }
    lines.concat()
}

fn sum(checks: &[Check]) -> String {
    let count = |sign| checks.iter().filter(|check| check.sign == sign).count();
    let (problems, warnings, passed) =
        (count(Sign::Failed), count(Sign::Warning), count(Sign::Done));
    let warnings = match warnings {
        0 => String::new(),
        number => format!("{}, ", amount::of(number, "warning")),
    };
    format!("{}, {warnings}{passed} passed", amount::of(problems, "problem"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_stands_with_its_remedy() {
        let line = |name: &str, state, text: &str, remedy: Option<&str>| HealthLine {
            name: name.to_owned(),
            state,
            text: text.to_owned(),
            remedy: remedy.map(str::to_owned),
        };
        let checks: Vec<Check> = [
            line("helper", HealthState::Ok, "1.4.0", None),
            line("disk", HealthState::Failed, "3.1 GiB\x1b[2J free", Some("airlock rm IMAGE")),
            line("clock", HealthState::Unknown, "not read", None),
        ]
        .map(Check::from)
        .into();
        assert_eq!(
            page(Pen::PLAIN, &checks.iter().collect::<Vec<_>>()),
            "+ helper  1.4.0\n\
             x disk    3.1 GiB\\x1b[2J free\n\
             \x20         next  airlock rm IMAGE\n\
             ! clock   not read\n"
        );
        assert_eq!(sum(&checks), "1 problem, 1 warning, 1 passed");
    }
}

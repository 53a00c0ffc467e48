//! The moving lines of one run, drawn into text: a terminal is needed to show them, not to test.

use std::time::Instant;

use airlock_protocol::control::{RunView, StageState, StageView};

use super::meter::Meter;
use super::plain::eta_text;
use crate::cli::pen::{Ink, Line, Pen, Sign};
use crate::cli::{amount, moment};

/// Columns of a stage's name.
const NAME: usize = 8;

/// What a run looks like: its name, its stages, and how to leave it.
pub(super) fn lines(
    pen: Pen,
    width: usize,
    view: &RunView,
    meter: &mut Meter,
    now: Instant,
) -> Vec<String> {
    let mut lines = vec![header(pen, width, view)];
    let mut pending = Line::new(pen, width);
    for stage in &view.stages {
        match stage.state {
            StageState::Pending => {
                let gap = if pending.room() == width { "" } else { "  " };
                let name = pen.text(&stage.name);
                pending =
                    pending.add(Ink::Dim, &format!("{gap}{} {name}", pen.sign(Sign::Waiting)));
            }
            StageState::Running | StageState::Again => {
                lines.push(going_on(pen, width, stage, meter, now));
                lines.extend(trouble(pen, width, view));
            }
            StageState::Done | StageState::Held | StageState::Failed => {
                lines.push(finished(pen, width, stage));
            }
        }
    }
    if pending.room() < width {
        lines.push(pending.done());
    }
    let hint =
        format!("Ctrl-C leaves it running, twice cancels; airlock runs watch {} returns", view.run);
    lines.push(Line::new(pen, width).add(Ink::Dim, &hint).done());
    lines
}

fn header(pen: Pen, width: usize, view: &RunView) -> String {
    let line = Line::new(pen, width)
        .add(Ink::Paste, view.run.as_str())
        .add(Ink::Plain, "  ")
        .add(Ink::Bold, pen.text(&view.subject).as_str());
    match &view.source {
        Some(source) => line.add(Ink::Plain, &format!("  {}", pen.text(source))).done(),
        None => line.done(),
    }
}

fn begun(pen: Pen, width: usize, sign: Sign, stage: &StageView) -> Line {
    let name = format!(" {:NAME$}  ", pen.text(&stage.name));
    Line::new(pen, width).add(sign.ink(), pen.sign(sign)).add(Ink::Plain, &name)
}

fn finished(pen: Pen, width: usize, stage: &StageView) -> String {
    let sign = if stage.state == StageState::Failed { Sign::Failed } else { Sign::Done };
    let held = if stage.state == StageState::Held { "held" } else { "" };
    let note = stage.note.as_deref().map(|note| pen.text(note).to_string()).unwrap_or_default();
    let gap = if held.is_empty() || note.is_empty() { "" } else { "  " };
    let took = moment::took(stage.took_ms);
    let mut line = begun(pen, width, sign, stage);
    let room = line.room().saturating_sub(took.len()).saturating_sub(2);
    let note: String = format!("{held}{gap}{note}").chars().take(room).collect();
    line = line.add(Ink::Plain, &note);
    line.add_right(Ink::Dim, &took).done()
}

fn going_on(pen: Pen, width: usize, stage: &StageView, meter: &mut Meter, now: Instant) -> String {
    let again = stage.state == StageState::Again;
    let sign = if again { Sign::Again } else { Sign::Running };
    let line = begun(pen, width, sign, stage);
    let done = stage.done_bytes;
    meter.sample(now, done);
    let rate = meter.rate().filter(|rate| *rate > 0 && !again);
    let mut after = Vec::new();
    if let Some(total) = stage.total_bytes {
        after.push(format!("{:>3}%", amount::percent(done, total)));
        after.push(amount::part(done, total, " of "));
    } else if done > 0 {
        after.push(amount::bytes(done));
    }
    after.extend(stage.entries.map(|entries| format!("{} entries", amount::count(entries))));
    after.extend(rate.map(|rate| format!("{}/s", amount::bytes(rate))));
    match stage.total_bytes.and_then(|total| meter.eta(now, done, total)).filter(|_| !again) {
        Some(eta) => after.push(eta_text(eta)),
        None if again || stage.attempt > 1 => after.push(format!("try {}", stage.attempt)),
        None => after.push(moment::took(stage.took_ms)),
    }
    let after = after.join("  ");
    match stage.total_bytes {
        Some(total) => {
            // The bar takes what the numbers leave, within reason.
            let room = line.room().saturating_sub(after.len()).saturating_sub(2);
            let bar = pen.bar(done, total, room.min(26));
            let gap = if bar.is_empty() { "" } else { "  " };
            line.add(sign.ink(), &bar).add(Ink::Plain, &format!("{gap}{after}")).done()
        }
        None => line.add(Ink::Plain, &after).done(),
    }
}

/// Why the last attempt failed, while it is tried again.
fn trouble(pen: Pen, width: usize, view: &RunView) -> Option<String> {
    let fault = view.fault.as_ref()?;
    let why = fault.cause.first().unwrap_or(&fault.message);
    let indent = " ".repeat(NAME.saturating_add(4));
    let text = format!("{indent}{}", pen.text(why));
    Some(Line::new(pen, width).add(Ink::Warn, &text).done())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::sample;

    fn drawn(view: &RunView, width: usize) -> Vec<String> {
        let (mut meter, start) = (Meter::default(), Instant::now());
        meter.sample(start, 0);
        let now = start.checked_add(Duration::from_secs(4)).unwrap();
        lines(Pen { ascii: false, colour: false }, width, view, &mut meter, now)
    }

    #[test]
    fn a_run_that_goes_on_looks_like_this() {
        let mut view = sample::run();
        view.stages[1].done_bytes = 277_977_498;
        assert_eq!(
            drawn(&view, 80),
            [
                "k7f29qxm  golang:2  s3://images/golang/2.tar",
                "✓ resolve   412.6 MiB, 3 layers                                             0.2s",
                "● download  ━━━━━━━━━━━━━━━━╸─────────   64%  265.1 of 412.6 MiB  66.2 MiB/s  3s",
                "· validate  · unpack  · activate",
                "Ctrl-C leaves it running, twice cancels; airlock runs watch k7f29qxm returns",
            ]
        );
    }

    #[test]
    fn a_stage_that_is_tried_again_says_why() {
        let mut view = sample::run();
        view.stages[1].state = StageState::Again;
        view.stages[1].attempt = 3;
        view.fault = Some(sample::fault());
        let lines = drawn(&view, 80);
        assert!(lines[2].starts_with("↻ download  ") && lines[2].ends_with("  try 3"), "{lines:?}");
        assert_eq!(lines[3], "            503 SlowDown from s3.internal");
    }

    #[test]
    fn nothing_is_wider_than_the_terminal_and_nothing_drives_it() {
        let mut view = sample::run();
        view.subject = "\x1b]0;x\x07".repeat(30);
        view.stages[0].note = Some("図".repeat(100));
        for width in 1..120 {
            for line in drawn(&view, width) {
                use unicode_width::UnicodeWidthStr as _;
                assert!(line.width() <= width, "{width}: {line}");
                assert!(!line.chars().any(char::is_control), "{line:?}");
            }
        }
    }
}

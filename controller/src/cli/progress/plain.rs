//! Progress where there is no terminal: a line a change of state, and one every ten seconds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use airlock_protocol::control::{RunId, RunState, RunView, StageState, StageView};

use super::meter::Meter;
use crate::cli::pen::Pen;
use crate::cli::{amount, moment, word};

/// How often a stage that goes on is told of.
const EVERY: Duration = Duration::from_secs(10);

/// Tells of runs line by line, without CR or ESC.
#[derive(Debug)]
pub(super) struct Plain {
    pen: Pen,
    runs: HashMap<RunId, Told>,
}

/// What was told of a run.
#[derive(Debug)]
struct Told {
    view: RunView,
    meter: Meter,
    last_line: Instant,
}

impl Plain {
    /// Has told nothing.
    pub(super) fn new(pen: Pen) -> Self {
        Self { pen: Pen { colour: false, ..pen }, runs: HashMap::new() }
    }

    /// The lines that news of a run deserve.
    pub(super) fn news(&mut self, view: &RunView, now: Instant) -> String {
        let mut lines = Vec::new();
        let told = self.runs.remove(&view.run);
        let mut meter = Meter::default();
        let mut last_line = now;
        let before = told.map(|told| {
            (meter, last_line) = (told.meter, told.last_line);
            told.view
        });
        if before.is_none() {
            lines.push(self.first(view));
        }
        let state = before.as_ref().map(|before| before.state);
        // That it waits for its turn is told by `tick`, once it has lasted.
        if view.state == RunState::Cancelled && state != Some(view.state) {
            lines.push(format!("{} {}", view.run, word::run(view.state)));
        }
        for (number, stage) in view.stages.iter().enumerate() {
            let old = before.as_ref().and_then(|before| before.stages.get(number));
            if old.is_none_or(|old| old.state != stage.state || old.attempt != stage.attempt) {
                lines.extend(self.changed(view, stage));
            }
        }
        if let Some(stage) = running(view) {
            let same = before.as_ref().and_then(running).is_some_and(|old| old.name == stage.name);
            if !same {
                meter = Meter::default();
            }
            meter.sample(now, stage.done_bytes);
        }
        if !lines.is_empty() {
            last_line = now;
        }
        self.runs.insert(view.run.clone(), Told { view: view.clone(), meter, last_line });
        joined(&lines)
    }

    /// The lines that the passing of time deserves.
    pub(super) fn tick(&mut self, now: Instant) -> String {
        let mut lines = Vec::new();
        for told in self.runs.values_mut() {
            if told.view.state.is_over() || now.duration_since(told.last_line) < EVERY {
                continue;
            }
            told.last_line = now;
            let Told { view, meter, .. } = told;
            match running(view) {
                Some(stage) => lines.push(going_on(self.pen, view, stage, meter, now)),
                None => lines.push(format!("{} {}", view.run, word::run(view.state))),
            }
        }
        joined(&lines)
    }

    fn first(&self, view: &RunView) -> String {
        let subject = self.pen.text(&view.subject);
        let source = view.source.as_deref().map(|source| format!(" {}", self.pen.text(source)));
        let kind = word::kind(view.kind);
        format!("{} {kind} {subject}{}", view.run, source.unwrap_or_default())
    }

    /// What is told of a stage that changed; of one that only begins, nothing.
    fn changed(&self, view: &RunView, stage: &StageView) -> Option<String> {
        let note = stage.note.as_deref().map(|note| format!(" {}", self.pen.text(note)));
        let note = note.unwrap_or_default();
        let took = moment::took(stage.took_ms);
        let told = match stage.state {
            StageState::Pending | StageState::Running => return None,
            StageState::Done => format!("ok{note} in {took}"),
            StageState::Held => format!("held{note} (nothing to do) in {took}"),
            StageState::Failed => format!("failed{note} after {took}"),
            StageState::Again => {
                let why =
                    view.fault.as_ref().map(|fault| format!(": {}", self.pen.text(&fault.message)));
                format!("again, try {} failed{}", stage.attempt, why.unwrap_or_default())
            }
        };
        Some(format!("{} {} {told}", view.run, self.pen.text(&stage.name)))
    }
}

fn going_on(
    pen: Pen,
    view: &RunView,
    stage: &StageView,
    meter: &mut Meter,
    now: Instant,
) -> String {
    let done = stage.done_bytes;
    meter.sample(now, done);
    let mut words = vec![view.run.to_string(), pen.text(&stage.name).to_string()];
    match stage.total_bytes {
        Some(total) => {
            words.push(format!("{}%", amount::percent(done, total)));
            words.push(amount::part(done, total, "/"));
        }
        None => words.push(amount::bytes(done)),
    }
    words.extend(stage.entries.map(|entries| format!("{entries} entries")));
    words.extend(meter.rate().map(|rate| format!("{}/s", amount::bytes(rate))));
    let eta = stage.total_bytes.and_then(|total| meter.eta(now, done, total));
    words.extend(eta.map(|eta| format!("eta {}", eta_text(eta))));
    words.join(" ")
}

/// Seconds left as people read them: never with fractions.
pub(super) fn eta_text(seconds: u64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { moment::took(seconds.saturating_mul(1000)) }
}

/// The stage that goes on now.
pub(super) fn running(view: &RunView) -> Option<&StageView> {
    view.stages.iter().find(|stage| matches!(stage.state, StageState::Running | StageState::Again))
}

fn joined(lines: &[String]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| format!("{line}\n")).collect();
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sample;

    #[test]
    fn a_run_is_told_line_by_line() {
        let (mut plain, start) = (Plain::new(Pen::PLAIN), Instant::now());
        let at = |ms| start.checked_add(Duration::from_millis(ms)).unwrap();
        let mut view = sample::run();
        assert_eq!(
            plain.news(&view, at(0)),
            "k7f29qxm run golang:2 s3://images/golang/2.tar\n\
             k7f29qxm resolve ok 412.6 MiB, 3 layers in 0.2s\n"
        );
        assert_eq!(plain.tick(at(9_000)), "");
        view.stages[1].done_bytes = 277_977_498;
        assert_eq!(plain.news(&view, at(9_500)), "");
        assert_eq!(
            plain.tick(at(10_000)),
            "k7f29qxm download 64% 265.1/412.6 MiB 26.5 MiB/s eta 6s\n"
        );
        view.stages[1].state = StageState::Again;
        view.fault = Some(sample::fault());
        assert_eq!(
            plain.news(&view, at(11_000)),
            "k7f29qxm download again, try 1 failed: the S3 endpoint kept \\x1b[31mfailing\n"
        );
        view.stages[1].state = StageState::Done;
        view.stages[1].note = Some("316.6 MiB fetched\r\n96.0 MiB held".to_owned());
        view.stages[4].state = StageState::Held;
        view.stages[4].note = Some("web".to_owned());
        view.stages[4].took_ms = 3;
        assert_eq!(
            plain.news(&view, at(12_000)),
            "k7f29qxm download ok 316.6 MiB fetched\\x0d\\x0a96.0 MiB held in 2.8s\n\
             k7f29qxm activate held web (nothing to do) in 3ms\n"
        );
    }
}

//! Puts a hostile archive through the scan and the real worker, and says what is wrong with how
//! it ended.
#![expect(clippy::unwrap_used, clippy::panic_in_result_fn, reason = "tests fail by panicking")]

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use airlock_archive::{LayerFault, Position, Scan, scan};
use airlock_dm_launcher::errand::Desk;
use airlock_dm_launcher::errand::extract::Input;
use airlock_policy::errand::Answer;
use airlock_policy::rule::Rule;

use super::{Case, End};
use crate::extraction::{Measured, Template, input, measured, measured_with};
use crate::loopback::Loop;
use crate::tree::list;

/// The longest that an archive may take, scan or extraction.
pub const TIME: Duration = Duration::from_secs(10);
/// The most memory of the worker, in KiB.
pub const MEMORY: u64 = 64 << 10;

/// Files of the host that hostile archives go for.
#[derive(Debug)]
pub struct Canary {
    folder: tempfile::TempDir,
    before: String,
}

impl Canary {
    /// Makes them, beside what else lies in the folder for temporary files.
    ///
    /// # Panics
    ///
    /// When they cannot be made.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "canary").unwrap();
        fs::set_permissions(at("file"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(at("folder")).unwrap();
        fs::set_permissions(at("folder"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("file", at("link")).unwrap();
        let before = list(folder.path()).unwrap();
        Self { folder, before }
    }

    /// Their folder, without its leading slash.
    ///
    /// # Panics
    ///
    /// When its name is no text.
    pub fn name(&self) -> &str {
        self.folder.path().to_str().unwrap().trim_start_matches('/')
    }

    /// Whether they are as they were made.
    pub fn is_unchanged(&self) -> bool {
        list(self.folder.path()).is_ok_and(|now| now == self.before)
    }
}

impl Default for Canary {
    fn default() -> Self {
        Self::new()
    }
}

/// What a run took, and what was wrong with it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How it ended, as a line.
    pub said: String,
    /// What is wrong with that; nothing, in a good run.
    pub faults: Vec<String>,
    /// The worker's peak of memory, in KiB.
    pub peak_rss_kib: u64,
    /// The longer of scan and extraction.
    pub time: Duration,
}

/// Runs a case on a new volume.
///
/// # Panics
///
/// When the machinery fails.
pub fn run(case: &Case, desk: &mut Desk, template: &Template, canary: &Canary) -> Outcome {
    desk.config.limits = case.limits.clone();
    let volume = template.volume();
    let mut outcome = Outcome::default();
    if let Some(below) = &case.below {
        let laid = measured(desk, &volume, &stored(below)).answer;
        if !matches!(laid, Answer::Extracted(_)) {
            outcome.faults.push(format!("the layer below: {laid:?}"));
        }
    }
    let how = (case.below.is_none(), case.unwrap);
    let (scanned, answer) = both(&case.blob, how, desk, &volume, &mut outcome);
    outcome.said = format!("{answer:?}");
    judge(case, &scanned, &answer, &volume, &mut outcome.faults);
    if !canary.is_unchanged() {
        outcome.faults.push("THE HOST WAS CHANGED".to_owned());
    }
    outcome
}

type Scanned = Result<Scan, LayerFault<Infallible>>;

/// Scans and extracts, and notes what it took. It is unwrapped where the scan says so, as the
/// controller would have it, or where that is claimed.
pub(super) fn both(
    blob: &[u8],
    (is_first, claimed): (bool, bool),
    desk: &Desk,
    volume: &Loop,
    outcome: &mut Outcome,
) -> (Scanned, Answer) {
    let begin = Instant::now();
    let position = if is_first { Position::Alone } else { Position::Upper };
    let scanned = scan(blob, &desk.config.limits.archive(), position);
    let scan_time = begin.elapsed();
    let unwrap = claimed || scanned.as_ref().is_ok_and(|scan| scan.is_wrapped);
    let file = stored(blob);
    let input = Input { unwrap, ..input(file.as_fd()) };
    let Measured { answer, time, peak_rss_kib } = measured_with(desk, volume, input);
    outcome.peak_rss_kib = peak_rss_kib;
    outcome.time = scan_time.max(time);
    if outcome.time > TIME {
        outcome.faults.push(format!("took {:?}", outcome.time));
    }
    if peak_rss_kib > MEMORY {
        outcome.faults.push(format!("took {peak_rss_kib} KiB of memory"));
    }
    (scanned, answer)
}

/// A file that holds these bytes, and has no name.
///
/// # Panics
///
/// When it cannot be made.
pub fn stored(blob: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(blob).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file
}

fn rule_of(scanned: &Scanned) -> Result<(), Rule> {
    match scanned {
        Ok(_) => Ok(()),
        Err(LayerFault::Refused(refusal)) => Err(refusal.rule),
        Err(LayerFault::Read(error)) => panic!("{error}"),
        Err(LayerFault::Visitor(never)) => match *never {},
    }
}

fn judge(case: &Case, scanned: &Scanned, answer: &Answer, volume: &Loop, faults: &mut Vec<String>) {
    let (by_scan, by_worker) = match &case.end {
        End::Refused(rule) => (Err(*rule), Err(*rule)),
        End::RefusedByWorker(rule) => (Ok(()), Err(*rule)),
        End::BadLayout(_) | End::Accepted(_) => (Ok(()), Ok(())),
    };
    if rule_of(scanned) != by_scan {
        faults.push(format!("the scan says {:?}, not {by_scan:?}", rule_of(scanned)));
    }
    match (by_worker, answer) {
        (Err(rule), Answer::Refused { rule: said, .. }) if rule == *said => {}
        (Ok(()), Answer::Extracted(extracted)) => {
            if let Ok(Scan { summary, .. }) = scanned
                && (summary.diff_id, summary.entries)
                    != (extracted.diff_id, extracted.progress.entries)
            {
                faults.push("scan and worker read different archives".to_owned());
            }
            match &case.end {
                End::BadLayout(rule) if extracted.layout.verdict() == Err(*rule) => {}
                End::BadLayout(rule) => {
                    faults.push(format!("{:?}, not {rule:?}", extracted.layout.verdict()));
                }
                End::Accepted(expected) => {
                    faults.extend(volume.mounted(|root| unlike(expected, root)));
                }
                End::Refused(_) | End::RefusedByWorker(_) => {}
            }
        }
        _ => faults.push(format!("the worker says {answer:?}, not {by_worker:?}")),
    }
}

/// What of a tree is not as expected.
fn unlike(expected: &[String], root: &Path) -> Option<String> {
    let tree = list(root).unwrap();
    let mut lines: Vec<&str> = tree.lines().collect();
    lines.remove(0);
    let alike = lines.len() == expected.len()
        && lines.iter().zip(expected).all(|(line, expected)| {
            let mut words = line.split(' ');
            let mut expected = expected.split(' ');
            words.next() == expected.next() && expected.all(|word| words.any(|w| w == word))
        });
    (!alike).then(|| format!("expected {expected:#?}, found\n{tree}"))
}

//! Runs the reader over a folder of archives that other projects made to test or break theirs.
//!
//! The folder is not part of this project. `AIRLOCK_HOSTILE_CORPUS` names it; its `MANIFEST.tsv`
//! has a line for each file: name, SHA-256, origin, licence, what it does, class, the safe outcome
//! (`accept`, `refuse` or `either`), the number of entries, the reason.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::panic_in_result_fn,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "all of this is a test"
)]

use std::convert::Infallible;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use airlock_archive::{Content, LayerFault, Position, Stop, Summary, Visitor, read_layer, scan};
use airlock_policy::digest::Digest;
use airlock_policy::entry::{Entry, Kind};
use airlock_policy::limit::ArchiveLimits;

/// How many cases the manifest has at least: fewer mean that the run proves less than it says.
const CASES: usize = 292;

struct Case {
    file: String,
    digest: Digest,
    class: String,
    safe: String,
    entries: Option<u64>,
    why: String,
}

/// Reads every byte of every file and checks that the pieces come in order and inside the file.
struct Reader;

impl Visitor for Reader {
    type Error = Infallible;

    fn entry(&mut self, entry: &Entry, content: &mut Content<'_>) -> Result<(), Stop<Infallible>> {
        let mut end = 0;
        while let Some(chunk) = content.next_chunk()? {
            assert!(chunk.offset >= end && !chunk.bytes.is_empty(), "{}", entry.path);
            end = chunk.offset + chunk.bytes.len() as u64;
        }
        match &entry.kind {
            Kind::File { size, sparse: None } => assert_eq!(end, *size),
            Kind::File { size, sparse: Some(_) } => assert!(end <= *size),
            Kind::Directory
            | Kind::Symlink { .. }
            | Kind::Hardlink { .. }
            | Kind::Fifo
            | Kind::Whiteout { .. }
            | Kind::OpaqueDirectory { .. } => assert_eq!(end, 0),
        }
        Ok(())
    }
}

/// Hands out a few bytes at a time, as a slow pipe does.
struct Trickle<'a>(&'a [u8]);

impl std::io::Read for Trickle<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = out.len().min(4093);
        std::io::Read::read(&mut self.0, &mut out[..count])
    }
}

fn manifest(folder: &Path) -> Vec<Case> {
    let text = fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let case = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [file, digest, _, _, _, class, safe, entries, why] = *fields else {
            panic!("manifest line {line:?}");
        };
        Case {
            file: file.to_owned(),
            digest: Digest::from_hex(digest).unwrap(),
            class: class.to_owned(),
            safe: safe.to_owned(),
            entries: entries.parse().ok(),
            why: why.to_owned(),
        }
    };
    text.lines().skip(1).filter(|line| !line.is_empty()).map(case).collect()
}

/// What is wrong with the outcome of a case; also says whether it was accepted, and how.
fn judge(case: &Case, blob: &[u8]) -> (Result<Summary, String>, Vec<String>) {
    let limits = ArchiveLimits::default();
    let started = Instant::now();
    let scanned = scan(blob, &limits, Position::Alone);
    let mut faults = Vec::new();
    if started.elapsed() > Duration::from_secs(10) {
        faults.push(format!("took {:?}", started.elapsed()));
    }
    // Reading the content, or in small pieces, must change nothing but what links it cannot see: where
    // one of them ends the scan, the reading goes on, to its end or to a later refusal.
    let read = read_layer(Trickle(blob), &limits, &mut Reader);
    match (&scanned, &read) {
        (Ok(scan), Ok(summary)) if scan.summary == *summary => {}
        (Err(LayerFault::Refused(a)), Err(LayerFault::Refused(b))) if a == b => {}
        (Err(LayerFault::Refused(a)), Ok(_)) if a.rule.code().starts_with("link.") => {}
        (Err(LayerFault::Refused(a)), Err(LayerFault::Refused(b)))
            if a.rule.code().starts_with("link.") && a.entry < b.entry => {}
        _ => faults.push(format!("scan and read disagree: {scanned:?} and {read:?}")),
    }
    let outcome = match scanned {
        Ok(scan) => Ok(scan.summary),
        Err(LayerFault::Refused(refusal)) => Err(refusal.to_string()),
        Err(other) => {
            faults.push(format!("not a refusal: {other}"));
            Err(other.to_string())
        }
    };
    match (&outcome, case.safe.as_str()) {
        (Err(refusal), "accept") => faults.push(format!("refused: {refusal}")),
        (Ok(_), "refuse") => faults.push(format!("accepted in spite of: {}", case.why)),
        (Ok(summary), _) => {
            if case.entries.is_some_and(|entries| entries != summary.entries) {
                faults.push(format!("{} entries, not {:?}", summary.entries, case.entries));
            }
            if summary.blob.0 != case.digest {
                faults.push("wrong digest".to_owned());
            }
        }
        (Err(_), _) => {}
    }
    (outcome, faults)
}

/// The most memory that this process ever had, in KiB, as the kernel counts it.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn every_outside_archive_ends_as_it_safely_may() {
    let Some(folder) = std::env::var_os("AIRLOCK_HOSTILE_CORPUS") else {
        // Not by a macro: what a macro prints is kept back when a test passes.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "NOT RUN: {CASES} outside archives: no AIRLOCK_HOSTILE_CORPUS").unwrap();
        return;
    };
    let folder = Path::new(&folder);
    let cases = manifest(folder);
    assert!(cases.len() >= CASES, "only {} of {CASES} cases", cases.len());
    let mut failures = Vec::new();
    let (mut accepted, mut refused) = (0, 0);
    for case in &cases {
        let blob = fs::read(folder.join(&case.file)).unwrap();
        assert_eq!(Digest::of(&blob), case.digest, "{} is not what the manifest means", case.file);
        let (outcome, faults) = judge(case, &blob);
        let (Case { file, class, safe, .. }, said) = (
            case,
            match &outcome {
                Ok(summary) => format!("accepted, {} entries", summary.entries),
                Err(refusal) => refusal.clone(),
            },
        );
        eprintln!("{safe:6} {class:15} {file}: {said}");
        if outcome.is_ok() {
            accepted += 1;
        } else {
            refused += 1;
        }
        failures.extend(faults.iter().map(|fault| format!("{safe} {file}: {fault}")));
    }
    eprintln!("{} cases: {accepted} accepted, {refused} refused", cases.len());
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    assert!(peak_memory() < 256 << 10, "{} KiB of memory", peak_memory());
}

//! Hostile archives that others made, from a folder that is no part of this project.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and compare with GNU tar"
)]

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use airlock_archive::LayerFault;
use airlock_dm_launcher::errand::Desk;
use airlock_policy::digest::Digest;
use airlock_policy::errand::Answer;

use super::run::{Outcome, both};
use crate::extraction::Template;
use crate::loopback::Loop;
use crate::tree::{differences, list};

/// How many cases there are at least: fewer mean that a run proves less than it says.
pub const CASES: usize = 292;

/// A line of the folder's `MANIFEST.tsv`.
#[derive(Debug)]
pub struct Row {
    /// The archive.
    pub path: PathBuf,
    /// The digest of what the manifest means.
    pub digest: Digest,
    /// The kind of attack.
    pub class: String,
    /// The safe outcome: `accept`, `refuse` or `either`.
    pub safe: String,
    /// The number of entries, where it is accepted.
    pub entries: Option<u64>,
}

/// Reads the manifest of a folder.
///
/// # Panics
///
/// Where it is not as described, or has fewer than [`CASES`] lines.
pub fn rows(folder: &Path) -> Vec<Row> {
    let text = fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [file, digest, _, _, _, class, safe, entries, _] = *fields else {
            panic!("manifest line {line:?}");
        };
        Row {
            path: folder.join(file),
            digest: Digest::from_hex(digest).unwrap(),
            class: class.to_owned(),
            safe: safe.to_owned(),
            entries: entries.parse().ok(),
        }
    };
    let rows: Vec<_> = text.lines().skip(1).filter(|line| !line.is_empty()).map(row).collect();
    assert!(rows.len() >= CASES, "only {} of {CASES} cases", rows.len());
    rows
}

/// Runs one on a new volume. Where it must be accepted, the tree is compared with GNU tar's, if
/// that takes the archive, or else with bsdtar's; `Outcome::said` then ends in whose it is.
///
/// # Panics
///
/// When the machinery fails, or the archive is not the one that the manifest means.
pub fn run(row: &Row, desk: &Desk, template: &Template) -> Outcome {
    let blob = fs::read(&row.path).unwrap();
    assert_eq!(Digest::of(&blob), row.digest, "{} is another archive", row.path.display());
    let mut outcome = Outcome::default();
    let begin = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let volume = template.volume();
    let (scanned, answer) = both(&blob, (true, false), desk, &volume, &mut outcome);
    let mut faults = Vec::new();
    match (&scanned, &answer) {
        (Ok(scan), Answer::Extracted(extracted))
            if scan.summary.entries == extracted.progress.entries
                && scan.summary.diff_id == extracted.diff_id => {}
        (Err(LayerFault::Refused(refusal)), Answer::Refused { rule, entry })
            if (refusal.rule, refusal.entry) == (*rule, *entry) => {}
        _ => faults.push(format!("scan and worker disagree: {scanned:?}")),
    }
    outcome.said = match &answer {
        Answer::Extracted(extracted) => format!("accepted, {} entries", extracted.progress.entries),
        Answer::Refused { rule, .. } => format!("refused: {rule}"),
        Answer::Done
        | Answer::Backing(_)
        | Answer::Progress(_)
        | Answer::Verified { .. }
        | Answer::Differs { .. }
        | Answer::Failed(_) => format!("{answer:?}"),
    };
    match (row.safe.as_str(), &answer) {
        ("accept" | "either", Answer::Extracted(extracted)) => {
            if row.entries.is_some_and(|entries| entries != extracted.progress.entries) {
                faults.push(format!("not {:?} entries", row.entries));
            }
        }
        ("refuse" | "either", Answer::Refused { .. }) => {}
        (safe, _) => faults.push(format!("not {safe}: {answer:?}")),
    }
    if row.safe == "accept" && row.class != "whiteout" {
        let tree = volume.mounted(|root| list(root).unwrap());
        match like(&tree, &row.path, template, begin) {
            Ok(Some(name)) => write!(outcome.said, ", as {name}").unwrap(),
            Ok(None) => {}
            Err(differences) => faults.extend(differences),
        }
    }
    outcome.faults.extend(faults);
    outcome
}

/// Whose trees are compared with. GNU tar leaves the link where a file replaces a link that leads
/// out, and knows no attributes in libarchive's records.
const EXTRACTORS: [(&str, &str); 2] = [
    ("GNU tar", "tar --numeric-owner --xattrs --xattrs-include=* --acls -xpf"),
    ("bsdtar", "bsdtar --numeric-owner --xattrs --acls -xpf"),
];

/// Whose tree of an archive this is; `None` where GNU tar does not take it. Otherwise how it
/// differs from each.
fn like(
    tree: &str,
    archive: &Path,
    template: &Template,
    begin: u64,
) -> Result<Option<&'static str>, Vec<String>> {
    let mut faults = Vec::new();
    for (name, command) in EXTRACTORS {
        match tree_of(command, archive, &template.volume()) {
            None if faults.is_empty() => return Ok(None),
            None => {}
            Some(expected) => {
                let [expected, tree] = said_by_entries(&expected, tree, begin);
                let differences = differences(&expected, &tree);
                if differences.is_empty() {
                    return Ok(Some(name));
                }
                faults.push(format!("not as {name}:\n  {}", differences.join("\n  ")));
            }
        }
    }
    Err(faults)
}

/// The tree that an extractor makes of it; `None` where it fails.
fn tree_of(command: &str, archive: &Path, volume: &Loop) -> Option<String> {
    volume.mounted(|root| {
        fs::remove_dir(root.join("lost+found")).unwrap();
        let mut words = command.split(' ');
        let extracted = Command::new(words.next().unwrap())
            .args(words)
            .arg(archive)
            .arg("-C")
            .arg(root)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        extracted.success().then(|| list(root).unwrap())
    })
}

/// Both trees without what no entry says: the root, which is as the volume was made, and the
/// times of directories that are there only for what lies in them. There GNU tar has the time at
/// which it runs, and airlock that of the first entry below.
fn said_by_entries(expected: &str, tree: &str, begin: u64) -> [String; 2] {
    let is_of_now = |line: &&str| {
        let time = line.split(' ').nth(4).and_then(|time| time.split('.').next()?.parse().ok());
        line.split(' ').nth(1) == Some("dir") && time.is_some_and(|time: u64| time >= begin)
    };
    let implied: HashSet<_> =
        expected.lines().filter(is_of_now).map(|line| line.split(' ').next()).collect();
    [expected, tree].map(|tree| {
        let lines = tree.lines().filter(|line| !line.starts_with("./ ")).map(|line| {
            let mut fields: Vec<&str> = line.split(' ').collect();
            if implied.contains(&fields.first().copied()) {
                fields.remove(4);
            }
            fields.join(" ")
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}

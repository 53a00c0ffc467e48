//! Random trees, packed by every common tool in every format, come out of the real worker as they
//! come out of GNU tar.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking, and starts the programs that make its input"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use airlock_dm_launcher::errand::Desk;
use airlock_policy::errand::Answer;
use airlock_policy::helper_config::HelperConfig;
use airlock_tests::extraction::{Template, desk, extracted};
use airlock_tests::loopback::Loop;
use airlock_tests::random_tree::{Profile, Random, grow};
use airlock_tests::tell;
use airlock_tests::tree::{differences, list};

const VOLUME: u64 = 1 << 30;

/// Who packs: name, what it can say, the command. `$A` is the archive; the tree is the folder in
/// which it runs.
const WRITERS: [(&str, Profile, &str); 16] = [
    // Version 7 knows no named pipes.
    (
        "tar v7",
        Profile::Plain,
        "find . ! -type p -print0 | tar --format=v7 --no-recursion --null -T - -cf $A",
    ),
    ("tar ustar", Profile::Plain, "tar --format=ustar -cf $A ."),
    ("tar oldgnu sparse", Profile::Gnu, "tar --format=oldgnu --sparse -cf $A ."),
    ("tar gnu", Profile::Gnu, "tar --format=gnu -cf $A ."),
    ("tar gnu sparse", Profile::Gnu, "tar --format=gnu --sparse -cf $A ."),
    ("tar pax", Profile::Pax, "tar --format=posix $ALL -cf $A ."),
    ("tar pax sparse 0.0", Profile::Pax, "tar --format=posix $ALL --sparse-version=0.0 -Scf $A ."),
    ("tar pax sparse 0.1", Profile::Pax, "tar --format=posix $ALL --sparse-version=0.1 -Scf $A ."),
    ("tar pax sparse 1.0", Profile::Pax, "tar --format=posix $ALL --sparse-version=1.0 -Scf $A ."),
    (
        "tar pax global",
        Profile::Pax,
        "tar --format=posix $ALL --pax-option=globexthdr.name=g,comment=x -cf $A .",
    ),
    ("bsdtar ustar", Profile::Plain, "bsdtar --format ustar -cf $A . 2>/dev/null"),
    ("bsdtar pax", Profile::Pax, "bsdtar --format pax --xattrs --acls -cf $A . 2>/dev/null"),
    ("bsdtar gnutar", Profile::Gnu, "bsdtar --format gnutar -cf $A . 2>/dev/null"),
    ("Python ustar", Profile::Plain, "python3 -c \"$P\" USTAR_FORMAT"),
    ("Python GNU", Profile::Gnu, "python3 -c \"$P\" GNU_FORMAT"),
    ("Python pax", Profile::Pax, "python3 -c \"$P\" PAX_FORMAT"),
];

const PYTHON: &str = "import os, sys, tarfile
with tarfile.open(os.environ['A'], 'w', format=getattr(tarfile, sys.argv[1])) as tar: tar.add('.')";

/// What is done with the archive then.
const COMPRESSIONS: [(&str, &str); 3] = [
    ("plain", ""),
    ("gzip", "gzip -n1 <$A >$A.x; mv $A.x $A"),
    ("zstd", "zstd -q1 <$A >$A.x; mv $A.x $A"),
];

fn sh(line: &str, folder: &Path, archive: &Path) {
    let status = Command::new("bash")
        .args(["-euo", "pipefail", "-c", line])
        .env("A", archive)
        .env("ALL", "--xattrs --xattrs-include=* --acls")
        .env("P", PYTHON)
        .env("TAR_OPTIONS", "--numeric-owner")
        .env("LC_ALL", "C.UTF-8")
        .current_dir(folder)
        .status()
        .unwrap();
    assert!(status.success(), "{line}");
}

fn in_empty<T>(volume: &Loop, look: impl FnOnce(&Path) -> T) -> T {
    volume.mounted(|root| {
        fs::remove_dir(root.join("lost+found")).unwrap();
        look(root)
    })
}

fn gnu_tars(archive: &Path, volume: &Loop) -> String {
    in_empty(volume, |root| {
        // bsdtar comes back to folders that it had left: their times must wait for the end.
        sh("tar $ALL --delay-directory-restore -xpf $A 2>/dev/null", root, archive);
        list(root).unwrap()
    })
}

/// How airlock's tree of an archive differs from GNU tar's, and how many entries that has.
fn compared(desk: &Desk, template: &Template, archive: &Path) -> (usize, Vec<String>) {
    let expected = gnu_tars(archive, &template.volume());
    let volume = template.volume();
    let answer = extracted(desk, &volume, archive);
    let differences = if matches!(answer, Answer::Extracted(_)) {
        differences(&expected, &volume.mounted(|root| list(root).unwrap()))
    } else {
        vec![format!("{answer:?}")]
    };
    (expected.lines().count(), differences)
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What was found out so far.
#[derive(Default)]
struct Findings {
    archives: usize,
    entries: usize,
    failures: Vec<String>,
}

impl Findings {
    /// Grows one tree and packs it in every way that can say what it has.
    fn add(&mut self, desk: &Desk, template: &Template, profile: Profile, seed: u64) {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("a");
        let writers = WRITERS.iter().filter(|(_, writers, _)| *writers == profile);
        in_empty(&template.volume(), |root| {
            grow(root, profile, &mut Random::new(seed));
            // Another one first for each seed.
            let first = usize::try_from(seed % 3).unwrap();
            let compressions = COMPRESSIONS.iter().cycle().skip(first);
            for ((writer, _, pack), (compression, compress)) in writers.zip(compressions) {
                sh(&format!("{pack}; {compress}"), root, &archive);
                let (entries, differences) = compared(desk, template, &archive);
                self.archives += 1;
                self.entries += entries;
                if !differences.is_empty() {
                    let what = format!("{writer}, {compression}, seed {seed}");
                    self.failures.push(format!("{what}:\n  {}", differences.join("\n  ")));
                }
                fs::remove_file(&archive).unwrap();
            }
        });
    }
}

#[test]
fn random_trees_come_out_as_they_come_out_of_gnu_tar() {
    let (seeds, first) = (setting("AIRLOCK_TREES", 8), setting("AIRLOCK_TREES_SEED", 20_260));
    let desk = desk(HelperConfig::default());
    let template = Template::new(&desk, VOLUME);
    let profiles = [Profile::Plain, Profile::Gnu, Profile::Pax];
    let mut findings = Findings::default();
    for seed in first..first + seeds {
        for profile in profiles {
            findings.add(&desk, &template, profile, seed);
        }
    }
    let Findings { archives, entries, failures } = findings;
    tell(&format!(
        "{} random trees (seeds from {first}) as {archives} archives by {} writers, {entries} \
         entries compared with GNU tar's: {} archives differ",
        profiles.len() as u64 * seeds,
        WRITERS.len(),
        failures.len()
    ));
    assert!(entries > 0, "nothing was compared");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

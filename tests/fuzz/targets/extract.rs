//! The real worker in its sandbox, on a real ext4: whatever an archive's entries do to each other,
//! nothing of the host changes, the worker ends sanely, and scan and worker agree.
//!
//! The input is a list of entries, four bytes each, over so few names that they meet all the time.
//! What guides the fuzzer is the reader's coverage; the worker, a process of its own, has none.
#![no_main]

use std::cell::RefCell;
use std::os::fd::AsFd as _;

use airlock_archive::{LayerFault, Position, scan};
use airlock_dm_launcher::errand::Desk;
use airlock_dm_launcher::errand::extract::Input;
use airlock_fuzz::seeds;
use airlock_policy::errand::Answer;
use airlock_policy::helper_config::HelperConfig;
use airlock_tests::extraction::{Template, desk, input, measured_with};
use airlock_tests::hostile::archive::{
    Member, device, directory, file, hardlink, long, member, pax, symlink, tar,
};
use airlock_tests::hostile::run::{Canary, MEMORY, stored};
use airlock_tests::tree::list;
use libfuzzer_sys::fuzz_target;

struct Stage {
    desk: Desk,
    template: Template,
    canary: Canary,
}

thread_local! {
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

fuzz_target!(init: { seeds(make); }, |data: &[u8]| {
    STAGE.with_borrow_mut(|stage| {
        let stage = stage.get_or_insert_with(|| {
            let desk = desk(HelperConfig::default());
            let template = Template::new(&desk, 256 << 20);
            Stage { desk, template, canary: Canary::new() }
        });
        run(data, stage);
    });
});

fn run(data: &[u8], stage: &Stage) {
    let Stage { desk, template, canary } = stage;
    let [how, data @ ..] = data else { return };
    // Some are root filesystems with a directory around them.
    let wrapped = how & 0x40 != 0;
    let top = if wrapped { "rootfs/" } else { "" };
    let members: Vec<Member> = data
        .as_chunks::<4>()
        .0
        .iter()
        .take(40)
        .flat_map(|entry| entry_of(*entry, canary.name(), top))
        .collect();
    // Some archives are two layers.
    let split = if how % 4 == 0 { members.len() / 2 } else { 0 };
    let volume = template.volume();
    for (number, layer) in [&members[..split], &members[split..]].into_iter().enumerate() {
        if number == 0 && split == 0 {
            continue;
        }
        let blob = tar(layer);
        let is_alone = number == 0 || split == 0;
        let position = if is_alone { Position::Alone } else { Position::Upper };
        let scanned = scan(&blob[..], &desk.config.limits.archive(), position);
        let unwrap = scanned.as_ref().is_ok_and(|scan| scan.is_wrapped);
        let file = stored(&blob);
        let input = Input { unwrap, ..input(file.as_fd()) };
        let extraction = measured_with(desk, &volume, input);
        assert!(canary.is_unchanged(), "THE HOST WAS CHANGED");
        assert!(extraction.peak_rss_kib < MEMORY, "{} KiB", extraction.peak_rss_kib);
        match (scanned, extraction.answer) {
            (Ok(scan), Answer::Extracted(extracted)) => {
                assert_eq!(extracted.progress.entries, scan.summary.entries);
                assert_eq!(extracted.diff_id, scan.summary.diff_id);
            }
            (Err(LayerFault::Refused(refusal)), Answer::Refused { rule, entry })
                if (refusal.rule, refusal.entry) == (rule, entry) =>
            {
                return;
            }
            // What only the volume tells; the worker then reads no further.
            (_, Answer::Refused { rule, .. })
                if !is_alone && rule.code().starts_with("link.") || rule.code() == "name.depth" =>
            {
                return;
            }
            // Links lead elsewhere in what would be unwrapped.
            (Err(LayerFault::Refused(refusal)), _)
                if wrapped && refusal.rule.code().starts_with("link.") =>
            {
                return;
            }
            (scanned, answer) => panic!("{scanned:?} and {answer:?}"),
        }
    }
    volume.mounted(|root| list(root).unwrap());
}

fn entry_of([kind, name, target, flags]: [u8; 4], canary: &str, top: &str) -> Vec<Member> {
    let component = |bits: u8| ["a", "b", "c", "file"][usize::from(bits & 3)];
    let mut parts: Vec<&str> =
        (0..=name % 3).map(|level| component(name >> (2 + 2 * level))).collect();
    let last = format!(".wh.{}", parts.last().unwrap());
    if kind % 16 == 8 {
        parts.pop();
        parts.push(&last);
    } else if kind % 16 == 9 {
        parts.pop();
        parts.push(".wh..wh..opq");
    }
    let mut path = format!("{top}{}", parts.join("/"));
    match flags {
        255 => path.insert(0, '/'),
        254 => path.insert_str(0, "../"),
        253 => path.push_str("/.."),
        _ => {}
    }
    let out = format!("/{canary}");
    let up = format!("../../../../../../../../{canary}");
    let inside = format!("{canary}/file");
    let targets = [
        "a",
        "b",
        "c",
        "a/b",
        "b/c",
        "a/b/c",
        "..",
        "../..",
        "/",
        "/a",
        "/b/c",
        ".",
        "a/../b",
        &out,
        &up,
        &inside,
        "/proc/self/root",
        "../a",
        "../b/c",
        "file",
        "c/file",
        "/c",
        "./b",
        "../../c",
    ];
    let target = targets[usize::from(target) % targets.len()];
    let mode = [0o644, 0o755, 0o777, 0o4755, 0o2775, 0o1777, 0, 0o600][usize::from(flags & 7)];
    let link = |link: fn(&str, &str) -> Member, target: &str| {
        vec![long(b'K', target.as_bytes()), link(&path, "")]
    };
    let mut members = match kind % 16 {
        0..=2 => vec![directory(&path)],
        3..=5 => link(symlink, target),
        6 | 7 => link(hardlink, &format!("{top}{target}")),
        8 | 9 => vec![file(&path, "")],
        10 => vec![member(&path, b'6', b"")],
        11 => vec![device(&path, b'3', 0, 0)],
        12 => {
            let list = b"user::rwx,user:4000:rw-,group::r-x,mask::rwx,other::---";
            vec![pax(&[("SCHILY.acl.default", list)]), directory(&path)]
        }
        13 => vec![pax(&[("SCHILY.xattr.user.x", b"1"), ("mtime", b"7.5")]), file(&path, "x")],
        _ => vec![file(&path, "evil")],
    };
    let last = members.pop().unwrap().mode(mode);
    members.push(last);
    members
}

/// Each kind of entry after a link that leads out, and a few stories.
fn make() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        // A link out, a file below it; a folder, a link over it, a file below it.
        vec![1, 3, 0, 13, 0, 14, 1, 0, 0],
        vec![1, 0, 0, 0, 1, 3, 0, 13, 0, 14, 1, 0, 0],
        // A layer with a link out, and one that goes through it.
        vec![0, 3, 0, 13, 0, 14, 1, 0, 0],
    ];
    for kind in 0..16 {
        for target in [6, 8, 13, 14, 15] {
            seeds.push(vec![
                kind, 3, 0, target, 1, kind, 1, target, 2, kind, 0, target, 3, 0, 0, 0, 2,
            ]);
        }
    }
    seeds
}

//! Links that lead out, as parents, as targets, and by what was there a moment ago.

use airlock_policy::rule::Rule;

use crate::hostile::archive::{Member, directory, file, hardlink, long, pax, symlink, tar};
use crate::hostile::{Case, End, holds};

pub(super) fn cases(canary: &str) -> Vec<Case> {
    let mut cases = parents(canary);
    cases.extend(replaced(canary));
    cases.extend(hard_links(canary));
    cases.extend(targets());
    cases
}

fn accepted(name: &'static str, attack: &'static str, members: &[Member], tree: &[&str]) -> Case {
    Case::new(name, attack, tar(members), holds(tree))
}

fn refused(name: &'static str, attack: &'static str, members: &[Member], rule: Rule) -> Case {
    Case::new(name, attack, tar(members), End::Refused(rule))
}

fn no_parent(name: &'static str, attack: &'static str, members: &[Member]) -> Case {
    Case::new(name, attack, tar(members), End::Refused(Rule::LinkParent))
}

/// A link of any length, with the long link that it takes.
fn link(name: &str, target: &str) -> [Member; 2] {
    [long(b'K', target.as_bytes()), symlink(name, "")]
}

/// What lies below a symbolic link.
fn parents(canary: &str) -> Vec<Case> {
    let below = "a file is written through a symbolic link made before it";
    let out = format!("/{canary}");
    let up = format!("{}{canary}", "../".repeat(16));
    let through = |target: &str| {
        let [long, link] = link("s", target);
        vec![long, link, file("s/file", "evil")]
    };
    let mut cases = vec![
        no_parent("through-an-absolute-link", below, &through(&out)),
        no_parent("through-a-relative-link", below, &through(&up)),
        no_parent("through-a-link-of-proc", below, &through("/proc/self/root/tmp")),
        no_parent("through-a-link-to-a-device-folder", below, &through("/dev/fd/3")),
        accepted(
            "through-a-link-above-the-root",
            "a link to the folder above the root leads out of it",
            &[symlink("s", ".."), file("s/f", "evil")],
            &["./f file", "./s link target=.."],
        ),
        accepted(
            "through-a-link-to-the-root",
            "a link to the root leads to the host's",
            &[symlink("s", "/"), file("s/f", "evil")],
            &["./f file", "./s link target=/"],
        ),
        no_parent(
            "through-links-in-a-circle",
            "links in a circle make a reader walk for ever",
            &[symlink("a", "b"), symlink("b", "a"), file("a/f", "")],
        ),
        no_parent(
            "below-a-file",
            "what lies below a file makes readers put a folder in its place, or fail halfway",
            &[file("f", "1"), file("f/x", "2")],
        ),
        Case::new(
            "through-a-link-of-a-lower-layer",
            "a link that one layer made is followed on the host when the next is extracted",
            tar(&[file("etc/file", "evil")]),
            End::RefusedByWorker(Rule::LinkParent),
        )
        .over(tar(&link("etc", &out))),
        Case::new(
            "through-an-absolute-link-of-a-lower-layer",
            "the same, where the link has a target in the image",
            tar(&[file("etc/file", "evil")]),
            holds(&["./etc link", "./real dir", "./real/file file"]),
        )
        .over(tar(&[directory("real"), symlink("etc", "/real")])),
    ];
    cases.push(beyond_the_longest_path(canary));
    cases.push(too_deep_by_links());
    cases
}

/// CVE-2025-4517 of `CPython`.
fn beyond_the_longest_path(canary: &str) -> Case {
    let mut members = Vec::new();
    let mut short = String::new();
    let folder = "d".repeat(247);
    for letter in 'a'..='p' {
        members.push(pax(&[("path", format!("{short}{folder}").as_bytes())]));
        members.push(directory("x"));
        members.extend(link(&format!("{short}{letter}"), &folder));
        short = format!("{short}{letter}/");
    }
    let up = format!("{}{canary}", "../".repeat(17));
    members.extend(link(&format!("{short}out"), &up));
    members.push(file(&format!("{short}out/file"), "evil"));
    no_parent(
        "beyond-the-longest-path",
        "short links make a path longer than what a check can resolve, and then lead out",
        &members,
    )
}

/// Links make a tree deeper than any name may be.
fn too_deep_by_links() -> Case {
    let mut members = Vec::new();
    let deep = "a/".repeat(99);
    let mut at = String::new();
    for number in 0..12 {
        members.push(pax(&[("path", format!("{at}{deep}").as_bytes())]));
        members.push(directory("x"));
        members.extend(link(&format!("s{number}"), &format!("{at}{deep}")));
        at = format!("s{number}/");
    }
    Case::new(
        "too-deep-by-links",
        "links make a tree so deep that whoever walks it runs out of descriptors",
        tar(&members),
        End::RefusedByWorker(Rule::NameDepth),
    )
}

/// What stands where something else stood.
fn replaced(canary: &str) -> Vec<Case> {
    let out = |name: &str, below: &str| link(name, &format!("/{canary}{below}")).to_vec();
    let with = |first: Vec<Member>, rest: &[Member]| [&first[..], rest].concat();
    let open = directory("x").mode(0o777);
    vec![
        accepted(
            "folder-over-a-link",
            "the mode of a folder is given to what a link of its name leads to",
            &with(out("x", "/folder"), &[open]),
            &["./x dir 0777"],
        ),
        accepted(
            "file-over-a-link",
            "a file is written into what a link of its name leads to",
            &with(out("x", "/file"), &[file("x", "evil")]),
            &["./x file size=4"],
        ),
        no_parent(
            "link-over-a-folder",
            "a reader remembers that a name was a folder, when it has become a link",
            &[vec![directory("d")], out("d", "/folder"), vec![file("d/f", "evil")]].concat(),
        ),
        accepted(
            "link-over-a-folder-backslash",
            "the same, where the second name ends in a backslash",
            &[vec![directory("d")], out("d\\", "/folder"), vec![file("d/f", "evil")]].concat(),
            &["./d dir", "./d/f file", "./d\\x5c link"],
        ),
        accepted(
            "link-over-a-folder-to-another",
            "the same, where the link leads to another folder of the image",
            &[directory("d"), directory("e"), symlink("d", "e"), file("d/f", "1")],
            &["./d link target=e", "./e dir", "./e/f file"],
        ),
        accepted(
            "swapped-between-check-and-use",
            "a folder and a link take turns under one name, for a check to see the one and a write the other",
            &(0..64)
                .flat_map(|_| [directory("d"), file("d/f", "1"), symlink("d", "/etc")])
                .collect::<Vec<_>>(),
            &["./d link"],
        ),
    ]
}

fn hard_links(canary: &str) -> Vec<Case> {
    let outside = |name, target: &str, rule| {
        let attack =
            "a hard link leads to a file of the host, which a file of its name then overwrites";
        let long = long(b'K', target.as_bytes());
        refused(name, attack, &[long, hardlink("h", ""), file("h", "evil")], rule)
    };
    let through_links = "a hard link's target is reached through links that lead out";
    vec![
        outside("hard-link-absolute", &format!("/{canary}/file"), Rule::NameAbsolute),
        outside("hard-link-up", &format!("../../../../{canary}/file"), Rule::NameDotdot),
        outside("hard-link-to-nothing", &format!("{canary}/file"), Rule::LinkMissing),
        refused(
            "hard-link-to-itself",
            "a hard link to itself removes what it names",
            &[file("f", "1"), hardlink("f", "./f")],
            Rule::LinkSelf,
        ),
        refused(
            "hard-link-to-a-folder",
            "a folder with two names makes walks endless",
            &[directory("d"), hardlink("h", "d")],
            Rule::LinkMissing,
        ),
        Case::new(
            "hard-link-through-links",
            through_links,
            tar(&[symlink("b", ".."), symlink("a", "b"), hardlink("h", "a/etc/passwd")]),
            End::Refused(Rule::LinkMissing),
        ),
        accepted(
            "hard-link-through-links-inside",
            through_links,
            &[file("f", "mine"), symlink("b", "../.."), symlink("a", "b"), hardlink("h", "a/f")],
            &["./a link", "./b link", "./f file links=2", "./h file same=./f"],
        ),
        accepted(
            "hard-link-to-a-link",
            "the mode of a hard link to a symbolic link is given to what that leads to",
            &[&link("s", &format!("/{canary}/file"))[..], &[hardlink("h", "s").mode(0o777)]]
                .concat(),
            &["./h link links=2", "./s link same=./h"],
        ),
        accepted(
            "file-over-a-hard-link",
            "a file is written into the inode that its name shares with another",
            &[file("f", "1"), hardlink("h", "f"), file("h", "evil")],
            &["./f file size=1", "./h file size=4"],
        ),
    ]
}

fn targets() -> Vec<Case> {
    vec![
        refused(
            "link-to-nothing",
            "a link without a target fails halfway, or leads to the folder itself",
            &[symlink("s", "")],
            Rule::LinkTarget,
        ),
        refused(
            "link-with-a-nul",
            "one reader ends the target at a NUL, another does not",
            &[pax(&[("linkpath", b"d\0/../../etc")]), symlink("s", "d")],
            Rule::LinkTarget,
        ),
        refused(
            "link-too-long",
            "a target is longer than the kernel takes",
            &[long(b'K', &[b'x'; 4096]), symlink("s", "")],
            Rule::LinkTarget,
        ),
        accepted(
            "link-that-text-and-kernel-resolve-differently",
            "a target that looks harmless when `..` is struck out as text leads elsewhere in the kernel",
            &[directory("d"), directory("d/e"), symlink("a", "d/e"), symlink("b", "a/../../../x")],
            &["./a link target=d/e", "./b link target=a/../../../x", "./d dir", "./d/e dir"],
        ),
    ]
}

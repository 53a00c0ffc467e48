//! Whiteouts that remove more than they may.

use airlock_policy::rule::Rule;

use crate::hostile::archive::{Member, directory, file, long, pax, symlink, tar};
use crate::hostile::{Case, End, holds};

pub(super) fn cases(canary: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let refused = |name, members: &[Member], rule| {
        let attack = "what is left of a whiteout's name, once the prefix is off, is a path";
        Case::new(name, attack, tar(members), End::Refused(rule))
    };
    for (name, path) in [
        ("whiteout-of-nothing", ".wh."),
        ("whiteout-of-itself", "d/.wh.."),
        ("whiteout-of-the-folder-above", "d/.wh..."),
        ("whiteout-as-a-folder", ".wh.d/f"),
    ] {
        cases.push(refused(name, &[file(path, "")], Rule::WhiteoutName));
    }
    cases.push(refused(
        "whiteout-of-a-nul",
        &[pax(&[("path", b".wh.\0../x")]), file("x", "")],
        Rule::NameNul,
    ));
    cases.push(refused(
        "hard-link-to-a-whiteout",
        &[file(".wh.f", ""), crate::hostile::archive::hardlink("h", ".wh.f")],
        Rule::LinkTarget,
    ));
    let below = || tar(&[file("f", "1"), directory("d"), file("d/g", "2")]);
    let out = || [long(b'K', format!("/{canary}").as_bytes()), symlink("s", "")];
    cases.extend([
        Case::new(
            "whiteout-through-a-link-out",
            "a whiteout below a link removes a file of the host",
            tar(&[&out()[..], &[file("s/.wh.file", ""), file("s/.wh..wh..opq", "")]].concat()),
            holds(&["./d dir", "./d/g file", "./f file", "./s link"]),
        )
        .over(below()),
        Case::new(
            "whiteout-through-a-link-to-the-root",
            "the same by a link to the root: what is removed is the volume's",
            tar(&[symlink("s", "../.."), file("s/.wh.f", ""), file("s/d/.wh..wh..opq", "")]),
            holds(&["./d dir", "./s link"]),
        )
        .over(below()),
        Case::new(
            "whiteout-of-a-link",
            "a whiteout of a link removes what the link leads to",
            tar(&[file(".wh.s", "")]),
            holds(&["./d dir", "./d/g file"]),
        )
        .over(tar(&[directory("d"), file("d/g", "2"), symlink("s", "d")])),
        Case::new(
            "opaque-root",
            "a mark on the root empties the folder that is extracted into, new files included",
            tar(&[file("new", "3"), file(".wh..wh..opq", "")]),
            holds(&["./new file"]),
        )
        .over(below()),
    ]);
    cases
}

//! Names that lead out, that say two things, or that no filesystem holds.
#![expect(clippy::too_many_lines, reason = "lists, a case after the other")]

use airlock_policy::rule::Rule;

use crate::hostile::archive::{Member, directory, file, hardlink, long, pax, symlink, tar};
use crate::hostile::{Case, End, holds};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let refused = |name, attack, members: &[Member], rule| {
        Case::new(name, attack, tar(members), End::Refused(rule))
    };
    for (name, path, rule) in [
        ("absolute", "/etc/x", Rule::NameAbsolute),
        ("absolute-thrice", "///etc/x", Rule::NameAbsolute),
        ("absolute-dot", "//./x", Rule::NameAbsolute),
        ("absolute-dotdot", "/../x", Rule::NameAbsolute),
        ("dotdot", "../../x", Rule::NameDotdot),
        ("dotdot-inside", "a/../../x", Rule::NameDotdot),
        ("dotdot-after-two-slashes", "a//../../x", Rule::NameDotdot),
        ("dotdot-last", "a/..", Rule::NameDotdot),
        ("dotdot-that-stays-inside", "etc/motd/../shadow", Rule::NameDotdot),
    ] {
        let attack = "a name leads out of the tree, or would if its front were cut off once";
        cases.push(refused(name, attack, &[file(path, "evil")], rule));
    }
    cases.extend([
        refused(
            "dotdot-in-pax",
            "the name that leads out is in a pax record, the header's is harmless",
            &[pax(&[("path", b"../x")]), file("x", "evil")],
            Rule::NameDotdot,
        ),
        refused(
            "dotdot-in-long-name",
            "the name that leads out is a GNU long name",
            &[long(b'L', b"a/../../x"), file("x", "evil")],
            Rule::NameDotdot,
        ),
        refused(
            "dotdot-in-prefix",
            "the part that leads out is in ustar's prefix",
            &[file("x", "evil").set(345, b"a/../..")],
            Rule::NameDotdot,
        ),
        refused(
            "empty",
            "a file without a name is written over its own folder",
            &[file("", "evil")],
            Rule::NameEmpty,
        ),
        refused(
            "empty-link",
            "a symbolic link without a name takes the place of the folder that is extracted into",
            &[symlink("", "/etc")],
            Rule::NameEmpty,
        ),
        refused(
            "nul",
            "one reader ends the name at a NUL, another does not",
            &[pax(&[("path", b"harmless\0/../../x")]), file("x", "evil")],
            Rule::NameNul,
        ),
        refused(
            "component-too-long",
            "a component is longer than the kernel takes",
            &[pax(&[("path", "c".repeat(256).as_bytes())]), file("x", "")],
            Rule::NameComponent,
        ),
        refused(
            "path-too-long",
            "a name is longer than the kernel takes",
            &[long(b'L', format!("{}x", "c/".repeat(2048)).as_bytes()), file("x", "")],
            Rule::NameLength,
        ),
        refused(
            "too-deep",
            "folders nested so deep that whoever removes them runs out of stack or descriptors",
            &[pax(&[("path", "d/".repeat(129).as_bytes())]), directory("x")],
            Rule::NameDepth,
        ),
        refused(
            "slash-behind-a-link",
            "a link whose name ends in a slash is the link to one reader, its target to another",
            &[directory("d"), symlink("s/", "d")],
            Rule::NameSlash,
        ),
    ]);
    for (name, path) in [("root-dot", "."), ("root-dot-slash", "./"), ("root-slash", "/")] {
        let attack = "the root itself is replaced by a symbolic link";
        cases.push(refused(name, attack, &[symlink(path, "/etc")], Rule::NameRoot));
    }
    cases.push(refused(
        "root-is-a-file",
        "the root itself is replaced by a file",
        &[file("./.", "evil")],
        Rule::NameRoot,
    ));
    cases.push(refused(
        "root-as-a-second-name",
        "a hard link gives the root a second name",
        &[directory("./"), hardlink("r", ".")],
        Rule::LinkTarget,
    ));
    cases.extend(odd_but_legal());
    cases
}

fn odd_but_legal() -> [Case; 4] {
    let latin = |bytes: &'static [u8]| pax(&[("hdrcharset", b"BINARY"), ("path", bytes)]);
    [
        Case::new(
            "backslash-and-dots",
            "a backslash taken for a slash makes a name lead out",
            tar(&[file("..\\..\\x", "1"), file("a..b", "2"), file("...", "3")]),
            holds(&["./... file", "./..\\x5c..\\x5cx file", "./a..b file"]),
        ),
        Case::new(
            "root-by-all-its-names",
            "the root's mode is set, under whichever name it comes",
            tar(&[directory("/").mode(0o700), directory("./").mode(0o711), directory(".")]),
            holds(&[]),
        ),
        Case::new(
            "names-that-fold",
            "names that are equal after case or Unicode folding let a file follow a link",
            tar(&[
                symlink("s", "/etc"),
                file("S", "upper"),
                latin("caf\u{e9}".as_bytes()),
                symlink("x", "/etc"),
                latin("cafe\u{301}".as_bytes()),
                file("x", "nfd"),
                latin("\u{df}".as_bytes()),
                symlink("x", "/etc"),
                file("ss", "s"),
                latin(b"\xff\xfe"),
                file("x", "no text"),
            ]),
            holds(&[
                "./S file size=5",
                "./cafe\\xcc\\x81 file size=3",
                "./caf\\xc3\\xa9 link",
                "./s link",
                "./ss file size=1",
                "./\\xc3\\x9f link",
                "./\\xff\\xfe file",
            ]),
        ),
        Case::new(
            "name-drives-a-terminal",
            "a name's control sequences reach the terminal or the log of whoever looks",
            tar(&[file("\x1b]0;evil\x07\nairlock: all is well", "x")]),
            holds(&["./\\x1b]0;evil\\x07\\x0aairlock:\\x20all\\x20is\\x20well file"]),
        ),
    ]
}

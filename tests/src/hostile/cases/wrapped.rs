//! Root filesystems with a directory around them, and what only looks like one.

use airlock_policy::rule::Rule;

use crate::hostile::archive::{Member, directory, file, hardlink, long, member, symlink, tar};
use crate::hostile::{Case, End, holds};

pub(super) fn cases(canary: &str) -> Vec<Case> {
    let mut cases = unwrapped(canary);
    cases.extend(not_wrapped());
    cases.extend(claimed());
    cases
}

fn top() -> [Member; 2] {
    [directory("./"), directory("rootfs")]
}

fn with(members: &[Member]) -> Vec<u8> {
    tar(&[&top(), members].concat())
}

fn unwrapped(canary: &str) -> Vec<Case> {
    let out = long(b'K', format!("/{canary}").as_bytes());
    vec![
        Case::new(
            "wrapped",
            "the directory around a root filesystem is left in it",
            tar(&[
                directory("rootfs").mode(0o711),
                directory("rootfs/etc"),
                file("./rootfs/etc/f", "1"),
                hardlink("rootfs/h", "rootfs/etc/f"),
                symlink("rootfs/bin", "/etc"),
                file("rootfs/bin/x", "2"),
                symlink("rootfs/up", "../.."),
                file("rootfs/up/y", "3"),
                file("rootfs/.wh.etc", ""),
            ]),
            holds(&[
                "./bin link target=/etc",
                "./etc dir",
                "./etc/f file size=1",
                "./etc/x file size=1",
                "./h file same=./etc/f",
                "./up link target=../..",
                "./y file",
            ]),
        ),
        Case::new(
            "wrapped-twice",
            "one directory too many is taken for the root",
            with(&[file("rootfs/rootfs/f", "1")]),
            holds(&["./rootfs dir", "./rootfs/f file"]),
        ),
        Case::new(
            "wrapped-through-a-link-out",
            "once it is unwrapped, a link leads to the host",
            with(&[out, symlink("rootfs/s", ""), file("rootfs/s/file", "evil")]),
            End::Refused(Rule::LinkParent),
        ),
        Case {
            // The scan refuses it, so nobody but a liar has it unwrapped.
            unwrap: true,
            ..Case::new(
                "wrapped-through-a-link-to-the-wrapper",
                "a link to the wrapper leads to the root only while it is wrapped",
                with(&[symlink("rootfs/s", "/rootfs"), file("rootfs/s/f", "1")]),
                End::Refused(Rule::LinkParent),
            )
        },
        Case::new(
            "wrapped-and-out",
            "what follows the wrapper leads out of it",
            with(&[file("rootfs/../x", "evil")]),
            End::Refused(Rule::NameDotdot),
        ),
        Case::new(
            "wrapped-and-linked-out",
            "a hard link in the wrapper names what is not in it",
            with(&[hardlink("rootfs/h", "etc/passwd")]),
            End::Refused(Rule::LinkMissing),
        ),
    ]
}

/// What is no wrapper: such an archive is taken as it stands, and is no root filesystem then.
fn not_wrapped() -> Vec<Case> {
    let plain = |name, attack, members: &[Member]| {
        Case::new(name, attack, tar(members), End::BadLayout(Rule::LayoutDirectories))
    };
    vec![
        plain(
            "wrapper-and-another",
            "one entry lies outside, and would overwrite what was unwrapped",
            &[directory("rootfs"), file("rootfs/f", "1"), file("f", "evil")],
        ),
        plain(
            "wrapper-of-another-case",
            "a name that some filesystems take for the same is unwrapped too",
            &[directory("rootfs"), file("Rootfs/f", "1")],
        ),
        plain(
            "wrapper-replaced-by-a-link",
            "the wrapper becomes a link, and the root with it",
            &[directory("rootfs"), file("rootfs/f", "1"), symlink("rootfs", "etc")],
        ),
        plain(
            "wrapper-replaced-by-a-file",
            "the wrapper becomes a file",
            &[file("rootfs/f", "1"), file("rootfs", "evil")],
        ),
        plain("wrapper-a-link", "the wrapper is a link", &[symlink("rootfs", "/")]),
        plain(
            "wrapper-whited-out",
            "the root is removed with the wrapper",
            &[directory("rootfs"), file("rootfs/f", "1"), file(".wh.rootfs", "")],
        ),
        Case::new(
            "wrapper-left-behind-a-link",
            "a link that was followed in the wrapper leads elsewhere, now that there is none",
            tar(&[
                directory("rootfs"),
                symlink("rootfs/s", "/rootfs"),
                file("rootfs/s/f", "1"),
                directory("etc"),
            ]),
            End::BadLayout(Rule::LayoutDirectories),
        ),
    ]
}

/// What a controller that was taken over has unwrapped, which the scan would not.
fn claimed() -> Vec<Case> {
    let claimed = |name, members: &[Member]| Case {
        unwrap: true,
        ..Case::new(
            name,
            "a controller that lies has an archive unwrapped that is not wrapped",
            tar(members),
            End::RefusedByWorker(Rule::NameOutside),
        )
    };
    let inside = [directory("rootfs"), file("rootfs/f", "1")];
    let and = |member: Member| [&inside[..], &[member]].concat();
    vec![
        claimed("claimed-outside", &and(file("f", "evil"))),
        claimed("claimed-a-link", &and(symlink("rootfs", "/etc"))),
        claimed("claimed-a-file", &and(file("rootfs", "evil"))),
        claimed("claimed-a-pipe", &and(member("rootfs", b'6', b""))),
        claimed("claimed-whited-out", &and(file(".wh.rootfs", ""))),
        claimed("claimed-opaque", &and(file(".wh..wh..opq", ""))),
    ]
}

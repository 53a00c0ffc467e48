//! Tests of the verdict on an entry.

use super::*;

pub(super) fn claim<'a>(name: &'a str, kind: ClaimedKind<'a>) -> Claim<'a> {
    Claim {
        name: name.as_bytes(),
        kind,
        size: 0,
        sparse: None,
        mode: 0o100_644,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Vec::new(),
        acl_access: None,
        acl_default: None,
    }
}

pub(super) fn verdict(claim: Claim<'_>) -> Result<Entry, Rule> {
    judge(0, claim, &ArchiveLimits::default())
}

fn kind(name: &str, kind: ClaimedKind<'_>) -> Result<Kind, Rule> {
    verdict(claim(name, kind)).map(|entry| entry.kind)
}

fn path(name: &str) -> EntryPath {
    EntryPath::parse(name.as_bytes()).unwrap()
}

#[test]
fn only_a_directory_may_be_the_root() {
    for root in ["/", ".", "./"] {
        assert_eq!(kind(root, ClaimedKind::Directory), Ok(Kind::Directory));
        assert_eq!(kind(root, ClaimedKind::Symlink(b"/etc")), Err(Rule::NameRoot));
        assert_eq!(kind(root, ClaimedKind::Hardlink(b"etc")), Err(Rule::NameRoot));
        assert_eq!(kind(root, ClaimedKind::Fifo), Err(Rule::NameRoot));
    }
    assert_eq!(kind(".", ClaimedKind::File), Err(Rule::NameRoot));
}

#[test]
fn a_file_whose_name_ends_in_a_slash_is_a_directory_and_nothing_else_may() {
    assert_eq!(kind("d/", ClaimedKind::File), Ok(Kind::Directory));
    assert_eq!(kind("d/", ClaimedKind::Symlink(b"x")), Err(Rule::NameSlash));
    assert_eq!(kind("d/", ClaimedKind::Hardlink(b"x")), Err(Rule::NameSlash));
    assert_eq!(kind("d/", ClaimedKind::Fifo), Err(Rule::NameSlash));
}

#[test]
fn devices_are_refused_but_for_the_whiteout_of_overlayfs() {
    assert_eq!(kind("sda", ClaimedKind::BlockDevice), Err(Rule::KindDevice));
    let null = ClaimedKind::CharacterDevice { is_zero: false };
    assert_eq!(kind("null", null), Err(Rule::KindDevice));
    let zero = ClaimedKind::CharacterDevice { is_zero: true };
    assert_eq!(kind("d/gone", zero), Ok(Kind::Whiteout { target: path("d/gone") }));
    assert_eq!(kind("d/.wh.gone", zero), Err(Rule::WhiteoutName));
}

#[test]
fn a_whiteout_removes_one_component_below_its_parent() {
    let whiteout = |name| kind(name, ClaimedKind::File);
    assert_eq!(whiteout("d/.wh.x"), Ok(Kind::Whiteout { target: path("d/x") }));
    assert_eq!(whiteout(".wh.x"), Ok(Kind::Whiteout { target: path("x") }));
    assert_eq!(whiteout("d/.wh..wh..opq"), Ok(Kind::OpaqueDirectory { target: path("d") }));
    assert_eq!(
        whiteout(".wh..wh..opq"),
        Ok(Kind::OpaqueDirectory { target: EntryPath::default() }),
    );
    for hostile in ["d/.wh.", "d/.wh..", "d/.wh...", ".wh.x/y", ".wh..wh.plnk/1"] {
        assert_eq!(whiteout(hostile), Err(Rule::WhiteoutName), "{hostile}");
    }
    assert_eq!(whiteout("d/.wh.\0"), Err(Rule::NameNul));
    assert_eq!(kind("x", ClaimedKind::Hardlink(b".wh.x")), Err(Rule::LinkTarget));
    assert!(matches!(whiteout("d/.why"), Ok(Kind::File { .. })));
}

#[test]
fn link_targets_are_kept_verbatim_or_refused() {
    let target = |target: &str| kind("l", ClaimedKind::Symlink(target.as_bytes()));
    for legal in ["/etc/passwd", "../../../x", "a//b/.", &"t".repeat(4095)] {
        assert_eq!(target(legal), Ok(Kind::Symlink { target: legal.as_bytes().into() }));
    }
    for bad in ["", "a\0b", &"t".repeat(4096)] {
        assert_eq!(target(bad), Err(Rule::LinkTarget));
    }
    let hard = |target: &str| kind("l", ClaimedKind::Hardlink(target.as_bytes()));
    assert_eq!(hard("./a/b"), Ok(Kind::Hardlink { target: path("a/b") }));
    assert_eq!(hard("./l"), Err(Rule::LinkSelf));
    assert_eq!(hard("/etc/shadow"), Err(Rule::NameAbsolute));
    assert_eq!(hard("../x"), Err(Rule::NameDotdot));
    for bad in ["", ".", "a/"] {
        assert_eq!(hard(bad), Err(Rule::LinkTarget));
    }
}

#[test]
fn setuid_and_setgid_follow_the_policy_on_files_and_stay_on_directories() {
    for (setuid, file) in [
        (Setuid::Keep, Ok(0o6755)),
        (Setuid::Strip, Ok(0o755)),
        (Setuid::Reject, Err(Rule::ModeSetuid)),
    ] {
        let limits = ArchiveLimits { setuid, ..ArchiveLimits::default() };
        let mode = |kind, mode| {
            judge(0, Claim { mode, ..claim("x", kind) }, &limits).map(|entry| entry.mode)
        };
        assert_eq!(mode(ClaimedKind::File, 0o106_755), file);
        assert_eq!(mode(ClaimedKind::Hardlink(b"y"), 0o6755), file);
        assert_eq!(mode(ClaimedKind::Directory, 0o43_755), Ok(0o3755));
        assert_eq!(mode(ClaimedKind::File, 0o1777), Ok(0o1777));
    }
}

#[test]
fn owners_times_and_sizes_have_their_ranges() {
    let file = || claim("x", ClaimedKind::File);
    for (id, expected) in [(2_147_483_646, Ok(())), (2_147_483_647, Err(Rule::OwnerRange))] {
        assert_eq!(verdict(Claim { uid: id, ..file() }).map(drop), expected);
        assert_eq!(verdict(Claim { gid: id, ..file() }).map(drop), expected);
    }
    assert_eq!(verdict(Claim { uid: -1, ..file() }), Err(Rule::OwnerRange));
    for (seconds, expected) in [
        (-2_147_483_648, Ok(())),
        (-2_147_483_649, Err(Rule::TimeRange)),
        (15_032_385_535, Ok(())),
        (15_032_385_536, Err(Rule::TimeRange)),
    ] {
        let mtime = Time { seconds, nanoseconds: 0 };
        assert_eq!(verdict(Claim { mtime, ..file() }).map(drop), expected);
    }
    assert!(verdict(Claim { size: 8 << 30, ..file() }).is_ok());
    assert_eq!(verdict(Claim { size: (8 << 30) + 1, ..file() }), Err(Rule::LimitFile));
    for sized in [ClaimedKind::Directory, ClaimedKind::Symlink(b"x"), ClaimedKind::Hardlink(b"y")] {
        assert_eq!(verdict(Claim { size: 1, ..claim("z", sized) }), Err(Rule::ArchiveSize));
    }
}

fn attribute(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.as_bytes().into(), value: value.into() }
}

fn with(kind: ClaimedKind<'_>, name: &str, value: &[u8]) -> Result<(usize, usize, u32), Rule> {
    verdict(Claim { xattrs: vec![attribute(name, value)], ..claim("x", kind) })
        .map(|entry| (entry.xattrs.len(), entry.acls.len(), entry.left_out))
}

#[test]
fn attributes_are_kept_left_out_or_refused_by_namespace() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (file, link) = (ClaimedKind::File, ClaimedKind::Symlink(b"t"));
    assert_eq!(with(file, "user.a", b""), Ok((1, 0, 0)));
    assert_eq!(with(link, "user.a", b""), Err(Rule::XattrNamespace));
    assert_eq!(with(file, "security.capability", &capability), Ok((1, 0, 0)));
    assert_eq!(with(file, "security.capability", b"x"), Err(Rule::XattrValue));
    assert_eq!(
        with(ClaimedKind::Directory, "security.capability", &capability),
        Err(Rule::XattrNamespace)
    );
    assert_eq!(with(file, "security.selinux", b"x"), Ok((0, 0, 1)));
    assert_eq!(with(link, "com.apple.quarantine", b"x"), Ok((0, 0, 1)));
    for refused in ["trusted.overlay.opaque", "security.ima", "system.nfs4_acl", "user.", "", "a\0"]
    {
        assert_eq!(with(file, refused, b"x"), Err(Rule::XattrNamespace), "{refused:?}");
    }
    assert_eq!(with(file, &format!("user.{}", "n".repeat(251)), b""), Err(Rule::XattrSize));
    assert_eq!(with(file, "user.a", &vec![0; 64 << 10]), Err(Rule::XattrSize));
}

#[test]
fn an_acl_said_twice_must_be_said_alike_and_have_a_place() {
    let list = |text: &'static str| Claim {
        acl_access: Some(text.as_bytes()),
        xattrs: vec![attribute(
            "system.posix_acl_access",
            &[
                2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 4, 0, 4, 0, 255, 255, 255, 255, 32, 0,
                4, 0, 255, 255, 255, 255,
            ],
        )],
        ..claim("x", ClaimedKind::File)
    };
    assert_eq!(verdict(list("user::rw-,group::r--,other::r--")).unwrap().acls.len(), 1);
    assert_eq!(verdict(list("user::rwx,group::r--,other::r--")), Err(Rule::XattrValue));
    let default =
        |kind| Claim { acl_default: Some(b"user::rw-,group::r--,other::r--"), ..claim("x", kind) };
    assert_eq!(verdict(default(ClaimedKind::Directory)).unwrap().acls.len(), 1);
    assert_eq!(verdict(default(ClaimedKind::File)), Err(Rule::XattrNamespace));
}

//! Devices, unknown types, owners, modes, attributes and times that a volume must not get.
#![expect(clippy::too_many_lines, reason = "lists, a case after the other")]

use airlock_policy::limit::Setuid;
use airlock_policy::rule::Rule;

use crate::hostile::archive::{
    Member, base_256, device, directory, file, member, pax, symlink, tar,
};
use crate::hostile::{Case, End, holds};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = devices();
    cases.extend(unknown());
    cases.extend(owners_modes_times());
    cases.extend(attributes());
    cases
}

fn refused(name: &'static str, attack: &'static str, members: &[Member], rule: Rule) -> Case {
    Case::new(name, attack, tar(members), End::Refused(rule))
}

fn devices() -> Vec<Case> {
    let blank = member("mem", b'3', b"").set(329, &[0; 16]);
    let overruled = pax(&[("SCHILY.devmajor", b"1"), ("SCHILY.devminor", b"1")]);
    vec![
        refused(
            "memory-device",
            "a node gives the memory of the host to whoever may open it",
            &[device("mem", b'3', 1, 1)],
            Rule::KindDevice,
        ),
        refused(
            "disk-device",
            "a node gives the disk of the host to whoever may open it",
            &[device("sda", b'4', 8, 0)],
            Rule::KindDevice,
        ),
        refused(
            "device-named-as-a-whiteout",
            "a node hides behind the prefix of a whiteout",
            &[device(".wh.mem", b'3', 1, 1)],
            Rule::KindDevice,
        ),
        refused(
            "device-without-numbers",
            "a node whose numbers are not given is a whiteout to one reader only",
            &[blank],
            Rule::KindDevice,
        ),
        refused(
            "device-whose-numbers-a-record-overrules",
            "a node that looks like a whiteout is the memory device by its pax records",
            &[overruled, device("mem", b'3', 0, 0)],
            Rule::KindDevice,
        ),
        Case::new(
            "whiteout-device",
            "the node 0/0 is made, instead of removing what it names",
            tar(&[device("gone", b'3', 0, 0)]),
            holds(&["./stays file"]),
        )
        .over(tar(&[file("gone", "1"), file("stays", "2")])),
    ]
}

fn unknown() -> Vec<Case> {
    [b'N', b'V', b'M', b'D', b'Z', b'U']
        .into_iter()
        .zip(["old-names", "label", "volume-part", "dump-directory", "vendors", "reserved"])
        .map(|(flag, name)| {
            refused(
                name,
                "a type that most readers take for a file is a command to others",
                &[member("x", flag, b"Symlink /etc/passwd to y\n")],
                Rule::KindUnknown,
            )
        })
        .collect()
}

fn owners_modes_times() -> Vec<Case> {
    let su = || tar(&[file("su", "evil").mode(0o4755), file("sg", "evil").mode(0o2755)]);
    vec![
        refused(
            "owner-too-large",
            "an id that the map of the namespace does not cover becomes another's",
            &[file("f", "").set(108, &base_256::<8>(2_147_483_647))],
            Rule::OwnerRange,
        ),
        refused(
            "owner-negative",
            "a negative id means that the owner is left as it is: root",
            &[pax(&[("uid", b"-1")]), file("f", "")],
            Rule::OwnerRange,
        ),
        Case::new(
            "owner-largest",
            "the largest id of all wraps around",
            tar(&[pax(&[("gid", b"2147483646")]), file("f", "").set(108, &base_256::<8>(65_536))]),
            holds(&["./f file 65536:2147483646"]),
        ),
        Case::new(
            "setuid-kept",
            "a program becomes root's, with the bit set",
            su(),
            holds(&["./sg file 2755 0:0", "./su file 4755 0:0"]),
        ),
        Case::new("setuid-stripped", "the same, where that is not allowed", su(), {
            holds(&["./sg file 0755 0:0", "./su file 0755 0:0"])
        })
        .limited(|limits| limits.setuid = Setuid::Strip),
        Case::new(
            "setuid-rejected",
            "the same, where no such image is",
            su(),
            End::Refused(Rule::ModeSetuid),
        )
        .limited(|limits| limits.setuid = Setuid::Reject),
        refused(
            "time-too-late",
            "a time beyond what an inode holds wraps around",
            &[pax(&[("mtime", b"99999999999.5")]), file("f", "")],
            Rule::TimeRange,
        ),
        refused(
            "time-too-early",
            "a negative time that no inode holds wraps around",
            &[file("f", "").set(136, &base_256::<12>(-99_999_999_999))],
            Rule::TimeRange,
        ),
    ]
}

fn attributes() -> Vec<Case> {
    let xattr = |key, value: &[u8]| pax(&[(key, value)]);
    let mut cases = vec![
        refused(
            "attribute-too-large",
            "attributes fill the volume or the memory beside the limits on files",
            &[xattr("SCHILY.xattr.user.big", &[b'a'; 70_000]), file("f", "")],
            Rule::XattrSize,
        ),
        refused(
            "attribute-on-a-link",
            "an attribute of a link is set on what it leads to",
            &[xattr("SCHILY.xattr.user.x", b"1"), symlink("s", "/etc")],
            Rule::XattrNamespace,
        ),
        refused(
            "list-malformed",
            "an access control list that one reader drops and another half obeys",
            &[xattr("SCHILY.acl.access", b"user::rwx,group::r-x,other::what"), file("f", "")],
            Rule::XattrValue,
        ),
        refused(
            "capability-malformed",
            "a file capability of a shape that the kernel would only refuse when all is written",
            &[xattr("SCHILY.xattr.security.capability", b"all"), file("f", "")],
            Rule::XattrValue,
        ),
        Case::new(
            "list-of-a-stranger",
            "an access control list names somebody whom only the host knows",
            tar(&[list_of("nobody-of-this-image"), file("f", "")]),
            End::RefusedByWorker(Rule::XattrPerson),
        ),
        Case::new(
            "library-for-names",
            "the image's own library for looking up names is loaded when one is looked up",
            tar(&[
                directory("lib"),
                file("lib/libnss_files.so.2", "\x7fELF"),
                directory("etc"),
                file("etc/nsswitch.conf", "passwd: evil\n"),
                file("etc/passwd", "mallory:x:1234:1234::/:/bin/sh\n"),
                list_of("mallory"),
                file("f", ""),
            ]),
            holds(&[
                "./etc dir",
                "./etc/nsswitch.conf file",
                "./etc/passwd file",
                "./f file",
                "./lib dir",
                "./lib/libnss_files.so.2 file",
            ]),
        ),
    ];
    for (name, key) in [
        ("attribute-of-overlayfs", "SCHILY.xattr.trusted.overlay.opaque"),
        ("attribute-of-the-host", "SCHILY.xattr.security.ima"),
        ("attribute-of-the-kernel", "SCHILY.xattr.system.evil"),
    ] {
        let attack =
            "an attribute that is the host's to give changes what the host makes of a file";
        cases.push(refused(
            name,
            attack,
            &[xattr(key, b"y"), directory("d")],
            Rule::XattrNamespace,
        ));
    }
    cases
}

fn list_of(user: &str) -> Member {
    let text = format!("user::rw-,user:{user}:rwx,group::r--,mask::rwx,other::r--");
    pax(&[("SCHILY.acl.access", text.as_bytes())])
}

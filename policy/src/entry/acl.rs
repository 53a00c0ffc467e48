//! POSIX access control lists: the text that archives hold, the attribute that the kernel takes.
//!
//! Text is POSIX.1e's, as GNU tar, star and libarchive write it: `user:1000:rw-`, separated by
//! commas or newlines, with an optional number as a fourth field. GNU tar writes names where it
//! knows them, so a list may name people whom only the image's own `etc/passwd` knows.

use crate::limit::MAX_OWNER;
use crate::rule::Rule;

/// Which of an inode's two lists it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AclKind {
    /// Who may do what with the inode.
    Access,
    /// What a directory hands down to what is made in it.
    Default,
}

/// A well-formed access control list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Acl {
    kind: AclKind,
    entries: Vec<AclEntry>,
}

/// One line of a list.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct AclEntry {
    tag: Tag,
    who: Who,
    permissions: u16,
}

/// Whom a line is about, in the order in which the kernel wants the lines.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Tag {
    Owner = 1,
    User = 2,
    OwningGroup = 4,
    Group = 8,
    Mask = 16,
    Other = 32,
}

/// The user or group of a [`Tag::User`] or [`Tag::Group`] line.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Who {
    Nobody,
    Id(u32),
    Name(Box<[u8]>),
}

/// A user or a group that a list names, to be looked up in the image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Person<'a> {
    /// A user of this name.
    User(&'a [u8]),
    /// A group of this name.
    Group(&'a [u8]),
}

impl Acl {
    /// Which list it is.
    pub fn kind(&self) -> AclKind {
        self.kind
    }

    /// The attribute that the kernel keeps it in.
    pub fn xattr_name(&self) -> &'static str {
        match self.kind {
            AclKind::Access => "system.posix_acl_access",
            AclKind::Default => "system.posix_acl_default",
        }
    }

    /// Whether it names no one but by number.
    pub(super) fn is_numeric(&self) -> bool {
        !self.entries.iter().any(|entry| matches!(entry.who, Who::Name(_)))
    }

    /// Whether two lists say the same, as far as names and numbers can be compared.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        let lines = |acl: &Self| {
            let mut lines: Vec<_> = acl.entries.iter().map(|e| (e.tag, e.permissions)).collect();
            lines.sort_unstable();
            lines
        };
        self == other || (self.is_numeric() != other.is_numeric() && lines(self) == lines(other))
    }

    /// The value of that attribute. `id_of` looks up the people that the list names, if it names
    /// any; [`Rule::XattrPerson`] if it does not know one.
    pub fn xattr_value(
        &self,
        mut id_of: impl FnMut(Person<'_>) -> Option<u32>,
    ) -> Result<Vec<u8>, Rule> {
        let mut lines = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let id = match &entry.who {
                Who::Nobody => NO_ID,
                Who::Id(id) => *id,
                Who::Name(name) if entry.tag == Tag::User => {
                    id_of(Person::User(name)).ok_or(Rule::XattrPerson)?
                }
                Who::Name(name) => id_of(Person::Group(name)).ok_or(Rule::XattrPerson)?,
            };
            lines.push((entry.tag, id, entry.permissions));
        }
        lines.sort_unstable();
        let mut value = VERSION.to_le_bytes().to_vec();
        for (tag, id, permissions) in lines {
            value.extend_from_slice(&tag.number().to_le_bytes());
            value.extend_from_slice(&permissions.to_le_bytes());
            value.extend_from_slice(&id.to_le_bytes());
        }
        Ok(value)
    }

    /// Parses a list's text; `None` if it is empty.
    pub(super) fn parse(kind: AclKind, text: &[u8]) -> Result<Option<Self>, Rule> {
        let mut entries = Vec::new();
        for line in text.split(|byte| matches!(byte, b',' | b'\n')) {
            // What follows a "#" is a comment: effective permissions.
            let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
            if !line.is_empty() {
                entries.push(AclEntry::parse(kind, line)?);
            }
        }
        if entries.is_empty() { Ok(None) } else { Self::new(kind, entries).map(Some) }
    }

    /// Decodes the kernel's own form, as archives hold it in `SCHILY.xattr.system.posix_acl_*`.
    pub(super) fn decode(kind: AclKind, value: &[u8]) -> Result<Self, Rule> {
        let (version, lines) = value.split_first_chunk::<4>().ok_or(Rule::XattrValue)?;
        let (lines, []) = lines.as_chunks::<8>() else { return Err(Rule::XattrValue) };
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Rule::XattrValue);
        }
        let mut entries = Vec::with_capacity(lines.len());
        for &[tag_low, tag_high, low, high, a, b, c, d] in lines {
            let tag = Tag::of(u16::from_le_bytes([tag_low, tag_high]))?;
            let who = match tag {
                Tag::User | Tag::Group => Who::Id(u32::from_le_bytes([a, b, c, d])),
                Tag::Owner | Tag::OwningGroup | Tag::Mask | Tag::Other => Who::Nobody,
            };
            entries.push(AclEntry { tag, who, permissions: u16::from_le_bytes([low, high]) });
        }
        Self::new(kind, entries)
    }

    /// Checks what the kernel's `posix_acl_valid` would: each base line once, nobody twice, a
    /// mask if anybody is named.
    fn new(kind: AclKind, mut entries: Vec<AclEntry>) -> Result<Self, Rule> {
        entries.sort_unstable();
        let count = |tag| entries.iter().filter(|entry| entry.tag == tag).count();
        let names_people = count(Tag::User).saturating_add(count(Tag::Group)) > 0;
        let twice = entries
            .windows(2)
            .any(|pair| matches!(pair, [a, b] if a.tag == b.tag && a.who == b.who));
        let whole = [Tag::Owner, Tag::OwningGroup, Tag::Other].map(count) == [1, 1, 1]
            && (!names_people || count(Tag::Mask) == 1);
        let in_range = entries.iter().all(|entry| {
            entry.permissions <= 7 && !matches!(entry.who, Who::Id(id) if id > MAX_OWNER)
        });
        if twice || !whole || !in_range {
            return Err(Rule::XattrValue);
        }
        Ok(Self { kind, entries })
    }
}

impl AclEntry {
    fn parse(kind: AclKind, line: &[u8]) -> Result<Self, Rule> {
        let line = match kind {
            AclKind::Access => line,
            AclKind::Default => line.strip_prefix(b"default:").unwrap_or(line),
        };
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let (tag, name, permissions, number) = match *fields {
            // Solaris and libarchive leave the empty field of mask and other out.
            [tag @ (b"mask" | b"other" | b"m" | b"o"), permissions] => {
                (tag, &b""[..], permissions, None)
            }
            [tag, name, permissions] => (tag, name, permissions, None),
            [tag, name, permissions, number] => (tag, name, permissions, Some(number)),
            _ => return Err(Rule::XattrValue),
        };
        let tag = match (tag, name.is_empty()) {
            (b"user" | b"u", true) => Tag::Owner,
            (b"user" | b"u", false) => Tag::User,
            (b"group" | b"g", true) => Tag::OwningGroup,
            (b"group" | b"g", false) => Tag::Group,
            (b"mask" | b"m", true) => Tag::Mask,
            (b"other" | b"o", true) => Tag::Other,
            _ => return Err(Rule::XattrValue),
        };
        let who = match (name, number) {
            (b"", None) => Who::Nobody,
            (b"", Some(_)) => return Err(Rule::XattrValue),
            (_, Some(number)) => Who::Id(id(number).ok_or(Rule::XattrValue)?),
            (name, None) => id(name).map_or_else(|| Who::Name(name.into()), Who::Id),
        };
        Ok(Self { tag, who, permissions: parse_permissions(permissions)? })
    }
}

fn parse_permissions(text: &[u8]) -> Result<u16, Rule> {
    let &[r, w, x] = text else { return Err(Rule::XattrValue) };
    [(r, b'r', 4_u16), (w, b'w', 2), (x, b'x', 1)].iter().try_fold(0, |sum, (letter, set, bit)| {
        match letter {
            b'-' => Ok(sum),
            letter if letter == set => Ok(sum | bit),
            _ => Err(Rule::XattrValue),
        }
    })
}

fn id(text: &[u8]) -> Option<u32> {
    // `parse` would also take a plus sign.
    let digits = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

impl Tag {
    const fn number(self) -> u16 {
        match self {
            Self::Owner => 1,
            Self::User => 2,
            Self::OwningGroup => 4,
            Self::Group => 8,
            Self::Mask => 16,
            Self::Other => 32,
        }
    }

    const fn of(number: u16) -> Result<Self, Rule> {
        Ok(match number {
            1 => Self::Owner,
            2 => Self::User,
            4 => Self::OwningGroup,
            8 => Self::Group,
            16 => Self::Mask,
            32 => Self::Other,
            _ => return Err(Rule::XattrValue),
        })
    }
}

/// `POSIX_ACL_XATTR_VERSION`, and `ACL_UNDEFINED_ID` (`linux/posix_acl_xattr.h`).
const VERSION: u32 = 2;
const NO_ID: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] =
        b"user::rw-\nuser:12345:rw-\nuser:lp:r--:7\ngroup::r--\nmask::rw-\nother::r--\n";

    /// What `setfacl -m u:12345:rw,u:7:r` leaves in `system.posix_acl_access`.
    const VALUE: [u8; 52] = [
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 7, 0, 0, 0, 2, 0, 6, 0, 0x39, 0x30,
        0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255,
        255, 255, 255,
    ];

    #[test]
    fn text_and_attribute_give_the_same_list() {
        let text = Acl::parse(AclKind::Access, TEXT).unwrap().unwrap();
        assert_eq!(text.xattr_value(|_| None).unwrap(), VALUE);
        assert_eq!(Acl::decode(AclKind::Access, &VALUE), Ok(text));
    }

    #[test]
    fn a_named_person_must_be_known_to_the_image() {
        let text = b"user::rwx,group::r-x,group:staff:rwx,mask:rwx,other:---";
        let acl = Acl::parse(AclKind::Default, text).unwrap().unwrap();
        assert_eq!(acl.xattr_value(|_| None), Err(Rule::XattrPerson));
        let value = acl.xattr_value(|person| (person == Person::Group(b"staff")).then_some(50));
        assert_eq!(Acl::decode(AclKind::Default, &value.unwrap()).unwrap().entries.len(), 5);
    }

    #[test]
    fn a_list_that_the_kernel_would_refuse_is_refused() {
        for text in [
            "user::rw-",
            "user::rw-,group::r--,other::r--,other::r--",
            "user::rw-,user:5:r--,group::r--,other::r--",
            "user::rw-,user:5:r--,user:5:rw-,group::r--,mask::r--,other::r--",
            "user::rwz,group::r--,other::r--",
            "user::rw,group::r--,other::r--",
            "user::rw-,user:4294967295:r--,group::r--,mask::r--,other::r--",
            "owner@:rwxpaARWcCos::allow",
            "everyone::r--,user::rw-,group::r--,other::r--",
        ] {
            let parsed = Acl::parse(AclKind::Access, text.as_bytes());
            assert_eq!(parsed, Err(Rule::XattrValue), "{text}");
        }
        assert_eq!(Acl::parse(AclKind::Access, b""), Ok(None));
        for bad in [&b""[..], &[2, 0, 0, 0, 1], &[1, 0, 0, 0]] {
            assert_eq!(Acl::decode(AclKind::Access, bad), Err(Rule::XattrValue));
        }
    }
}

//! Extended attributes: which a volume holds, which mean nothing there, which are refused.
//!
//! | name | verdict |
//! | --- | --- |
//! | `user.*` | kept, on files and directories; the kernel allows it nowhere else |
//! | `security.capability` | kept, on files, if the kernel would take it |
//! | `system.posix_acl_access`, `_default` | kept as an [`Acl`] |
//! | `security.selinux` | left out and counted: labels are the host's policy, not the image's |
//! | other `security.*`, `system.*`, `trusted.*` | refused: a volume cannot hold them faithfully |
//! | no Linux namespace, as `com.apple.*` | left out and counted: Linux has no place for it |

use super::Kind;
use super::acl::{Acl, AclKind};
use crate::limit::{MAX_OWNER, MAX_XATTR_NAME, MAX_XATTRS};
use crate::rule::Rule;

/// An extended attribute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Xattr {
    /// The name with its namespace, without NUL.
    pub name: Box<[u8]>,
    /// The value.
    pub value: Box<[u8]>,
}

/// The attributes of one entry, judged.
pub(super) struct Attributes {
    pub(super) xattrs: Vec<Xattr>,
    pub(super) acls: Vec<Acl>,
    pub(super) left_out: u32,
}

/// Judges all attributes of an entry together.
pub(super) fn judge(
    claimed: Vec<Xattr>,
    access: Option<&[u8]>,
    default: Option<&[u8]>,
    kind: &Kind,
) -> Result<Attributes, Rule> {
    let texts = access.map_or(0, <[u8]>::len).saturating_add(default.map_or(0, <[u8]>::len));
    let bytes = claimed.iter().fold(texts, |sum, xattr| {
        sum.saturating_add(xattr.name.len()).saturating_add(xattr.value.len())
    });
    if bytes > MAX_XATTRS {
        return Err(Rule::XattrSize);
    }
    let mut judged = Attributes { xattrs: Vec::new(), acls: Vec::new(), left_out: 0 };
    if matches!(kind, Kind::Whiteout { .. } | Kind::OpaqueDirectory { .. }) {
        return Ok(judged);
    }
    for (acl_kind, text) in [(AclKind::Access, access), (AclKind::Default, default)] {
        if let Some(acl) = text.map(|text| Acl::parse(acl_kind, text)).transpose()?.flatten() {
            judged.add_acl(acl, kind)?;
        }
    }
    for xattr in claimed {
        judged.add(xattr, kind)?;
    }
    Ok(judged)
}

impl Attributes {
    fn add(&mut self, xattr: Xattr, kind: &Kind) -> Result<(), Rule> {
        let name: &[u8] = &xattr.name;
        if name.len() > MAX_XATTR_NAME {
            return Err(Rule::XattrSize);
        }
        if name.is_empty() || name.contains(&0) {
            return Err(Rule::XattrNamespace);
        }
        let keeps = match name {
            b"security.selinux" => false,
            b"security.capability" => {
                is_capability(&xattr.value)?;
                if !matches!(kind, Kind::File { .. } | Kind::Hardlink { .. }) {
                    return Err(Rule::XattrNamespace);
                }
                true
            }
            b"system.posix_acl_access" => {
                return self.add_acl(Acl::decode(AclKind::Access, &xattr.value)?, kind);
            }
            b"system.posix_acl_default" => {
                return self.add_acl(Acl::decode(AclKind::Default, &xattr.value)?, kind);
            }
            _ if name.starts_with(b"user.") => {
                if name == b"user."
                    || !matches!(kind, Kind::File { .. } | Kind::Directory | Kind::Hardlink { .. })
                {
                    return Err(Rule::XattrNamespace);
                }
                true
            }
            _ if [&b"security."[..], b"system.", b"trusted."]
                .iter()
                .any(|namespace| name.starts_with(namespace)) =>
            {
                return Err(Rule::XattrNamespace);
            }
            _ => false,
        };
        if keeps {
            self.xattrs.push(xattr);
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
        Ok(())
    }

    fn add_acl(&mut self, acl: Acl, kind: &Kind) -> Result<(), Rule> {
        let has_place = match kind {
            Kind::Directory | Kind::Hardlink { .. } => true,
            Kind::File { .. } | Kind::Fifo => acl.kind() == AclKind::Access,
            Kind::Symlink { .. } | Kind::Whiteout { .. } | Kind::OpaqueDirectory { .. } => false,
        };
        if !has_place {
            return Err(Rule::XattrNamespace);
        }
        match self.acls.iter_mut().find(|known| known.kind() == acl.kind()) {
            // GNU tar says it as text, with the names of the people on the packer's machine, and
            // as an attribute, with their numbers. The numbers are what it is.
            Some(known) if known.agrees_with(&acl) => {
                if acl.is_numeric() {
                    *known = acl;
                }
                Ok(())
            }
            Some(_different) => Err(Rule::XattrValue),
            None => {
                self.acls.push(acl);
                Ok(())
            }
        }
    }
}

/// Checks that the kernel would take this as a file capability (revision 2, or 3 with a root id
/// of the image): it would refuse others only in the midst of the extraction.
fn is_capability(value: &[u8]) -> Result<(), Rule> {
    let (magic, rest) = value.split_first_chunk::<4>().ok_or(Rule::XattrValue)?;
    let revision = u32::from_le_bytes(*magic) & 0xff00_0000;
    let root = match (revision, rest.len()) {
        (0x0200_0000, 16) => 0,
        (0x0300_0000, 20) => {
            rest.last_chunk::<4>().map_or(u32::MAX, |root| u32::from_le_bytes(*root))
        }
        _ => return Err(Rule::XattrValue),
    };
    if root > MAX_OWNER { Err(Rule::XattrValue) } else { Ok(()) }
}

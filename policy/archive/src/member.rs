//! What a header and the extension headers before it claim together.

use airlock_policy::entry::sparse::SparseMap;
use airlock_policy::entry::xattr::Xattr;
use airlock_policy::entry::{Claim, ClaimedKind, Time};
use airlock_policy::rule::Rule;

use crate::fault::Fault;
use crate::gnu_sparse::{self, Layout};
use crate::header::{Dialect, Header, MAX_OCTAL_SIZE};
use crate::pax::{Common, Pax};
use crate::stream::Stream;

/// The extension headers that wait for their member.
#[derive(Default)]
pub(crate) struct Extensions {
    pub(crate) long_name: Option<Vec<u8>>,
    pub(crate) long_link: Option<Vec<u8>>,
    pub(crate) pax: Option<Pax>,
}

impl Extensions {
    pub(crate) fn is_empty(&self) -> bool {
        self.long_name.is_none() && self.long_link.is_none() && self.pax.is_none()
    }
}

/// A member, put together but not yet judged.
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    link: Vec<u8>,
    flag: u8,
    is_device_zero: bool,
    size: u64,
    /// How many bytes of data are still to come in the archive.
    pub(crate) stored: u64,
    sparse: Option<SparseMap>,
    mode: i64,
    uid: i64,
    gid: i64,
    mtime: Time,
    xattrs: Vec<Xattr>,
    acl_access: Option<Vec<u8>>,
    acl_default: Option<Vec<u8>>,
}

impl Member {
    /// Puts a member together. Reads its sparse map off the stream if it lies there.
    pub(crate) fn assemble(
        header: &Header,
        extensions: Extensions,
        global: Common,
        stream: &mut Stream<'_>,
    ) -> Result<Self, Fault> {
        let Extensions { long_name, long_link, pax } = extensions;
        let mut pax = pax.unwrap_or_default();
        let header_size = header.size()?;
        if let Some(size) = pax.size
            && size != header_size
            && size <= MAX_OCTAL_SIZE
        {
            // One reader follows the record, another the header, and they part ways.
            return Err(Rule::ArchiveSize.into());
        }
        let mut stored = pax.size.unwrap_or(header_size);
        let name = name_of(header, long_name, &mut pax)?;
        let link = one_of(long_link, pax.link.take())?;
        let xattrs = pax.take_xattrs();
        let layout = std::mem::take(&mut pax.sparse).layout()?;
        let flag = header.flag();
        let is_file = matches!(flag, b'0' | 0 | b'7');
        let (size, sparse) = match layout {
            Layout::Whole if flag == b'S' && header.dialect() == Dialect::Gnu => {
                let gnu = header.gnu().ok_or(Rule::KindUnknown)?;
                let (size, map) = gnu_sparse::read_old(gnu, stream)?;
                (size, Some(map))
            }
            Layout::Whole => (stored, None),
            Layout::Known { size, map } if is_file => (size, Some(map)),
            Layout::InData { size } if is_file => {
                let (map, taken) = gnu_sparse::read_in_data(size, stored, stream)?;
                stored = stored.saturating_sub(taken);
                (size, Some(map))
            }
            Layout::Known { .. } | Layout::InData { .. } => {
                return Err(Rule::LimitSparse.into());
            }
        };
        if sparse.as_ref().is_some_and(|map| map.data_bytes() != stored) {
            return Err(Rule::LimitSparse.into());
        }
        pax.agrees_on(size)?;
        let seconds = header.mtime()?;
        let mtime = Time { seconds, nanoseconds: 0 };
        // Read whether or not a record overrules them: junk is refused in any case.
        let (uid, gid) = (header.uid()?, header.gid()?);
        Ok(Self {
            name,
            link: link.unwrap_or_else(|| header.link().to_vec()),
            flag,
            is_device_zero: header.is_device_zero() && !pax.has_device,
            size,
            stored,
            sparse,
            mode: header.mode()?,
            uid: pax.common.uid.or(global.uid).unwrap_or(uid),
            gid: pax.common.gid.or(global.gid).unwrap_or(gid),
            mtime: pax.common.mtime.or(global.mtime).unwrap_or(mtime),
            xattrs,
            acl_access: pax.acl_access,
            acl_default: pax.acl_default,
        })
    }

    /// The claim to be judged.
    pub(crate) fn claim(&mut self) -> Result<Claim<'_>, Rule> {
        let kind = match self.flag {
            b'0' | 0 | b'7' => ClaimedKind::File,
            b'S' if self.sparse.is_some() => ClaimedKind::File,
            b'1' => ClaimedKind::Hardlink(&self.link),
            b'2' => ClaimedKind::Symlink(&self.link),
            b'3' => ClaimedKind::CharacterDevice { is_zero: self.is_device_zero },
            b'4' => ClaimedKind::BlockDevice,
            b'5' => ClaimedKind::Directory,
            b'6' => ClaimedKind::Fifo,
            _ => return Err(Rule::KindUnknown),
        };
        Ok(Claim {
            name: &self.name,
            kind,
            size: self.size,
            sparse: self.sparse.take(),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            xattrs: std::mem::take(&mut self.xattrs),
            acl_access: self.acl_access.as_deref(),
            acl_default: self.acl_default.as_deref(),
        })
    }
}

fn name_of(header: &Header, long: Option<Vec<u8>>, pax: &mut Pax) -> Result<Vec<u8>, Rule> {
    // A sparse file's records hold its name twice, the real one among the sparse records.
    let path = pax.path.take();
    let name = one_of(long, pax.sparse.take_name().or(path))?;
    Ok(name.unwrap_or_else(|| header.name()))
}

/// A GNU long name and a pax record for the same thing: readers differ on which one wins.
fn one_of(long: Option<Vec<u8>>, record: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, Rule> {
    if long.is_some() && record.is_some() {
        return Err(Rule::ArchiveExtension);
    }
    Ok(long.or(record))
}

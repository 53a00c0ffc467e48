//! One header block: its dialect, its checksum, its fields.

use airlock_policy::rule::Rule;

use crate::number;
use crate::stream::BLOCK;

/// Which of the three layouts of a header it is. pax archives have ustar headers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Dialect {
    V7,
    Ustar,
    Gnu,
}

/// The largest size that the octal digits of a header can hold, in bytes.
pub(crate) const MAX_OCTAL_SIZE: u64 = 0o777_7777_7777;

/// A header whose checksum is right.
pub(crate) struct Header {
    raw: tar::Header,
    dialect: Dialect,
}

impl Header {
    /// Checks the checksum and tells the dialect.
    pub(crate) fn decode(block: &[u8; BLOCK]) -> Result<Self, Rule> {
        let raw = tar::Header::from_byte_slice(block).clone();
        let claimed = number::parse(&raw.as_old().cksum)
            .map_err(|_not_a_number| Rule::ArchiveChecksum)?
            .ok_or(Rule::ArchiveChecksum)?;
        // Some old writers summed signed bytes; every reader takes both.
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (position, byte) in block.iter().enumerate() {
            let byte = if CHECKSUM.contains(&position) { b' ' } else { *byte };
            unsigned = unsigned.saturating_add(i64::from(byte));
            signed = signed.saturating_add(i64::from(byte.cast_signed()));
        }
        if claimed != unsigned && claimed != signed {
            return Err(Rule::ArchiveChecksum);
        }
        let dialect = match block.get(MAGIC).unwrap_or_default() {
            b"ustar  \0" => Dialect::Gnu,
            // The version is "00", but readers do not look at it.
            [b'u', b's', b't', b'a', b'r', 0, _, _] => Dialect::Ustar,
            _ => Dialect::V7,
        };
        Ok(Self { raw, dialect })
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The type flag.
    pub(crate) fn flag(&self) -> u8 {
        let [flag] = self.raw.as_old().linkflag;
        flag
    }

    /// The name, its prefix included.
    pub(crate) fn name(&self) -> Vec<u8> {
        let name = text(&self.raw.as_old().name);
        let prefix = match self.dialect {
            Dialect::Ustar => text(self.field(PREFIX)),
            // There are times and sparse maps in its place.
            Dialect::Gnu | Dialect::V7 => b"",
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    /// The name that a link points at.
    pub(crate) fn link(&self) -> &[u8] {
        text(&self.raw.as_old().linkname)
    }

    /// How many bytes of data follow.
    pub(crate) fn size(&self) -> Result<u64, Rule> {
        if self.raw.as_old().size.starts_with(&[0, 0]) {
            return Ok(0);
        }
        let size = number::parse(&self.raw.as_old().size)?.unwrap_or_default();
        u64::try_from(size).map_err(|_negative| Rule::ArchiveNumber)
    }

    /// Whether digits follow NULs in the size. Most readers stop at the NUL and read nothing, some
    /// skip it: they go on at different blocks, which must then not matter.
    pub(crate) fn has_doubtful_size(&self) -> bool {
        let size = &self.raw.as_old().size;
        size.starts_with(&[0, 0]) && size.iter().any(|byte| *byte != 0)
    }

    pub(crate) fn mode(&self) -> Result<i64, Rule> {
        number::parse(&self.raw.as_old().mode).map(Option::unwrap_or_default)
    }

    pub(crate) fn uid(&self) -> Result<i64, Rule> {
        number::parse(&self.raw.as_old().uid).map(Option::unwrap_or_default)
    }

    pub(crate) fn gid(&self) -> Result<i64, Rule> {
        number::parse(&self.raw.as_old().gid).map(Option::unwrap_or_default)
    }

    /// Seconds since 1970.
    pub(crate) fn mtime(&self) -> Result<i64, Rule> {
        number::parse(&self.raw.as_old().mtime).map(Option::unwrap_or_default)
    }

    /// Whether both device numbers are given and zero.
    pub(crate) fn is_device_zero(&self) -> bool {
        self.dialect != Dialect::V7
            && [MAJOR, MINOR].into_iter().all(|at| number::parse(self.field(at)) == Ok(Some(0)))
    }

    /// The fields that only GNU headers have.
    pub(crate) fn gnu(&self) -> Option<&tar::GnuHeader> {
        self.raw.as_gnu()
    }

    fn field(&self, at: std::ops::Range<usize>) -> &[u8] {
        self.raw.as_bytes().get(at).unwrap_or_default()
    }
}

/// The bytes before the first NUL.
pub(crate) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Where fields lie whose place depends on the dialect (POSIX.1-2017, pax, "ustar Interchange
/// Format").
const CHECKSUM: std::ops::Range<usize> = 148..156;
const MAGIC: std::ops::Range<usize> = 257..265;
const MAJOR: std::ops::Range<usize> = 329..337;
const MINOR: std::ops::Range<usize> = 337..345;
const PREFIX: std::ops::Range<usize> = 345..500;

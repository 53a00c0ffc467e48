//! pax extended headers: records, strictly, and what airlock makes of them.

use std::collections::BTreeMap;

use airlock_policy::entry::Time;
use airlock_policy::entry::xattr::Xattr;
use airlock_policy::rule::Rule;

use crate::encoding;
use crate::gnu_sparse::PaxSparse;
use crate::number::decimal;

/// What the records of one local header say of the member behind it.
#[derive(Debug, Default)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) common: Common,
    pub(crate) sparse: PaxSparse,
    pub(crate) acl_access: Option<Vec<u8>>,
    pub(crate) acl_default: Option<Vec<u8>>,
    pub(crate) has_device: bool,
    real_size: Option<u64>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What local and global headers may both say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Common {
    pub(crate) uid: Option<i64>,
    pub(crate) gid: Option<i64>,
    pub(crate) mtime: Option<Time>,
}

impl Pax {
    /// Reads the body of a local header.
    pub(crate) fn local(body: &[u8]) -> Result<Self, Rule> {
        let mut pax = Self::default();
        for (key, value) in records(body)? {
            if !pax.common.take(key, value)? {
                pax.take(key, value)?;
            }
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Rule> {
        match key {
            b"path" => self.path = Some(some(value)?.to_vec()),
            b"linkpath" => self.link = Some(some(value)?.to_vec()),
            b"size" => self.size = Some(number(value)?),
            // star's word for the size with holes: libarchive obeys it, GNU tar does not.
            b"SCHILY.realsize" => self.real_size = Some(number(value)?),
            b"SCHILY.filetype" if value == b"sparse" => return Err(Rule::LimitSparse),
            b"SCHILY.devmajor" | b"SCHILY.devminor" => self.has_device = true,
            b"SCHILY.acl.access" => self.acl_access = Some(value.to_vec()),
            b"SCHILY.acl.default" => self.acl_default = Some(value.to_vec()),
            // Where the rest of a file lies on another tape.
            b"GNU.volume.filename" | b"GNU.volume.size" | b"GNU.volume.offset" => {
                return Err(Rule::ArchivePax);
            }
            b"hdrcharset" if !matches!(value, b"BINARY" | b"ISO-IR 10646 2000 UTF-8") => {
                return Err(Rule::ArchivePax);
            }
            b"RHT.security.selinux" => self.add_xattr(b"security.selinux".to_vec(), value)?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.add_xattr(encoding::gnu_keyword(name), value)?;
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let name = encoding::percent(name).ok_or(Rule::ArchivePax)?;
                    let value = encoding::base64(value).ok_or(Rule::ArchivePax)?;
                    self.add_xattr(name, &value)?;
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.take(key, value)?;
                }
                // All other keys only describe: POSIX asks readers to pass them over.
            }
        }
        Ok(())
    }

    /// bsdtar says each attribute twice; what it says must be the same.
    fn add_xattr(&mut self, name: Vec<u8>, value: &[u8]) -> Result<(), Rule> {
        let is_label = name == b"security.selinux";
        let known = self.xattrs.entry(name).or_insert_with(|| value.to_vec());
        // A label is left out anyway, and its writers differ on a NUL at the end.
        if known == value || is_label { Ok(()) } else { Err(Rule::ArchivePax) }
    }

    /// The extended attributes, by name.
    pub(crate) fn take_xattrs(&mut self) -> Vec<Xattr> {
        std::mem::take(&mut self.xattrs)
            .into_iter()
            .map(|(name, value)| Xattr { name: name.into(), value: value.into() })
            .collect()
    }

    /// Refuses a member whose size star's record contradicts.
    pub(crate) fn agrees_on(&self, size: u64) -> Result<(), Rule> {
        if self.real_size.is_some_and(|real| real != size) {
            return Err(Rule::ArchiveSize);
        }
        Ok(())
    }
}

impl Common {
    /// Reads the body of a global header: what it says holds from here on. A name, a size or
    /// attributes for all members at once make sense to nobody, and readers treat them
    /// differently.
    pub(crate) fn take_global(&mut self, body: &[u8]) -> Result<(), Rule> {
        const LOCAL_ONLY: [&[u8]; 7] = [
            b"path",
            b"linkpath",
            b"size",
            b"hdrcharset",
            b"SCHILY.realsize",
            b"SCHILY.filetype",
            b"RHT.security.selinux",
        ];
        const LOCAL_PREFIXES: [&[u8]; 4] =
            [b"GNU.sparse.", b"SCHILY.xattr.", b"SCHILY.acl.", b"LIBARCHIVE.xattr."];
        for (key, value) in records(body)? {
            if LOCAL_ONLY.contains(&key)
                || LOCAL_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
            {
                return Err(Rule::ArchivePax);
            }
            self.take(key, value)?;
        }
        Ok(())
    }

    /// Takes a record that is about owner or time; false if it is about something else.
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<bool, Rule> {
        match key {
            b"uid" => self.uid = Some(id(value)?),
            b"gid" => self.gid = Some(id(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A key and its value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// The records of a header's body: each `LENGTH SPACE KEY = VALUE NEWLINE`, the length counting
/// the whole record (POSIX.1-2017, pax, "pax Extended Header"). Whatever is not exactly that is
/// refused, since another reader may obey it; so is a key said twice, but for GNU's list of
/// sparse regions.
fn records(body: &[u8]) -> Result<Vec<Record<'_>>, Rule> {
    let mut records = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (record, after) = record(rest).ok_or(Rule::ArchivePax)?;
        records.push(record);
        rest = after;
    }
    let mut keys: Vec<&[u8]> = records
        .iter()
        .map(|(key, _)| *key)
        .filter(|key| !matches!(*key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes"))
        .collect();
    keys.sort_unstable();
    if keys.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
        return Err(Rule::ArchivePax);
    }
    Ok(records)
}

fn record(body: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let digits = body.iter().take(20).position(|byte| *byte == b' ')?;
    let length = body.get(..digits)?;
    if length.starts_with(b"0") {
        return None;
    }
    let (record, after) = body.split_at_checked(usize::try_from(decimal(length)?).ok()?)?;
    let content = record.get(digits.checked_add(1)?..)?.strip_suffix(b"\n")?;
    let equals = content.iter().position(|byte| *byte == b'=')?;
    let (key, value) = content.split_at(equals);
    (!key.is_empty()).then_some(((key, value.get(1..)?), after))
}

/// A value that readers do not agree on when it is empty: some take it, some take the header's.
fn some(value: &[u8]) -> Result<&[u8], Rule> {
    if value.is_empty() { Err(Rule::ArchivePax) } else { Ok(value) }
}

fn number(value: &[u8]) -> Result<u64, Rule> {
    decimal(some(value)?).ok_or(Rule::ArchiveNumber)
}

fn id(value: &[u8]) -> Result<i64, Rule> {
    let (sign, digits) = split_sign(some(value)?);
    let number = decimal(digits).and_then(|id| i64::try_from(id).ok());
    number.and_then(|id| id.checked_mul(sign)).ok_or(Rule::ArchiveNumber)
}

/// Seconds with an optional fraction, rounded down to nanoseconds.
fn time(value: &[u8]) -> Result<Time, Rule> {
    let (sign, digits) = split_sign(some(value)?);
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let whole = parts.next().and_then(decimal).and_then(|whole| i64::try_from(whole).ok());
    let mut seconds = whole.and_then(|whole| whole.checked_mul(sign)).ok_or(Rule::ArchiveNumber)?;
    let mut nanoseconds = 0_u32;
    let mut is_exact = true;
    if let Some(fraction) = parts.next() {
        if fraction.is_empty() || !fraction.iter().all(u8::is_ascii_digit) {
            return Err(Rule::ArchiveNumber);
        }
        let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
        nanoseconds = digits.fold(0_u32, |sum, digit| {
            sum.saturating_mul(10).saturating_add(u32::from(digit.saturating_sub(b'0')))
        });
        is_exact = fraction.iter().skip(9).all(|digit| *digit == b'0');
    }
    if sign < 0 && (nanoseconds > 0 || !is_exact) {
        // The fraction leads away from zero: what is left of the second before lies above it.
        seconds = seconds.checked_sub(1).ok_or(Rule::ArchiveNumber)?;
        let above = 1_000_000_000_u32.saturating_sub(nanoseconds);
        nanoseconds = if is_exact { above } else { above.saturating_sub(1) };
    }
    Ok(Time { seconds, nanoseconds })
}

fn split_sign(text: &[u8]) -> (i64, &[u8]) {
    text.strip_prefix(b"-").map_or((1, text), |digits| (-1, digits))
}

#[cfg(test)]
mod tests;

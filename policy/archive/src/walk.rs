//! From member to member, to the very end (TAR-1).

use std::io::Read;

use airlock_policy::digest::{BlobDigest, DiffId};
use airlock_policy::entry::{self, Entry, Kind};
use airlock_policy::limit::{ArchiveLimits, MAX_EXTENSION, MAX_GLOBAL_HEADERS, MAX_PATH};
use airlock_policy::rule::Rule;

use crate::content::Content;
use crate::decompress::Compression;
use crate::fault::{Fault, LayerFault, Refusal, Stop};
use crate::header::{Header, text};
use crate::member::{Extensions, Member};
use crate::pax::{Common, Pax};
use crate::source::{Source, Totals};
use crate::stream::{BLOCK, Stream};
use crate::supply::{self, Work};

/// Who is shown the entries of a layer.
pub trait Visitor {
    /// What goes wrong in the visitor's own work.
    type Error;

    /// Handles one entry, in the order of the archive. Content that is left unread is skipped.
    fn entry(&mut self, entry: &Entry, content: &mut Content<'_>) -> Result<(), Stop<Self::Error>>;
}

/// What a layer was, known only after its last byte.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Summary {
    /// The digest of all bytes of the blob.
    pub blob: BlobDigest,
    /// The digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// How the blob is compressed.
    pub compression: Compression,
    /// The length of the blob, in bytes.
    pub blob_bytes: u64,
    /// The length of the uncompressed tar, in bytes.
    pub tar_bytes: u64,
    /// The number of entries, extension headers not counted.
    pub entries: u64,
    /// The sizes of all files together, in bytes, holes included.
    pub file_bytes: u64,
    /// How many extended attributes were left out (see [`airlock_policy::entry::xattr`]).
    pub left_out: u64,
}

/// Reads a layer to its very end and shows every entry to `visitor`.
///
/// The blob is read from front to back, once. That it came to the end means that every byte was
/// hashed and every rule held; whoever cares which blob it is compares the digest then.
pub fn read_layer<R: Read, V: Visitor>(
    blob: R,
    limits: &ArchiveLimits,
    visitor: &mut V,
) -> Result<Summary, LayerFault<V::Error>> {
    walk(Stream::new(&mut Source::new(blob, *limits)), limits, visitor)
}

/// Does the same with a second thread, which reads, hashes and decompresses ahead of the walk:
/// `second` is given what it is to do. It ends with the layer, or when the walk ends before.
///
/// The verdict is the same as [`read_layer`]'s, to the entry.
pub fn read_layer_ahead<R: Read + Send + 'static, V: Visitor>(
    blob: R,
    limits: &ArchiveLimits,
    visitor: &mut V,
    second: impl FnOnce(Work),
) -> Result<Summary, LayerFault<V::Error>> {
    let (work, mut ahead) = supply::ahead(blob, *limits);
    second(work);
    walk(Stream::new(&mut ahead), limits, visitor)
}

fn walk<'l, V: Visitor>(
    stream: Stream<'l>,
    limits: &'l ArchiveLimits,
    visitor: &mut V,
) -> Result<Summary, LayerFault<V::Error>> {
    let mut walk = Walk {
        stream,
        limits,
        extensions: Extensions::default(),
        global: Common::default(),
        global_headers: 0,
        entries: 0,
        file_bytes: 0,
        left_out: 0,
        place: None,
        is_last: false,
    };
    loop {
        let fault = match walk.step(visitor) {
            Ok(true) => continue,
            Ok(false) => match walk.summary() {
                Some(summary) => return Ok(summary),
                // Not to be: a walk ends by coming to the layer's end.
                None => Rule::ArchiveTruncated.into(),
            },
            Err(End::Visitor(error)) => return Err(LayerFault::Visitor(error)),
            Err(End::Fault(fault)) => fault,
        };
        return Err(locate(fault, walk.place));
    }
}

struct Walk<'l> {
    stream: Stream<'l>,
    limits: &'l ArchiveLimits,
    extensions: Extensions,
    global: Common,
    global_headers: u32,
    entries: u64,
    file_bytes: u64,
    left_out: u64,
    place: Option<Place>,
    /// Whether nothing but the end may follow.
    is_last: bool,
}

/// Where a refusal happened: the number of the member and its name, as far as it is known.
type Place = (u64, Vec<u8>);

/// What ends a walk early.
enum End<E> {
    Fault(Fault),
    Visitor(E),
}

impl<E> From<Fault> for End<E> {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl<E> From<Rule> for End<E> {
    fn from(rule: Rule) -> Self {
        Self::Fault(Fault::Rule(rule))
    }
}

impl Walk<'_> {
    /// Reads one header and what belongs to it. False means that the layer is over.
    fn step<V: Visitor>(&mut self, visitor: &mut V) -> Result<bool, End<V::Error>> {
        let is_first = self.place.is_none();
        if !is_first {
            self.place = Some((self.entries, Vec::new()));
        }
        let Some(block) = self.stream.block().map_err(|fault| not_tar_if(is_first, fault))? else {
            // An archive without end blocks is complete if its last member is.
            return if is_first { Err(Rule::ArchiveNotTar.into()) } else { self.end() };
        };
        if block == [0; BLOCK] {
            return self.end();
        }
        if self.is_last {
            return Err(Rule::ArchiveNumber.into());
        }
        let header = Header::decode(&block).map_err(|rule| not_tar_if(is_first, rule.into()))?;
        self.is_last = header.has_doubtful_size();
        self.place = Some((self.entries, header.name()));
        match header.flag() {
            b'L' => self.long(&header, |extensions| &mut extensions.long_name)?,
            b'K' => self.long(&header, |extensions| &mut extensions.long_link)?,
            b'x' => {
                if self.extensions.pax.is_some() {
                    return Err(Rule::ArchiveExtension.into());
                }
                let body = self.extension_body(&header, MAX_EXTENSION)?;
                self.extensions.pax = Some(Pax::local(&body)?);
            }
            b'g' => self.global_header(&header)?,
            _ => self.member(&header, visitor)?,
        }
        Ok(true)
    }

    fn long<E>(
        &mut self,
        header: &Header,
        slot: impl Fn(&mut Extensions) -> &mut Option<Vec<u8>>,
    ) -> Result<(), End<E>> {
        // A block more than the longest name, for padding that some writers count.
        let body = self.extension_body(header, (MAX_PATH as u64).saturating_add(BLOCK as u64))?;
        match slot(&mut self.extensions).replace(text(&body).to_vec()) {
            None => Ok(()),
            Some(_another) => Err(Rule::ArchiveExtension.into()),
        }
    }

    fn global_header<E>(&mut self, header: &Header) -> Result<(), End<E>> {
        if !self.extensions.is_empty() {
            // Some readers lose the local header before this one, some do not.
            return Err(Rule::ArchiveExtension.into());
        }
        self.global_headers = self.global_headers.saturating_add(1);
        if self.global_headers > MAX_GLOBAL_HEADERS {
            return Err(Rule::LimitExtension.into());
        }
        let body = self.extension_body(header, MAX_EXTENSION)?;
        self.global.take_global(&body)?;
        Ok(())
    }

    /// The body of an extension header, held to `limit` bytes before any of it is read.
    fn extension_body<E>(&mut self, header: &Header, limit: u64) -> Result<Vec<u8>, End<E>> {
        let size = header.size()?;
        if size > limit {
            return Err(Rule::LimitExtension.into());
        }
        Ok(self.stream.body(size)?)
    }

    fn member<V: Visitor>(
        &mut self,
        header: &Header,
        visitor: &mut V,
    ) -> Result<(), End<V::Error>> {
        if self.entries >= self.limits.entries {
            return Err(Rule::LimitEntries.into());
        }
        let extensions = std::mem::take(&mut self.extensions);
        let mut member = Member::assemble(header, extensions, self.global, &mut self.stream)?;
        self.place = Some((self.entries, member.name.clone()));
        let stored = member.stored;
        let entry = entry::judge(self.entries, member.claim()?, self.limits)?;
        if let Kind::File { size, .. } = &entry.kind {
            self.file_bytes = self.file_bytes.saturating_add(*size);
            if self.file_bytes > self.limits.total_bytes {
                return Err(Rule::LimitTotal.into());
            }
        }
        self.left_out = self.left_out.saturating_add(u64::from(entry.left_out));
        let left = self.show(&entry, stored, visitor)?;
        self.stream.skip(left)?;
        self.stream.skip_padding(stored)?;
        self.entries = self.entries.saturating_add(1);
        Ok(())
    }

    /// Shows an entry to the visitor, and says how much of its content was left unread.
    fn show<V: Visitor>(
        &mut self,
        entry: &Entry,
        stored: u64,
        visitor: &mut V,
    ) -> Result<u64, End<V::Error>> {
        let mut fault = None;
        let mut content = Content::new(entry, stored, &mut self.stream, &mut fault);
        let outcome = visitor.entry(entry, &mut content);
        let left = content.finish();
        // First of all the reader's own fault: no visitor can talk it away.
        if let Some(fault) = fault {
            return Err(fault.into());
        }
        match outcome {
            Ok(()) => Ok(left),
            Err(Stop::Refuse(rule)) => Err(rule.into()),
            Err(Stop::Failed(error)) => Err(End::Visitor(error)),
            // Only this reader makes a `Cut`, and never without a fault.
            Err(Stop::Content(_)) => Err(Rule::ArchiveTruncated.into()),
        }
    }

    fn end<E>(&mut self) -> Result<bool, End<E>> {
        if !self.extensions.is_empty() {
            return Err(Rule::ArchiveExtension.into());
        }
        self.stream.drain_zeros()?;
        Ok(false)
    }

    fn summary(&self) -> Option<Summary> {
        let Totals { blob, diff_id, compression, blob_bytes, tar_bytes } = self.stream.totals()?;
        Some(Summary {
            blob,
            diff_id,
            compression,
            blob_bytes,
            tar_bytes,
            entries: self.entries,
            file_bytes: self.file_bytes,
            left_out: self.left_out,
        })
    }
}

/// What cannot be read as a header at the very beginning is no tar archive at all.
fn not_tar_if(is_first: bool, fault: Fault) -> Fault {
    match fault {
        Fault::Rule(Rule::ArchiveChecksum | Rule::ArchiveTruncated) if is_first => {
            Fault::Rule(Rule::ArchiveNotTar)
        }
        fault @ (Fault::Rule(_) | Fault::Read(_)) => fault,
    }
}

fn locate<E>(fault: Fault, place: Option<Place>) -> LayerFault<E> {
    /// Enough to tell a name by: a refused name may be of any length.
    const SHOWN: usize = 1024;
    match fault {
        Fault::Read(error) => LayerFault::Read(error),
        Fault::Rule(rule) => {
            let (entry, mut name) =
                place.map_or((None, Vec::new()), |(entry, name)| (Some(entry), name));
            name.truncate(SHOWN);
            LayerFault::Refused(Refusal { rule, entry, name: name.into() })
        }
    }
}

#[cfg(test)]
mod tests;

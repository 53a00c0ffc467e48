//! What the helper itself knows of the pool and its volumes: an append-only file (VOL-5).
//!
//! Nobody but the helper writes it, and the controller's word never replaces it. Each record is on
//! the disk before what it announces is done. At start the file is read, and written anew without
//! what is past. While the broker runs, which may open no file, that is done into a second one, which
//! it opened beforehand; the launcher then exchanges their names (docs/decisions/0007-ledger-exchange.md).

mod book;
mod line;
mod orphan;
mod record;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use airlock_policy::errand::{LEDGER as FILE, NEW_LEDGER as NEW_FILE};
use airlock_protocol::not_done::{Step, StepFailure};
use rustix::fs::{Mode, OFlags};

pub use book::{Book, Contradiction, Thing};
pub use record::{Change, Contents, Intent, Layer, OwnSize, PoolRecord, Record, Snapshot, Volume};

use line::BadLine;

/// The ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerFailure {
    /// The kernel refused.
    #[error("cannot {doing} the ledger")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A line in the middle is damaged: that is no torn write.
    #[error(
        "line {line} of the ledger is damaged; restore the file from a backup, or keep a copy and \
         write it anew from the pool's own list of volumes (see docs/operations.md, \"A damaged ledger\")"
    )]
    Damaged {
        /// The line, from 1.
        line: usize,
    },
    /// A line is whole, but this version cannot read it.
    #[error("line {line} of the ledger was written by a newer version: install that version again")]
    Newer {
        /// The line, from 1.
        line: usize,
    },
    /// A line contradicts those before it.
    #[error("line {line} of the ledger cannot be")]
    Contradictory {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        source: Contradiction,
    },
}

/// The open ledger.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    /// The file that is called [`NEW_FILE`].
    spare: File,
    /// The size of the file when it was written anew.
    compacted: u64,
    /// The file's size up to the last whole record, in bytes.
    size: u64,
    book: Book,
    /// Whether the file may end with a part of a record that could not be taken back.
    broken: bool,
}

impl Ledger {
    /// Reads the ledger of a state directory, starts one where there is none, and compacts it.
    pub fn open(directory: impl AsFd) -> Result<Self, LedgerFailure> {
        let directory = directory.as_fd();
        let book = replay(&read(directory).map_err(failed("read"))?)?;
        let mut file = create(directory).map_err(failed("begin"))?;
        let size = write(&mut file, &book).map_err(failed("compact"))?;
        rustix::fs::renameat(directory, NEW_FILE, directory, FILE)
            .and_then(|()| rustix::fs::fsync(directory))
            .map_err(|errno| failed("compact")(errno.into()))?;
        let spare = create(directory).map_err(failed("begin"))?;
        Ok(Self { file, spare, compacted: size, size, book, broken: false })
    }

    /// Reads the ledger of a state directory, and changes nothing.
    pub fn look(directory: impl AsFd) -> Result<Book, LedgerFailure> {
        replay(&read(directory.as_fd()).map_err(failed("read"))?)
    }

    /// What the ledger says.
    pub const fn book(&self) -> &Book {
        &self.book
    }

    /// Whether it is so large, and so much of it past, that it is worth writing anew.
    pub const fn is_worth_compacting(&self, from: u64) -> bool {
        self.size >= from && self.size >= self.compacted.saturating_mul(2)
    }

    /// Writes the fewest records that say the same into the second file; on the disk when this
    /// returns. The names are to be exchanged next, before any other record is written.
    pub fn write_anew(&mut self) -> io::Result<u64> {
        self.spare.set_len(0)?;
        write(&mut self.spare, &self.book)
    }

    /// Goes on in the second file, of this size, which now has the ledger's name.
    pub const fn exchanged(&mut self, size: u64) {
        std::mem::swap(&mut self.file, &mut self.spare);
        (self.size, self.compacted) = (size, size);
    }

    /// Stays with the first file until it is twice as large. Where it is not known which of the two
    /// has the ledger's name, both say the same, and nothing may be added to either.
    pub const fn not_exchanged(&mut self, unknown: bool) {
        self.compacted = self.size;
        self.broken |= unknown;
    }

    /// Whether nothing can be written any more: only reading it anew, at a start, says what it holds.
    pub const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Writes a record and waits until it is on the disk.
    pub fn append(&mut self, record: Record) -> Result<(), StepFailure> {
        let failure = |errno| StepFailure { step: Step::Ledger, errno };
        if self.broken {
            return Err(failure(rustix::io::Errno::IO.raw_os_error()));
        }
        crash_point!(RecordWriting);
        let written = line::encode(&record).map_err(io::Error::from).and_then(|line| {
            self.file.write_all(&line)?;
            crash_point!(RecordWritten);
            self.file.sync_data()?;
            crash_point!(RecordFlushed);
            Ok(line.len())
        });
        let error = match written {
            Ok(length) => {
                if self.book.apply(record).is_ok() {
                    let length = u64::try_from(length).unwrap_or(u64::MAX);
                    self.size = self.size.saturating_add(length);
                    return Ok(());
                }
                // A fault of this program. The book in memory is in doubt, the one on disk is not.
                self.broken = true;
                None
            }
            Err(error) => error.raw_os_error(),
        };
        // A line, or a part of one, must not stay: nothing may follow it.
        let taken_back = self.file.set_len(self.size).and_then(|()| self.file.sync_data());
        self.broken |= taken_back.is_err();
        Err(failure(error.unwrap_or(0)))
    }
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> LedgerFailure {
    move |source| LedgerFailure::Io { doing, source }
}

fn read(directory: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut bytes = Vec::new();
    match rustix::fs::openat(directory, FILE, flags, Mode::empty()) {
        Ok(file) => File::from(file).read_to_end(&mut bytes).map(|_size| bytes),
        Err(rustix::io::Errno::NOENT) => Ok(bytes),
        Err(error) => Err(error.into()),
    }
}

/// Adds up the lines. The last one may be torn: it announced something that was not begun.
fn replay(bytes: &[u8]) -> Result<Book, LedgerFailure> {
    let mut book = Book::empty();
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for (index, line) in lines.iter().enumerate() {
        let number = index.saturating_add(1);
        let decoded = match line.strip_suffix(b"\n") {
            Some(line) => line::decode(line),
            None => Err(BadLine::Damaged),
        };
        match decoded {
            Ok(record) => book
                .apply(record)
                .map_err(|source| LedgerFailure::Contradictory { line: number, source })?,
            Err(BadLine::Damaged) if number == lines.len() => {}
            Err(BadLine::Damaged) => return Err(LedgerFailure::Damaged { line: number }),
            Err(BadLine::Unknown) => return Err(LedgerFailure::Newer { line: number }),
        }
    }
    Ok(book)
}

/// An empty file under the second name.
fn create(directory: BorrowedFd<'_>) -> io::Result<File> {
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::TRUNC
        | OFlags::APPEND
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, NEW_FILE, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(file))
}

/// Writes the fewest records that say what the book says; returns their size.
fn write(file: &mut File, book: &Book) -> io::Result<u64> {
    let mut text = Vec::new();
    for record in book.records() {
        text.extend(line::encode(&record)?);
    }
    file.write_all(&text)?;
    file.sync_data()?;
    Ok(u64::try_from(text.len()).unwrap_or(u64::MAX))
}

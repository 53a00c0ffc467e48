//! What the helper itself knows of the pool and its volumes: an append-only file (VOL-5).
//!
//! Nobody but the helper writes it, and the controller's word never replaces it. Each record is on
//! the disk before what it announces is done. At start the file is read, and written anew without
//! what is past.

mod book;
mod line;
mod record;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use airlock_protocol::not_done::{Step, StepFailure};
use rustix::fs::{Mode, OFlags};

pub use book::{Book, Contradiction, Thing};
pub use record::{Change, Contents, Intent, Layer, OwnSize, PoolRecord, Record, Snapshot, Volume};

use line::BadLine;

/// The file's name in the state directory.
const FILE: &str = "ledger";
/// What the compacted file is called until it is complete.
const NEW_FILE: &str = "ledger.new";

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
        let (file, size) = compact(directory, &book).map_err(failed("compact"))?;
        Ok(Self { file, size, book, broken: false })
    }

    /// Reads the ledger of a state directory, and changes nothing.
    pub fn look(directory: impl AsFd) -> Result<Book, LedgerFailure> {
        replay(&read(directory.as_fd()).map_err(failed("read"))?)
    }

    /// What the ledger says.
    pub const fn book(&self) -> &Book {
        &self.book
    }

    /// Writes a record and waits until it is on the disk.
    pub fn append(&mut self, record: Record) -> Result<(), StepFailure> {
        let failure = |errno| StepFailure { step: Step::Ledger, errno };
        if self.broken {
            return Err(failure(rustix::io::Errno::IO.raw_os_error()));
        }
        let written = line::encode(&record).map_err(io::Error::from).and_then(|line| {
            self.file.write_all(&line)?;
            self.file.sync_data()?;
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

fn compact(directory: BorrowedFd<'_>, book: &Book) -> io::Result<(File, u64)> {
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::TRUNC
        | OFlags::APPEND
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, NEW_FILE, flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(file);
    let mut text = Vec::new();
    for record in book.records() {
        text.extend(line::encode(&record)?);
    }
    file.write_all(&text)?;
    file.sync_all()?;
    rustix::fs::renameat(directory, NEW_FILE, directory, FILE)?;
    rustix::fs::fsync(directory)?;
    Ok((file, u64::try_from(text.len()).unwrap_or(u64::MAX)))
}

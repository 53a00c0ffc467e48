//! Which parts of an unfinished download are on the disk.
//!
//! A text file beside the data, only ever appended to. `part N` follows the write of part N, which
//! outlives a killed process but not a power cut; `synced` follows a flush of all parts named above
//! it, which outlives both; `boot ID` tells the reader whether the machine went down in between.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::FILE_MODE;

const FORMAT: &str = "airlock-partial 1";
/// No journal is longer: 16 TiB in parts of 1 MiB make 200 MiB of lines at most.
const MAX_BYTES: u64 = 256 << 20;

/// The journal of a download.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    /// Bytes of every part but the last.
    pub(super) part_size: u64,
    /// The parts that are there, by number from 0.
    pub(super) parts: BTreeSet<u64>,
}

impl Journal {
    /// Opens the journal of an object of this size, and keeps what it says if the data can be
    /// trusted; otherwise starts it anew. The part size is the one that the download began with.
    pub(super) fn open(path: &Path, bytes: u64, part_size: u64, boot: &str) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let mut file = options.open(path)?;
        let mut text = Vec::new();
        (&file).take(MAX_BYTES).read_to_end(&mut text)?;
        let past = read(&text, bytes, boot);
        let (part_size, parts, valid) = match past {
            Some(past) => (past.part_size, past.parts, past.valid_bytes),
            None => (part_size, BTreeSet::new(), 0),
        };
        // What follows the last whole line was cut off by a crash.
        file.set_len(valid)?;
        file.seek(SeekFrom::End(0))?;
        if valid == 0 {
            writeln!(file, "{FORMAT} {bytes} {part_size}")?;
        }
        writeln!(file, "boot {boot}")?;
        Ok(Self { file, part_size, parts })
    }

    /// Notes that a part is written.
    pub(super) fn wrote(&mut self, part: u64) -> io::Result<()> {
        self.file.write_all(format!("part {part}\n").as_bytes())?;
        self.parts.insert(part);
        crash_point!(PartNoted);
        Ok(())
    }

    /// Notes that all parts noted so far were flushed.
    pub(super) fn synced(&mut self) -> io::Result<()> {
        self.file.write_all(b"synced\n")?;
        self.file.sync_data()
    }
}

/// What a journal says.
struct Past {
    part_size: u64,
    parts: BTreeSet<u64>,
    valid_bytes: u64,
}

fn read(text: &[u8], bytes: u64, boot: &str) -> Option<Past> {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').filter_map(whole_line);
    let (header, length) = lines.next()?;
    let mut sizes = header.strip_prefix(FORMAT)?.split(' ').skip(1).map(str::parse::<u64>);
    let (Some(Ok(size)), Some(Ok(part_size)), None) = (sizes.next(), sizes.next(), sizes.next())
    else {
        return None;
    };
    if size != bytes || part_size == 0 {
        return None;
    }
    let mut valid_bytes = length;
    let (mut safe, mut unsafe_parts, mut last_boot) = (BTreeSet::new(), BTreeSet::new(), "");
    for (line, length) in lines {
        match line.split_once(' ') {
            None if line == "synced" => safe.append(&mut unsafe_parts),
            Some(("boot", id)) => {
                if id != last_boot {
                    unsafe_parts.clear();
                }
                last_boot = id;
            }
            Some(("part", number)) => match number.parse::<u64>() {
                Ok(part) if part < bytes.div_ceil(part_size) => drop(unsafe_parts.insert(part)),
                Ok(_) | Err(_) => break,
            },
            None | Some(_) => break,
        }
        valid_bytes = valid_bytes.saturating_add(length);
    }
    if last_boot == boot {
        safe.append(&mut unsafe_parts);
    }
    Some(Past { part_size, parts: safe, valid_bytes })
}

/// A line without its end, and its length with it; `None` if the end is missing or it is no text.
fn whole_line(line: &[u8]) -> Option<(&str, u64)> {
    let text = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    Some((text, line.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str, boot: &str) -> Option<Vec<u64>> {
        read(text.as_bytes(), 100, boot).map(|past| past.parts.into_iter().collect())
    }

    #[test]
    fn a_killed_process_loses_nothing_and_a_power_cut_only_what_was_not_flushed() {
        let text = "airlock-partial 1 100 10\nboot a\npart 3\npart 1\nsynced\npart 2\n";
        assert_eq!(parts(text, "a"), Some(vec![1, 2, 3]));
        assert_eq!(parts(text, "b"), Some(vec![1, 3]));
        let later = format!("{text}boot b\npart 5\n");
        assert_eq!(parts(&later, "b"), Some(vec![1, 3, 5]));
        assert_eq!(parts(&later, "c"), Some(vec![1, 3]));
        // A flush after the reboot flushes nothing that was lost in it.
        assert_eq!(parts(&format!("{later}synced\n"), "c"), Some(vec![1, 3, 5]));
        assert_eq!(parts(&format!("{text}boot a\npart 5\n"), "a"), Some(vec![1, 2, 3, 5]));
    }

    #[test]
    fn a_journal_cut_at_any_byte_says_nothing_that_the_whole_does_not() {
        let text = "airlock-partial 1 100 10\nboot a\npart 3\npart 1\nsynced\npart 2\n";
        let whole = parts(text, "a").unwrap();
        for length in 0..text.len() {
            let cut = text.get(..length).unwrap();
            for part in parts(cut, "a").unwrap_or_default() {
                assert!(whole.contains(&part), "{cut:?}");
            }
        }
    }

    #[test]
    fn junk_ends_the_journal_and_a_foreign_header_voids_it() {
        let head = "airlock-partial 1 100 10\nboot a\npart 1\n";
        for junk in ["\0\0\0\npart 2\n", "part 10\npart 2\n", "part x\npart 2\n", "\npart 2\n"] {
            assert_eq!(parts(&format!("{head}{junk}"), "a"), Some(vec![1]), "{junk:?}");
        }
        for header in [
            "",
            "airlock-partial 2 100 10\n",
            "airlock-partial 1 99 10\n",
            "airlock-partial 1 100 0\n",
            "airlock-partial 1 100\n",
        ] {
            assert_eq!(parts(&format!("{header}boot a\npart 1\n"), "a"), None, "{header:?}");
        }
    }
}

//! The people whom access control lists name, as the image itself knows them.
//!
//! The numbers come from the image's own `etc/passwd` and `etc/group`, read as text, as far as
//! they are extracted. Nothing of the host is asked, and nothing of the image is run or loaded
//! (TREE-5; CVE-2019-14271).

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};

use airlock_policy::entry::acl::Person;
use airlock_policy::limit::MAX_OWNER;
use rustix::fs::{FileType, OFlags};

use crate::volume::open_in_root;

/// How much of a file is read. A file of that size names 10,000 people.
const MOST: u64 = 1 << 20;

/// Looks people up in an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct People<'v> {
    root: BorrowedFd<'v>,
}

impl<'v> People<'v> {
    pub(crate) fn of(root: BorrowedFd<'v>) -> Self {
        Self { root }
    }

    /// The number of a person; `None` if the image does not know it.
    pub(crate) fn id_of(self, person: Person<'_>) -> Option<u32> {
        let (path, name) = match person {
            Person::User(name) => (&b"etc/passwd"[..], name),
            Person::Group(name) => (&b"etc/group"[..], name),
        };
        // A named pipe of that name must not keep the worker waiting.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(open_in_root(self.root, path, flags).ok()?);
        let stat = rustix::fs::fstat(file.as_fd()).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        find(BufReader::new(file.take(MOST)), name)
    }
}

/// The third field of the line whose first is `name` (passwd(5), group(5)).
fn find(lines: impl BufRead, name: &[u8]) -> Option<u32> {
    lines.split(b'\n').map_while(Result::ok).find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        if fields.next()? != name {
            return None;
        }
        let id: u32 = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?;
        (id <= MAX_OWNER).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_whole() {
        let text =
            b"root:x:0:0:root:/root:/bin/sh\nlp2:x:8:7\nlp:x:7:7\nbad:x:-1:0\nbig:x:4294967295:0";
        let id = |name: &str| find(&text[..], name.as_bytes());
        assert_eq!((id("root"), id("lp"), id("lp2")), (Some(0), Some(7), Some(8)));
        assert_eq!((id("l"), id("bad"), id("big"), id("")), (None, None, None, None));
    }
}

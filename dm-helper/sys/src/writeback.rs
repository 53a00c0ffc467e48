//! What was written, on its way to the device before anybody waits for it.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Begins to write `length` bytes at `offset` back to the device, and waits for none of it
/// (`sync_file_range(2)`).
pub fn begin(file: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    let wrong = |_too_large| io::Error::from(io::ErrorKind::InvalidInput);
    let offset = i64::try_from(offset).map_err(wrong)?;
    let length = i64::try_from(length).map_err(wrong)?;
    // SAFETY: the descriptor is open while it is borrowed, and the call touches no memory of ours.
    let begun = unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE)
    };
    super::check(begun).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn what_was_written_is_on_its_way_and_what_is_no_range_is_refused() {
        let path = std::env::temp_dir().join(format!("airlock-writeback-{}", std::process::id()));
        let mut file = std::fs::File::create(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file.write_all(&[1; 8192]).unwrap();
        begin(file.as_fd(), 0, 4096).unwrap();
        assert!(begin(file.as_fd(), u64::MAX, 1).is_err());
        assert!(begin(io::pipe().unwrap().0.as_fd(), 0, 1).is_err());
    }
}

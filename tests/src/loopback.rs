//! A scratch ext4 on a loop device of this machine. Needs root, and fails without.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use airlock_sys::loop_device;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A loop device with a sparse file of its own, detached and removed at the end.
#[derive(Debug)]
pub struct Loop {
    device: OwnedFd,
    path: PathBuf,
    file: tempfile::NamedTempFile,
}

impl Loop {
    /// A device of this many bytes that reads as zeros.
    ///
    /// # Panics
    ///
    /// Without root, or where the kernel has no loop devices.
    pub fn new(bytes: u64) -> Self {
        Self::new_in(&std::env::temp_dir(), bytes)
    }

    /// The same, its file in this folder.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn new_in(folder: &Path, bytes: u64) -> Self {
        assert!(rustix::process::geteuid().is_root(), "loop devices need root");
        let file = tempfile::NamedTempFile::new_in(folder).unwrap();
        file.as_file().set_len(bytes).unwrap();
        Self::of(file)
    }

    fn of(file: tempfile::NamedTempFile) -> Self {
        let (device, path) = attach(file.as_file()).unwrap();
        Self { device, path, file }
    }

    /// Another device with the same content. Holes are not copied, so it takes no more room than
    /// what was written, and little time.
    ///
    /// # Panics
    ///
    /// Where the file cannot be copied, or no loop device be made.
    #[must_use]
    pub fn copied(&self) -> Self {
        let (from, to) = (self.file.as_file(), tempfile::NamedTempFile::new().unwrap());
        let size = from.metadata().unwrap().len();
        to.as_file().set_len(size).unwrap();
        for (start, end) in crate::tree::regions(from, size).unwrap() {
            let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap()];
            from.read_exact_at(&mut bytes, start).unwrap();
            to.as_file().write_all_at(&bytes, start).unwrap();
        }
        Self::of(to)
    }

    /// The same with an ext4 that can hold whatever airlock's can.
    pub fn with_ext4(bytes: u64) -> Self {
        let device = Self::new(bytes);
        // As airlock's base volume, in what a tree can show: holes, times, large attributes.
        let options = "-q -F -O ea_inode -b 4096 -I 256 -i 8192 -m 0".split(' ');
        let made = Command::new("mkfs.ext4").args(options).arg(device.path()).status().unwrap();
        assert!(made.success(), "mkfs.ext4 {}", device.path().display());
        device
    }

    /// Its node.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Mounts the filesystem on it, read-only, and leaves it there: the device goes with the mount.
    ///
    /// # Panics
    ///
    /// When it cannot be mounted.
    pub fn leave_mounted(self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        mount(self.path(), folder, "ext4", MountFlags::NOATIME | MountFlags::RDONLY, None)
            .unwrap_or_else(|errno| panic!("mount {}: {errno}", self.path().display()));
    }

    /// Mounts the filesystem on it for as long as `look` takes.
    pub fn mounted<T>(&self, look: impl FnOnce(&Path) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        mount(self.path(), folder.path(), "ext4", MountFlags::NOATIME, None)
            .unwrap_or_else(|errno| panic!("mount {}: {errno}", self.path().display()));
        let mounted = Mounted(folder.path());
        let result = look(mounted.0);
        drop(mounted);
        result
    }
}

impl AsFd for Loop {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        loop_device::detach(self.device.as_fd()).ok();
    }
}

/// Unmounts at the end, whatever the test made of it.
struct Mounted<'p>(&'p Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        unmount(self.0, UnmountFlags::DETACH).ok();
    }
}

/// Runs something in the root of a new ext4, which holds nothing, not even `lost+found`.
pub fn with_ext4<T>(bytes: u64, run: impl FnOnce(&Path) -> T) -> T {
    Loop::with_ext4(bytes).mounted(|root| {
        fs::remove_dir(root.join("lost+found")).unwrap();
        run(root)
    })
}

fn attach(file: &File) -> io::Result<(OwnedFd, PathBuf)> {
    let open = |path: &Path| rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let control = open(Path::new("/dev/loop-control"))?;
    loop {
        let number = loop_device::free_number(control.as_fd())?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = open(&path)?;
        match loop_device::attach(device.as_fd(), file.as_fd(), false) {
            // Another test was quicker.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            other => return other.map(|()| (device, path)),
        }
    }
}

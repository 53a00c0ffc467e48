//! The programs that the launcher starts: opened once, checked, then
//! descriptors (PROC-6).

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use airlock_sys::spawn::{Child, Start, spawn};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::file;
pub use crate::file::Untrusted;

/// A program cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NoProgram {
    /// It could not be opened.
    #[error("open {path}")]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// Somebody but root can change it.
    #[error("trust {path}")]
    Trust {
        /// Its path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Untrusted,
    },
}

/// A program's file. What it was when it was opened is what will run, whatever is installed later.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Opens a program: it and its directory are root's, and nobody else can write them.
    pub fn open(directory: &Path, name: &str) -> Result<Self, NoProgram> {
        let open = |path: &Path, source| NoProgram::Open { path: path.to_owned(), source };
        let trust = |path: &Path, source| NoProgram::Trust { path: path.to_owned(), source };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(directory, flags, Mode::empty())
            .map_err(|error| open(directory, error))?;
        let stat = rustix::fs::fstat(&folder).map_err(|error| open(directory, error))?;
        file::check(&stat, FileType::Directory, file::WRITE)
            .map_err(|error| trust(directory, error))?;
        let path = directory.join(name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let program = rustix::fs::openat(&folder, name, flags, Mode::empty())
            .map_err(|error| open(&path, error))?;
        let stat = rustix::fs::fstat(&program).map_err(|error| open(&path, error))?;
        file::check(&stat, FileType::RegularFile, file::WRITE)
            .map_err(|error| trust(&path, error))?;
        Ok(Self(program))
    }

    /// The directory that this process's own program is in.
    pub fn own_directory() -> Result<PathBuf, Errno> {
        let own = rustix::fs::readlink("/proc/self/exe", Vec::new())?;
        let own = PathBuf::from(OsString::from_vec(own.into_bytes()));
        Ok(own.parent().unwrap_or(Path::new("/")).to_owned())
    }

    /// Starts it with these descriptors from 3 on; stdin is empty, `output` is stdout and stderr.
    pub fn start(
        &self,
        arguments: &[String],
        (output, descriptors): (BorrowedFd<'_>, &[BorrowedFd<'_>]),
        death_signal: Signal,
    ) -> std::io::Result<Child> {
        let arguments: Vec<CString> =
            arguments.iter().map(|text| CString::new(text.as_str())).collect::<Result<_, _>>()?;
        let arguments: Vec<_> = arguments.iter().map(CString::as_c_str).collect();
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut all = vec![null.as_fd(), output, output];
        all.extend_from_slice(descriptors);
        spawn(&Start {
            program: self.0.as_fd(),
            arguments: &arguments,
            descriptors: &all,
            death_signal,
        })
    }
}

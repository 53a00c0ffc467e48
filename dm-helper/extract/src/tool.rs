//! Becomes mkfs.ext4, resize2fs or `thin_check`: a program with one device and nothing else.

use std::convert::Infallible;
use std::error::Error;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use airlock_policy::worker::DEVICE;

use crate::sandbox;

/// A program that this worker becomes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tool {
    /// Makes the base volume's filesystem.
    Format,
    /// Checks the pool's metadata.
    Check,
    /// Grows a snapshot's filesystem.
    Grow,
}

/// Where distributions put them, in the order in which they are tried.
const MKFS: &[&str] = &["/usr/sbin/mkfs.ext4", "/usr/bin/mkfs.ext4"];
const RESIZE2FS: &[&str] = &["/usr/sbin/resize2fs", "/usr/bin/resize2fs"];
const THIN_CHECK: &[&str] = &["/usr/sbin/thin_check", "/usr/bin/thin_check"];

/// How the base volume is made: each option with its reason. All is said here, so that no
/// `/etc/mke2fs.conf` changes what an image is.
const MKFS_OPTIONS: &[&[&str]] = &[
    &["-q"],
    // A device of ours without a filesystem: there is nothing to ask about.
    &["-F"],
    // The ext4 of Linux 6.6, less what only other systems read, and:
    // - ea_inode: attributes of up to 64 KiB, as R-202 allows; without it 4 KiB is all.
    // - no casefold: names that differ in case are different names.
    &[
        "-O",
        "none,has_journal,ext_attr,ea_inode,resize_inode,dir_index,filetype,extent,64bit,flex_bg,\
         sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum",
    ],
    &["-b", "4096"],
    // Room for nanoseconds and for times after 2038.
    &["-I", "256"],
    // One inode for each 8 KiB: the default volume of 10 GiB holds the 1,000,000 entries that a
    // layer may have. Inode tables take no pool space until they are used.
    &["-i", "8192"],
    // Nothing is kept back for root: the pool has its own reserve.
    &["-m", "0"],
    // Enough for one writer; a journal's blocks, once written, are the pool's for good.
    &["-J", "size=16"],
    // A fresh volume of a pool that zeroes its blocks reads as zeros: so no inode table is
    // written now (229 MiB of a 10 GiB volume) nor later by the kernel, and nothing is discarded.
    &["-E", "assume_storage_prezeroed=1,nodiscard"],
    // What remains to be seen of a filesystem that turns out to be damaged: nothing is written.
    &["-e", "remount-ro"],
];

/// No tool could be started.
#[derive(Debug, thiserror::Error)]
#[error("start {tool:?}: none of {paths:?} could be")]
struct NotStarted {
    tool: Tool,
    paths: &'static [&'static str],
    #[source]
    source: std::io::Error,
}

/// Confines the process and becomes the tool. Returns only if that failed.
pub(crate) fn become_tool(tool: Tool) -> Result<Infallible, Box<dyn Error>> {
    // By the descriptor that the launcher checked and opened, never by a name.
    let device = format!("/proc/self/fd/{DEVICE}");
    sandbox::confine_tool(tool, &device)?;
    let (paths, options) = match tool {
        Tool::Format => (MKFS, MKFS_OPTIONS),
        Tool::Check => (THIN_CHECK, &[&["-q"][..]][..]),
        // It asks for an e2fsck of what was mounted since the last; but only the kernel ever wrote to
        // this one, and unmounted it cleanly.
        Tool::Grow => (RESIZE2FS, &[&["-f"][..]][..]),
    };
    let mut source = std::io::ErrorKind::NotFound.into();
    for path in paths {
        #[expect(
            clippy::disallowed_methods,
            reason = "no process is started: this one becomes the tool"
        )]
        let mut command = Command::new(path);
        source = command.args(options.iter().copied().flatten()).arg(&device).env_clear().exec();
        if source.kind() != std::io::ErrorKind::NotFound {
            break;
        }
    }
    Err(NotStarted { tool, paths, source }.into())
}

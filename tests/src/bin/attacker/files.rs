//! Attempts at files, mounts, devices and what the kernel holds of both.

use std::io;

use crate::kernel::{HERE, at, call, does, number, open};
use crate::scene::{Attempt, Scene};

type Fails = (&'static [i32], &'static str);

const NO_TERMINAL: Fails = (&[libc::ENOTTY, libc::EIO], "it is no terminal");
const READ_ONLY: Fails = (&[libc::EBADF], "it was opened for reading");
const SHORT: Fails = (&[libc::EINVAL], "it was opened for reading");

/// A path or another text.
macro_rules! text {
    ($text:literal) => {
        at($text.to_bytes_with_nul())
    };
}

/// A new file beneath the volume.
fn file(scene: &Scene) -> io::Result<u64> {
    let name = c"attempt";
    drop(call(libc::SYS_unlinkat, &[scene.mount, text!(c"attempt"), 0]));
    open(scene.mount, name, libc::O_CREAT | libc::O_RDWR)
}

fn node(scene: &Scene, kind: libc::mode_t, device: u64) -> io::Result<()> {
    drop(call(libc::SYS_unlinkat, &[scene.mount, text!(c"node"), 0]));
    let mode = u64::from(kind | 0o600);
    does(libc::SYS_mknodat, &[scene.mount, text!(c"node"), mode, device])
}

/// Attempts at files.
pub(crate) const FILES: &[Attempt] = &[
    Attempt::works("open a file of the host", |_| {
        open(HERE, c"/etc/passwd", libc::O_RDONLY).map(drop)
    }),
    Attempt::works("open a file of the host by dot-dot", |scene| {
        open(scene.mount, c"../../../../../../../../etc/passwd", libc::O_RDONLY).map(drop)
    }),
    Attempt::works("open a file of the host through a link", |scene| {
        drop(call(libc::SYS_unlinkat, &[scene.mount, text!(c"link"), 0]));
        does(libc::SYS_symlinkat, &[text!(c"/etc"), scene.mount, text!(c"link")])?;
        open(scene.mount, c"link/passwd", libc::O_RDONLY).map(drop)
    }),
    Attempt::works("make a file on the host", |_| {
        let flags = libc::O_CREAT | libc::O_RDWR;
        open(HERE, c"/tmp/airlock-attempt", flags)?;
        does(libc::SYS_unlinkat, &[HERE, text!(c"/tmp/airlock-attempt"), 0])
    }),
    Attempt::works("open a file of the host by its handle", |scene| {
        does(libc::SYS_open_by_handle_at, &[scene.mount, at(&scene.handle), 0]).or_else(
            |_other_filesystem| {
                let root = open(HERE, c"/", libc::O_RDONLY)?;
                does(libc::SYS_open_by_handle_at, &[root, at(&scene.handle), 0])
            },
        )
    }),
    Attempt::works("read another process's status", |_| {
        open(HERE, c"/proc/1/status", libc::O_RDONLY).map(drop)
    }),
    Attempt::works("open a device", |_| open(HERE, c"/dev/loop-control", libc::O_RDWR).map(drop)),
    Attempt::works("write to the kernel's settings", |_| {
        open(HERE, c"/proc/sys/kernel/core_pattern", libc::O_WRONLY).map(drop)
    }),
    Attempt::fails("write to what it was given to read", READ_ONLY, |scene| {
        does(libc::SYS_write, &[scene.blob, at(b"x"), 1])
    }),
    Attempt::fails("shorten what it was given to read", SHORT, |scene| {
        does(libc::SYS_ftruncate, &[scene.blob, 0])
    }),
    Attempt::works("open what it was given to read for writing", |scene| {
        let path = format!("/proc/self/fd/{}\0", scene.blob);
        does(libc::SYS_openat, &[HERE, at(path.as_bytes()), number(libc::O_WRONLY)])
    }),
    Attempt::works("change the mode of what it was given to read", |scene| {
        does(libc::SYS_fchmod, &[scene.blob, 0o755])
    }),
    Attempt::works("change the owner of what it was given to read", |scene| {
        does(libc::SYS_fchown, &[scene.blob, 0, 0])
    }),
    Attempt::works("change the times of what it was given to read", |scene| {
        does(libc::SYS_utimensat, &[scene.blob, 0, 0, 0])
    }),
    Attempt::works("give what it was given to read an attribute", |scene| {
        let arguments = [scene.blob, text!(c"user.attempt"), at(b"x"), 1, 0];
        does(libc::SYS_fsetxattr, &arguments)
    }),
    Attempt::works("change the mode of /dev/null, which is its input", |_| {
        does(libc::SYS_fchmod, &[0, 0o666])
    }),
    Attempt::works("give a file a trusted attribute", |scene| {
        let arguments = [file(scene)?, text!(c"trusted.attempt"), at(b"x"), 1, 0];
        does(libc::SYS_fsetxattr, &arguments)
    }),
    Attempt::works("give a file to an id outside of the map", |scene| {
        does(libc::SYS_fchown, &[file(scene)?, 2_147_483_647, 0])
    }),
    Attempt::works("make a block device", |scene| node(scene, libc::S_IFBLK, 0xfe00)),
    Attempt::works("make a character device", |scene| node(scene, libc::S_IFCHR, 0x0101)),
    Attempt::works("make a socket's node", |scene| node(scene, libc::S_IFSOCK, 0)),
    Attempt::works("make a file beyond the limit", |scene| {
        does(libc::SYS_ftruncate, &[file(scene)?, 1 << 42])
    }),
    Attempt::works("open 2000 descriptors", |scene| {
        (0..2000).try_for_each(|_| open(scene.mount, c".", libc::O_RDONLY).map(drop))
    }),
    Attempt::works("watch files with fanotify", |_| does(libc::SYS_fanotify_init, &[0, 0])),
    Attempt::works("make a memory file", |_| does(libc::SYS_memfd_create, &[text!(c"attempt"), 0])),
];

/// Attempts at mounts.
pub(crate) const MOUNTS: &[Attempt] = &[
    Attempt::works("mount", |_| {
        does(libc::SYS_mount, &[text!(c"none"), text!(c"/"), text!(c"tmpfs"), 0, 0])
    }),
    Attempt::works("unmount", |scene| {
        does(libc::SYS_mount, &[text!(c"none"), text!(c"/proc"), text!(c"tmpfs"), 0, 0])
            .or_else(|_no_such_folder| does(libc::SYS_fchdir, &[scene.mount]))?;
        does(libc::SYS_umount2, &[text!(c"/proc"), number(libc::MNT_DETACH)])
    }),
    Attempt::works("pivot the root", |scene| {
        does(libc::SYS_fchdir, &[scene.mount])?;
        does(libc::SYS_pivot_root, &[text!(c"."), text!(c".")])
    }),
    Attempt::works("change the root", |_| does(libc::SYS_chroot, &[text!(c".")])),
    Attempt::works("open a filesystem", |_| does(libc::SYS_fsopen, &[text!(c"tmpfs"), 0])),
    Attempt::works("pick a filesystem", |scene| {
        does(libc::SYS_fspick, &[scene.mount, text!(c"."), 0])
    }),
    Attempt::works("clone a mount", |scene| {
        // OPEN_TREE_CLONE
        does(libc::SYS_open_tree, &[scene.mount, text!(c"."), 1])
    }),
    Attempt::works("attach a mount", |scene| {
        let tree = call(libc::SYS_open_tree, &[scene.mount, text!(c"."), 1]).unwrap_or(scene.mount);
        // MOVE_MOUNT_F_EMPTY_PATH
        does(libc::SYS_move_mount, &[tree, text!(c""), HERE, text!(c"/tmp"), 4])
    }),
    Attempt::works("let a mount run programs and hold devices", |scene| {
        // MOUNT_ATTR_NOSUID, NODEV, NOEXEC: cleared.
        let attributes = [0_u64, 2 | 4 | 8, 0, 0];
        let flags = number(libc::AT_EMPTY_PATH);
        does(libc::SYS_mount_setattr, &[scene.mount, text!(c""), flags, at(&attributes), 32])
    }),
    Attempt::works("make a file immutable", |scene| {
        // FS_IOC_SETFLAGS with FS_IMMUTABLE_FL, and back.
        let file = file(scene)?;
        does(libc::SYS_ioctl, &[file, 0x4008_6602, at(&0x10_u64)])?;
        does(libc::SYS_ioctl, &[file, 0x4008_6602, at(&0_u64)])
    }),
    Attempt::works("freeze the volume", |scene| {
        // FIFREEZE, FITHAW.
        does(libc::SYS_ioctl, &[scene.mount, 0xC004_5877, 0])?;
        does(libc::SYS_ioctl, &[scene.mount, 0xC004_5878, 0])
    }),
    Attempt::fails(
        "shrink what is beneath by a loop device's ioctl",
        (&[libc::ENOTTY, libc::EINVAL], "it is no loop device"),
        |scene| does(libc::SYS_ioctl, &[scene.mount, 0x4C07, 0]),
    ),
    Attempt::fails("type into a terminal", NO_TERMINAL, |_| {
        does(libc::SYS_ioctl, &[0, libc::TIOCSTI, at(b"x")])
    }),
    Attempt::fails(
        "read quotas",
        (&[libc::ESRCH, libc::ENOTBLK, libc::ENOENT, libc::ENODEV], "there are none"),
        // Q_GETQUOTA
        |scene| does(libc::SYS_quotactl_fd, &[scene.mount, 0x8000_0700, 0, at(&[0_u8; 256])]),
    ),
];

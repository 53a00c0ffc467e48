//! Trees that nobody would make by hand: every kind of file, odd names, owners, times, holes,
//! attributes and lists, by a seed.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking"
)]

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// What of a tree the archive that it goes into can say.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Profile {
    /// What v7 and ustar can: short names, small ids, whole seconds after 1970.
    Plain,
    /// What GNU's format can besides: long names, large ids, holes, times before 1970.
    Gnu,
    /// Everything: nanoseconds, attributes, lists, capabilities.
    Pax,
}

/// A generator of numbers (splitmix64): the same for the same seed, on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins at a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// A number below another.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// Whether one of `of` cases is it.
    pub fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    fn bytes(&mut self, count: u64) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.number().to_le_bytes());
        words.take(usize::try_from(count.div_ceil(8)).unwrap()).flatten().collect()
    }
}

/// Fills an empty folder, and says how many entries it has then, itself among them.
///
/// # Panics
///
/// When the filesystem cannot hold what is to be made. Root only.
pub fn grow(root: &Path, profile: Profile, random: &mut Random) -> usize {
    let mut tree = Tree { profile, random, folders: vec![root.to_owned()], others: Vec::new() };
    for _ in 0..20 + tree.random.below(60) {
        tree.add(root);
    }
    let Tree { folders, others, .. } = &tree;
    let paths: Vec<PathBuf> = folders.iter().chain(others).cloned().collect();
    for path in &paths {
        tree.dress(path);
    }
    for path in paths.iter().rev() {
        let time = tree.time();
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    paths.len()
}

struct Tree<'r> {
    profile: Profile,
    random: &'r mut Random,
    folders: Vec<PathBuf>,
    others: Vec<PathBuf>,
}

impl Tree<'_> {
    fn add(&mut self, root: &Path) {
        let name = self.name();
        let folder = self.random.below(self.folders.len() as u64);
        let path = self.folders[usize::try_from(folder).unwrap()].join(name);
        let length = path.as_os_str().len() - root.as_os_str().len();
        // What ustar's two fields hold whatever the slashes' places, and v7's one.
        let longest = if self.profile == Profile::Plain { 90 } else { 1500 };
        if length > longest || path.symlink_metadata().is_ok() {
            return;
        }
        match self.random.below(12) {
            0..=2 => {
                fs::create_dir(&path).unwrap();
                self.folders.push(path);
                return;
            }
            3 => symlink(self.target(), &path).unwrap(),
            4 => rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
            5 if !self.others.is_empty() => {
                let other = self.random.below(self.others.len() as u64);
                let other = &self.others[usize::try_from(other).unwrap()];
                rustix::fs::linkat(CWD, other, CWD, &path, AtFlags::empty()).unwrap();
            }
            6 if self.profile > Profile::Plain => self.sparse(&path),
            _ => {
                let edge = self.random.pick(&[0, 1, 511, 512, 513, 4095, 4096, 4097, 10_240]);
                let size = if self.random.one_in(2) { edge } else { self.random.below(30_000) };
                let mut bytes = self.random.bytes(size);
                bytes.truncate(usize::try_from(size).unwrap());
                fs::write(&path, bytes).unwrap();
            }
        }
        self.others.push(path);
    }

    fn name(&mut self) -> OsString {
        let odd: [&[u8]; 14] = [
            b"a..b",
            b"...",
            b"..c",
            b"back\\slash",
            b"-rf",
            b" space ",
            b"new\nline",
            b"tab\t",
            b"caf\xe9",
            "caf\u{e9}".as_bytes(),
            "cafe\u{301}".as_bytes(),
            b"\xff\xfe",
            b"*?[",
            b"~",
        ];
        let mut name = match self.random.below(8) {
            0 => self.random.pick(&odd).to_vec(),
            1 if self.profile > Profile::Plain => {
                let length = self.random.pick(&[97, 99, 100, 101, 154, 155, 156, 250]);
                vec![b'n'; length]
            }
            _ => Vec::new(),
        };
        name.extend(format!("{:x}", self.random.below(4096)).bytes());
        OsString::from_vec(name)
    }

    fn target(&mut self) -> OsString {
        let odd: [&[u8]; 7] =
            [b"/etc/passwd", b"../../..", b"a/../b", b".", b"/", b"nowhere", b"caf\xe9 \n"];
        let long = self.profile > Profile::Plain && self.random.one_in(4);
        let length = self.random.pick(&[99, 100, 101, 1000]);
        OsString::from_vec(if long { vec![b't'; length] } else { self.random.pick(&odd).to_vec() })
    }

    fn sparse(&mut self, path: &Path) {
        let file = File::create(path).unwrap();
        let mut end = 0;
        for _ in 0..self.random.pick(&[0, 1, 3, 4, 5, 26, 60]) {
            let (hole, length) = (self.random.below(200_000), 1 + self.random.below(9000));
            let data = self.random.bytes(length);
            file.write_all_at(&data, end + hole).unwrap();
            end += hole + data.len() as u64;
        }
        if self.random.one_in(2) {
            file.set_len(end + self.random.below(1 << 20)).unwrap();
        }
    }

    /// Owner, mode, attributes, lists.
    fn dress(&mut self, path: &Path) {
        let kind = path.symlink_metadata().unwrap().file_type();
        let (uid, gid) = (self.id(), self.id());
        lchown(path, Some(uid), Some(gid)).unwrap();
        if kind.is_symlink() {
            return;
        }
        let mode = self.random.pick(&[0o644, 0o755, 0o600, 0o400, 0o777, 0]);
        let special = self.random.pick(&[0, 0, 0, 0o4000, 0o2000, 0o1000, 0o6000]);
        fs::set_permissions(path, fs::Permissions::from_mode(mode | special)).unwrap();
        if self.profile < Profile::Pax {
            return;
        }
        if (kind.is_file() || kind.is_dir()) && self.random.one_in(5) {
            for number in 0..=self.random.below(3) {
                let length = self.random.pick(&[0, 1, 20, 300, 5000]);
                let value = self.random.bytes(length);
                set(path, format!("user.attribute{number}").as_bytes(), &value);
            }
        }
        if kind.is_file() && self.random.one_in(8) {
            // cap_net_raw, effective: linux/capability.h, `vfs_cap_data`, revision 2.
            let mut capability = [0_u8; 20];
            capability[..5].copy_from_slice(&[1, 0, 0, 2, 0]);
            capability[5] = 0x20;
            set(path, b"security.capability", &capability);
        }
        if self.random.one_in(8) {
            let list = self.list();
            set(path, b"system.posix_acl_access", &list);
        }
        if kind.is_dir() && self.random.one_in(8) {
            let list = self.list();
            set(path, b"system.posix_acl_default", &list);
        }
    }

    /// A list as the kernel has it: owner, a user, the group, a mask, others.
    fn list(&mut self) -> Vec<u8> {
        let user = u32::try_from(4000 + self.random.below(1 << 20)).unwrap();
        let mut value = 2_u32.to_le_bytes().to_vec();
        for (tag, id) in
            [(1_u16, u32::MAX), (2, user), (4, u32::MAX), (16, u32::MAX), (32, u32::MAX)]
        {
            let permissions = u16::try_from(self.random.below(8)).unwrap();
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    fn id(&mut self) -> u32 {
        let large = [65_536, 2_097_151, 2_097_152, 2_147_483_646];
        match self.random.below(4) {
            0 if self.profile > Profile::Plain => self.random.pick(&large),
            1 => u32::try_from(self.random.below(65_536)).unwrap(),
            _ => 0,
        }
    }

    fn time(&mut self) -> Timespec {
        let now = i64::try_from(1_500_000_000 + self.random.below(300_000_000)).unwrap();
        let seconds = match self.random.below(6) {
            0 => i64::try_from(self.random.below(0x7fff_ffff)).unwrap(),
            1 if self.profile > Profile::Plain => -now,
            2 if self.profile > Profile::Plain => self.random.pick(&[0x3_7fff_ffff, 0x1_0000_0000]),
            _ => now,
        };
        let fraction =
            if self.profile < Profile::Pax { 0 } else { self.random.below(1_000_000_000) };
        Timespec { tv_sec: seconds, tv_nsec: i64::try_from(fraction).unwrap() }
    }
}

fn set(path: &Path, name: &[u8], value: &[u8]) {
    let name = std::ffi::OsStr::from_bytes(name);
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

//! A launcher for tests on a real pool: it starts the real broker and does its errands with the
//! usual tools.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;

use airlock_policy::digest::{BlobDigest, TreeDigest};
use airlock_policy::errand::{
    Answer, Backing, BlockDevice, Errand, Extracted, Failure, MESSAGE, Progress, Stage,
};
use airlock_policy::layout::LayoutFacts;
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};

use super::client::layer;

/// The controller's uid in these tests: the test's own.
const UID: &str = "0";

/// Runs a tool and answers its output; a failure ends the test with what it said.
pub(crate) fn tool(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    text
}

fn tried(line: &str) -> bool {
    Command::new("sh").args(["-c", line]).status().is_ok_and(|status: ExitStatus| status.success())
}

/// What outlives a broker.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) state: PathBuf,
    pub(crate) links: PathBuf,
    fresh: Arc<Mutex<bool>>,
    pub(crate) errands: Arc<Mutex<Vec<String>>>,
}

/// A broker that runs.
pub(crate) struct Running {
    pub(crate) socket: PathBuf,
    pub(crate) process: Child,
}

impl Running {
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Ground {
    /// Two linear devices on the disk: 16 MiB for metadata, 1 GiB for data.
    pub(crate) fn prepare(disk: &str) -> Self {
        tool("modprobe dm_thin_pool");
        tool(
            "mkdir -p /run/udev/rules.d && cp 50-airlock.rules /run/udev/rules.d && udevadm control --reload",
        );
        tool(&format!("dd if=/dev/zero of={disk} bs=1M count=1 conv=fsync status=none"));
        tool(&format!("dmsetup create test-meta --table '0 32768 linear {disk} 0'"));
        tool(&format!("dmsetup create test-data --table '0 2097152 linear {disk} 32768'"));
        let state = PathBuf::from("/run/pool-test");
        let links = state.join("links");
        fs::create_dir_all(&links).unwrap();
        fs::create_dir_all(state.join("mount")).unwrap();
        fs::write(state.join("dm-helper.toml"), "[pool]\nvolume_size = \"1 GiB\"\n").unwrap();
        Self { state, links, fresh: Arc::new(Mutex::new(true)), errands: Arc::default() }
    }

    /// Starts the real broker as the launcher would, and does its errands.
    pub(crate) fn start(&self, broker: &Path) -> Running {
        let socket = self.state.join("socket");
        drop(fs::remove_file(&socket));
        let listener = UnixListener::bind(&socket).unwrap();
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        let open = |path: &Path, flags| {
            rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
        };
        let state = open(&self.state, OFlags::RDONLY | OFlags::DIRECTORY);
        let config = open(&self.state.join("dm-helper.toml"), OFlags::RDONLY);
        // Out of the way of 3 to 6, and inherited.
        let inherited =
            [listener.as_fd(), theirs.as_fd(), state.as_fd(), config.as_fd()].map(|fd| {
                let copy = rustix::io::fcntl_dupfd_cloexec(fd, 20).unwrap();
                rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).unwrap();
                copy
            });
        let all = |each: &dyn Fn((u32, i32)) -> String| -> String {
            (3..).zip(inherited.iter().map(AsRawFd::as_raw_fd)).map(each).collect()
        };
        let line = format!(
            "exec{}; exec{}; exec {} --controller-uid {UID}",
            all(&|(number, fd)| format!(" {number}<&{fd}")),
            all(&|(_number, fd)| format!(" {fd}<&-")),
            broker.display(),
        );
        let process = Command::new("bash").args(["-c", &line]).spawn().unwrap();
        drop(theirs);
        let (fresh, errands) = (Arc::clone(&self.fresh), Arc::clone(&self.errands));
        let (links, mount) = (self.links.clone(), self.state.join("mount"));
        thread::spawn(move || {
            let desk = Desk { fresh, errands, links, mount };
            desk.serve(&ours);
        });
        Running { socket, process }
    }
}

struct Desk {
    fresh: Arc<Mutex<bool>>,
    errands: Arc<Mutex<Vec<String>>>,
    links: PathBuf,
    mount: PathBuf,
}

impl Desk {
    fn serve(&self, link: &OwnedFd) {
        let mut buffer = [0; MESSAGE];
        while let Ok((_, MESSAGE)) = recv(link, &mut buffer[..], RecvFlags::empty()) {
            let (envelope, errand) = Errand::decode(&buffer).unwrap();
            self.errands.lock().unwrap().push(format!("{errand:?}"));
            let answer = self.answer(&errand);
            if send(link, &answer.encode(&envelope), SendFlags::NOSIGNAL).is_err() {
                return;
            }
        }
    }

    fn answer(&self, errand: &Errand) -> Answer {
        let done = |worked, stage| {
            if worked { Answer::Done } else { Answer::Failed(Failure { stage, errno: 0 }) }
        };
        match errand {
            Errand::OpenPool { .. } => {
                let fresh = std::mem::take(&mut *self.fresh.lock().unwrap());
                Answer::Backing(Backing {
                    data: device("test-data"),
                    metadata: device("test-meta"),
                    fresh,
                })
            }
            Errand::GrowPool { .. }
            | Errand::Grow { .. }
            | Errand::Mount { .. }
            | Errand::Unmount { .. } => {
                Answer::Failed(Failure { stage: Stage::PoolGrow, errno: 1 })
            }
            Errand::CheckPool => {
                done(tried("thin_check -q /dev/mapper/test-meta"), Stage::PoolCheck)
            }
            Errand::Format { device } => {
                let line = format!(
                    "mkfs.ext4 -q -F -E nodiscard,assume_storage_prezeroed=1 /dev/dm-{}",
                    device.minor
                );
                done(tried(&line), Stage::Format)
            }
            Errand::Extract { device, blob, .. } => self.extract(device.minor, *blob),
            Errand::Publish { device, name } => {
                let link = self.links.join(name.as_str());
                let command = format!("ln -sfn /dev/dm-{} {}", device.minor, link.display());
                done(tried(&command), Stage::NodeLink)
            }
            Errand::Unpublish { name } => done(
                tried(&format!("rm -f {}", self.links.join(name.as_str()).display())),
                Stage::NodeLink,
            ),
            // Its ledger lies elsewhere.
            Errand::ExchangeLedger => Answer::Failed(Failure { stage: Stage::Ledger, errno: 0 }),
            Errand::Verify { tree, .. } => Answer::Verified { tree: *tree },
            Errand::Cancel { .. } | Errand::Forget { .. } => Answer::Done,
        }
    }

    /// Writes 4 MiB and a file named after the layer.
    fn extract(&self, minor: u32, blob: BlobDigest) -> Answer {
        let seed = (0..=u8::MAX).find(|seed| layer(*seed).0 == blob).unwrap();
        let at = self.mount.display();
        let worked = tried(&format!(
            "mount /dev/dm-{minor} {at} && mkdir -p {at}/etc {at}/usr && chmod 755 {at} && \
             dd if=/dev/urandom of={at}/etc/layer-{seed} bs=1M count=4 status=none; \
             sync -f {at} && umount {at} && blockdev --flushbufs /dev/dm-{minor}"
        ));
        if !worked {
            return Answer::Failed(Failure { stage: Stage::Write, errno: 5 });
        }
        let (blob, diff_id) = layer(seed);
        let progress = Progress { blob_bytes: 4 << 20, tar_bytes: 4 << 20, entries: 3 };
        let layout =
            LayoutFacts { directories: 0b1_0010, root_mode: 0o755, writable_directories: 0 };
        let tree = TreeDigest(blob.0);
        Answer::Extracted(Extracted { blob, diff_id, progress, file_bytes: 4 << 20, layout, tree })
    }
}

fn device(name: &str) -> BlockDevice {
    let text = tool(&format!("dmsetup info -c --noheadings -o major,minor {name}"));
    let (major, minor) = text.split_once(':').unwrap();
    let sectors = tool(&format!("blockdev --getsz /dev/mapper/{name}")).parse().unwrap();
    BlockDevice { major: major.parse().unwrap(), minor: minor.parse().unwrap(), sectors }
}

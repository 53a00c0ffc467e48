//! The launcher from its start to its end on this machine, with a stand-in for the broker: all of
//! it that needs no devicemapper.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and starts the programs that it is about"
)]

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use airlock_tests::extraction::programs;

/// What the unit gives the launcher, and no more.
const CAPABILITIES: &str = "-all,+sys_admin,+setuid,+setgid,+setpcap";

/// An installed helper with a stand-in for its broker, in a folder of its own.
struct Installed {
    folder: tempfile::TempDir,
}

impl Installed {
    fn new(config: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "the helper is root's");
        let folder = tempfile::tempdir().unwrap();
        let installed = Self { folder };
        fs::create_dir(installed.path("bin")).unwrap();
        for (from, to) in [
            ("airlock-dm-helper", "airlock-dm-helper"),
            ("airlock-dm-worker", "airlock-dm-worker"),
            ("stand-in-broker", "airlock-dm-broker"),
        ] {
            fs::copy(programs().join(from), installed.path("bin").join(to)).unwrap();
        }
        let own = format!(
            "controller_user = \"nobody\"\nsocket = \"{0}/run/s\"\nstate = \"{0}/state\"\n{config}",
            installed.folder.path().display()
        );
        fs::write(installed.path("c.toml"), own).unwrap();
        installed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self) -> Child {
        Command::new("setpriv")
            .arg(format!("--bounding-set={CAPABILITIES}"))
            .arg(self.path("bin/airlock-dm-helper"))
            .arg("--config")
            .arg(self.path("c.toml"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// What the stand-in noted, by its own names.
    fn notes(&self, launcher: &mut Child) -> HashMap<String, String> {
        let begin = Instant::now();
        let notes = self.path("state/notes");
        while !notes.exists() {
            if let Some(status) = launcher.try_wait().unwrap() {
                panic!("the launcher ended: {status}: {}", errors(launcher));
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "the stand-in never finished");
            std::thread::sleep(Duration::from_millis(20));
        }
        let text = fs::read_to_string(notes).unwrap();
        text.lines()
            .filter_map(|l| l.split_once(": "))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // The pool outlives the launcher, so its loop devices do.
        for entry in fs::read_dir("/sys/block").unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let file = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"));
            if file.is_ok_and(|file| Path::new(file.trim()).starts_with(self.folder.path())) {
                let device = fs::File::open(format!("/dev/{name}")).unwrap();
                airlock_sys::loop_device::detach(device.as_fd()).unwrap();
            }
        }
    }
}

fn errors(child: &mut Child) -> String {
    let mut text = String::new();
    std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut text).unwrap();
    text
}

fn ask_to_end(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

#[test]
fn the_launcher_gives_the_broker_what_it_needs_and_keeps_one_capability() {
    let installed = Installed::new("[pool]\ndata_size = \"256 MiB\"\n");
    let mut launcher = installed.start();
    let notes = installed.notes(&mut launcher);
    let note = |name: &str| notes.get(name).unwrap_or_else(|| panic!("{name}: {notes:?}")).as_str();

    assert_eq!(note("descriptors"), "7");
    assert_eq!(note("arguments"), "airlock-dm-broker --controller-uid 65534");
    assert_eq!(note("environment"), "0");
    assert_eq!(note("listens"), "true");
    assert_eq!(note("config"), "5");
    for who in ["own", "launcher"] {
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(note(&format!("{who} {set}")), "0000000000200000", "{who} {set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(note(&format!("{who} {set}")), "0000000000000000", "{who} {set}");
        }
        assert_eq!(note(&format!("{who} NoNewPrivs")), "1");
        // The controller's group, and the nodes'.
        assert_eq!(note(&format!("{who} Groups")), "6 65534");
    }
    let socket = fs::symlink_metadata(installed.path("run/s")).unwrap();
    assert_eq!((socket.uid(), socket.gid(), socket.mode() & 0o7777), (0, 65534, 0o660));

    assert_eq!(note("check before open"), "Failed(Failure { stage: PoolAbsent, errno: 2 })");
    assert_eq!(note("open"), "Failed(Failure { stage: PoolAbsent, errno: 2 })");
    // 256 MiB of data, and the least metadata.
    for wanted in ["sectors: 524288", "sectors: 32768", "fresh: true"] {
        assert!(note("create").contains(wanted), "{}", note("create"));
    }
    assert_eq!(note("create again"), note("create"), "the same devices, and nothing written");
    assert_eq!(note("check of zeros"), "Failed(Failure { stage: PoolCheck, errno: 0 })");
    for errand in ["format of", "extract into", "publish of"] {
        let answer = note(&format!("{errand} a stranger"));
        assert!(answer.contains("stage: DeviceCheck"), "{errand}: {answer}");
    }
    assert_eq!((note("unpublish of nothing"), note("cancel of nothing")), ("Done", "Done"));
    for (file, size) in [("state/data.img", 256 << 20), ("state/metadata.img", 16 << 20)] {
        let made = fs::metadata(installed.path(file)).unwrap();
        assert_eq!((made.len(), made.mode() & 0o7777), (size, 0o600), "{file}");
    }
    assert_eq!(fs::metadata(installed.path("state/data.img")).unwrap().blocks(), 0, "sparse");

    ask_to_end(&launcher);
    assert!(launcher.wait().unwrap().success(), "{}", errors(&mut launcher));
}

/// the lock is the kernel's, so it is gone with its holder, however that ended.
#[test]
fn a_second_launcher_exits_with_6_and_a_killed_one_is_in_nobodys_way() {
    let installed = Installed::new("");
    let mut first = installed.start();
    installed.notes(&mut first);
    let mut second = installed.start();
    assert_eq!(second.wait().unwrap().code(), Some(6));
    let told = errors(&mut second);
    assert!(told.contains(&format!("pid {}", first.id())), "{told}");

    first.kill().unwrap();
    first.wait().unwrap();
    fs::remove_file(installed.path("state/notes")).unwrap();
    let mut third = installed.start();
    let notes = installed.notes(&mut third);
    assert!(notes["create"].contains("fresh: true"), "{notes:?}");
    ask_to_end(&third);
    assert!(third.wait().unwrap().success());
}

#[test]
fn files_of_a_pool_are_never_made_anew() {
    let installed = Installed::new("");
    let (data, metadata) = (installed.path("state/data.img"), installed.path("state/metadata.img"));
    fs::create_dir(installed.path("state")).unwrap();
    let closed = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    closed(&installed.path("state"), 0o700);
    fs::write(&data, vec![1; 1 << 20]).unwrap();
    closed(&data, 0o600);
    let mut launcher = installed.start();
    let notes = installed.notes(&mut launcher);
    let conflict = "Failed(Failure { stage: PoolConflict, errno: 17 })";
    assert_eq!(notes.get("create").map(String::as_str), Some(conflict));
    assert!(!metadata.exists());
    assert_eq!(fs::read(&data).unwrap(), vec![1; 1 << 20]);
    ask_to_end(&launcher);
    launcher.wait().unwrap();
}

#[test]
fn a_broker_that_others_can_write_is_not_started() {
    let installed = Installed::new("");
    let broker = installed.path("bin/airlock-dm-broker");
    fs::set_permissions(&broker, fs::Permissions::from_mode(0o775)).unwrap();
    let mut launcher = installed.start();
    assert_eq!(launcher.wait().unwrap().code(), Some(1));
    let told = errors(&mut launcher);
    assert!(told.contains("airlock-dm-broker") && told.contains("0775"), "{told}");
}

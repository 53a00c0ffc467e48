//! The machine that a scenario runs on: airlock installed, services started, what is there to see.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: Option<i32>,
}

impl Ended {
    /// Requires success.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// Requires this exit status and this text in the message; shows the message.
    pub(crate) fn fails(self, code: i32, text: &str) -> Self {
        println!("--- exit {code}\n{}", self.err);
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.out, self.err);
        assert!(self.err.contains(text), "no {text:?} in: {}", self.err);
        self
    }

    /// What it printed, as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { out: text(&output.stdout), err: text(&output.stderr), code: output.status.code() }
    }
}

/// Runs a shell command.
pub(crate) fn sh(line: &str) -> Ended {
    Command::new("bash").args(["-o", "pipefail", "-c", line]).output().unwrap().into()
}

/// Runs `airlock` with these words.
pub(crate) fn airlock(words: &str) -> Ended {
    println!("$ airlock {words}");
    sh(&format!("airlock {words}"))
}

/// Waits until this holds.
pub(crate) fn wait_for(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(Instant::now() < until, "{what}: not within {seconds} s\n{}", logs());
        sleep(Duration::from_millis(100));
    }
}

/// The last lines of both services' logs.
pub(crate) fn logs() -> String {
    sh("journalctl --no-pager -o short-monotonic -n 80 -u airlock -u airlock-dm-helper").out
}

/// Installs airlock and points it to the test's S3 server. Does not start it.
pub(crate) fn install(helper_config: &str) {
    sh("cp -r bin packaging /root/ && cd /root && packaging/install bin").ok();
    let setting = |name| std::env::var(name).unwrap();
    let daemon = format!(
        "[s3]\nendpoint = \"{}\"\nregion = \"us-east-1\"\npath_style = true\n",
        setting("S3_ENDPOINT")
    );
    fs::write("/etc/airlock/daemon.toml", daemon).unwrap();
    credentials(&setting("S3_ACCESS_KEY"), &setting("S3_SECRET_KEY"));
    fs::write("/etc/airlock/dm-helper.toml", helper_config).unwrap();
}

/// Gives the daemon these credentials; it reads them when it starts.
pub(crate) fn credentials(access_key: &str, secret_key: &str) {
    let lines = format!("AWS_ACCESS_KEY_ID={access_key}\nAWS_SECRET_ACCESS_KEY={secret_key}\n");
    fs::write("/etc/airlock/daemon.env", lines).unwrap();
    sh("chmod 0600 /etc/airlock/daemon.env").ok();
}

/// Starts the services.
pub(crate) fn start() {
    let started = sh("systemctl start airlock-dm-helper.socket airlock.socket airlock.service");
    assert_eq!(started.code, Some(0), "{}\n{}", started.err, logs());
}

/// A machine with airlock running and a pool.
pub(crate) fn ready() {
    ready_with("[pool]\ndata_size = \"1 GiB\"\n");
}

/// The same, with this configuration of the helper.
pub(crate) fn ready_with(helper_config: &str) {
    install(helper_config);
    start();
    let setup = airlock("pool setup");
    assert_eq!(setup.code, Some(0), "{}\n{}\n{}", setup.out, setup.err, logs());
}

/// The main process of a service.
pub(crate) fn main_pid(unit: &str) -> u32 {
    sh(&format!("systemctl show -P MainPID {unit}")).ok().out.trim().parse().unwrap()
}

/// Every process of this program.
pub(crate) fn pids(program: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let target = fs::read_link(entry.path().join("exe")).unwrap_or_default();
        if target.file_name().is_some_and(|name| name == program) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}

/// The devices of ours in the device table, by name.
pub(crate) fn devices() -> Vec<String> {
    let listed = sh("dmsetup ls").ok().out;
    let mut names: Vec<String> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.starts_with("airlock-"))
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

/// The thin ids that the pool's own metadata knows, by `thin_dump` of a metadata snapshot.
pub(crate) fn thin_ids() -> Vec<u32> {
    sh("dmsetup message airlock-pool 0 reserve_metadata_snap").ok();
    let table = sh("dmsetup table airlock-pool").ok().out;
    let metadata = table.split_whitespace().nth(3).unwrap().to_owned();
    let ids = sh(&format!("thin_ls -m --no-headers -o DEV /dev/block/{metadata}"));
    sh("dmsetup message airlock-pool 0 release_metadata_snap").ok();
    let mut ids: Vec<u32> =
        ids.ok().out.split_whitespace().map(|word| word.parse().unwrap()).collect();
    ids.sort_unstable();
    ids
}

/// Partial downloads.
pub(crate) fn partials() -> Vec<String> {
    let listed = sh("find /var/lib/airlock/blobs/partial -type f 2>/dev/null");
    listed.out.lines().map(str::to_owned).collect()
}

/// Bytes that came over the network so far.
pub(crate) fn received() -> u64 {
    let total = fs::read_to_string("/sys/class/net/eth0/statistics/rx_bytes").unwrap();
    total.trim().parse().unwrap()
}

/// Mounts a snapshot's device read-only, runs this on it, unmounts it.
pub(crate) fn mounted<T>(device: &str, look: impl FnOnce(&Path) -> T) -> T {
    sh(&format!("mkdir -p /mnt/look && mount -o ro {device} /mnt/look")).ok();
    let seen = look(Path::new("/mnt/look"));
    sh("umount /mnt/look").ok();
    seen
}

/// Whether reads of the pool's data by the helper's processes come to no end: two bytes a second.
pub(crate) fn data_hangs(hangs: bool) {
    let data = sh("losetup -n -O NAME -j /var/lib/airlock-helper/data.img").ok().out;
    let limit = if hangs { format!("'{} 2'", data.trim()) } else { "''".to_owned() };
    sh(&format!("systemctl set-property --runtime airlock-dm-helper IOReadBandwidthMax={limit}"))
        .ok();
}

//! Every key of `daemon.toml`: its meaning, unit, range and default, said once.

use std::path::PathBuf;

use airlock_policy::limit::{ArchiveLimits, Setuid};
use airlock_policy::size::ByteSize;
use serde::{Deserialize, Serialize};

use super::timespan::TimeSpan;

/// A key of `daemon.toml`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Key {
    /// The section, empty at the top of the file.
    pub section: &'static str,
    /// The name inside its section.
    pub name: &'static str,
    /// What it means, with unit, range and default.
    pub doc: &'static str,
}

impl Key {
    /// The name with its section: `s3.endpoint`.
    pub fn dotted(&self) -> String {
        if self.section.is_empty() {
            self.name.to_owned()
        } else {
            format!("{}.{}", self.section, self.name)
        }
    }
}

/// Declares a section: the struct, its defaults and the list of its keys, which cannot disagree.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $Name:ident, $section:literal, $KEYS:ident;
        $( $(#[doc = $doc:literal])+ $key:ident: $Type:ty = $default:expr; )+
        $( sections: $( $(#[doc = $sub_doc:literal])+ $sub:ident: $Sub:ty; )+ )?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $Name {
            $( $(#[doc = $doc])+ pub $key: $Type, )+
            $( $( $(#[doc = $sub_doc])+ pub $sub: $Sub, )+ )?
        }

        impl Default for $Name {
            fn default() -> Self {
                Self { $( $key: $default, )+ $( $( $sub: <$Sub>::default(), )+ )? }
            }
        }

        const $KEYS: &[Key] = &[
            $( Key { section: $section, name: stringify!($key), doc: concat!($($doc, "\n"),+) } ),+
        ];
    };
}

section! {
    /// The daemon's configuration.
    Config, "", TOP_KEYS;
    /// The daemon's own folder: database, blobs. An absolute path; default `/var/lib/airlock`.
    state_dir: PathBuf = PathBuf::from("/var/lib/airlock");
    /// The folder of the blobs, which the helper reads through the group. An absolute path;
    /// default `blobs` in `state_dir`.
    blobs_dir: Option<PathBuf> = None;
    /// Where commands reach the daemon. An absolute path; default `/run/airlock/control.sock`.
    control_socket: PathBuf = PathBuf::from("/run/airlock/control.sock");
    /// Where the daemon reaches the helper. An absolute path; default
    /// `/run/airlock-helper/dm-helper.sock`.
    helper_socket: PathBuf = PathBuf::from("/run/airlock-helper/dm-helper.sock");
    sections:
    /// How S3 is reached.
    s3: S3Config;
    /// How much runs at the same time.
    queues: QueuesConfig;
    /// How often each state of a run is tried.
    attempts: AttemptsConfig;
    /// How long one attempt at a state may take.
    deadlines: DeadlinesConfig;
    /// The waits between attempts.
    backoff: BackoffConfig;
    /// What an image may cost.
    limits: LimitsConfig;
    /// Copies of the database.
    backup: BackupConfig;
    /// What is kept of runs that ended.
    history: HistoryConfig;
    /// What is logged.
    log: LogConfig;
}

section! {
    /// How S3 is reached.
    S3Config, "s3", S3_KEYS;
    /// The endpoint of an S3-compatible server, `https://host:port`. Default: AWS, or what
    /// `AWS_ENDPOINT_URL` names.
    endpoint: Option<String> = None;
    /// The region. Default: what the AWS environment or profile names, else `us-east-1`.
    region: Option<String> = None;
    /// Whether the bucket stands in the URL's path instead of its host name. Default: true when
    /// `endpoint` is set, else false.
    path_style: Option<bool> = None;
    /// Whether requests go out unsigned, for public buckets. Default false: without credentials
    /// airlock refuses to ask rather than ask anonymously.
    anonymous: bool = false;
    /// The profile of the AWS configuration and credentials files. Default: `AWS_PROFILE`, else
    /// `default`.
    profile: Option<String> = None;
    /// A credentials file in AWS's format, such as systemd's `LoadCredential=` gives. An absolute
    /// path. Where set, no other place is searched. Default: the AWS credential chain (environment,
    /// profile, web identity, container, instance).
    credentials_file: Option<PathBuf> = None;
    /// A file of PEM certificates. Where set, S3's certificate must lead to one of them, and the
    /// system's own authorities are not trusted for S3. An absolute path; default: the system's.
    ca_file: Option<PathBuf> = None;
    /// Ranged requests in flight for one object, 1 to 32; default 4.
    concurrency: u32 = 4;
    /// Bytes of one ranged request, and what is fetched anew after a crash; 1 MiB to 1 GiB, default
    /// 8 MiB.
    part_size: ByteSize = ByteSize::mib(8);
    /// How long a connection may take to be made, 1 s to 1 min; default 5 s.
    connect_timeout: TimeSpan = TimeSpan::seconds(5);
    /// How long an answer or its next byte may take, 1 s to 10 min; default 30 s.
    stall_timeout: TimeSpan = TimeSpan::seconds(30);
    /// Tries of one request within an attempt, without a byte of progress, 1 to 20; default 6.
    attempts: u32 = 6;
    /// The most bytes a second that all downloads together may take, at least 64 KiB. Default: no
    /// limit.
    rate_limit: Option<ByteSize> = None;
}

section! {
    /// How much runs at the same time.
    QueuesConfig, "queues", QUEUES_KEYS;
    /// Downloads at the same time, 1 to 64; default 5.
    downloads: u32 = 5;
    /// Unpackings at the same time, 1 to 64; default: one a core, up to 4. The helper has a limit of
    /// its own, `limits.extractions`.
    unpack: Option<u32> = None;
    /// Activations at the same time, 1 to 1024; default: no limit. The pool takes its changes one
    /// after the other in any case.
    activate: Option<u32> = None;
}

section! {
    /// How often each state of a run is tried, the first time included: 1 to 100 each. A refusal, a
    /// digest that does not match, an absent object and a full pool are never tried again.
    AttemptsConfig, "attempts", ATTEMPTS_KEYS;
    /// Looks at the source, 1 to 100; default 4.
    check_exists: u32 = 4;
    /// Downloads that brought no byte more than the one before, 1 to 100; default 6.
    download: u32 = 6;
    /// Scans of a blob, 1 to 100; default 3.
    validate: u32 = 3;
    /// Records of an image, 1 to 100; default 6.
    store_metadata: u32 = 6;
    /// Looks for a volume, 1 to 100; default 4.
    check_unpacked: u32 = 4;
    /// Makings of a volume, 1 to 100; default 4.
    create_device: u32 = 4;
    /// Extractions of a layer, 1 to 100; default 3.
    extract_layers: u32 = 3;
    /// Judgements and sealings of a volume, 1 to 100; default 3.
    verify_layout: u32 = 3;
    /// Records of a volume, 1 to 100; default 6.
    update_db: u32 = 6;
    /// Looks for a snapshot, 1 to 100; default 4.
    check_snapshot: u32 = 4;
    /// Takings of a snapshot, 1 to 100; default 4.
    create_snapshot: u32 = 4;
    /// Records of a snapshot, 1 to 100; default 6.
    register: u32 = 6;
}

section! {
    /// How long one attempt at a state may take, the wait for its turn not counted: 1 s to 1 d each.
    DeadlinesConfig, "deadlines", DEADLINES_KEYS;
    /// A look at the source, 1 s to 1 d; default 30 s.
    check_exists: TimeSpan = TimeSpan::seconds(30);
    /// A download, 1 s to 1 d; default: none, as long as bytes come (`s3.stall_timeout`).
    download: Option<TimeSpan> = None;
    /// A scan of a blob, 1 s to 1 d; default 10 min.
    validate: TimeSpan = TimeSpan::seconds(600);
    /// The record of an image, 1 s to 1 d; default 15 s.
    store_metadata: TimeSpan = TimeSpan::seconds(15);
    /// A look for a volume, 1 s to 1 d; default 30 s.
    check_unpacked: TimeSpan = TimeSpan::seconds(30);
    /// The making of a volume, 1 s to 1 d; default 60 s.
    create_device: TimeSpan = TimeSpan::seconds(60);
    /// The extraction of a layer, 1 s to 1 d; default 30 min. The helper has a limit of its own,
    /// `limits.extract_seconds`.
    extract_layers: TimeSpan = TimeSpan::seconds(1800);
    /// The judgement and sealing of a volume, 1 s to 1 d; default 2 min.
    verify_layout: TimeSpan = TimeSpan::seconds(120);
    /// The record of a volume, 1 s to 1 d; default 30 s.
    update_db: TimeSpan = TimeSpan::seconds(30);
    /// A look for a snapshot, 1 s to 1 d; default 30 s.
    check_snapshot: TimeSpan = TimeSpan::seconds(30);
    /// The taking of a snapshot, 1 s to 1 d; default 60 s.
    create_snapshot: TimeSpan = TimeSpan::seconds(60);
    /// The record of a snapshot, 1 s to 1 d; default 15 s.
    register: TimeSpan = TimeSpan::seconds(15);
}

section! {
    /// The waits between attempts. Each is drawn from all of nothing up to its bound, so that what
    /// failed together does not come back together.
    BackoffConfig, "backoff", BACKOFF_KEYS;
    /// The bound of the first wait, 1 ms to 1 min; default 100 ms.
    first: TimeSpan = TimeSpan::millis(100);
    /// What the bound is multiplied by from wait to wait, 1 to 10; default 2.
    factor: u32 = 2;
    /// The largest bound, `backoff.first` to 1 h; default 5 s.
    longest: TimeSpan = TimeSpan::seconds(5);
    /// The largest bound towards S3, `backoff.first` to 1 h; default 30 s.
    longest_s3: TimeSpan = TimeSpan::seconds(30);
}

section! {
    /// What an image may cost. The helper has its own limits and enforces them again.
    LimitsConfig, "limits", LIMITS_KEYS;
    /// The largest object that is fetched, 1 MiB to 16 TiB; default 10 GiB.
    object_size: ByteSize = ByteSize::gib(10);
    /// Free space of the blobs' disk that airlock leaves untouched; default 1 GiB.
    disk_reserve: ByteSize = ByteSize::gib(1);
    /// Entries of a layer, 1 to 10,000,000; default 1,000,000.
    entries: u64 = ArchiveLimits::default().entries;
    /// The largest file of a layer, holes included; default 8 GiB.
    file_size: ByteSize = ByteSize(ArchiveLimits::default().file_bytes);
    /// The most that a layer unpacks to; default 32 GiB.
    total_size: ByteSize = ByteSize(ArchiveLimits::default().total_bytes);
    /// How many times its compressed size a layer unpacks to at most, at least 1; default 200.
    ratio: u64 = ArchiveLimits::default().ratio;
    /// What to do with setuid and setgid bits: `keep`, `strip` or `reject`; default `keep`.
    setuid: Setuid = Setuid::Keep;
}

section! {
    /// Copies of the database, which the daemon makes in `backups` in `state_dir`.
    BackupConfig, "backup", BACKUP_KEYS;
    /// How long after one the next is made, 1 h to 7 d; default 24 h.
    every: TimeSpan = TimeSpan::seconds(24 * 3600);
    /// How many are kept, 1 to 365; default 7. Those from before a migration are counted apart.
    keep: u32 = 7;
}

section! {
    /// What is kept of runs that ended. A run that failed or was cancelled is kept for 7 days at
    /// least, and one that a kept run does again as long as that one.
    HistoryConfig, "history", HISTORY_KEYS;
    /// How long a run that ended is kept with all its steps, 1 d to 3650 d; default 30 d.
    age: TimeSpan = TimeSpan::seconds(30 * 86_400);
    /// How many runs that ended are kept so at most, 100 to 1,000,000; default 10,000.
    runs: u32 = 10_000;
    /// How long the bare outcome of a run is kept after that, 1 d to 3650 d; default 365 d.
    outcomes: TimeSpan = TimeSpan::seconds(365 * 86_400);
}

section! {
    /// What is logged.
    LogConfig, "log", LOG_KEYS;
    /// `error`, `warn`, `info`, `debug` or `trace`, for all or by component
    /// (`info,airlock::blob=debug`); default `info`.
    level: String = "info".to_owned();
}

/// Every key, section by section.
pub const KEYS: [&[Key]; 10] = [
    TOP_KEYS,
    S3_KEYS,
    QUEUES_KEYS,
    ATTEMPTS_KEYS,
    DEADLINES_KEYS,
    BACKOFF_KEYS,
    LIMITS_KEYS,
    BACKUP_KEYS,
    HISTORY_KEYS,
    LOG_KEYS,
];

impl LimitsConfig {
    /// The limits on an archive.
    pub fn archive(&self) -> ArchiveLimits {
        ArchiveLimits {
            entries: self.entries,
            file_bytes: self.file_size.0,
            total_bytes: self.total_size.0,
            ratio: self.ratio,
            setuid: self.setuid,
            ..ArchiveLimits::default()
        }
    }
}

impl QueuesConfig {
    /// Unpackings at the same time.
    pub fn unpack_limit(&self) -> u32 {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        self.unpack.unwrap_or_else(|| u32::try_from(cores()).unwrap_or(u32::MAX).min(4))
    }
}

impl S3Config {
    /// Whether the bucket stands in the URL's path.
    pub const fn uses_path_style(&self) -> bool {
        match self.path_style {
            Some(chosen) => chosen,
            None => self.endpoint.is_some(),
        }
    }
}

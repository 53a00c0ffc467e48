//! The store without a network: `tar:` sources, limits, leftovers, scans.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use airlock_archive::Position;
use airlock_policy::limit::ArchiveLimits;
use airlock_policy::source::Place;
use airlock_protocol::control::ErrorClass;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::source::{SourceFault, Sources};

/// A store and a source file of this test alone.
struct Bench {
    folder: PathBuf,
    config: Config,
    store: BlobStore,
    progress: Arc<Progress>,
    cancel: CancellationToken,
}

impl Bench {
    fn new(name: &str, change: impl FnOnce(&mut Config)) -> Self {
        let folder =
            std::env::temp_dir().join(format!("airlock-blob-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        let mut config = Config::default();
        config.state_dir.clone_from(&folder);
        config.limits.disk_reserve = ByteSize(0);
        change(&mut config);
        let store = BlobStore::open(&config).unwrap();
        let (progress, cancel) = (Arc::default(), CancellationToken::new());
        Self { folder, config, store, progress, cancel }
    }

    fn place(&self) -> Place {
        format!("tar:{}/source", self.folder.display()).parse().unwrap()
    }

    fn write(&self, bytes: &[u8]) {
        fs::write(self.folder.join("source"), bytes).unwrap();
    }

    async fn fetch(&self, pin: Option<Digest>) -> Result<Fetched, SourceFault> {
        let (place, sources) = (self.place(), Sources::new(&self.config));
        let info = sources.head(&place, &self.cancel).await?;
        let wanted = Wanted { place: &place, info: &info, pin };
        self.store.fetch(&sources, wanted, &self.progress, &self.cancel).await
    }

    async fn scan(&self, bytes: &[u8]) -> Result<airlock_archive::Scan, ScanFault> {
        self.write(bytes);
        let blob = self.fetch(None).await.unwrap().digest;
        let layer = Layer { blob, position: Position::Alone };
        self.store.scan(layer, ArchiveLimits::default(), &self.progress, &self.cancel).await
    }

    fn partials(&self) -> usize {
        fs::read_dir(self.store.partial()).unwrap().count()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// A tar of one entry and its two zero blocks.
#[expect(clippy::arithmetic_side_effects, reason = "offsets of a test's own small archive")]
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = [&header, content].concat();
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}

#[tokio::test]
async fn a_tar_file_becomes_a_blob_that_its_group_may_read() {
    let bench = Bench::new("tar", |_| {});
    let bytes: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    bench.write(&bytes);
    let fetched = bench.fetch(Some(Digest::of(&bytes))).await.unwrap();
    assert_eq!(fetched.digest, BlobDigest(Digest::of(&bytes)));
    assert_eq!((fetched.bytes, fetched.fetched_bytes), (bytes.len() as u64, 0));
    assert_eq!(bench.progress.figures().done_bytes, bytes.len() as u64);
    let path = bench.store.path(fetched.digest);
    assert!(fs::read(&path).unwrap() == bytes);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        (mode(&path), mode(&bench.store.whole()), mode(&bench.store.folder)),
        (0o640, 0o750, 0o750)
    );
    assert_eq!(bench.store.stat(fetched.digest).unwrap(), Some(fetched.stat));
    assert_eq!(bench.store.list().unwrap(), [fetched.digest]);
    assert_eq!(bench.partials(), 0);
    assert!(bench.store.remove(fetched.digest).unwrap());
    assert!(!bench.store.remove(fetched.digest).unwrap());
    assert_eq!(bench.store.stat(fetched.digest).unwrap(), None);
}

#[tokio::test]
async fn what_cannot_be_a_source_is_refused_without_waiting() {
    let bench = Bench::new("odd", |_| {});
    let fault = bench.fetch(None).await.unwrap_err();
    assert_eq!((fault.code(), fault.class()), ("source.not_found", ErrorClass::NotFound));
    fs::create_dir(bench.folder.join("source")).unwrap();
    assert_eq!(bench.fetch(None).await.unwrap_err().code(), "source.file");
    fs::remove_dir(bench.folder.join("source")).unwrap();
    let fifo = bench.folder.join("source");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from(0o600), 0)
        .unwrap();
    assert_eq!(bench.fetch(None).await.unwrap_err().code(), "source.file");
}

#[tokio::test]
async fn limits_and_reserve_are_looked_at_before_anything_is_written() {
    let bench = Bench::new("limit", |config| config.limits.object_size = ByteSize(999));
    bench.write(&[1; 1000]);
    let fault = bench.fetch(None).await.unwrap_err();
    assert_eq!((fault.code(), fault.class()), ("source.too_large", ErrorClass::Refused));
    let bench = Bench::new("reserve", |config| config.limits.disk_reserve = ByteSize(u64::MAX / 2));
    bench.write(&[1; 1000]);
    let fault = bench.fetch(None).await.unwrap_err().fault();
    assert_eq!((fault.code.as_str(), fault.class), ("disk.full", ErrorClass::Unavailable));
    assert_eq!(fault.facts.first(), Some(&("needed".to_owned(), "1000 B".to_owned())));
}

#[tokio::test]
async fn a_file_that_changed_since_the_look_is_an_error() {
    let bench = Bench::new("changed", |_| {});
    bench.write(b"one");
    let (place, sources) = (bench.place(), Sources::new(&bench.config));
    let info = sources.head(&place, &bench.cancel).await.unwrap();
    bench.write(b"two");
    let wanted = Wanted { place: &place, info: &info, pin: None };
    let fault = bench.store.fetch(&sources, wanted, &bench.progress, &bench.cancel).await;
    assert_eq!(fault.unwrap_err().code(), "source.changed");
    assert_eq!(bench.partials(), 0);
}

#[tokio::test]
async fn a_wrong_pin_leaves_nothing() {
    let bench = Bench::new("pin", |_| {});
    bench.write(b"content");
    let fault = bench.fetch(Some(Digest::of(b"other"))).await.unwrap_err();
    assert_eq!((fault.code(), fault.class()), ("blob.digest", ErrorClass::Refused));
    assert_eq!((bench.partials(), bench.store.list().unwrap().len()), (0, 0));
}

#[test]
fn a_sweep_takes_what_nobody_keeps_writes_or_named_otherwise() {
    let bench = Bench::new("sweep", |_| {});
    let id = |byte: u8| Digest::of(&[byte]).hex();
    let partial = bench.store.partial();
    for name in [
        format!("{}.data", id(1)),
        format!("{}.journal", id(1)),
        format!("{}.data", id(2)),
        format!("{}.data", id(3)),
        "somebody-elses".to_owned(),
    ] {
        fs::write(partial.join(name), [0; 5000]).unwrap();
    }
    let kept = PartialId::of_file(&format!("{}.data", id(2))).unwrap();
    let writer = File::open(partial.join(format!("{}.data", id(3)))).unwrap();
    writer.try_lock().unwrap();
    let swept = bench.store.sweep(&HashSet::from([kept.clone()])).unwrap();
    assert_eq!(swept.files, 2);
    assert!(swept.bytes >= 10_000);
    assert_eq!(bench.partials(), 3);
    writer.unlock().unwrap();
    assert_eq!(bench.store.sweep(&HashSet::from([kept])).unwrap().files, 1);
}

#[tokio::test]
async fn a_good_layer_is_counted_and_a_bad_one_refused_with_rule_and_entry() {
    let bench = Bench::new("scan", |_| {});
    let scan = bench.scan(&tar("etc/x", b"hello")).await.unwrap();
    assert_eq!((scan.summary.entries, scan.summary.file_bytes), (1, 5));
    let fault = bench.scan(&tar("../\x1bx", b"")).await.unwrap_err().fault();
    assert_eq!((fault.code.as_str(), fault.class), ("name.dotdot", ErrorClass::Refused));
    let fact = |label: &str| fault.facts.iter().find(|(l, _)| l == label).map(|(_, text)| text);
    assert_eq!(fact("entry").map(String::as_str), Some("0"));
    assert!(!fact("name").unwrap().contains('\x1b'), "{fault:?}");
    assert!(fact("rule").unwrap().starts_with("name.dotdot (R-202)"));
}

#[tokio::test]
async fn a_blob_that_the_disk_damaged_is_not_blamed_on_the_image() {
    let bench = Bench::new("damaged", |_| {});
    let good = tar("etc/x", b"hello");
    assert!(bench.scan(&good).await.is_ok());
    let digest = BlobDigest(Digest::of(&good));
    let layer = Layer { blob: digest, position: Position::Alone };
    // A flipped bit in the header breaks a rule, one in the data does not.
    for at in [0, 512] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(bench.store.path(digest), bad).unwrap();
        let scanned =
            bench.store.scan(layer, ArchiveLimits::default(), &bench.progress, &bench.cancel).await;
        assert!(matches!(scanned, Err(ScanFault::Damaged { .. })), "{scanned:?}");
    }
    bench.cancel.cancel();
    let scanned =
        bench.store.scan(layer, ArchiveLimits::default(), &bench.progress, &bench.cancel).await;
    assert!(matches!(scanned, Err(ScanFault::Cancelled)), "{scanned:?}");
}

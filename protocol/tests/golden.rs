//! Every message of the helper's protocol against a stored file, in both directions.
//!
//! A difference means that the wire changed: raise `PROTOCOL`, then run the test with
//! `AIRLOCK_BLESS=1` to store the new form.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::PathBuf;

use airlock_policy::digest::{BlobDigest, ChainId, DiffId, Digest, TreeDigest};
use airlock_policy::errand::{Failure, Stage};
use airlock_policy::helper_config::PoolPart;
use airlock_policy::layout::LayoutFacts;
use airlock_policy::name::{RequestId, SnapshotName, ThinId};
use airlock_policy::rule::Rule;
use airlock_policy::tree::{Difference, ShownPath};
use airlock_protocol::not_done::{NotDone, Refusal, Step, StepFailure};
use airlock_protocol::reply::{
    AppliedLayer, Inventory, Item, ItemLayer, LateOperation, LayerProgress, LayerState, Mapped,
    Outcome, PoolMode, PoolStatus, PoolUsage, SnapshotItem, VerifyProgress, VerifyState,
    VolumeItem, VolumeState, Welcome, What,
};
use airlock_protocol::request::{
    ApplyLayer, CreateVolume, DeleteVolume, EnsurePool, ExtendPool, Hello, ListVolumes, Map, Mount,
    QueryPool, SealVolume, Snapshot, Target, Unmap, Unmount, VerifyVolume,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes each message, after having seen that it reads back as it was.
struct Golden(String);

impl Golden {
    fn add<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(&mut self, message: &T) {
        let text = serde_json::to_string(message).unwrap();
        assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), message);
        let name = std::any::type_name::<T>().rsplit("::").next().unwrap();
        writeln!(self.0, "{name} {text}").unwrap();
    }
}

fn request() -> RequestId {
    "0a9z".to_owned().try_into().unwrap()
}

fn chain(text: &str) -> ChainId {
    ChainId(Digest::of(text.as_bytes()))
}

fn name() -> SnapshotName {
    "web-1".parse().unwrap()
}

fn requests(golden: &mut Golden) {
    let (request, volume) = (request(), chain("v"));
    golden.add(&Hello { request: request.clone(), protocol: 1 });
    golden.add(&EnsurePool { request: request.clone(), create: true });
    golden.add(&QueryPool { request: request.clone() });
    for part in [PoolPart::Data, PoolPart::Metadata] {
        golden.add(&ExtendPool { request: request.clone(), part, bytes: 1 << 40 });
    }
    golden.add(&CreateVolume { request: request.clone(), volume, parent: Some(chain("p")) });
    golden.add(&CreateVolume { request: request.clone(), volume, parent: None });
    golden.add(&ApplyLayer {
        request: request.clone(),
        volume,
        blob: BlobDigest(Digest::of(b"b")),
        diff_id: DiffId(Digest::of(b"d")),
    });
    golden.add(&SealVolume { request: request.clone(), volume });
    let read_only = true;
    for bytes in [None, Some(1 << 36)] {
        let request = request.clone();
        golden.add(&Snapshot { request, name: name(), image: volume, read_only, bytes });
    }
    golden.add(&Mount { request: request.clone(), name: name() });
    golden.add(&Unmount { request: request.clone(), name: name() });
    golden.add(&Map { request: request.clone(), name: name() });
    golden.add(&Unmap { request: request.clone(), name: name() });
    golden.add(&DeleteVolume { request: request.clone(), target: Target::Volume(volume) });
    golden.add(&DeleteVolume { request: request.clone(), target: Target::Snapshot(name()) });
    golden.add(&VerifyVolume { request: request.clone(), volume });
    golden.add(&ListVolumes { request: request.clone(), after: Some(ThinId::BASE) });
    golden.add(&ListVolumes { request, after: None });
}

fn replies(golden: &mut Golden) {
    golden.add(&Welcome { protocol: 1, version: "0.1.0".to_owned(), confined: true });
    golden.add(&Outcome::Done);
    golden.add(&Outcome::AlreadyThere);
    golden.add(&PoolStatus::Down);
    let modes =
        [PoolMode::ReadWrite, PoolMode::ReadOnly, PoolMode::OutOfDataSpace, PoolMode::Failed];
    for mode in modes {
        golden.add(&PoolStatus::Up(PoolUsage {
            mode,
            needs_check: false,
            block_bytes: 131_072,
            data_used_blocks: 1,
            data_total_blocks: 2,
            low_water_blocks: 3,
            metadata_used_blocks: 4,
            metadata_total_blocks: 5,
            volume_bytes: 6,
            transaction: 7,
            volumes: 8,
            snapshots: 9,
            loopback: true,
            data_limit_bytes: Some(10),
            metadata_limit_bytes: None,
            late: vec![
                LateOperation { thin: None, step: Step::PoolMessage, seconds: 11 },
                LateOperation { thin: Some(ThinId::BASE), step: Step::RemoveDevice, seconds: 12 },
            ],
        }));
    }
    golden.add(&LayerState::Running(LayerProgress { blob_bytes: 1, tar_bytes: 2, entries: 3 }));
    let tree = Some(TreeDigest(Digest::of(b"t")));
    let layout = LayoutFacts { directories: 3, root_mode: 0o755, writable_directories: 0 };
    golden.add(&LayerState::Applied(AppliedLayer { entries: 1, file_bytes: 2, layout, tree }));
    golden.add(&VerifyState::Running(VerifyProgress { entries: 1, bytes: 2 }));
    golden.add(&VerifyState::Verified { tree: TreeDigest(Digest::of(b"t")) });
    for what in Difference::ALL {
        golden.add(&VerifyState::Differs { what: *what, path: ShownPath::of(b"etc/a\nb") });
    }
    golden.add(&Mapped { outcome: Outcome::Done, minor: 3, bytes: 4 });
    golden.add(&inventory());
}

fn inventory() -> Inventory {
    let layer = ItemLayer {
        blob: BlobDigest(Digest::of(b"b")),
        diff_id: DiffId(Digest::of(b"d")),
        tree: Some(TreeDigest(Digest::of(b"t"))),
    };
    let volume = |state, layer| {
        What::Volume(VolumeItem { volume: chain("v"), parent: Some(chain("p")), state, layer })
    };
    let snapshot = What::Snapshot(SnapshotItem {
        name: name(),
        image: chain("v"),
        read_only: false,
        mounts: true,
        bytes: Some(9),
    });
    let thin = ThinId::try_from(163).unwrap();
    let items = [
        volume(VolumeState::Building, None),
        volume(VolumeState::Filled, Some(layer)),
        volume(VolumeState::Sealed, Some(layer)),
        snapshot,
    ];
    let items = items.map(|what| Item { thin, what, minor: Some(5) }).to_vec();
    Inventory { items, next: Some(thin) }
}

fn not_done(golden: &mut Golden) {
    golden.add(&NotDone::Stopping);
    golden.add(&NotDone::Failed(StepFailure { step: Step::LoadTable, errno: 22 }));
    golden.add(&NotDone::Late(Step::RemoveDevice));
    golden.add(&NotDone::from(Failure { stage: Stage::BlobOpen, errno: 2 }));
    golden.add(&NotDone::Refused(Refusal::PoolFull));
    golden.add(&NotDone::Refused(Refusal::Layer { rule: Rule::NameDotdot, entry: Some(7) }));
    golden.add(&NotDone::Refused(Refusal::Layout(Rule::LayoutRootMode)));
}

#[test]
fn the_wire_is_as_it_was() {
    let mut golden = Golden(String::new());
    requests(&mut golden);
    replies(&mut golden);
    not_done(&mut golden);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden.txt");
    if std::env::var_os("AIRLOCK_BLESS").is_some() {
        std::fs::write(&path, &golden.0).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap();
    assert_eq!(golden.0, stored, "the wire changed: see the head of this file");
}

#[test]
fn an_item_of_the_inventory_never_fills_a_frame() {
    let longest = "a".repeat(128);
    let item = Item {
        thin: ThinId::try_from((1 << 24) - 1).unwrap(),
        what: What::Snapshot(SnapshotItem {
            name: longest.parse().unwrap(),
            image: chain("v"),
            read_only: false,
            mounts: false,
            bytes: Some(u64::MAX),
        }),
        minor: Some(u32::MAX),
    };
    let volume = inventory().items.into_iter().map(|item| serde_json::to_string(&item).unwrap());
    let largest = volume.chain([serde_json::to_string(&item).unwrap()]).map(|t| t.len()).max();
    assert!(largest.unwrap() < 700, "{largest:?}");
    let page = airlock_protocol::reply::PAGE * largest.unwrap();
    assert!(page < airlock_protocol::wire::MAX_FRAME, "{page}");
}

#[test]
fn unknown_fields_and_wrong_values_are_refused() {
    let good = serde_json::to_string(&Map { request: request(), name: name() }).unwrap();
    assert!(serde_json::from_str::<Map>(&good).is_ok());
    for hostile in [
        good.replace("web-1", "../etc"),
        good.replace("web-1", "/dev/sda"),
        good.replace("web-1", &"a".repeat(129)),
        good.replace("0a9z", "A B"),
        good.replace('}', ",\"path\":\"/dev/sda\"}"),
        good.replace("\"name\"", "\"names\""),
    ] {
        assert!(serde_json::from_str::<Map>(&hostile).is_err(), "{hostile}");
    }
    let volume = serde_json::to_string(&SealVolume { request: request(), volume: chain("v") });
    let volume = volume.unwrap();
    assert!(serde_json::from_str::<SealVolume>(&volume.replace("sha256:", "sha512:")).is_err());
}

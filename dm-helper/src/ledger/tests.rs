//! What the ledger survives.

#![expect(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use airlock_policy::digest::{BlobDigest, ChainId, DiffId, Digest, TreeDigest};
use airlock_policy::name::ThinId;

use super::*;

/// A state directory that goes when the test ends.
struct StateDirectory(PathBuf);

impl StateDirectory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ledger-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn open(&self) -> Result<Ledger, LedgerFailure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ledger::open(rustix::fs::open(&self.0, flags, Mode::empty()).unwrap())
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.0.join(FILE)).unwrap()
    }

    fn write(&self, bytes: &[u8]) {
        fs::write(self.0.join(FILE), bytes).unwrap();
    }
}

impl Drop for StateDirectory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn thin(number: u32) -> ThinId {
    ThinId::try_from(number).unwrap()
}

fn chain(seed: u8) -> ChainId {
    ChainId(Digest::of(&[seed]))
}

fn layer() -> Layer {
    let digest = Digest::of(b"layer");
    let layout = airlock_policy::layout::LayoutFacts::default();
    let tree = Some(TreeDigest(digest));
    Layer {
        blob: BlobDigest(digest),
        diff_id: DiffId(digest),
        entries: 1,
        file_bytes: 2,
        layout,
        tree,
    }
}

fn change(ledger: &mut Ledger, change: Change) {
    let transaction = ledger.book().transaction() + 1;
    ledger.append(Record::Intent(Intent { transaction, change })).unwrap();
    ledger.append(Record::Confirmed { transaction }).unwrap();
}

fn create(number: u32, seed: u8, parent: Option<ChainId>) -> Change {
    Change::CreateVolume { thin: thin(number), volume: chain(seed), parent }
}

/// One of everything: a sealed volume, a building one on it, a snapshot, a deleted one, an intent.
fn full(ledger: &mut Ledger) {
    let sizes =
        PoolRecord { data_sectors: 1, metadata_sectors: 2, volume_sectors: 3, block_sectors: 256 };
    ledger.append(Record::Pool(sizes)).unwrap();
    change(ledger, Change::CreateBase);
    change(ledger, Change::Seal { thin: ThinId::BASE });
    change(ledger, create(1, 1, None));
    ledger.append(Record::Filled { thin: thin(1), layer: layer() }).unwrap();
    change(ledger, Change::Seal { thin: thin(1) });
    change(ledger, create(2, 2, Some(chain(1))));
    let name = "web".parse().unwrap();
    let snapshot = Change::CreateSnapshot {
        thin: thin(3),
        name,
        image: chain(1),
        read_only: false,
        sectors: None,
    };
    change(ledger, snapshot);
    ledger.append(Record::HandedOut { thin: thin(3) }).unwrap();
    change(ledger, create(4, 4, None));
    change(ledger, Change::Delete { thin: thin(4) });
    let intent =
        Intent { transaction: ledger.book().transaction() + 1, change: create(5, 5, None) };
    ledger.append(Record::Intent(intent)).unwrap();
}

#[test]
fn everything_is_found_again_and_compaction_changes_nothing() {
    let state = StateDirectory::new();
    let mut ledger = state.open().unwrap();
    full(&mut ledger);
    let long = state.bytes().len();
    let reopened = state.open().unwrap();
    assert_eq!(reopened.book(), ledger.book());
    assert!(state.bytes().len() < long);
    assert_eq!(state.open().unwrap().book(), ledger.book());
    assert!(reopened.book().snapshot(&"web".parse().unwrap()).unwrap().handed_out);
    assert_eq!(reopened.book().transaction(), 8);
    assert_eq!(fs::metadata(state.0.join(NEW_FILE)).unwrap().len(), 0);
}

/// The launcher's part.
fn exchange(state: &StateDirectory) {
    let (new, file) = (state.0.join(NEW_FILE), state.0.join(FILE));
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(rustix::fs::CWD, new, rustix::fs::CWD, file, flags).unwrap();
}

#[test]
fn a_ledger_written_anew_while_running_is_whole_wherever_it_was_cut() {
    let state = StateDirectory::new();
    let mut ledger = state.open().unwrap();
    full(&mut ledger);
    let long = state.bytes();
    assert!(ledger.is_worth_compacting(1));
    let size = ledger.write_anew().unwrap();
    // Killed now, the longer file is the ledger.
    assert_eq!(state.bytes(), long);
    assert_eq!(replay(&state.bytes()).unwrap(), *ledger.book());
    exchange(&state);
    // Killed now, the shorter one is; it says the same.
    assert_eq!(state.bytes().len() as u64, size);
    assert_eq!(replay(&state.bytes()).unwrap(), *ledger.book());
    ledger.exchanged(size);
    let transaction = ledger.book().pending().unwrap().transaction;
    ledger.append(Record::Undone { transaction }).unwrap();
    assert_eq!(replay(&state.bytes()).unwrap(), *ledger.book());
    // And once more, into the file that was the first.
    let size = ledger.write_anew().unwrap();
    exchange(&state);
    ledger.exchanged(size);
    ledger.append(Record::Making(true)).unwrap();
    assert_eq!(replay(&state.bytes()).unwrap(), *ledger.book());
    assert_eq!(state.open().unwrap().book(), ledger.book());
}

#[test]
fn nothing_is_added_to_a_ledger_of_which_nobody_knows_where_it_is() {
    let state = StateDirectory::new();
    let mut ledger = state.open().unwrap();
    full(&mut ledger);
    ledger.write_anew().unwrap();
    ledger.not_exchanged(true);
    assert!(ledger.is_broken());
    ledger.append(Record::Making(true)).unwrap_err();
}

#[test]
fn a_thin_id_is_never_given_out_twice() {
    let state = StateDirectory::new();
    let mut ledger = state.open().unwrap();
    full(&mut ledger);
    assert_eq!(ledger.book().next_thin(), Some(thin(6)));
    let transaction = ledger.book().pending().unwrap().transaction;
    ledger.append(Record::Undone { transaction }).unwrap();
    // 4 was deleted, 5 was undone: neither comes back, not even after two compactions.
    drop(ledger);
    drop(state.open().unwrap());
    assert_eq!(state.open().unwrap().book().next_thin(), Some(thin(6)));
}

#[test]
fn a_torn_tail_is_dropped_wherever_it_was_torn() {
    let state = StateDirectory::new();
    let mut ledger = state.open().unwrap();
    change(&mut ledger, create(1, 1, None));
    let before = state.bytes();
    ledger.append(Record::Filled { thin: thin(1), layer: layer() }).unwrap();
    let after = state.bytes();
    for cut in before.len()..after.len() {
        state.write(&after[..cut]);
        let book = state.open().unwrap().book().clone();
        assert_eq!(book.volume(chain(1)).unwrap().contents, Contents::Building, "cut at {cut}");
    }
    // Sectors may reach the disk out of order: the end is there, the middle is zeros.
    let mut holed = after.clone();
    holed[before.len() + 10..after.len() - 5].fill(0);
    state.write(&holed);
    assert_eq!(state.open().unwrap().book().volume(chain(1)).unwrap().contents, Contents::Building);
    state.write(&after);
    assert_ne!(state.open().unwrap().book().volume(chain(1)).unwrap().contents, Contents::Building);
}

#[test]
fn what_follows_a_torn_tail_is_read() {
    let state = StateDirectory::new();
    drop(state.open().unwrap());
    let mut bytes = state.bytes();
    bytes.extend(b"deadbeef {\"confir");
    state.write(&bytes);
    let mut ledger = state.open().unwrap();
    change(&mut ledger, create(1, 1, None));
    assert_eq!(state.open().unwrap().book(), ledger.book());
}

#[test]
fn a_damaged_middle_is_refused_by_line_and_left_as_it_is() {
    let state = StateDirectory::new();
    full(&mut state.open().unwrap());
    let mut bytes = state.bytes();
    let second = bytes.iter().position(|b| *b == b'\n').unwrap() + 20;
    bytes[second] ^= 1;
    state.write(&bytes);
    assert!(matches!(state.open(), Err(LedgerFailure::Damaged { line: 2 })));
    assert_eq!(state.bytes(), bytes);
}

#[test]
fn a_newer_format_is_refused_even_in_the_last_line() {
    let state = StateDirectory::new();
    state.write(&line::encode(&Record::Format(2)).unwrap());
    assert!(matches!(state.open(), Err(LedgerFailure::Contradictory { line: 1, .. })));
}

#[test]
fn records_that_contradict_each_other_are_refused() {
    type Case = fn(&mut Book) -> Result<(), Contradiction>;
    let cases: [Case; 6] = [
        |book| book.apply(Record::Confirmed { transaction: 1 }),
        |book| book.apply(Record::Undone { transaction: 1 }),
        |book| book.apply(Record::Filled { thin: thin(9), layer: layer() }),
        |book| book.apply(Record::HandedOut { thin: thin(1) }),
        |book| {
            let change = Change::CreateBase;
            book.apply(Record::Intent(Intent { transaction: 7, change }))
        },
        |book| {
            // Sealing what was never filled.
            let change = Change::Seal { thin: thin(1) };
            book.apply(Record::Intent(Intent { transaction: 2, change })).unwrap();
            book.apply(Record::Confirmed { transaction: 2 })
        },
    ];
    for (number, case) in cases.into_iter().enumerate() {
        let mut book = Book::empty();
        let change = create(1, 1, None);
        book.apply(Record::Intent(Intent { transaction: 1, change })).unwrap();
        book.apply(Record::Confirmed { transaction: 1 }).unwrap();
        assert_eq!(case(&mut book), Err(Contradiction), "case {number}");
    }
}

#[test]
fn a_layer_that_an_older_version_recorded_has_no_tree() {
    let state = StateDirectory::new();
    full(&mut state.open().unwrap());
    let older = Layer { tree: None, ..layer() };
    let written = serde_json::to_string(&older).unwrap();
    assert!(!written.contains("tree"), "{written}");
    assert_eq!(serde_json::from_str::<Layer>(&written).unwrap(), older);
    let (_thin, kept) = state.open().unwrap().book().sealed(chain(1)).unwrap();
    assert_eq!(kept.tree, layer().tree);
}

#[test]
fn manifests_of_volumes_that_are_gone_are_removed_and_nothing_else() {
    let state = StateDirectory::new();
    let mut ledger = state.open().unwrap();
    full(&mut ledger);
    let folder = || rustix::fs::open(&state.0, OFlags::RDONLY, Mode::empty()).unwrap();
    assert_eq!(ledger.remove_orphans(folder()).unwrap(), 0, "there need be none");
    let trees = state.0.join("trees");
    fs::create_dir(&trees).unwrap();
    // Two volumes, a snapshot, a deleted one, ids that were never given out, what is not ours.
    for name in ["1", "2", "3", "4", "900", "16777216", "note"] {
        fs::write(trees.join(name), "").unwrap();
    }
    assert_eq!(ledger.remove_orphans(folder()).unwrap(), 3);
    let mut left: Vec<_> =
        fs::read_dir(&trees).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["1", "16777216", "2", "note"]);
}

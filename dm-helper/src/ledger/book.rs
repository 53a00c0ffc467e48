//! What all lines of the ledger together say (VOL-4).

use std::collections::{BTreeMap, HashMap};

use airlock_policy::digest::ChainId;
use airlock_policy::name::{SnapshotName, ThinId};

use super::record::{
    Change, Contents, Intent, Layer, OwnSize, PoolRecord, Record, Snapshot, Volume,
};

/// The version of the ledger's format that this code writes and reads.
pub(super) const FORMAT: u32 = 1;

/// The record contradicts those before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a record contradicts those before it")]
pub struct Contradiction;

/// A thin device other than the base volume.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Thing {
    /// A layer's volume.
    Volume(Volume),
    /// A snapshot of an image.
    Snapshot(Snapshot),
}

/// The sum of the records.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Book {
    pub(super) making: bool,
    pub(super) pool: Option<PoolRecord>,
    pub(super) next_thin: u32,
    pub(super) transaction: u64,
    pub(super) base_sealed: Option<bool>,
    pub(super) pending: Option<Intent>,
    things: BTreeMap<ThinId, Thing>,
    volumes: HashMap<ChainId, ThinId>,
    snapshots: HashMap<SnapshotName, ThinId>,
}

impl Book {
    pub(super) fn empty() -> Self {
        // 0 is the base volume's.
        Self { next_thin: 1, ..Self::default() }
    }

    /// The fewest records that say the same.
    pub(super) fn records(&self) -> Vec<Record> {
        let Self { making, pool, next_thin, transaction, base_sealed, pending, things, .. } = self;
        let counters = Record::Counters { next_thin: *next_thin, transaction: *transaction };
        let mut records = vec![Record::Format(FORMAT), Record::Making(*making), counters];
        records.extend(pool.map(Record::Pool));
        records.extend(base_sealed.map(|sealed| Record::Base { sealed }));
        records.extend(things.values().map(|thing| match thing {
            Thing::Volume(volume) => Record::Volume(volume.clone()),
            Thing::Snapshot(snapshot) => Record::Snapshot(snapshot.clone()),
        }));
        records.extend(pending.clone().map(Record::Intent));
        records
    }

    pub(super) fn apply(&mut self, record: Record) -> Result<(), Contradiction> {
        match record {
            Record::Format(version) => require(version == FORMAT)?,
            Record::Making(making) => self.making = making,
            Record::Pool(pool) => {
                require(self.pool.is_none())?;
                self.pool = Some(pool);
            }
            Record::Grown { data_sectors, metadata_sectors } => {
                let pool = self.pool.as_mut().ok_or(Contradiction)?;
                require(data_sectors >= pool.data_sectors)?;
                require(metadata_sectors >= pool.metadata_sectors)?;
                *pool = PoolRecord { data_sectors, metadata_sectors, ..*pool };
            }
            Record::Counters { next_thin, transaction } => {
                self.next_thin = next_thin;
                self.transaction = transaction;
            }
            Record::Base { sealed } => self.base_sealed = Some(sealed),
            Record::Volume(volume) => self.insert_volume(volume)?,
            Record::Snapshot(snapshot) => self.insert_snapshot(snapshot)?,
            Record::Intent(intent) => self.intend(intent)?,
            Record::Confirmed { transaction } => {
                let intent = self.settled(transaction)?;
                self.transaction = transaction;
                self.make(intent.change)?;
            }
            Record::Undone { transaction } => drop(self.settled(transaction)?),
            Record::Filled { thin, layer } => {
                let volume = self.volume_of(thin)?;
                require(volume.contents == Contents::Building)?;
                volume.contents = Contents::Filled(layer);
            }
            Record::HandedOut { thin } => self.snapshot_of(thin)?.handed_out = true,
            Record::SnapshotGrown { thin } => {
                self.snapshot_of(thin)?.size.as_mut().ok_or(Contradiction)?.grown = true;
            }
            Record::Mounts { thin, mounts } => {
                let snapshot = self.snapshot_of(thin)?;
                require(!(mounts && snapshot.handed_out))?;
                snapshot.mounts = mounts;
            }
        }
        Ok(())
    }

    fn intend(&mut self, intent: Intent) -> Result<(), Contradiction> {
        require(self.pending.is_none())?;
        require(self.transaction.checked_add(1) == Some(intent.transaction))?;
        if let Some(thin) = intent.change.creates() {
            require(!self.things.contains_key(&thin))?;
            // From the intent on the id is given out, whatever comes of it.
            self.next_thin = self.next_thin.max(u32::from(thin).saturating_add(1));
        }
        self.pending = Some(intent);
        Ok(())
    }

    fn settled(&mut self, transaction: u64) -> Result<Intent, Contradiction> {
        self.pending.take_if(|intent| intent.transaction == transaction).ok_or(Contradiction)
    }

    fn make(&mut self, change: Change) -> Result<(), Contradiction> {
        match change {
            Change::CreateBase => self.base_sealed = Some(false),
            Change::CreateVolume { thin, volume, parent } => {
                self.insert_volume(Volume { thin, volume, parent, contents: Contents::Building })?;
            }
            Change::CreateSnapshot { thin, name, image, read_only, sectors } => {
                let (handed_out, mounts) = (false, false);
                let size = sectors.map(|sectors| OwnSize { sectors, grown: false });
                self.insert_snapshot(Snapshot {
                    thin,
                    name,
                    image,
                    read_only,
                    handed_out,
                    mounts,
                    size,
                })?;
            }
            Change::Delete { thin: ThinId::BASE } => self.base_sealed = None,
            Change::Delete { thin } => match self.things.remove(&thin).ok_or(Contradiction)? {
                Thing::Volume(volume) => drop(self.volumes.remove(&volume.volume)),
                Thing::Snapshot(snapshot) => drop(self.snapshots.remove(&snapshot.name)),
            },
            Change::Seal { thin: ThinId::BASE } => self.base_sealed = Some(true),
            Change::Seal { thin } => {
                let volume = self.volume_of(thin)?;
                let Contents::Filled(layer) = volume.contents else { return Err(Contradiction) };
                volume.contents = Contents::Sealed(layer);
            }
        }
        Ok(())
    }

    fn insert_volume(&mut self, volume: Volume) -> Result<(), Contradiction> {
        require(self.volumes.insert(volume.volume, volume.thin).is_none())?;
        require(self.things.insert(volume.thin, Thing::Volume(volume)).is_none())
    }

    fn insert_snapshot(&mut self, snapshot: Snapshot) -> Result<(), Contradiction> {
        require(self.snapshots.insert(snapshot.name.clone(), snapshot.thin).is_none())?;
        require(self.things.insert(snapshot.thin, Thing::Snapshot(snapshot)).is_none())
    }

    fn volume_of(&mut self, thin: ThinId) -> Result<&mut Volume, Contradiction> {
        match self.things.get_mut(&thin) {
            Some(Thing::Volume(volume)) => Ok(volume),
            Some(Thing::Snapshot(_)) | None => Err(Contradiction),
        }
    }

    fn snapshot_of(&mut self, thin: ThinId) -> Result<&mut Snapshot, Contradiction> {
        match self.things.get_mut(&thin) {
            Some(Thing::Snapshot(snapshot)) => Ok(snapshot),
            Some(Thing::Volume(_)) | None => Err(Contradiction),
        }
    }

    /// A thin device's size in sectors of 512 bytes, where that is not every volume's.
    pub fn sectors(&self, thin: ThinId) -> Option<u64> {
        match self.things.get(&thin)? {
            Thing::Snapshot(snapshot) => snapshot.size.map(|size| size.sectors),
            Thing::Volume(_) => None,
        }
    }

    /// What the pool is made of; `None` while there is none.
    pub const fn pool(&self) -> Option<&PoolRecord> {
        self.pool.as_ref()
    }

    /// Whether the pool's backing files were being made when the last record was written.
    pub const fn making(&self) -> bool {
        self.making
    }

    /// The transaction id that the pool has, if the pending change was not made.
    pub const fn transaction(&self) -> u64 {
        self.transaction
    }

    /// The change that is neither confirmed nor undone.
    pub const fn pending(&self) -> Option<&Intent> {
        self.pending.as_ref()
    }

    /// Whether the base volume is formatted; `None` where it was not made.
    pub const fn base_sealed(&self) -> Option<bool> {
        self.base_sealed
    }

    /// The next thin id; `None` when all were given out.
    pub fn next_thin(&self) -> Option<ThinId> {
        ThinId::try_from(self.next_thin).ok()
    }

    /// The volume of this chain id.
    pub fn volume(&self, chain: ChainId) -> Option<&Volume> {
        match self.things.get(self.volumes.get(&chain)?)? {
            Thing::Volume(volume) => Some(volume),
            Thing::Snapshot(_) => None,
        }
    }

    /// The layer of a sealed volume.
    pub fn sealed(&self, chain: ChainId) -> Option<(ThinId, Layer)> {
        let volume = self.volume(chain)?;
        match volume.contents {
            Contents::Sealed(layer) => Some((volume.thin, layer)),
            Contents::Building | Contents::Filled(_) => None,
        }
    }

    /// The snapshot of this name.
    pub fn snapshot(&self, name: &SnapshotName) -> Option<&Snapshot> {
        match self.things.get(self.snapshots.get(name)?)? {
            Thing::Snapshot(snapshot) => Some(snapshot),
            Thing::Volume(_) => None,
        }
    }

    /// Whether a volume or snapshot was made from the volume of this chain id.
    pub fn has_children(&self, chain: ChainId) -> bool {
        self.things.values().any(|thing| match thing {
            Thing::Volume(volume) => volume.parent == Some(chain),
            Thing::Snapshot(snapshot) => snapshot.image == chain,
        })
    }

    /// All of them, in order of thin ids, from the one after `after` on.
    pub fn things(&self, after: ThinId) -> impl Iterator<Item = (ThinId, &Thing)> {
        let from = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        self.things.range(from).map(|(thin, thing)| (*thin, thing))
    }

    /// The volume or snapshot of this thin id.
    pub fn thing(&self, thin: ThinId) -> Option<&Thing> {
        self.things.get(&thin)
    }

    /// How many volumes there are.
    pub fn volume_count(&self) -> usize {
        self.volumes.len()
    }

    /// How many snapshots there are.
    pub fn snapshot_count(&self) -> usize {
        self.snapshots.len()
    }
}

const fn require(holds: bool) -> Result<(), Contradiction> {
    if holds { Ok(()) } else { Err(Contradiction) }
}

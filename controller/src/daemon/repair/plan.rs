//! What is to be mended: a comparison of the ledger with the database, which changes nothing.

use std::collections::{HashMap, HashSet};

use airlock_policy::digest::ChainId;
use airlock_policy::name::SnapshotName;
use airlock_protocol::reply::{Item, ItemLayer, SnapshotItem, VolumeState, What};

use crate::store::reconcile::Known;

/// One thing to be mended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Repair {
    /// The helper does not know a snapshot on record.
    ForgetSnapshot(SnapshotName),
    /// The helper has no sealed volume where one is on record.
    ForgetVolume(ChainId),
    /// A sealed volume is on nobody's record.
    AdoptVolume { volume: ChainId, parent: Option<ChainId>, layer: ItemLayer },
    /// A volume that is an image, and on record as none.
    AdoptImage { volume: ChainId, layer: ItemLayer },
    /// The same, of several layers: the ledger does not hold such an image's digest.
    UnknownImage { volume: ChainId },
    /// A snapshot is on nobody's record.
    AdoptSnapshot(SnapshotItem),
    /// The same, of an image that is not on record either.
    UnknownSnapshot(SnapshotItem),
}

impl Repair {
    /// Whether only a pull tells what is missing.
    pub(super) const fn is_beyond_us(&self) -> bool {
        matches!(self, Self::UnknownImage { .. } | Self::UnknownSnapshot(_))
    }
}

/// Compares. In the order in which it can be carried out: what is forgotten goes from the top down,
/// what is adopted comes from the bottom up.
pub(super) fn compare(known: &Known, ledger: &[Item]) -> Vec<Repair> {
    let mut sealed = HashMap::new();
    let mut below = HashSet::new();
    let (mut volumes, mut snapshots) = (Vec::new(), Vec::new());
    for item in ledger {
        match &item.what {
            What::Volume(volume) => {
                below.extend(volume.parent);
                let layer = volume.layer.filter(|_| volume.state == VolumeState::Sealed);
                if let Some(layer) = layer {
                    sealed.insert(volume.volume, layer);
                    volumes.push((volume.volume, volume.parent, layer));
                }
            }
            What::Snapshot(snapshot) => snapshots.push(snapshot),
        }
    }
    let active: HashSet<_> = snapshots.iter().map(|snapshot| snapshot.image).collect();
    let mut plan: Vec<_> = forgotten(known, &sealed, &snapshots);
    let mut images = known.tops.clone();
    // A parent is older than its child, and the ledger lists by age.
    for &(volume, parent, layer) in &volumes {
        if known.doomed.contains(&volume) {
            continue;
        }
        if !known.volumes.contains_key(&volume) {
            plan.push(Repair::AdoptVolume { volume, parent, layer });
        }
        // What a volume was made on top of is an image only if somebody activated it.
        let is_image = active.contains(&volume) || !below.contains(&volume);
        if is_image && !known.tops.contains(&volume) {
            plan.push(match parent {
                None => Repair::AdoptImage { volume, layer },
                Some(_) => Repair::UnknownImage { volume },
            });
            images.extend(parent.is_none().then_some(volume));
        }
    }
    for found in snapshots.into_iter().filter(|found| !known.snapshots.contains(&found.name)) {
        let is_known = images.contains(&found.image);
        let adopt = if is_known { Repair::AdoptSnapshot } else { Repair::UnknownSnapshot };
        plan.push(adopt(found.clone()));
    }
    plan
}

fn forgotten(
    known: &Known,
    sealed: &HashMap<ChainId, ItemLayer>,
    snapshots: &[&SnapshotItem],
) -> Vec<Repair> {
    let there: HashSet<_> = snapshots.iter().map(|snapshot| &snapshot.name).collect();
    let mut names: Vec<_> = known.snapshots.iter().filter(|name| !there.contains(name)).collect();
    names.sort();
    let mut volumes: Vec<_> =
        known.volumes.keys().copied().filter(|volume| !sealed.contains_key(volume)).collect();
    volumes.sort_by_key(|volume| (std::cmp::Reverse(depth(known, *volume)), *volume));
    let names = names.into_iter().cloned().map(Repair::ForgetSnapshot);
    names.chain(volumes.into_iter().map(Repair::ForgetVolume)).collect()
}

/// How many volumes are below this one.
fn depth(known: &Known, volume: ChainId) -> usize {
    let below = |volume: &ChainId| known.volumes.get(volume).copied().flatten();
    // A circle, which the schema cannot forbid, ends here.
    std::iter::successors(Some(volume), below).take(known.volumes.len().saturating_add(1)).count()
}

#[cfg(test)]
mod tests {
    use airlock_policy::digest::{BlobDigest, DiffId, Digest};
    use airlock_policy::name::ThinId;
    use airlock_protocol::reply::VolumeItem;

    use super::*;

    fn chain(text: &str) -> ChainId {
        ChainId(Digest::of(text.as_bytes()))
    }

    fn layer(text: &str) -> ItemLayer {
        let digest = Digest::of(text.as_bytes());
        ItemLayer { blob: BlobDigest(digest), diff_id: DiffId(digest), tree: None }
    }

    fn item(thin: u32, what: What) -> Item {
        Item { thin: ThinId::try_from(thin).unwrap(), what, minor: None }
    }

    fn volume(thin: u32, name: &str, parent: Option<&str>, state: VolumeState) -> Item {
        let (volume, parent) = (chain(name), parent.map(chain));
        let layer = (state != VolumeState::Building).then(|| layer(name));
        item(thin, What::Volume(VolumeItem { volume, parent, state, layer }))
    }

    fn snapshot(name: &str, image: &str) -> SnapshotItem {
        let (mounts, bytes) = (false, None);
        SnapshotItem {
            name: name.parse().unwrap(),
            image: chain(image),
            read_only: false,
            mounts,
            bytes,
        }
    }

    #[test]
    fn an_empty_database_takes_on_all_that_is_sealed_from_the_bottom_up() {
        let ledger = [
            volume(1, "a", None, VolumeState::Sealed),
            volume(2, "ab", Some("a"), VolumeState::Sealed),
            volume(3, "c", None, VolumeState::Sealed),
            volume(4, "d", None, VolumeState::Filled),
            item(5, What::Snapshot(snapshot("web", "c"))),
            item(6, What::Snapshot(snapshot("deep", "ab"))),
        ];
        let adopt = |name: &str, parent: Option<&str>| Repair::AdoptVolume {
            volume: chain(name),
            parent: parent.map(chain),
            layer: layer(name),
        };
        let plan = compare(&Known::default(), &ledger);
        let expected = [
            adopt("a", None),
            adopt("ab", Some("a")),
            Repair::UnknownImage { volume: chain("ab") },
            adopt("c", None),
            Repair::AdoptImage { volume: chain("c"), layer: layer("c") },
            Repair::AdoptSnapshot(snapshot("web", "c")),
            Repair::UnknownSnapshot(snapshot("deep", "ab")),
        ];
        assert_eq!(plan, expected);
    }

    #[test]
    fn an_empty_ledger_takes_everything_off_the_record_from_the_top_down() {
        let known = Known {
            volumes: [(chain("a"), None), (chain("ab"), Some(chain("a")))].into(),
            snapshots: ["web".parse().unwrap()].into(),
            ..Known::default()
        };
        let expected = [
            Repair::ForgetSnapshot("web".parse().unwrap()),
            Repair::ForgetVolume(chain("ab")),
            Repair::ForgetVolume(chain("a")),
        ];
        assert_eq!(compare(&known, &[]), expected);
    }

    #[test]
    fn what_agrees_and_what_is_to_go_are_left_alone() {
        let mut known = Known::default();
        known.volumes.insert(chain("a"), None);
        known.tops.insert(chain("a"));
        known.doomed.insert(chain("gone"));
        known.snapshots.insert("web".parse().unwrap());
        let ledger = [
            volume(1, "a", None, VolumeState::Sealed),
            volume(2, "gone", None, VolumeState::Sealed),
            item(3, What::Snapshot(snapshot("web", "a"))),
        ];
        assert_eq!(compare(&known, &ledger), []);
    }
}

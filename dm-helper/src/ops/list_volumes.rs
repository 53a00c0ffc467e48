//! `list_volumes`: what the ledger knows, a page at a time.

use std::collections::HashMap;

use airlock_policy::name::{DeviceName, ThinId};
use airlock_protocol::not_done::NotDone;
use airlock_protocol::reply::{
    Inventory, Item, ItemLayer, PAGE, SnapshotItem, VolumeItem, VolumeState, What,
};
use airlock_protocol::request::ListVolumes;

use crate::audit::Verdict;
use crate::helper::Helper;
use crate::ledger::{Contents, Layer, Thing};
use crate::permit::{Operation, Permit};

impl Operation for ListVolumes {
    type Reply = Inventory;

    /// Asked for every few seconds: counted, unless something is wrong.
    fn verdict(result: &Result<Inventory, NotDone>) -> Verdict {
        if result.is_ok() { Verdict::Polled } else { result.into() }
    }

    fn check(&self, _helper: &Helper) -> Result<(), NotDone> {
        Ok(())
    }

    fn perform(permit: Permit<Self>, helper: &mut Helper) -> Result<Inventory, NotDone> {
        let Self { request: _, after } = permit.into_request();
        let minors: HashMap<DeviceName, u32> =
            helper.table.list().map_err(NotDone::Failed)?.into_iter().collect();
        // The base volume, thin id 0, is no item.
        let mut rest = helper.book().things(after.unwrap_or(ThinId::BASE));
        let items: Vec<Item> = rest
            .by_ref()
            .take(PAGE)
            .map(|(thin, thing)| Item {
                thin,
                what: shown(thing),
                minor: minors.get(&DeviceName::Thin(thin)).copied(),
            })
            .collect();
        let next = rest.next().and_then(|_more| items.last().map(|item| item.thin));
        Ok(Inventory { items, next })
    }
}

fn shown(thing: &Thing) -> What {
    let item =
        |layer: &Layer| ItemLayer { blob: layer.blob, diff_id: layer.diff_id, tree: layer.tree };
    match thing {
        Thing::Volume(volume) => {
            let (state, layer) = match &volume.contents {
                Contents::Building => (VolumeState::Building, None),
                Contents::Filled(layer) => (VolumeState::Filled, Some(item(layer))),
                Contents::Sealed(layer) => (VolumeState::Sealed, Some(item(layer))),
            };
            What::Volume(VolumeItem { volume: volume.volume, parent: volume.parent, state, layer })
        }
        Thing::Snapshot(snapshot) => What::Snapshot(SnapshotItem {
            name: snapshot.name.clone(),
            image: snapshot.image,
            read_only: snapshot.read_only,
            mounts: snapshot.mounts,
            bytes: snapshot.size.map(|size| size.sectors.saturating_mul(512)),
        }),
    }
}

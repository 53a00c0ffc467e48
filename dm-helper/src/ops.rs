//! One file for each verb of the protocol, and the table of what they are called.

pub(crate) mod apply_layer;
mod create_volume;
mod delete_volume;
mod ensure_pool;
mod extend_pool;
mod list_volumes;
mod map;
mod mount;
mod pool_status;
mod seal_volume;
mod snapshot;
mod unmap;
mod unmount;
mod verify_volume;

use airlock_policy::digest::ChainId;
use airlock_policy::name::RequestId;
use airlock_protocol::request::{
    ApplyLayer, CreateVolume, DeleteVolume, EnsurePool, ExtendPool, ListVolumes, Map, Mount,
    QueryPool, SealVolume, Snapshot, Target, Unmap, Unmount, VerifyVolume,
};

/// What a request says of itself in the log.
pub(crate) trait Request {
    /// The verb, as in the protocol.
    const VERB: &'static str;

    /// The operator's request that it is done for.
    fn request(&self) -> &RequestId;

    /// What it is done to.
    fn subject(&self) -> String;

    /// The volumes and snapshots that it names.
    fn names(&self) -> Vec<Target>;
}

macro_rules! verbs {
    ($($Request:ident $verb:literal $it:ident => $subject:expr, $names:expr;)+) => {
        $(impl Request for $Request {
            const VERB: &'static str = $verb;

            fn request(&self) -> &RequestId {
                &self.request
            }

            fn subject(&self) -> String {
                let $it = self;
                $subject.to_string()
            }

            fn names(&self) -> Vec<Target> {
                let $it = self;
                Vec::from($names)
            }
        })+
    };
}

verbs! {
    EnsurePool   "ensure_pool"   _it => "pool", [];
    QueryPool    "pool_status"   _it => "pool", [];
    ExtendPool   "extend_pool"   it => format!("{:?} {}", it.part, it.bytes), none(it);
    CreateVolume "create_volume" it => it.volume, volumes([Some(it.volume), it.parent]);
    ApplyLayer   "apply_layer"   it => it.volume, [Target::Volume(it.volume)];
    SealVolume   "seal_volume"   it => it.volume, [Target::Volume(it.volume)];
    Snapshot     "snapshot"      it => it.name, [Target::Snapshot(it.name.clone()), Target::Volume(it.image)];
    Map          "map"           it => it.name, [Target::Snapshot(it.name.clone())];
    Unmap        "unmap"         it => it.name, [Target::Snapshot(it.name.clone())];
    Mount        "mount"         it => it.name, [Target::Snapshot(it.name.clone())];
    Unmount      "unmount"       it => it.name, [Target::Snapshot(it.name.clone())];
    DeleteVolume "delete_volume" it => match &it.target {
        Target::Volume(volume) => volume.to_string(),
        Target::Snapshot(name) => name.to_string(),
    }, [it.target.clone()];
    VerifyVolume "verify_volume" it => it.volume, [Target::Volume(it.volume)];
    ListVolumes  "list_volumes"  _it => "ledger", [];
}

/// It names the pool alone.
const fn none<T>(_request: &T) -> Vec<Target> {
    Vec::new()
}

fn volumes(chains: [Option<ChainId>; 2]) -> Vec<Target> {
    chains.into_iter().flatten().map(Target::Volume).collect()
}

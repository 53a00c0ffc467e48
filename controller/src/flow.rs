//! The durable flows: from a source to a blob, from a blob to a sealed volume, from a volume to an
//! active snapshot.
//!
//! An operator's run is a chain of flows. Each flow is one passage through one state machine, and
//! is found by its subject: whoever asks for what is under way already waits for the same flow.
//!
//! | module | what it does |
//! | --- | --- |
//! | `machine` | state machines as tables |
//! | `step`, `rules`, `queue` | what a step gets and answers; attempts, deadlines, turns |
//! | `engine` | the one loop |
//! | `download`, `unpack`, `activate` | the machines |
//! | `chain` | how a run goes on when its flow ends |
//! | `submit` | how a run is asked for |
//! | `schedule` | when a run begins, and what its end brings about |
//! | `effects` | what a transaction sets going |
//! | `unreadable` | records that nobody can go on with |
//! | `live`, `view`, `busy` | what people see of it |

pub mod activate;
mod busy;
mod chain;
pub mod download;
mod effects;
pub mod engine;
pub mod live;
pub mod machine;
pub mod queue;
pub mod rules;
mod schedule;
pub mod step;
mod submit;
pub mod unpack;
mod unreadable;
mod view;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use airlock_policy::limit::ArchiveLimits;

use crate::blob::BlobStore;
use crate::helper::Helper;
use crate::source::Sources;
use crate::store::{Row, Store};

pub use activate::Activate;
pub use download::Download;
pub use engine::Engine;
pub use live::Live;
pub use machine::IllegalTransition;
pub use queue::Queues;
pub use rules::Settings;
pub use submit::{Order, device_of, image_of};
pub(crate) use submit::{name_by, name_of};
pub use unpack::Unpack;
pub(crate) use view::cursor_of;

/// What the flows work with.
#[derive(Clone, Debug)]
pub struct World {
    /// The database.
    pub store: Store,
    /// The helper.
    pub helper: Helper,
    /// The sources.
    pub sources: Sources,
    /// The blobs.
    pub blobs: BlobStore,
    /// Attempts, deadlines and waits.
    pub settings: Arc<Settings>,
    /// The limits on a layer.
    pub limits: ArchiveLimits,
    /// The queues.
    pub queues: Queues,
    /// What is known of flows while they go on.
    pub live: Arc<Live>,
    /// One at a time for each of these names.
    pub locks: Locks,
}

/// The rows of every machine's table, for the database.
pub fn machines() -> Vec<Row> {
    let mut rows = machine::rows::<download::DownloadState>();
    rows.extend(machine::rows::<unpack::UnpackState>());
    rows.extend(machine::rows::<activate::ActivateState>());
    rows
}

/// Locks by name: what works on one snapshot or volume outside a flow takes turns with what works
/// on the same one inside.
#[derive(Clone, Debug, Default)]
pub struct Locks(Arc<Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>>);

impl Locks {
    /// Waits until nobody else holds this name.
    pub async fn hold(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            let known = locks.get(name).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let fresh = Arc::default();
                locks.insert(name.to_owned(), Arc::downgrade(&fresh));
                fresh
            })
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests;

//! Images and snapshots as programs read them.

use airlock_protocol::control::{ImageView, LayerView, SnapshotView};
use serde::Serialize;

use crate::cli::{moment, word};

/// An image.
#[derive(Debug, Serialize)]
pub(crate) struct ImageItem {
    name: String,
    digest: String,
    sources: Vec<String>,
    state: &'static str,
    blob_bytes: u64,
    file_bytes: Option<u64>,
    layers: Vec<LayerItem>,
    /// Whether all of it lay in `rootfs/`, which is taken for the root.
    unwrapped: bool,
    /// The digest of the whole tree, once it is unpacked.
    tree: Option<String>,
    snapshots: Vec<String>,
    created_at: String,
    used_at: String,
}

impl From<ImageView> for ImageItem {
    fn from(view: ImageView) -> Self {
        let ImageView { name, digest, sources, state, blob_bytes, file_bytes, .. } = view;
        Self {
            name,
            digest: digest.to_string(),
            sources,
            state: word::image(state),
            blob_bytes,
            file_bytes,
            layers: view.layers.into_iter().map(Into::into).collect(),
            unwrapped: view.unwrapped,
            tree: view.tree.map(|tree| tree.to_string()),
            snapshots: view.snapshots.into_iter().map(String::from).collect(),
            created_at: moment::utc(view.created_at),
            used_at: moment::utc(view.used_at),
        }
    }
}

#[derive(Debug, Serialize)]
struct LayerItem {
    blob: String,
    blob_bytes: u64,
    diff_id: String,
    chain_id: String,
    entries: u64,
    file_bytes: u64,
}

impl From<LayerView> for LayerItem {
    fn from(view: LayerView) -> Self {
        let LayerView { blob, blob_bytes, diff_id, chain_id, entries, file_bytes } = view;
        Self {
            blob: blob.to_string(),
            blob_bytes,
            diff_id: diff_id.to_string(),
            chain_id: chain_id.to_string(),
            entries,
            file_bytes,
        }
    }
}

/// A snapshot.
#[derive(Debug, Serialize)]
pub(crate) struct SnapshotItem {
    name: String,
    image: String,
    digest: String,
    device: String,
    mapped: bool,
    read_only: bool,
    size_bytes: u64,
    created_at: String,
}

impl From<SnapshotView> for SnapshotItem {
    fn from(view: SnapshotView) -> Self {
        let SnapshotView { name, image, digest, device, mapped, read_only, bytes, created_at } =
            view;
        Self {
            name: name.into(),
            image,
            digest: digest.to_string(),
            device,
            mapped,
            read_only,
            size_bytes: bytes,
            created_at: moment::utc(created_at),
        }
    }
}

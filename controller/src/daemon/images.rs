//! Images as people see them.

use airlock_policy::digest::ChainId;
use airlock_protocol::control::{Fault, ImageState, ImageView, ListImages, Listing};
use rusqlite::Transaction;

use super::{Daemon, page};
use crate::flow::{image_of, name_by};
use crate::store::image::{ImageFilter, ImageRow};
use crate::store::{StoreFault, image, snapshot, source};

/// An image with all that belongs to it. Its layers only where asked for: a page has no room.
pub(super) fn view(
    tx: &Transaction<'_>,
    row: &ImageRow,
    with_layers: bool,
) -> Result<ImageView, StoreFault> {
    let layers = image::layer_views(tx, row.digest)?;
    let snapshots: Vec<_> =
        snapshot::of_image(tx, row.digest)?.into_iter().map(|snapshot| snapshot.name).collect();
    let sources = source::of_image(tx, row.digest)?;
    let state = match (snapshots.is_empty(), row.unpacked) {
        (false, _) => ImageState::Active,
        (true, true) => ImageState::Unpacked,
        (true, false) => ImageState::Downloaded,
    };
    let sum = |bytes: fn(&airlock_protocol::control::LayerView) -> u64| {
        layers.iter().map(bytes).fold(0_u64, u64::saturating_add)
    };
    Ok(ImageView {
        name: name_by(row, &sources),
        digest: row.digest,
        sources: sources.into_iter().map(|(place, _)| place).collect(),
        state,
        blob_bytes: sum(|layer| layer.blob_bytes),
        file_bytes: Some(sum(|layer| layer.file_bytes)),
        unwrapped: layers.iter().any(|layer| layer.chain_id == ChainId::unwrapped(layer.diff_id)),
        tree: image::tree(tx, row.chain_id)?,
        layers: if with_layers { layers } else { Vec::new() },
        snapshots,
        created_at: row.created_at,
        used_at: row.used_at,
    })
}

impl Daemon {
    /// A page of images, by name.
    pub(super) async fn images(&self, asked: ListImages) -> Result<Listing<ImageView>, Fault> {
        let ListImages { status, source, before, after } = asked;
        let filter = ImageFilter { status, source, before };
        let listed = self.world().store.read(move |tx| {
            // The cursor: the name it is ordered by, and the digest.
            let after = after.as_deref().and_then(|after| after.rsplit_once(' '));
            let (rows, next) = image::page(tx, &filter, after, page::ROWS)?;
            let items: Result<Vec<_>, StoreFault> =
                rows.into_iter().map(|row| Ok((view(tx, &row, true)?, row))).collect();
            Ok((items?, next.map(|(name, digest)| format!("{name} {digest}"))))
        });
        let (items, next) = listed.await.map_err(|error| error.fault())?;
        let cursors: std::collections::HashMap<_, _> = items
            .iter()
            .map(|(_, row)| (row.digest, format!("{} {}", row.name, row.digest)))
            .collect();
        let views = items.into_iter().map(|(view, _)| view).collect();
        Ok(page::until(views, next, |view| cursors.get(&view.digest).cloned().unwrap_or_default()))
    }

    /// One image, with its layers.
    pub(super) async fn image(&self, text: String) -> Result<ImageView, Fault> {
        let found = self.world().store.read(move |tx| {
            let image = image_of(tx, &text)?;
            match image {
                Ok(image) => Ok(Ok(view(tx, &image, true)?)),
                Err(fault) => Ok(Err(fault)),
            }
        });
        found.await.map_err(|error| error.fault())?
    }
}

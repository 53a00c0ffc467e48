//! Blobs that are here and not on record as they are: each is read, hashed and scanned again.

use std::sync::Arc;

use airlock_archive::Position;
use airlock_policy::digest::BlobDigest;
use airlock_protocol::control::{ErrorClass, Fault, RepairLine, RepairOutcome};
use tokio_util::sync::CancellationToken;

use super::super::Daemon;
use super::Ended;
use crate::blob::{BlobStat, Layer, Progress, ScanFault};
use crate::fault::{Explain as _, fault};
use crate::flow::Download;
use crate::store::image::BlobRow;
use crate::store::{flow, image, reconcile};

/// A blob whose file and record do not agree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finding {
    digest: BlobDigest,
    /// Its file; `None` where there is none.
    stat: Option<BlobStat>,
}

impl Finding {
    pub(super) fn subject(&self) -> String {
        format!("blob {}", self.digest.0.short())
    }

    /// Before anything is done about it.
    pub(super) fn planned(&self) -> RepairLine {
        let text = match self.stat {
            Some(_) => "not on record as it is: to be read and hashed, and put on record",
            None => MISSING,
        };
        let outcome =
            if self.stat.is_some() { RepairOutcome::Planned } else { RepairOutcome::Lost };
        RepairLine { subject: self.subject(), outcome, text: text.to_owned() }
    }
}

const MISSING: &str = "on record, and not here: fetched again when its image is next pulled";

impl Daemon {
    /// Compares the folder of the blobs with the record. What a download works on is not counted.
    pub(super) async fn unknown_blobs(&self) -> Result<Vec<Finding>, Fault> {
        let read = self.world().store.read(|tx| {
            let busy: Vec<_> = flow::downloads_since(tx, Download::NAME, i64::MAX)?
                .iter()
                .filter_map(|(input, data)| Download::read(input, data)?.blob)
                .collect();
            let rows = image::all_blobs(tx)?;
            let rows = rows.into_iter().map(|digest| Ok((digest, image::blob(tx, digest)?)));
            Ok((busy, rows.collect::<Result<Vec<_>, crate::store::StoreFault>>()?))
        });
        let (busy, rows) = read.await.map_err(|error| error.fault())?;
        let blobs = self.world().blobs.clone();
        let compared = tokio::task::spawn_blocking(move || {
            let mut rows: std::collections::HashMap<_, _> = rows.into_iter().collect();
            let mut found = Vec::new();
            for digest in blobs.list()? {
                let (stat, row) = (blobs.stat(digest)?, rows.remove(&digest).flatten());
                let is_known = row.zip(stat).is_some_and(|(row, stat)| stat == seen(&row));
                if !is_known && !busy.contains(&digest) {
                    found.push(Finding { digest, stat });
                }
            }
            // Of one that was never here since the database was lost, that was said before.
            let missing = rows.into_iter().filter(|(_, row)| row.is_some_and(|row| row.inode != 0));
            found.extend(missing.map(|(digest, _)| Finding { digest, stat: None }));
            found.sort_by_key(|finding| finding.digest);
            Ok::<_, std::io::Error>(found)
        });
        let failed = |error: &dyn std::error::Error| {
            let what = "failed to look through the folder of the blobs";
            fault(ErrorClass::Unavailable, "disk.failed", what).because(error)
        };
        compared.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }

    /// Reads a blob to its end, and puts it on record as what it is.
    pub(super) async fn adopt_blob(&self, finding: Finding) -> Ended {
        let Finding { digest, stat: Some(stat) } = finding else {
            return Ended::Lost(MISSING.to_owned());
        };
        let (world, progress) = (self.world(), Arc::new(Progress::default()));
        // As a first layer; one that only makes sense above another is no image by itself.
        let layer = Layer { blob: digest, position: Position::Alone };
        let stop = CancellationToken::new();
        let scan = match world.blobs.scan(layer, world.limits, &progress, &stop).await {
            Ok(scan) => scan,
            Err(error @ ScanFault::Damaged { .. }) => {
                return Ended::Lost(format!(
                    "{error}: fetched again when its image is next pulled"
                ));
            }
            Err(error @ ScanFault::Refused { .. }) => {
                return Ended::Lost(format!("{error}: not put on record"));
            }
            Err(error) => return Ended::Failed(error.to_string()),
        };
        let row = BlobRow {
            digest,
            diff_id: scan.summary.diff_id,
            bytes: stat.bytes,
            inode: stat.inode,
            mtime_ns: stat.mtime_ns,
            entries: scan.summary.entries,
            file_bytes: scan.summary.file_bytes,
            wrapped: scan.is_wrapped,
        };
        let known = world.store.write(move |tx| {
            let known = image::blob(tx, digest)?.is_some();
            if known {
                reconcile::adopt_blob(tx, &row)?;
            } else {
                reconcile::adopt_image(tx, &row)?;
            }
            Ok(known)
        });
        match known.await {
            Ok(true) => Ended::Done("read and hashed: it is what its record says".to_owned()),
            Ok(false) => {
                let entries = row.entries;
                Ended::Done(format!(
                    "read and hashed, {entries} entries: on record again as an image"
                ))
            }
            Err(error) => error.into(),
        }
    }
}

fn seen(row: &BlobRow) -> BlobStat {
    BlobStat { bytes: row.bytes, inode: row.inode, mtime_ns: row.mtime_ns }
}

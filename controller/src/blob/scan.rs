//! Validates a blob as a layer before the helper is asked to unpack it.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use airlock_archive::{LayerFault, Position, Refusal, Scan};
use airlock_policy::digest::{BlobDigest, Digest};
use airlock_policy::limit::ArchiveLimits;
use airlock_protocol::control::{ErrorClass, Fault};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::BlobStore;
use super::progress::Progress;

const CHUNK: usize = 256 << 10;

/// Why a blob was not accepted as a layer.
#[derive(Debug, thiserror::Error)]
pub enum ScanFault {
    /// It breaks a rule. Scanning it again changes nothing.
    #[error("layer {blob} is refused: {refusal}")]
    Refused {
        /// The blob.
        blob: BlobDigest,
        /// The rule, and where it is broken.
        refusal: Refusal,
    },
    /// The file's content is not what its name says.
    #[error("blob {blob} is damaged on this machine's disk")]
    Damaged {
        /// The blob.
        blob: BlobDigest,
        /// The digest of what lies there.
        found: BlobDigest,
    },
    /// It cannot be read.
    #[error("cannot read blob {blob}")]
    Read {
        /// The blob.
        blob: BlobDigest,
        /// Why.
        source: io::Error,
    },
    /// The caller gave up.
    #[error("the scan was cancelled")]
    Cancelled,
}

impl ScanFault {
    /// The error as a command shows it.
    pub fn fault(&self) -> Fault {
        let (code, class, cause, facts, remedy) = match self {
            Self::Refused { blob, refusal } => {
                let mut facts = vec![("blob".to_owned(), blob.to_string())];
                if let Some(entry) = refusal.entry {
                    facts.push(("entry".to_owned(), entry.to_string()));
                    facts.push(("name".to_owned(), name_of(refusal)));
                }
                facts.push(("rule".to_owned(), refusal.rule.to_string()));
                (refusal.rule.code(), ErrorClass::Refused, vec![], facts, vec![])
            }
            Self::Damaged { found, .. } => (
                "blob.damaged",
                ErrorClass::Unavailable,
                vec![],
                vec![("found".to_owned(), found.to_string())],
                vec!["pull again: the blob is fetched anew".to_owned()],
            ),
            Self::Read { source, .. } => {
                ("blob.read", ErrorClass::Unavailable, vec![source.to_string()], vec![], vec![])
            }
            Self::Cancelled => ("scan.cancelled", ErrorClass::Internal, vec![], vec![], vec![]),
        };
        Fault { code: code.to_owned(), class, message: self.to_string(), cause, facts, remedy }
    }
}

/// The entry's name as text that no terminal obeys.
fn name_of(refusal: &Refusal) -> String {
    airlock_policy::entry::path::Escaped(&refusal.name).to_string()
}

/// A blob as a layer of an image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layer {
    /// The blob.
    pub blob: BlobDigest,
    /// Where it lies.
    pub position: Position,
}

impl BlobStore {
    /// Scans a blob on a thread of its own: every header, every rule, its digest again.
    ///
    /// `progress` counts bytes of the blob.
    pub async fn scan(
        &self,
        layer: Layer,
        limits: ArchiveLimits,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<Scan, ScanFault> {
        let Layer { blob, position } = layer;
        let (store, progress, cancel) = (self.clone(), Arc::clone(progress), cancel.clone());
        let scanning = tokio::task::spawn_blocking(move || {
            let read = |source| ScanFault::Read { blob, source };
            let file = store.open_blob(blob).map_err(read)?;
            progress.start(0, file.metadata().map_err(read)?.len());
            let watched = Watched { file, progress: &progress, cancel: &cancel };
            let scanned = airlock_archive::scan(watched, &limits, position);
            if cancel.is_cancelled() {
                return Err(ScanFault::Cancelled);
            }
            match judge(blob, scanned) {
                // The image is not to blame for what this machine's disk did to it.
                Err(refused @ ScanFault::Refused { .. }) => {
                    let file = store.open_blob(blob).map_err(read)?;
                    match hash(Watched { file, progress: &progress, cancel: &cancel }) {
                        Ok(found) if found == blob => Err(refused),
                        Ok(found) => Err(ScanFault::Damaged { blob, found }),
                        Err(_) if cancel.is_cancelled() => Err(ScanFault::Cancelled),
                        Err(error) => Err(read(error)),
                    }
                }
                judged => judged,
            }
        });
        let ended = scanning.await;
        ended.unwrap_or_else(|e| Err(ScanFault::Read { blob, source: io::Error::other(e) }))
    }
}

impl BlobStore {
    /// Reads a blob's file and says what its digest is; `None` where there is no file. Blocks.
    pub fn hash(
        &self,
        blob: BlobDigest,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> io::Result<Option<BlobDigest>> {
        let file = match self.open_blob(blob) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        progress.start(0, file.metadata()?.len());
        hash(Watched { file, progress, cancel }).map(Some)
    }
}

fn judge(
    blob: BlobDigest,
    scanned: Result<Scan, LayerFault<Infallible>>,
) -> Result<Scan, ScanFault> {
    match scanned {
        Ok(scan) if scan.summary.blob != blob => {
            Err(ScanFault::Damaged { blob, found: scan.summary.blob })
        }
        Ok(scan) => Ok(scan),
        Err(LayerFault::Refused(refusal)) => Err(ScanFault::Refused { blob, refusal }),
        Err(LayerFault::Read(source)) => Err(ScanFault::Read { blob, source }),
        Err(LayerFault::Visitor(never)) => match never {},
    }
}

fn hash(mut blob: impl Read) -> io::Result<BlobDigest> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = blob.read(&mut chunk)?;
        if length == 0 {
            return Ok(BlobDigest(Digest::from_bytes(hasher.finalize().into())));
        }
        hasher.update(chunk.get(..length).unwrap_or_default());
    }
}

/// A blob that counts what was read of it, and ends when nobody waits for it.
struct Watched<'a> {
    file: File,
    progress: &'a Progress,
    cancel: &'a CancellationToken,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let length = self.file.read(buffer)?;
        self.progress.did(length);
        Ok(length)
    }
}

//! `verify`: reads an image's volume and blobs again, and says what it came to. The
//! volume is the helper's to read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use airlock_policy::digest::{BlobDigest, ChainId, TreeDigest};
use airlock_policy::name::RequestId;
use airlock_protocol::control::{ErrorClass, Fault, Finding, ImageState, ImageView, VerifyView};
use airlock_protocol::reply::VerifyState;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::Daemon;
use crate::blob::{BlobStore, Progress};
use crate::fault::{Explain as _, fault};
use crate::store::image;

/// How long a caller is kept waiting for news.
const LONG_POLL: Duration = Duration::from_secs(1);

/// What is known of the reading of a blob.
#[derive(Clone, Debug)]
enum Reading {
    Running,
    /// What the file's digest is; `None` where there is no file.
    Read(Option<BlobDigest>),
    Failed(String),
}

/// A reading, who asked for it, and how far it is.
#[derive(Clone, Debug)]
struct Check {
    request: RequestId,
    progress: Arc<Progress>,
    news: watch::Receiver<Reading>,
}

/// The last reading of each blob. One blob is read at a time.
#[derive(Debug)]
pub(super) struct BlobChecks {
    last: Mutex<HashMap<BlobDigest, Check>>,
    turn: Arc<Semaphore>,
}

impl Default for BlobChecks {
    fn default() -> Self {
        Self { last: Mutex::default(), turn: Arc::new(Semaphore::new(1)) }
    }
}

impl BlobChecks {
    /// The reading that answers a request: one that runs, whoever asked for it, or the one that this
    /// request began; else a new one.
    fn of(
        &self,
        blob: BlobDigest,
        request: &RequestId,
        (blobs, stop): (&BlobStore, &CancellationToken),
    ) -> Check {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = last.get(&blob)
            && (known.request == *request || matches!(*known.news.borrow(), Reading::Running))
        {
            return known.clone();
        }
        let (tell, news) = watch::channel(Reading::Running);
        let progress = Arc::new(Progress::default());
        let check = Check { request: request.clone(), progress: Arc::clone(&progress), news };
        let (blobs, stop, turn) = (blobs.clone(), stop.clone(), Arc::clone(&self.turn));
        tokio::spawn(async move {
            let _turn = turn.acquire_owned().await;
            let read = tokio::task::spawn_blocking(move || blobs.hash(blob, &progress, &stop));
            tell.send_replace(match read.await {
                Ok(Ok(found)) => Reading::Read(found),
                Ok(Err(error)) => Reading::Failed(error.to_string()),
                Err(error) => Reading::Failed(error.to_string()),
            });
        });
        last.insert(blob, check.clone());
        check
    }
}

impl Daemon {
    /// Begins to verify an image, joins what runs, or says what it came to.
    pub(super) async fn verify(
        &self,
        text: String,
        request: RequestId,
    ) -> Result<VerifyView, Fault> {
        let image = self.image(text).await?;
        let mut finding = self.verify_volume(&image, &request).await?;
        if let Finding::Sound { tree } = finding {
            finding = self.verify_blobs(&image, tree, &request).await?;
        }
        Ok(VerifyView { name: image.name, digest: image.digest, finding })
    }

    /// The helper's word, and what the database has.
    async fn verify_volume(
        &self,
        image: &ImageView,
        request: &RequestId,
    ) -> Result<Finding, Fault> {
        // The last layer's volume holds the whole tree.
        let top = image.layers.last().filter(|_| image.state != ImageState::Downloaded);
        let Some(volume) = top.map(|top| top.chain_id) else {
            let message = format!("{} is not unpacked: it has no volume", image.name);
            return Err(fault(ErrorClass::Conflict, "image.not_unpacked", message)
                .next("airlock pull SOURCE"));
        };
        let state = self.world().helper.verify_volume(request, volume).await;
        let state = state.map_err(|error| error.fault(&format!("verify {}", image.name)))?;
        let finding = match state {
            VerifyState::Running(progress) => {
                return Ok(Finding::Running { entries: progress.entries, bytes: progress.bytes });
            }
            VerifyState::Verified { tree } => self.recorded(image.tree, volume, tree).await?,
            VerifyState::Differs { what, path } => Finding::Differs { what, path },
        };
        if !matches!(finding, Finding::Sound { .. }) {
            let ImageView { name, digest, .. } = image;
            tracing::error!(
                image = %name, %digest, %volume, ?finding, %request,
                "an image's volume is not what was extracted"
            );
        }
        Ok(finding)
    }

    /// Compares the digest of a tree with the one on record. Where there is none yet, it goes there.
    async fn recorded(
        &self,
        recorded: Option<TreeDigest>,
        volume: ChainId,
        found: TreeDigest,
    ) -> Result<Finding, Fault> {
        match recorded {
            Some(recorded) if recorded != found => {
                return Ok(Finding::OtherTree { recorded, found });
            }
            Some(_) => {}
            None => {
                let noted = self.world().store.write(move |tx| image::note_tree(tx, volume, found));
                noted.await.map_err(|error| error.fault())?;
            }
        }
        Ok(Finding::Sound { tree: found })
    }

    /// Reads the blobs of an image whose volume is sound. One that is not what its name says is
    /// noted as such: the next pull fetches it again.
    async fn verify_blobs(
        &self,
        image: &ImageView,
        tree: TreeDigest,
        request: &RequestId,
    ) -> Result<Finding, Fault> {
        for layer in &image.layers {
            let blob = layer.blob;
            let from = (&self.world().blobs, &self.stop);
            let Check { mut news, progress, .. } = self.checks.of(blob, request, from);
            let over = news.wait_for(|reading| !matches!(reading, Reading::Running));
            // Either way it is asked below what is known by now.
            drop(tokio::time::timeout(LONG_POLL, over).await);
            let reading = news.borrow().clone();
            match reading {
                Reading::Running => {
                    let bytes = progress.figures().done_bytes;
                    return Ok(Finding::Running { entries: 0, bytes });
                }
                Reading::Read(Some(found)) if found == blob => {}
                Reading::Read(found) => {
                    let ImageView { name, digest, .. } = image;
                    tracing::error!(image = %name, %digest, %blob, ?found, %request, "a blob is damaged");
                    let noted = self.world().store.write(move |tx| image::forget_file(tx, blob));
                    noted.await.map_err(|error| error.fault())?;
                    return Ok(Finding::Damaged { blob, found });
                }
                Reading::Failed(why) => {
                    let mut unread = fault(
                        ErrorClass::Unavailable,
                        "blob.read",
                        format!("failed to read blob {blob}"),
                    );
                    unread.cause.push(why);
                    return Err(unread);
                }
            }
        }
        Ok(Finding::Sound { tree })
    }
}

//! `verify`: has the helper read an image's volume again, and says what it came to.

use airlock_policy::name::RequestId;
use airlock_protocol::control::{ErrorClass, Fault, Finding, ImageState, VerifyView};
use airlock_protocol::reply::VerifyState;

use super::Daemon;
use crate::fault::{Explain as _, fault};

impl Daemon {
    /// Begins to verify an image, joins what runs, or says what it came to.
    pub(super) async fn verify(
        &self,
        text: String,
        request: RequestId,
    ) -> Result<VerifyView, Fault> {
        let image = self.image(text).await?;
        // The last layer's volume holds the whole tree.
        let top = image.layers.last().filter(|_| image.state != ImageState::Downloaded);
        let Some(top) = top else {
            let message = format!("{} is not unpacked: it has no volume", image.name);
            return Err(fault(ErrorClass::Conflict, "image.not_unpacked", message)
                .next("airlock pull SOURCE"));
        };
        let helper = &self.world().helper;
        let state = helper.verify_volume(&request, top.chain_id).await;
        let state = state.map_err(|error| error.fault(&format!("verify {}", image.name)))?;
        let finding = match state {
            VerifyState::Running(progress) => {
                Finding::Running { entries: progress.entries, bytes: progress.bytes }
            }
            VerifyState::Verified { tree } => Finding::Sound { tree },
            VerifyState::Differs { what, path } => {
                let (name, digest, volume) = (&image.name, image.digest, top.chain_id);
                tracing::error!(
                    image = %name, %digest, %volume, %path, what = what.text(), request = %request,
                    "an image's volume is not what was extracted"
                );
                Finding::Differs { what, path }
            }
        };
        Ok(VerifyView { name: image.name, digest: image.digest, finding })
    }
}

//! The verifications that run, and what the last one of each volume came to.

use std::collections::HashMap;

use airlock_policy::digest::ChainId;
use airlock_policy::name::RequestId;
use airlock_protocol::not_done::NotDone;
use airlock_protocol::reply::VerifyState;
use tokio::sync::watch;

use crate::extraction::LONG_POLL;

/// What is known of a verification: running, or how it ended.
pub(crate) type News = Result<VerifyState, NotDone>;

/// Whether a verification goes on.
pub(crate) const fn runs(news: &News) -> bool {
    matches!(news, Ok(VerifyState::Running(_)))
}

/// The last verification of each volume, and who asked for it.
#[derive(Debug, Default)]
pub(crate) struct Verifications(HashMap<ChainId, (RequestId, watch::Receiver<News>)>);

impl Verifications {
    /// The verification that answers a request: one that runs, whoever asked for it, or the one
    /// that this request began.
    pub(crate) fn of(&self, volume: ChainId, asked: &RequestId) -> Option<Verifying> {
        let (request, news) = self.0.get(&volume)?;
        let answers = runs(&news.borrow()) || request == asked;
        answers.then(|| Verifying::Joined(news.clone()))
    }

    pub(crate) fn running(&self) -> usize {
        self.0.values().filter(|(_, news)| runs(&news.borrow())).count()
    }

    pub(crate) fn note(
        &mut self,
        volume: ChainId,
        request: RequestId,
        news: watch::Receiver<News>,
    ) {
        self.0.insert(volume, (request, news));
    }

    pub(crate) fn forget(&mut self, volume: ChainId) {
        self.0.remove(&volume);
    }
}

/// What `verify_volume` answers, as soon as there is more to say.
#[derive(Debug)]
pub(crate) enum Verifying {
    Begun(watch::Receiver<News>),
    Joined(watch::Receiver<News>),
}

impl Verifying {
    /// Waits for news, for up to a second.
    pub(crate) async fn news(self) -> News {
        let (Self::Begun(mut news) | Self::Joined(mut news)) = self;
        if runs(&news.borrow_and_update()) {
            drop(tokio::time::timeout(LONG_POLL, news.changed()).await);
        }
        news.borrow().clone()
    }
}

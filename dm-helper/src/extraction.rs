//! The extractions that run, and what the last ones came to.

use std::collections::HashMap;
use std::time::Duration;

use airlock_policy::digest::{BlobDigest, ChainId, DiffId};
use airlock_protocol::not_done::NotDone;
use airlock_protocol::reply::{AppliedLayer, LayerProgress, LayerState};
use tokio::sync::watch;

/// How long a caller is kept waiting for news.
pub(crate) const LONG_POLL: Duration = Duration::from_secs(1);

/// The most failed extractions that are remembered for callers who lost the answer.
const REMEMBERED: usize = 256;

/// What is known of an extraction.
#[derive(Clone, Debug)]
pub(crate) enum News {
    Running(LayerProgress),
    Ended(Result<AppliedLayer, NotDone>),
}

impl News {
    fn state(&self) -> Result<LayerState, NotDone> {
        match self {
            Self::Running(progress) => Ok(LayerState::Running(*progress)),
            Self::Ended(result) => result.clone().map(LayerState::Applied),
        }
    }
}

/// One extraction.
#[derive(Debug)]
pub(crate) struct Extraction {
    /// What was to be extracted; `None` where a process before this one knew.
    pub(crate) layer: Option<(BlobDigest, DiffId)>,
    pub(crate) news: watch::Receiver<News>,
    /// Rises from one to the next, so that the oldest can be forgotten first.
    order: u64,
}

impl Extraction {
    pub(crate) fn runs(&self) -> bool {
        matches!(*self.news.borrow(), News::Running(_))
    }
}

/// All of them, by the volume.
#[derive(Debug, Default)]
pub(crate) struct Extractions {
    all: HashMap<ChainId, Extraction>,
    last: u64,
}

impl Extractions {
    pub(crate) fn of(&self, volume: ChainId) -> Option<&Extraction> {
        self.all.get(&volume)
    }

    pub(crate) fn running(&self) -> usize {
        self.all.values().filter(|extraction| extraction.runs()).count()
    }

    /// Notes an extraction that begins.
    pub(crate) fn note(
        &mut self,
        volume: ChainId,
        layer: Option<(BlobDigest, DiffId)>,
        news: watch::Receiver<News>,
    ) {
        self.last = self.last.saturating_add(1);
        self.all.insert(volume, Extraction { layer, news, order: self.last });
    }

    /// Notes that a volume is spoilt: nothing is extracted into it any more.
    pub(crate) fn note_spoilt(&mut self, volume: ChainId, why: NotDone) {
        let (_tell, news) = watch::channel(News::Ended(Err(why)));
        self.note(volume, None, news);
    }

    pub(crate) fn forget(&mut self, volume: ChainId) {
        self.all.remove(&volume);
    }

    /// Forgets the oldest that ended, when there are many; those whose volume is still there (it
    /// holds a part of a layer and must not be filled again) stay.
    pub(crate) fn tidy(&mut self, is_there: impl Fn(ChainId) -> bool) {
        if self.all.len() <= REMEMBERED {
            return;
        }
        let ended = self.all.iter().filter(|(volume, it)| !it.runs() && !is_there(**volume));
        if let Some(volume) = ended.min_by_key(|(_, it)| it.order).map(|(volume, _)| *volume) {
            self.all.remove(&volume);
        }
    }
}

/// What `apply_layer` answers: at once, or as soon as there is more to say.
#[derive(Debug)]
pub(crate) enum Applying {
    Applied(AppliedLayer),
    Begun(watch::Receiver<News>),
    Joined(watch::Receiver<News>),
}

impl Applying {
    /// Waits for news, for up to a second.
    pub(crate) async fn news(self) -> Result<LayerState, NotDone> {
        let mut news = match self {
            Self::Applied(layer) => return Ok(LayerState::Applied(layer)),
            Self::Begun(news) | Self::Joined(news) => news,
        };
        if matches!(*news.borrow_and_update(), News::Running(_)) {
            // No news, or nobody left to tell any: either way what is known is the answer.
            drop(tokio::time::timeout(LONG_POLL, news.changed()).await);
        }
        news.borrow().state()
    }
}

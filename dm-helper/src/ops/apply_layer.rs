//! `apply_layer`: has a layer's blob extracted into its volume (VOL-1).
//!
//! The privileged thread starts the extraction and goes on with other work ([`crate::long`]).

use std::time::Instant;

use airlock_policy::digest::ChainId;
use airlock_policy::errand::{Answer, Errand, Extracted, Failure, Manifest, Progress, Stage};
use airlock_policy::name::ThinId;
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::{AppliedLayer, LayerProgress, PoolMode};
use airlock_protocol::request::ApplyLayer;
use rustix::io::Errno;
use tokio::sync::watch;

use crate::audit::{self, Asked, Peer, Verdict};
use crate::dm::Access;
use crate::extraction::{Applying, News};
use crate::helper::{Helper, unexpected};
use crate::ledger::{Change, Contents, Layer, Record};
use crate::long::Waits;
use crate::ops::Request as _;
use crate::permit::{Operation, Permit, refuse};
use crate::turns::State;

impl Operation for ApplyLayer {
    type Reply = Applying;

    /// Polls are not logged; the end of an extraction is, when it comes.
    fn verdict(result: &Result<Applying, NotDone>) -> Verdict {
        match result {
            Ok(Applying::Begun(_)) => Verdict::Begun,
            Ok(Applying::Joined(_)) => Verdict::Polled,
            Ok(Applying::Applied(_)) | Err(_) => result.into(),
        }
    }

    fn check(&self, helper: &Helper) -> Result<(), NotDone> {
        let Self { request: _, volume, blob, diff_id } = self;
        helper.require_pool()?;
        let last = helper.extractions.of(*volume);
        if let Some(last) = last {
            // It runs, or it failed and the volume is gone or spoilt: perform says which.
            let same = last.layer.is_none_or(|layer| layer == (*blob, *diff_id));
            return if same { Ok(()) } else { refuse(Refusal::OtherLayer) };
        }
        let Some(known) = helper.book().volume(*volume) else {
            return refuse(Refusal::NoSuchVolume);
        };
        match known.contents {
            Contents::Filled(layer) | Contents::Sealed(layer) => {
                let same = (layer.blob, layer.diff_id) == (*blob, *diff_id);
                if same { Ok(()) } else { refuse(other_layer(known.contents)) }
            }
            Contents::Building if volume.is_unwrapped(known.parent, *diff_id).is_none() => {
                refuse(Refusal::ChainDigest)
            }
            Contents::Building => {
                helper.require_room()?;
                let most = usize::try_from(helper.config.limits.extractions).unwrap_or(usize::MAX);
                let free = helper.extractions.running() < most;
                if free { Ok(()) } else { refuse(Refusal::TooManyLayers) }
            }
        }
    }

    fn perform(permit: Permit<Self>, helper: &mut Helper) -> Result<Applying, NotDone> {
        let asked = permit.into_request();
        if let Some(last) = helper.extractions.of(asked.volume) {
            return Ok(Applying::Joined(last.news.clone()));
        }
        let known = helper.book().volume(asked.volume);
        let Some((thin, contents)) = known.map(|known| (known.thin, known.contents)) else {
            return refuse(Refusal::NoSuchVolume);
        };
        match contents {
            Contents::Filled(layer) | Contents::Sealed(layer) => {
                Ok(Applying::Applied(layer.applied()))
            }
            Contents::Building => begin(helper, asked, thin),
        }
    }
}

const fn other_layer(contents: Contents) -> Refusal {
    match contents {
        Contents::Sealed(_) => Refusal::VolumeSealed,
        Contents::Filled(_) | Contents::Building => Refusal::OtherLayer,
    }
}

fn begin(helper: &mut Helper, asked: ApplyLayer, thin: ThinId) -> Result<Applying, NotDone> {
    let (device, _made) = helper.bring_up_thin(thin, Access::ReadWrite, false)?;
    let (tell, news) = watch::channel(News::Running(LayerProgress::default()));
    let below = below(helper, asked.volume);
    // The chain id says it: no caller can have one tree under the identity of another.
    let unwrap = asked.volume == ChainId::unwrapped(asked.diff_id);
    let errand = Errand::Extract { device, blob: asked.blob, below, unwrap };
    let (volume, layer) = (asked.volume, (asked.blob, asked.diff_id));
    let (request, time) = (asked.request.clone(), helper.extraction_time());
    let waiting = Waiting { asked, peer: helper.peer, thin, tell, since: Instant::now() };
    helper.begin_long((&request, &errand), (thin, time), waiting)?;
    helper.extractions.note(volume, Some(layer), news.clone());
    let state: &mut State = helper;
    let book = state.ledger.book();
    state.extractions.tidy(|volume| book.volume(volume).is_some());
    Ok(Applying::Begun(news))
}

/// The manifest of the volume below; `None` for a first layer, and above a volume that was made
/// before there were any.
fn below(helper: &Helper, volume: ChainId) -> Option<Manifest> {
    let (thin, layer) = helper.book().sealed(helper.book().volume(volume)?.parent?)?;
    Some(Manifest { thin, tree: layer.tree? })
}

/// An extraction that has not come to its end.
struct Waiting {
    asked: ApplyLayer,
    peer: Peer,
    thin: ThinId,
    tell: watch::Sender<News>,
    since: Instant,
}

impl Waits for Waiting {
    fn progress(&self, progress: Progress) {
        let Progress { blob_bytes, tar_bytes, entries } = progress;
        let shown = LayerProgress { blob_bytes, tar_bytes, entries };
        self.tell.send_replace(News::Running(shown));
    }

    fn late(&self) -> Box<dyn FnOnce(NotDone) + Send> {
        let tell = self.tell.clone();
        Box::new(move |late| {
            tell.send_replace(News::Ended(Err(late)));
        })
    }

    fn end(self, helper: &mut Helper, answer: Answer) {
        let Self { asked, peer, thin, tell, since } = self;
        let (request, subject) = (asked.request.clone(), asked.subject());
        let line = Asked { verb: ApplyLayer::VERB, request, peer, subject, since };
        helper.serve(&line, 0);
        let result = finish(helper, &asked, thin, &answer);
        line.answered(&(&result).into());
        if result.is_ok() || is_untouched(&answer) {
            // From now on the ledger has the answer; or the volume is as if it had not been asked.
            helper.extractions.forget(asked.volume);
        }
        tell.send_replace(News::Ended(result));
    }
}

/// The end of an extraction: into the ledger, or the volume goes.
fn finish(
    helper: &mut Helper,
    asked: &ApplyLayer,
    thin: ThinId,
    answer: &Answer,
) -> Result<AppliedLayer, NotDone> {
    let refused = match answer {
        Answer::Extracted(found) => match verify(helper, asked, found) {
            Ok(()) => return keep(helper, thin, found),
            Err(refusal) => NotDone::Refused(refusal),
        },
        Answer::Refused { rule, entry } => {
            NotDone::Refused(Refusal::Layer { rule: *rule, entry: *entry })
        }
        Answer::Failed(failure) => explain(helper, *failure),
        Answer::Done
        | Answer::Backing(_)
        | Answer::Progress(_)
        | Answer::Verified { .. }
        | Answer::Differs { .. } => unexpected(answer),
    };
    // What was asked for did not come of it; whatever came is thrown away. If even that fails, the
    // volume stays unfilled in the ledger, and nothing is extracted into it again. One that no
    // worker had stays, to be filled.
    let taken_down = helper.take_down(thin);
    if is_untouched(answer) {
        return Err(refused);
    }
    let deleted = taken_down.and_then(|()| helper.change(Change::Delete { thin }));
    if let Err(why) = deleted {
        audit::event("spoilt", &[("volume", &asked.volume), ("thin", &thin), ("why", &why)]);
    }
    Err(refused)
}

/// Whether nothing can have been written: by the launcher's word alone.
const fn is_untouched(answer: &Answer) -> bool {
    matches!(answer, Answer::Failed(failure) if failure.stage.is_before_worker())
}

/// Compares what was extracted with what it was asked to be.
fn verify(helper: &Helper, asked: &ApplyLayer, found: &Extracted) -> Result<(), Refusal> {
    let parent = helper.book().volume(asked.volume).ok_or(Refusal::NoSuchVolume)?.parent;
    if found.blob != asked.blob {
        Err(Refusal::BlobDigest)
    } else if found.diff_id != asked.diff_id {
        Err(Refusal::LayerDigest)
    } else if asked.volume.is_unwrapped(parent, found.diff_id).is_none() {
        Err(Refusal::ChainDigest)
    } else {
        Ok(())
    }
}

fn keep(helper: &mut Helper, thin: ThinId, found: &Extracted) -> Result<AppliedLayer, NotDone> {
    let Extracted { blob, diff_id, progress, file_bytes, layout, tree } = *found;
    let (entries, tree) = (progress.entries, Some(tree));
    let layer = Layer { blob, diff_id, entries, file_bytes, layout, tree };
    helper.record(Record::Filled { thin, layer })?;
    if let Err(why) = helper.take_down(thin) {
        // Sealing tries again.
        audit::event("still-mapped", &[("thin", &thin), ("why", &why)]);
    }
    Ok(layer.applied())
}

/// A worker sees that a write failed. Only the pool's state says whether there was no room.
fn explain(helper: &Helper, failure: Failure) -> NotDone {
    let pool_is_full = || {
        helper.figures().is_ok_and(|figures| {
            figures.mode == PoolMode::OutOfDataSpace || figures.data_used == figures.data_total
        })
    };
    let writing = [Stage::Write, Stage::VolumeFull, Stage::Flush].contains(&failure.stage);
    let is_absent = failure.errno == Errno::NOENT.raw_os_error();
    if writing && pool_is_full() {
        NotDone::Refused(Refusal::PoolFull)
    } else if failure.stage == Stage::VolumeFull {
        NotDone::Refused(Refusal::VolumeFull)
    } else if failure.stage == Stage::BlobOpen && is_absent {
        NotDone::Refused(Refusal::BlobAbsent)
    } else if failure.stage == Stage::TooMany {
        NotDone::Refused(Refusal::TooManyLayers)
    } else {
        failure.into()
    }
}

impl Layer {
    const fn applied(&self) -> AppliedLayer {
        let Self { blob: _, diff_id: _, entries, file_bytes, layout, tree } = *self;
        AppliedLayer { entries, file_bytes, layout, tree }
    }
}

//! The sequences, and the model.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use airlock_protocol::control::{
    Activation, ErrorClass, Fault, IfFailed, Named, OneSnapshot, RunId, RunState, RunView, Start,
    When, Work,
};
use tarpc::context;

use super::host::{Answer, Host, IMAGES, NAMES, cancel, name, request, submit};

/// A small generator of numbers that look random (Marsaglia, "Xorshift RNGs", 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }
}

/// What is known of a thing: an image that is here, the image that a snapshot is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Known {
    Absent,
    Here(usize),
    /// What became of it is not told by any answer: it may be either, but not in part.
    Unknown,
}

/// What an operator asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    image: usize,
    name: Option<usize>,
}

/// A removal, between these moments; or, if it is not sure, anything that no answer tells of.
#[derive(Clone, Copy, Debug)]
struct Removal {
    of: usize,
    from: i64,
    to: i64,
    is_sure: bool,
}

#[derive(Default)]
struct Model {
    images: BTreeMap<usize, Known>,
    snapshots: BTreeMap<usize, Known>,
    asked: BTreeMap<RunId, Asked>,
    /// Since the model was last compared with the daemon.
    news: Vec<RunId>,
    removed_images: Vec<Removal>,
    removed_snapshots: Vec<Removal>,
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

impl Model {
    /// What a thing must be, by what was known before, the runs that wanted it, and its removals.
    fn expect(before: Known, wanted: &[(usize, &RunView)], removals: &[Removal]) -> Known {
        let mut known = before;
        if removals.iter().any(|removal| !removal.is_sure) {
            return Known::Unknown;
        }
        let last = removals.iter().max_by_key(|removal| removal.to);
        if last.is_some() {
            known = Known::Absent;
        }
        for (image, run) in wanted {
            let ended = run.ended_at.unwrap();
            match last {
                // The two clocks tick in milliseconds.
                Some(last) if ended < last.from - 2 => {}
                Some(last) if ended <= last.to + 2 => return Known::Unknown,
                Some(_) | None => match (run.state, known) {
                    (RunState::Done, Known::Here(other)) if other != *image => {
                        panic!("{run:?} is done, although the name was image {other}'s")
                    }
                    (RunState::Done, _) => known = Known::Here(*image),
                    // It may have come as far, or its effect be that of another that joined it.
                    (_, Known::Absent) => known = Known::Unknown,
                    (_, Known::Here(_) | Known::Unknown) => {}
                },
            }
        }
        known
    }

    fn judge(&mut self, runs: &[RunView]) {
        let mut ended: Vec<_> = runs.iter().filter(|run| self.news.contains(&run.run)).collect();
        // Done ones first: what one of them has brought, no failed one takes away.
        ended.sort_by_key(|run| (run.state != RunState::Done, run.ended_at));
        let of = |removals: &[Removal], thing: usize| -> Vec<Removal> {
            removals.iter().filter(|removal| removal.of == thing).copied().collect()
        };
        for image in 0..IMAGES {
            let wanted: Vec<_> = ended
                .iter()
                .filter(|run| self.asked[&run.run].image == image)
                .map(|run| (image, *run))
                .collect();
            let before = self.images.get(&image).copied().unwrap_or(Known::Absent);
            let expected = Self::expect(before, &wanted, &of(&self.removed_images, image));
            self.images.insert(image, expected);
        }
        for name in 0..NAMES {
            let wanted: Vec<_> = ended
                .iter()
                .filter(|run| self.asked[&run.run].name == Some(name))
                .map(|run| (self.asked[&run.run].image, *run))
                .collect();
            let before = self.snapshots.get(&name).copied().unwrap_or(Known::Absent);
            let expected = Self::expect(before, &wanted, &of(&self.removed_snapshots, name));
            self.snapshots.insert(name, expected);
        }
        self.news.clear();
        self.removed_images.clear();
        self.removed_snapshots.clear();
    }
}

/// One sequence.
struct Sequence {
    host: Host,
    model: Model,
    random: Random,
    log: Vec<String>,
}

impl Sequence {
    fn took(&mut self, asked: Asked, answer: Answer<RunId>) {
        match answer {
            Some(Ok(run)) => {
                // A run that does the same already is answered again.
                self.model.asked.insert(run.clone(), asked);
                self.model.news.push(run);
            }
            Some(Err(fault)) => expected_fault(&fault),
            // Whether it was taken on is not known: what it wanted may be there or not.
            None => {
                let unsure = |of| Removal { of, from: now(), to: now(), is_sure: false };
                self.model.removed_images.push(unsure(asked.image));
                self.model.removed_snapshots.extend(asked.name.map(unsure));
            }
        }
    }

    /// Asks, and in one of five times kills the daemon before it may have answered.
    async fn asking<T: Send + 'static>(
        &mut self,
        ask: impl Future<Output = Answer<T>> + Send + 'static,
    ) -> Answer<T> {
        let asking = tokio::spawn(ask);
        if self.random.below(5) == 0 {
            tokio::time::sleep(Duration::from_millis(self.random.below(25))).await;
            self.log.push("  killed meanwhile".to_owned());
            self.host.kill().await;
        }
        asking.await.unwrap()
    }

    async fn submit(&mut self, asked: Asked) {
        let source = self.host.source(asked.image);
        let work = match asked.name {
            None => Work::Pull { source },
            Some(number) => {
                let activation = Activation { name: Some(name(number)), ..Activation::default() };
                Work::Run { source, activation }
            }
        };
        let client = self.host.client();
        let when = self.when();
        let answer = self.asking(submit(client, work, when)).await;
        self.took(asked, answer);
    }

    /// When a run is to begin: mostly at once; else after the last one, a little later, or both.
    fn when(&mut self) -> When {
        let mut when = When::default();
        if self.random.below(3) == 0 {
            when.after = self.model.news.last().cloned();
            let anyway = self.random.below(2) == 0;
            when.if_failed = if anyway { IfFailed::Run } else { IfFailed::Skip };
        }
        if self.random.below(4) == 0 {
            when.start = Some(Start::Delay(self.random.below(200)));
        }
        if when != When::default() {
            self.log.push(format!("  when {when:?}"));
        }
        when
    }

    async fn deactivate(&mut self, number: usize) {
        let client = self.host.client();
        let from = now();
        let ask = async move {
            let ask = OneSnapshot { request: request(), name: name(number) };
            client.deactivate(context::current(), ask).await.ok()
        };
        let answer = self.asking(ask).await;
        let removal = |is_sure| Removal { of: number, from, to: now(), is_sure };
        match answer {
            Some(Ok(_)) => self.model.removed_snapshots.push(removal(true)),
            Some(Err(fault)) => expected_fault(&fault),
            None => self.model.removed_snapshots.push(removal(false)),
        }
    }

    async fn remove(&mut self, image: usize) {
        let (client, digest) = (self.host.client(), self.host.digests[image].hex());
        let from = now();
        let ask = async move {
            let ask = Named { request: request(), image: digest };
            client.remove(context::current(), ask).await.ok()
        };
        let answer = self.asking(ask).await;
        let removal = |is_sure| Removal { of: image, from, to: now(), is_sure };
        match answer {
            Some(Ok(_)) => self.model.removed_images.push(removal(true)),
            Some(Err(fault)) => expected_fault(&fault),
            None => self.model.removed_images.push(removal(false)),
        }
    }

    async fn step(&mut self) {
        let (image, name) = (self.random.index(IMAGES), self.random.index(NAMES));
        let what = self.random.below(20);
        self.log.push(format!("{what}: image {image}, name {name}"));
        match what {
            0..4 => self.submit(Asked { image, name: None }).await,
            4..10 => self.submit(Asked { image, name: Some(name) }).await,
            10..12 => self.deactivate(name).await,
            12 => self.remove(image).await,
            13 => {
                if let Some(run) = self.model.news.last().cloned() {
                    let client = self.host.client();
                    drop(self.asking(cancel(client, run)).await);
                }
            }
            14 => self.host.kill().await,
            15 => {
                self.host.stop();
                self.host.start().await;
            }
            16 => self.host.restart_helper(),
            17 => tokio::time::sleep(Duration::from_millis(self.random.below(80))).await,
            _ => self.settle().await,
        }
    }

    /// Waits until nothing goes on, and compares everything with everything.
    async fn settle(&mut self) {
        let mut runs = self.host.runs().await;
        for _ in 0..1000 {
            if runs.iter().all(|run| run.state.is_over()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            runs = self.host.runs().await;
        }
        for id in self.model.asked.keys() {
            let run = runs.iter().find(|run| run.run == *id);
            let run = run.unwrap_or_else(|| panic!("run {id} is lost"));
            assert!(run.state.is_over(), "{run:#?}");
            if let Some(fault) = &run.fault {
                expected_fault(fault);
            }
        }
        // A start sees to what a killed one, or a cancelled run, has left.
        self.host.stop();
        self.host.start().await;
        let mut why = self.host.disagreement().await;
        for _ in 0..500 {
            if why.is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            why = self.host.disagreement().await;
        }
        assert_eq!(why, None, "database, ledger and blobs do not agree");
        self.model.judge(&runs);
        self.compare().await;
    }

    async fn compare(&mut self) {
        let (images, snapshots) = self.host.listed().await;
        let image_of =
            |digest| self.host.digests.iter().position(|known| *known == digest).unwrap();
        for (image, expected) in &mut self.model.images {
            let is_here = images.contains(&self.host.digests[*image]);
            let found = if is_here { Known::Here(*image) } else { Known::Absent };
            assert!(
                *expected == found || *expected == Known::Unknown,
                "image {image}: {expected:?}"
            );
            *expected = found;
        }
        for (number, expected) in &mut self.model.snapshots {
            let found = snapshots.get(&name(*number)).map(|digest| image_of(*digest));
            let found = found.map_or(Known::Absent, Known::Here);
            assert!(
                *expected == found || *expected == Known::Unknown,
                "snapshot {number}: {expected:?} expected, {found:?} found"
            );
            *expected = found;
        }
    }
}

/// Whether a fault is one of those that what is asked for here may meet.
fn expected_fault(fault: &Fault) {
    let is_expected = matches!(
        (fault.class, fault.code.as_str()),
        (ErrorClass::Conflict, "snapshot.other" | "run.after_failed")
            | (
                ErrorClass::Busy,
                "snapshot.leaving" | "snapshot.activating" | "image.active" | "image.busy"
            )
            | (ErrorClass::NotFound, "snapshot.unknown" | "name.unknown")
    );
    assert!(is_expected, "{fault:#?}");
}

async fn sequence(seed: u64) {
    // A generator of this kind needs a start that is not 0, and close ones far apart.
    let random = Random(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let host = Host::new(seed).await;
    let mut sequence = Sequence { host, model: Model::default(), random, log: Vec::new() };
    for _ in 0..25 {
        sequence.step().await;
        println!("seed {seed}: {}", sequence.log.drain(..).collect::<Vec<_>>().join("; "));
    }
    sequence.settle().await;
    sequence.host.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_nothing_is_lost_and_all_records_agree() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("AIRLOCK_MODEL_SEED");
    let count = if first.is_some() { 1 } else { number("AIRLOCK_MODEL_SEEDS").unwrap_or(8) };
    for seed in (0..count).map(|n| first.unwrap_or(0) + n) {
        println!("AIRLOCK_MODEL_SEED={seed}");
        sequence(seed).await;
    }
}

//! The words between broker, launcher and workers: only what is written in the one way is read.
#![no_main]

use airlock_fuzz::seeds;
use airlock_policy::digest::{BlobDigest, Digest, TreeDigest};
use airlock_policy::errand::{
    Answer, Envelope, Errand, Failure, Manifest, Progress, Stage, ThinDevice,
};
use airlock_policy::limit::ArchiveLimits;
use airlock_policy::name::{RequestId, SnapshotName, ThinId};
use airlock_policy::rule::Rule;
use airlock_policy::worker::{ExtractOrder, Job};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: { seeds(make); }, |data: &[u8]| {
    if let Ok((envelope, errand)) = Errand::decode(data) {
        assert_eq!(errand.encode(&envelope), data);
    }
    if let Ok((envelope, answer)) = Answer::decode(data) {
        assert_eq!(answer.encode(&envelope), data);
    }
    // Whatever the fields hold, what was written reads back.
    if let Some(envelope) = envelope(data) {
        for errand in errands(data) {
            assert_eq!(Errand::decode(&errand.encode(&envelope)), Ok((envelope.clone(), errand)));
        }
        for answer in answers(data) {
            assert_eq!(Answer::decode(&answer.encode(&envelope)), Ok((envelope.clone(), answer)));
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let words: Vec<&str> = text.split('\n').collect();
        if let Ok(job) = Job::parse(&words) {
            let written = job.arguments();
            let written: Vec<&str> = written.iter().skip(1).map(String::as_str).collect();
            assert_eq!(Job::parse(&written), Ok(job));
        }
    }
});

/// Fields by their place in the data; zeros behind its end.
fn at<const N: usize>(data: &[u8], place: usize) -> [u8; N] {
    std::array::from_fn(|index| data.get(place + index).copied().unwrap_or_default())
}

fn word(data: &[u8], place: usize, longest: usize) -> String {
    let rest = data.get(place..).unwrap_or_default();
    let word = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(&word[..word.len().min(longest)]).into_owned()
}

fn envelope(data: &[u8]) -> Option<Envelope> {
    let request = RequestId::try_from(word(data, 8, 32)).ok()?;
    Some(Envelope { number: u64::from_le_bytes(at(data, 0)), request })
}

fn errands(data: &[u8]) -> Vec<Errand> {
    let mut errands = vec![
        Errand::OpenPool { create: data.len().is_multiple_of(2) },
        Errand::CheckPool,
        Errand::Cancel { errand: u64::from_le_bytes(at(data, 41)) },
        Errand::ExchangeLedger,
    ];
    let name = SnapshotName::try_from(word(data, 49, 128)).ok();
    errands.extend(name.clone().map(|name| Errand::Unpublish { name }));
    if let Ok(thin) = ThinId::try_from(u32::from_le_bytes(at(data, 41))) {
        let device = ThinDevice { thin, minor: u32::from_le_bytes(at(data, 45)) };
        errands.push(Errand::Format { device });
        let blob = BlobDigest(Digest::from_bytes(at(data, 49)));
        let tree = TreeDigest(Digest::from_bytes(at(data, 81)));
        for below in [None, Some(Manifest { thin, tree })] {
            let unwrap = below.is_none();
            errands.push(Errand::Extract { device, blob, below, unwrap });
        }
        errands.extend([Errand::Verify { device, tree }, Errand::Forget { thin }]);
        errands.push(Errand::Grow { device });
        let read_only = data.len().is_multiple_of(2);
        errands.extend(name.into_iter().flat_map(|name| {
            [
                Errand::Publish { device, name: name.clone() },
                Errand::Mount { device, name: name.clone(), read_only },
                Errand::Unmount { device, name },
            ]
        }));
    }
    errands
}

fn answers(data: &[u8]) -> Vec<Answer> {
    let number = |place| u64::from_le_bytes(at(data, place));
    let progress = Progress { blob_bytes: number(41), tar_bytes: number(49), entries: number(57) };
    let mut answers = vec![Answer::Done, Answer::Progress(progress)];
    // The largest number stands for no entry, and no archive has so many.
    let entry = Some(number(43)).filter(|entry| *entry != u64::MAX);
    let rule = Rule::of_number(u16::from_le_bytes(at(data, 41)));
    answers.extend(rule.map(|rule| Answer::Refused { rule, entry }));
    let errno = i32::from_le_bytes(at(data, 42));
    let stage = Stage::of_number(at::<1>(data, 41)[0]);
    answers.extend(stage.map(|stage| Answer::Failed(Failure { stage, errno })));
    answers
}

fn make() -> Vec<Vec<u8>> {
    let request = RequestId::try_from("0a9z".to_owned()).unwrap();
    let envelope = Envelope { number: 7, request };
    let fields = [&[0_u8; 41][..], &[1, 0, 0, 0, 2, 0, 0, 0], b"web-1"].concat();
    let mut seeds: Vec<Vec<u8>> =
        errands(&fields).iter().map(|errand| errand.encode(&envelope).to_vec()).collect();
    for number in 0..=u8::MAX {
        let mut fields = fields.clone();
        fields[41] = number;
        seeds.extend(answers(&fields).iter().map(|answer| answer.encode(&envelope).to_vec()));
    }
    let orders = [None, Some(TreeDigest(Digest::of(b"below")))].map(|below| {
        let (envelope, limits) = (envelope.clone(), ArchiveLimits::default());
        let unwrap = below.is_none();
        Job::Extract(ExtractOrder { envelope, limits, memory: 512 << 20, below, unwrap })
    });
    for job in [Job::HoldNamespace, Job::Format, Job::Check].into_iter().chain(orders) {
        seeds.push(job.arguments()[1..].join("\n").into_bytes());
    }
    seeds
}

//! How the messages are laid out.
//!
//! Decoding ends by encoding what was read and comparing: so there is one spelling of each
//! message, and nothing hides in the padding (LINK-1).

use super::{
    Answer, Backing, BlockDevice, Envelope, Errand, Extracted, Failure, MESSAGE, Malformed,
    Manifest, Progress, Stage, ThinDevice,
};
use crate::digest::{BlobDigest, DiffId, Digest, TreeDigest};
use crate::helper_config::PoolPart;
use crate::layout::LayoutFacts;
use crate::name::{MAX_NAME, RequestId, SnapshotName, ThinId};
use crate::rule::Rule;
use crate::tree::{Difference, MAX_SHOWN};

const REQUEST: usize = 32;

/// Writes fields one behind the other into a message.
struct Writer {
    message: [u8; MESSAGE],
    at: usize,
}

impl Writer {
    fn new(envelope: &Envelope, kind: u8) -> Self {
        let mut writer = Self { message: [0; MESSAGE], at: 0 };
        writer.u64(envelope.number);
        writer.text(envelope.request.as_str(), REQUEST);
        writer.bytes(&[kind]);
        writer
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let end = self.at.saturating_add(bytes.len());
        // The largest message, an `Extracted`, has 41 + 147 bytes, a `Differs` 41 + 161: a test encodes each.
        if let Some(place) = self.message.get_mut(self.at..end) {
            place.copy_from_slice(bytes);
        }
        self.at = end;
    }

    fn text(&mut self, text: &str, width: usize) {
        let start = self.at;
        self.bytes(text.as_bytes());
        self.at = start.saturating_add(width);
    }

    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    fn device(&mut self, device: ThinDevice) {
        self.u32(device.thin.into());
        self.u32(device.minor);
    }

    fn block_device(&mut self, device: BlockDevice) {
        self.u32(device.major);
        self.u32(device.minor);
        self.u64(device.sectors);
    }

    fn progress(&mut self, progress: Progress) {
        self.u64(progress.blob_bytes);
        self.u64(progress.tar_bytes);
        self.u64(progress.entries);
    }
}

/// Reads fields one behind the other.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    fn text<const N: usize>(&mut self) -> Result<String, Malformed> {
        let bytes = self.bytes::<N>()?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(N);
        let text = bytes.get(..end).ok_or(Malformed)?;
        String::from_utf8(text.to_vec()).map_err(|_not_text| Malformed)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.bytes().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.bytes().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn digest(&mut self) -> Result<Digest, Malformed> {
        self.bytes().map(Digest::from_bytes)
    }

    fn name(&mut self) -> Result<SnapshotName, Malformed> {
        self.text::<MAX_NAME>()?.try_into().map_err(|_invalid| Malformed)
    }

    fn thin(&mut self) -> Result<ThinId, Malformed> {
        ThinId::try_from(self.u32()?).map_err(|_invalid| Malformed)
    }

    fn device(&mut self) -> Result<ThinDevice, Malformed> {
        Ok(ThinDevice { thin: self.thin()?, minor: self.u32()? })
    }

    fn manifest(&mut self) -> Result<Manifest, Malformed> {
        Ok(Manifest { thin: self.thin()?, tree: TreeDigest(self.digest()?) })
    }

    fn block_device(&mut self) -> Result<BlockDevice, Malformed> {
        Ok(BlockDevice { major: self.u32()?, minor: self.u32()?, sectors: self.u64()? })
    }

    fn progress(&mut self) -> Result<Progress, Malformed> {
        Ok(Progress { blob_bytes: self.u64()?, tar_bytes: self.u64()?, entries: self.u64()? })
    }

    fn envelope(&mut self) -> Result<Envelope, Malformed> {
        let number = self.u64()?;
        let request = RequestId::try_from(self.text::<REQUEST>()?).map_err(|_invalid| Malformed)?;
        Ok(Envelope { number, request })
    }
}

pub(super) fn errand(errand: &Errand, envelope: &Envelope) -> [u8; MESSAGE] {
    let kind = match errand {
        Errand::OpenPool { .. } => 1,
        Errand::CheckPool => 2,
        Errand::Format { .. } => 3,
        Errand::Extract { .. } => 4,
        Errand::Cancel { .. } => 5,
        Errand::Publish { .. } => 6,
        Errand::Unpublish { .. } => 7,
        Errand::GrowPool { .. } => 8,
        Errand::Mount { .. } => 9,
        Errand::Unmount { .. } => 10,
        Errand::Grow { .. } => 11,
        Errand::ExchangeLedger => 16,
        Errand::Verify { .. } => 40,
        Errand::Forget { .. } => 41,
    };
    let mut writer = Writer::new(envelope, kind);
    match errand {
        Errand::OpenPool { create } => writer.bytes(&[u8::from(*create)]),
        Errand::CheckPool | Errand::ExchangeLedger => {}
        Errand::Format { device } | Errand::Grow { device } => writer.device(*device),
        Errand::Extract { device, blob, below, unwrap } => {
            writer.device(*device);
            writer.bytes(blob.0.as_bytes());
            writer.bytes(&[u8::from(*unwrap), u8::from(below.is_some())]);
            if let Some(Manifest { thin, tree }) = below {
                writer.u32((*thin).into());
                writer.bytes(tree.0.as_bytes());
            }
        }
        Errand::Verify { device, tree } => {
            writer.device(*device);
            writer.bytes(tree.0.as_bytes());
        }
        Errand::Forget { thin } => writer.u32((*thin).into()),
        Errand::Cancel { errand } => writer.u64(*errand),
        Errand::Publish { device, name } | Errand::Unmount { device, name } => {
            writer.device(*device);
            writer.text(name.as_str(), MAX_NAME);
        }
        Errand::Unpublish { name } => writer.text(name.as_str(), MAX_NAME),
        Errand::GrowPool { part, bytes } => {
            writer.bytes(&[u8::from(*part == PoolPart::Metadata)]);
            writer.u64(*bytes);
        }
        Errand::Mount { device, name, read_only } => {
            writer.device(*device);
            writer.text(name.as_str(), MAX_NAME);
            writer.bytes(&[u8::from(*read_only)]);
        }
    }
    writer.message
}

pub(super) fn read_errand(message: &[u8]) -> Result<(Envelope, Errand), Malformed> {
    let mut reader = Reader(message);
    let envelope = reader.envelope()?;
    let errand = match reader.u8()? {
        1 => Errand::OpenPool { create: reader.u8()? != 0 },
        2 => Errand::CheckPool,
        3 => Errand::Format { device: reader.device()? },
        4 => Errand::Extract {
            device: reader.device()?,
            blob: BlobDigest(reader.digest()?),
            unwrap: reader.u8()? != 0,
            below: if reader.u8()? == 0 { None } else { Some(reader.manifest()?) },
        },
        5 => Errand::Cancel { errand: reader.u64()? },
        6 => Errand::Publish { device: reader.device()?, name: reader.name()? },
        7 => Errand::Unpublish { name: reader.name()? },
        8 => {
            let part = if reader.u8()? == 0 { PoolPart::Data } else { PoolPart::Metadata };
            Errand::GrowPool { part, bytes: reader.u64()? }
        }
        9 => Errand::Mount {
            device: reader.device()?,
            name: reader.name()?,
            read_only: reader.u8()? != 0,
        },
        10 => Errand::Unmount { device: reader.device()?, name: reader.name()? },
        11 => Errand::Grow { device: reader.device()? },
        16 => Errand::ExchangeLedger,
        40 => Errand::Verify { device: reader.device()?, tree: TreeDigest(reader.digest()?) },
        41 => Errand::Forget { thin: reader.thin()? },
        _ => return Err(Malformed),
    };
    if self::errand(&errand, &envelope) == message {
        Ok((envelope, errand))
    } else {
        Err(Malformed)
    }
}

/// What stands for "no entry": no archive has this many.
const NO_ENTRY: u64 = u64::MAX;

pub(super) fn answer(answer: &Answer, envelope: &Envelope) -> [u8; MESSAGE] {
    let kind = match answer {
        Answer::Done => 1,
        Answer::Backing(_) => 2,
        Answer::Progress(_) => 3,
        Answer::Extracted(_) => 4,
        Answer::Refused { .. } => 5,
        Answer::Failed(_) => 6,
        Answer::Verified { .. } => 40,
        Answer::Differs { .. } => 41,
    };
    let mut writer = Writer::new(envelope, kind);
    match answer {
        Answer::Done => {}
        Answer::Backing(Backing { data, metadata, fresh }) => {
            writer.block_device(*data);
            writer.block_device(*metadata);
            writer.bytes(&[u8::from(*fresh)]);
        }
        Answer::Progress(progress) => writer.progress(*progress),
        Answer::Extracted(extracted) => write_extracted(&mut writer, extracted),
        Answer::Verified { tree } => writer.bytes(tree.0.as_bytes()),
        Answer::Differs { what, path } => {
            writer.bytes(&[what.number()]);
            writer.text(path.as_str(), MAX_SHOWN);
        }
        Answer::Refused { rule, entry } => {
            writer.u16(rule.number());
            writer.u64(entry.unwrap_or(NO_ENTRY));
        }
        Answer::Failed(Failure { stage, errno }) => {
            writer.bytes(&[stage.number()]);
            writer.bytes(&errno.to_le_bytes());
        }
    }
    writer.message
}

fn write_extracted(writer: &mut Writer, extracted: &Extracted) {
    let Extracted { blob, diff_id, progress, file_bytes, layout, tree } = extracted;
    let LayoutFacts { directories, root_mode, writable_directories } = layout;
    writer.bytes(blob.0.as_bytes());
    writer.bytes(diff_id.0.as_bytes());
    writer.progress(*progress);
    writer.u64(*file_bytes);
    writer.bytes(&[*directories]);
    writer.u16(*root_mode);
    writer.u32(*writable_directories);
    writer.bytes(tree.0.as_bytes());
}

fn read_extracted(reader: &mut Reader<'_>) -> Result<Extracted, Malformed> {
    Ok(Extracted {
        blob: BlobDigest(reader.digest()?),
        diff_id: DiffId(reader.digest()?),
        progress: reader.progress()?,
        file_bytes: reader.u64()?,
        layout: LayoutFacts {
            directories: reader.u8()?,
            root_mode: reader.u16()?,
            writable_directories: reader.u32()?,
        },
        tree: TreeDigest(reader.digest()?),
    })
}

pub(super) fn read_answer(message: &[u8]) -> Result<(Envelope, Answer), Malformed> {
    let mut reader = Reader(message);
    let envelope = reader.envelope()?;
    let answer = match reader.u8()? {
        1 => Answer::Done,
        2 => Answer::Backing(Backing {
            data: reader.block_device()?,
            metadata: reader.block_device()?,
            fresh: reader.u8()? != 0,
        }),
        3 => Answer::Progress(reader.progress()?),
        4 => Answer::Extracted(read_extracted(&mut reader)?),
        5 => Answer::Refused {
            rule: Rule::of_number(reader.u16()?).ok_or(Malformed)?,
            entry: Some(reader.u64()?).filter(|entry| *entry != NO_ENTRY),
        },
        6 => Answer::Failed(Failure {
            stage: Stage::of_number(reader.u8()?).ok_or(Malformed)?,
            errno: reader.bytes().map(i32::from_le_bytes)?,
        }),
        40 => Answer::Verified { tree: TreeDigest(reader.digest()?) },
        41 => Answer::Differs {
            what: Difference::of_number(reader.u8()?).ok_or(Malformed)?,
            path: reader.text::<MAX_SHOWN>()?.try_into().map_err(|_invalid| Malformed)?,
        },
        _ => return Err(Malformed),
    };
    if self::answer(&answer, &envelope) == message {
        Ok((envelope, answer))
    } else {
        Err(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::ShownPath;

    fn envelope() -> Envelope {
        Envelope { number: 7, request: "z".repeat(32).try_into().unwrap() }
    }

    fn errands() -> Vec<Errand> {
        let device = ThinDevice { thin: ThinId::try_from(0xff_ffff).unwrap(), minor: u32::MAX };
        let name: SnapshotName = "a".repeat(128).parse().unwrap();
        let manifest = Manifest { thin: ThinId::BASE, tree: TreeDigest(Digest::of(b"t")) };
        let blob = BlobDigest(Digest::of(b"x"));
        vec![
            Errand::OpenPool { create: true },
            Errand::OpenPool { create: false },
            Errand::CheckPool,
            Errand::Format { device },
            Errand::Extract { device, blob, below: None, unwrap: true },
            Errand::Extract { device, blob, below: Some(manifest), unwrap: false },
            Errand::Verify { device, tree: manifest.tree },
            Errand::Forget { thin: device.thin },
            Errand::Cancel { errand: u64::MAX },
            Errand::Publish { device, name: name.clone() },
            Errand::Unpublish { name: name.clone() },
            Errand::Mount { device, name: name.clone(), read_only: true },
            Errand::Mount { device, name: name.clone(), read_only: false },
            Errand::Unmount { device, name },
            Errand::Grow { device },
            Errand::GrowPool { part: PoolPart::Data, bytes: 1 },
            Errand::GrowPool { part: PoolPart::Metadata, bytes: u64::MAX },
            Errand::ExchangeLedger,
        ]
    }

    fn answers() -> Vec<Answer> {
        let device = BlockDevice { major: 1, minor: 2, sectors: u64::MAX };
        let progress = Progress { blob_bytes: 1, tar_bytes: 2, entries: u64::MAX };
        let layout = LayoutFacts { directories: 255, root_mode: 0o7777, writable_directories: 9 };
        let mut all = vec![
            Answer::Done,
            Answer::Backing(Backing { data: device, metadata: device, fresh: true }),
            Answer::Progress(progress),
            Answer::Extracted(Extracted {
                blob: BlobDigest(Digest::of(b"x")),
                diff_id: DiffId(Digest::of(b"y")),
                progress,
                file_bytes: u64::MAX,
                layout,
                tree: TreeDigest(Digest::of(b"t")),
            }),
            Answer::Verified { tree: TreeDigest(Digest::of(b"t")) },
            Answer::Refused { rule: Rule::NameDotdot, entry: None },
            Answer::Refused { rule: Rule::LayoutWritable, entry: Some(0) },
        ];
        let failure = |stage: &Stage| Answer::Failed(Failure { stage: *stage, errno: -1 });
        all.extend(Stage::ALL.iter().map(failure));
        let path = ShownPath::of(&[0xff; 500]);
        all.extend(
            Difference::ALL.iter().map(|w| Answer::Differs { what: *w, path: path.clone() }),
        );
        all
    }

    #[test]
    fn every_message_reads_back_as_it_was_written() {
        for errand in errands() {
            let message = errand.encode(&envelope());
            assert_eq!(Errand::decode(&message), Ok((envelope(), errand)));
        }
        for answer in answers() {
            let message = answer.encode(&envelope());
            assert_eq!(Answer::decode(&message), Ok((envelope(), answer)));
        }
    }

    #[test]
    fn a_message_has_one_spelling() {
        for errand in errands() {
            let mut message = errand.encode(&envelope());
            message[MESSAGE - 1] ^= 1;
            assert_eq!(Errand::decode(&message), Err(Malformed), "{errand:?}");
            assert_eq!(Errand::decode(&message[..MESSAGE - 1]), Err(Malformed));
        }
        let mut lax_flag = Errand::OpenPool { create: true }.encode(&envelope());
        lax_flag[41] = 2;
        assert_eq!(Errand::decode(&lax_flag), Err(Malformed));
    }

    #[test]
    fn random_bytes_are_never_a_message() {
        // A weak generator is enough: the point is that no input panics.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for length in (0..600).cycle().take(20_000) {
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[0]
            })
            .take(length)
            .collect();
            assert_eq!(Errand::decode(&bytes), Err(Malformed));
            assert_eq!(Answer::decode(&bytes), Err(Malformed));
        }
    }
}

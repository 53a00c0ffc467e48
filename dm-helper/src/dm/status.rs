//! The text of a thin pool's status, read into types: what is not understood is never healthy.

use airlock_protocol::reply::PoolMode;

/// The text is not a status that this code knows.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the pool's status {0:?} is not understood")]
pub struct UnknownStatus(pub String);

/// A thin pool's status (kernel, drivers/md/dm-thin.c, `pool_status`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PoolState {
    /// All I/O fails, and there are no figures.
    Failed,
    /// The kernel could not read the figures.
    Unreadable,
    /// The pool works, at least for reading.
    Working(Figures),
}

/// A working pool's figures.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Figures {
    /// The transaction id.
    pub transaction: u64,
    /// Metadata blocks (4 KiB each) in use.
    pub metadata_used: u64,
    /// All metadata blocks.
    pub metadata_total: u64,
    /// Data blocks in use.
    pub data_used: u64,
    /// All data blocks.
    pub data_total: u64,
    /// What the kernel does with writes; never [`PoolMode::Failed`].
    pub mode: PoolMode,
    /// Whether a `thin_check` is due before the next use.
    pub needs_check: bool,
}

impl PoolState {
    /// Reads the status line's parameters.
    pub fn parse(text: &str) -> Result<Self, UnknownStatus> {
        match text.trim_end() {
            "Fail" => Ok(Self::Failed),
            "Error" => Ok(Self::Unreadable),
            line => figures(line).map(Self::Working).ok_or_else(|| UnknownStatus(text.to_owned())),
        }
    }
}

fn figures(line: &str) -> Option<Figures> {
    let mut words = line.split(' ');
    let transaction = words.next()?.parse().ok()?;
    let (metadata_used, metadata_total) = share(words.next()?)?;
    let (data_used, data_total) = share(words.next()?)?;
    // The root of a metadata snapshot: a block's number, or none is held.
    let held = words.next()?;
    (held == "-" || held.parse::<u64>().is_ok()).then_some(())?;
    let mode = match words.next()? {
        "rw" => PoolMode::ReadWrite,
        "ro" => PoolMode::ReadOnly,
        "out_of_data_space" => PoolMode::OutOfDataSpace,
        _ => return None,
    };
    matches!(words.next()?, "discard_passdown" | "no_discard_passdown" | "ignore_discard")
        .then_some(())?;
    matches!(words.next()?, "error_if_no_space" | "queue_if_no_space").then_some(())?;
    let needs_check = match words.next()? {
        "needs_check" => true,
        "-" => false,
        _ => return None,
    };
    // The metadata's low-water mark, in blocks: since Linux 5.0.
    let low_water = words.next().map(str::parse::<u64>);
    (!matches!(low_water, Some(Err(_))) && words.next().is_none()).then_some(())?;
    Some(Figures {
        transaction,
        metadata_used,
        metadata_total,
        data_used,
        data_total,
        mode,
        needs_check,
    })
}

/// `used/total`, of which the first is never more.
fn share(word: &str) -> Option<(u64, u64)> {
    let (used, total) = word.split_once('/')?;
    let (used, total) = (used.parse().ok()?, total.parse().ok()?);
    (used <= total).then_some((used, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn working(text: &str) -> Figures {
        match PoolState::parse(text) {
            Ok(PoolState::Working(figures)) => figures,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn every_mode_is_told_apart() {
        let healthy = working("7 141/4096 52/8192 - rw discard_passdown error_if_no_space - 1024 ");
        let expected = Figures {
            transaction: 7,
            metadata_used: 141,
            metadata_total: 4096,
            data_used: 52,
            data_total: 8192,
            mode: PoolMode::ReadWrite,
            needs_check: false,
        };
        assert_eq!(healthy, expected);
        let full =
            "7 141/4096 8192/8192 9 out_of_data_space no_discard_passdown error_if_no_space -";
        assert_eq!(working(full).mode, PoolMode::OutOfDataSpace);
        let ill = working("0 1/2 1/2 - ro ignore_discard queue_if_no_space needs_check 1");
        assert_eq!((ill.mode, ill.needs_check), (PoolMode::ReadOnly, true));
        assert_eq!(PoolState::parse("Fail"), Ok(PoolState::Failed));
        assert_eq!(PoolState::parse("Error "), Ok(PoolState::Unreadable));
    }

    #[test]
    fn what_is_not_understood_is_an_error_and_never_healthy() {
        for text in [
            "",
            "fail",
            "Fail 1",
            "7 141/4096 52/8192 - rw discard_passdown error_if_no_space",
            "7 141/4096 52/8192 - failing discard_passdown error_if_no_space - 1",
            "7 141/4096 52/8192 - rw discard_passdown error_if_no_space broken 1",
            "7 141/4096 9000/8192 - rw discard_passdown error_if_no_space - 1",
            "x 141/4096 52/8192 - rw discard_passdown error_if_no_space - 1",
            "7 141/4096 52/8192 - rw discard_passdown error_if_no_space - 1 2",
            "7 141/4096 52/8192 - rw discard_passdown error_if_no_space - x",
        ] {
            assert_eq!(PoolState::parse(text), Err(UnknownStatus(text.to_owned())));
        }
    }
}

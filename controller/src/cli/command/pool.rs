//! `pool setup`, `pool extend`, `pool status`: the one thin pool.

use airlock_protocol::control::PoolView;
use airlock_protocol::reply::{PoolMode, PoolUsage};

use super::Session;
use crate::cli::amount;
use crate::cli::args::PoolAction;
use crate::cli::failure::{Exit, Failure};
use crate::cli::json::{Document, METADATA_BLOCK, PoolItem};
use crate::cli::pen::{Ink, Pen, Sign};

/// `pool setup|extend|status`
pub(crate) async fn pool(session: &Session, action: PoolAction) -> Result<Exit, Failure> {
    let client = session.client().await?;
    let answer = match action {
        PoolAction::Setup => client.pool_setup().await,
        PoolAction::Extend { data, metadata } => {
            client.pool_extend(data.map(|size| size.0), metadata.map(|size| size.0)).await
        }
        PoolAction::Status => client.pool_status().await,
    };
    let view = answer.map_err(|error| client.failed(error))?;
    let Session { console, .. } = session;
    if console.json {
        console.document(&Document::new("airlock.pool/1", PoolItem::from(view)))?;
    } else if !console.quiet {
        let what = match (action, view.changed) {
            (PoolAction::Setup, true) => Some("the pool is up"),
            (PoolAction::Setup, false) => Some("the pool is up already (nothing to do)"),
            (PoolAction::Extend { .. }, true) => Some("the pool is larger"),
            (PoolAction::Extend { .. }, false) => {
                Some("the pool is as large already (nothing to do)")
            }
            (PoolAction::Status, _) => None,
        };
        if let Some(what) = what {
            console.say(&format!("{} {what}\n", console.err.signed(Sign::Done)));
        }
        console.result(&page(console.out, &view))?;
    }
    Ok(Exit::OK)
}

/// Columns of a bar.
const BAR: usize = 32;

fn page(pen: Pen, view: &PoolView) -> String {
    let Some(usage) = &view.usage else {
        let next = pen.ink(Ink::Paste, "airlock pool setup");
        return format!("pool: down\n  next    {next}\n");
    };
    let (sign, mode) = match usage.mode {
        PoolMode::ReadWrite if usage.needs_check => (Sign::Failed, "needs a check"),
        PoolMode::ReadWrite => (Sign::Done, "healthy, read-write"),
        PoolMode::ReadOnly => (Sign::Failed, "read-only: its metadata had an error"),
        PoolMode::OutOfDataSpace => (Sign::Failed, "full: writes to new blocks fail"),
        PoolMode::Failed => (Sign::Failed, "failed: all I/O fails"),
    };
    let backing = if usage.loopback { "loop files" } else { "block devices" };
    let block = amount::bytes(usage.block_bytes);
    let promised = u64::from(usage.snapshots).saturating_mul(usage.volume_bytes);
    let low = usage.low_water_blocks.saturating_mul(usage.block_bytes);
    let limit = |bytes: Option<u64>| bytes.map_or("what root makes it".to_owned(), amount::bytes);
    format!(
        "{} pool: {}, {backing}, blocks of {block}\n{}{}\
         limits    data {}, metadata {}\n\
         volumes   {} and {}\n\
         promised  {} to snapshots\n\
         warns     below {} free\n\
         records   transaction {}\n",
        pen.signed(sign),
        pen.ink(sign.ink(), mode),
        data(pen, usage),
        metadata(pen, usage),
        limit(usage.data_limit_bytes),
        limit(usage.metadata_limit_bytes),
        amount::of(usage.volumes.try_into().unwrap_or(usize::MAX), "layer volume"),
        amount::of(usage.snapshots.try_into().unwrap_or(usize::MAX), "snapshot"),
        amount::bytes(promised),
        amount::bytes(low),
        usage.transaction,
    )
}

fn data(pen: Pen, usage: &PoolUsage) -> String {
    let bytes = |blocks: u64| blocks.saturating_mul(usage.block_bytes);
    gauge(pen, "data", bytes(usage.data_used_blocks), bytes(usage.data_total_blocks))
}

fn metadata(pen: Pen, usage: &PoolUsage) -> String {
    let bytes = |blocks: u64| blocks.saturating_mul(METADATA_BLOCK);
    gauge(pen, "metadata", bytes(usage.metadata_used_blocks), bytes(usage.metadata_total_blocks))
}

fn gauge(pen: Pen, what: &str, used: u64, total: u64) -> String {
    let percent = amount::percent(used, total);
    let ink = match percent {
        0..80 => Ink::Good,
        80..90 => Ink::Warn,
        _ => Ink::Bad,
    };
    let bar = pen.ink(ink, &pen.bar(used, total, BAR));
    format!("{what:8}  {bar}  {percent:>3}%  {:>22}\n", amount::part(used, total, " of "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_shown_in_bytes() {
        let usage = PoolUsage {
            mode: PoolMode::ReadWrite,
            needs_check: false,
            block_bytes: 128 << 10,
            data_used_blocks: 337_510,
            data_total_blocks: 819_200,
            low_water_blocks: 81_920,
            metadata_used_blocks: 17_177,
            metadata_total_blocks: 131_072,
            volume_bytes: 8 << 30,
            transaction: 1842,
            volumes: 34,
            snapshots: 2,
            loopback: true,
            data_limit_bytes: Some(200 << 30),
            metadata_limit_bytes: Some(1 << 30),
            late: vec![],
        };
        let up = PoolView { usage: Some(usage.clone()), changed: false };
        assert_eq!(
            page(Pen::PLAIN, &up),
            "+ pool: healthy, read-write, loop files, blocks of 128.0 KiB
data      #############>------------------   41%       41.1 of 100.0 GiB
metadata  ####>---------------------------   13%       67.0 of 512.0 MiB
limits    data 200.0 GiB, metadata 1.0 GiB
volumes   34 layer volumes and 2 snapshots
promised  16.0 GiB to snapshots
warns     below 10.0 GiB free
records   transaction 1842
"
        );
        let ill = PoolUsage { mode: PoolMode::OutOfDataSpace, ..usage };
        let ill = PoolView { usage: Some(ill), changed: false };
        assert!(page(Pen::PLAIN, &ill).starts_with("x pool: full: writes to new blocks fail"));
        let down = PoolView { usage: None, changed: false };
        assert_eq!(page(Pen::PLAIN, &down), "pool: down\n  next    airlock pool setup\n");
    }
}

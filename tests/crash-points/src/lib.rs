//! Points at which tests end airlock's processes (docs/decisions/0011-crash-points.md).
//!
//! A program that was built with its feature `crash-points` passes them; what is shipped has neither the
//! feature nor this crate. Orders come through a file of shared memory, which the program maps when it
//! begins: passing a point costs no system call, so it works in every sandbox, and changes nothing there.

mod page;

pub use page::{FOLDER, Order, Page};

#[cfg(all(feature = "armed", not(debug_assertions)))]
compile_error!("crash points are for debug builds: no program that has them may be installed");

/// Declares the points, a list a program.
macro_rules! points {
    ($( $Program:ident $program:literal { $( $(#[$doc:meta])* $Point:ident $name:literal, )+ } )+) => {
        /// A program that has points.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[expect(missing_docs, reason = "the programs are named in architecture.md")]
        pub enum Program { $($Program,)+ }

        /// A point: between two things that must both be done, or neither.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Point { $($( $(#[$doc])* $Point, )+)+ }

        impl Point {
            /// Every point, in the order of the lists.
            pub const ALL: &'static [Self] = &[$($(Self::$Point,)+)+];

            /// Its name, as the report and docs/durable-state-contracts.md have it.
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$Point => concat!($program, ":", $name),)+)+ }
            }

            /// The program that passes it.
            pub const fn program(self) -> Program {
                match self { $($(Self::$Point)|+ => Program::$Program,)+ }
            }
        }
    };
}

points! {
    Daemon "daemon" {
        /// Nothing was done.
        DaemonBegun "begun",
        /// A transaction is whole, and not committed.
        Committing "committing",
        /// It is committed.
        Committed "committed",
        /// A verb of the helper's that changes something is about to be asked.
        Asking "asking",
        /// The helper has done it.
        Answered "answered",
        /// The helper extracts.
        Extracting "extracting",
        /// A part of a blob is written, and noted nowhere.
        PartWritten "part-written",
        /// It is noted in the journal.
        PartNoted "part-noted",
        /// The whole blob is flushed, under its unfinished name.
        BlobFlushed "blob-flushed",
        /// It has its own name; the journal is still there.
        BlobNamed "blob-named",
        /// The journal is gone.
        BlobWhole "blob-whole",
        /// A removed image's blob is gone; its volumes are not.
        BlobGone "blob-gone",
    }
    Broker "broker" {
        /// Nothing was done.
        BrokerBegun "begun",
        /// A record of the ledger is about to be written.
        RecordWriting "record-writing",
        /// It is written, and not flushed.
        RecordWritten "record-written",
        /// It is flushed.
        RecordFlushed "record-flushed",
        /// The pool is about to get a message.
        MessageSending "message-sending",
        /// The pool has done as the message says.
        MessageSent "message-sent",
        /// A device is in the device table, without a table of its own.
        DeviceMade "device-made",
        /// Its table is loaded, and not in use.
        TableLoaded "table-loaded",
        /// It is up.
        DeviceUp "device-up",
        /// A device is about to leave the device table.
        DeviceRemoving "device-removing",
        /// It has left.
        DeviceRemoved "device-removed",
        /// The ledger is written anew into the second file; the names are not exchanged.
        LedgerAnew "ledger-anew",
        /// A request is done, and not answered.
        RequestDone "request-done",
    }
    Launcher "launcher" {
        /// Nothing was done.
        LauncherBegun "begun",
        /// An errand was read.
        ErrandTaken "errand-taken",
        /// One of the pool's files is made.
        PoolFileMade "pool-file-made",
        /// A file has its loop device.
        LoopAttached "loop-attached",
        /// A volume's manifest is made, empty.
        ManifestMade "manifest-made",
        /// A worker runs.
        WorkerStarted "worker-started",
        /// A worker has ended.
        WorkerEnded "worker-ended",
        /// The directory to mount a snapshot on is made.
        MountPointMade "mount-point-made",
        /// A snapshot's node has its group and mode.
        NodeGiven "node-given",
        /// Its link is made, under its unfinished name.
        LinkMade "link-made",
        /// The link has its own name.
        Linked "linked",
        /// A link is gone.
        Unlinked "unlinked",
        /// A manifest is gone.
        ManifestRemoved "manifest-removed",
        /// The ledger's two files have each other's names.
        LedgersExchanged "ledgers-exchanged",
        /// An errand is done, and not answered.
        ErrandDone "errand-done",
    }
    Worker "worker" {
        /// Nothing was done.
        WorkerBegun "begun",
        /// A volume is mounted, detached.
        VolumeMounted "volume-mounted",
        /// The whole tree is written, and not flushed.
        TreeWritten "tree-written",
        /// Tree and manifest are flushed, and not reported.
        TreeFlushed "tree-flushed",
        /// A snapshot is mounted on the host.
        SnapshotMounted "snapshot-mounted",
        /// It is unmounted.
        SnapshotUnmounted "snapshot-unmounted",
    }
}

/// Passes a point: the process ends here, or waits here, if the page says so.
pub fn at(point: Point) {
    if let Some(page) = Page::of_this_process() {
        page.pass(point);
    }
}

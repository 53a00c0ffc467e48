//! The helper's verbs, one method each. This page is the attack surface.
//!
//! Whoever speaks here has the controller's uid and is taken for hostile all the same. So requests
//! name things (chain ids, digests, snapshot names), never places: no path, device number, mount
//! option or size crosses. Each verb may be asked again after a lost answer; what the second time
//! does stands under **Again**. A refusal has changed nothing, but for `apply_layer`: a layer that
//! could not be applied takes its volume with it, unless it failed before a worker had the volume.

#![expect(missing_docs, reason = "tarpc generates undocumented items")]

use crate::not_done::NotDone;
use crate::reply::{Inventory, LayerState, Mapped, Outcome, PoolStatus, VerifyState, Welcome};
use crate::request::{
    ApplyLayer, CreateVolume, DeleteVolume, EnsurePool, ExtendPool, Hello, ListVolumes, Map, Mount,
    QueryPool, SealVolume, Snapshot, Unmap, Unmount, VerifyVolume,
};

#[tarpc::service]
pub trait DmHelper {
    /// Says who the helper is, and that both sides speak the same protocol.
    ///
    /// - **Changes:** nothing.
    /// - **Checks:** the protocol's version is the helper's.
    /// - **Again:** the same answer.
    /// - **Undone by:** nothing to undo.
    async fn hello(request: Hello) -> Result<Welcome, NotDone>;

    /// Brings the pool up: attaches its backing devices, checks its metadata, loads its table.
    ///
    /// - **Changes:** the first time of all, makes the backing files that the root-owned
    ///   configuration names and formats the base volume. After a reboot, attaches what is there.
    ///   Takes up what backing devices have grown by.
    /// - **Checks:** backing files that exist are never made anew, resized or cleared; backing that
    ///   shrank is refused; metadata passes `thin_check` before it is used; making files needs
    ///   `create`.
    /// - **Again:** answers the pool's status.
    /// - **Undone by:** nothing on this socket: destroying a pool is for root at the machine.
    async fn ensure_pool(request: EnsurePool) -> Result<PoolStatus, NotDone>;

    /// Says how full and how well the pool is.
    ///
    /// - **Changes:** nothing.
    /// - **Checks:** nothing; a pool that is not up is an answer.
    /// - **Again:** the status as it is by then.
    /// - **Undone by:** nothing to undo.
    async fn pool_status(request: QueryPool) -> Result<PoolStatus, NotDone>;

    /// Grows one of the pool's two loopback files, and the pool with it, while it is in use.
    ///
    /// - **Changes:** the size of one file, its loop device and the pool's table.
    /// - **Checks:** the size is at most the root-owned configuration's limit, and the disk has
    ///   room for all that the file may come to take; a pool on block devices is refused; nothing
    ///   ever shrinks, and no step leaves the pool suspended.
    /// - **Again:** a file that is as large already stays as it is; finishes a growth that a crash
    ///   interrupted.
    /// - **Undone by:** nothing: the kernel does not shrink a pool.
    async fn extend_pool(request: ExtendPool) -> Result<PoolStatus, NotDone>;

    /// Makes the volume that one layer will be extracted into: a thin snapshot of its parent's
    /// volume, or of the empty base volume.
    ///
    /// - **Changes:** one thin device in the pool, one entry in the ledger.
    /// - **Checks:** the pool is up and not full; the parent is sealed; fewer volumes exist than the
    ///   configuration allows.
    /// - **Again:** answers `AlreadyThere` for the same parent, and refuses another one. Never
    ///   touches the data of a volume that exists.
    /// - **Undone by:** `delete_volume`.
    async fn create_volume(request: CreateVolume) -> Result<Outcome, NotDone>;

    /// Extracts a layer's blob into its volume, in a sandboxed worker, and says how far it is.
    ///
    /// - **Changes:** the volume's content, while it is not yet filled.
    /// - **Checks:** every byte is hashed as it is extracted. The blob must have the digest asked
    ///   for, its tar the diff id, and both together with the parent the volume's chain id;
    ///   otherwise the volume is deleted; it stays where the
    ///   blob could not be opened or the volume not mounted. Every entry passes the same policy that the controller
    ///   applied. One extraction a volume, a bounded number in all, each with a deadline.
    /// - **Again:** joins the extraction that runs; answers `Applied` once it is done.
    /// - **Undone by:** `delete_volume`.
    async fn apply_layer(request: ApplyLayer) -> Result<LayerState, NotDone>;

    /// Seals a filled volume: from now on it is read-only in every table, whoever asks.
    ///
    /// - **Changes:** the volume's device is gone from the device table; the ledger says sealed.
    /// - **Checks:** the layer was applied and flushed.
    /// - **Again:** answers `AlreadyThere`.
    /// - **Undone by:** nothing but `delete_volume`.
    async fn seal_volume(request: SealVolume) -> Result<Outcome, NotDone>;

    /// Takes a thin snapshot of an image's sealed volume.
    ///
    /// - **Changes:** one thin device in the pool, one entry in the ledger.
    ///   Where a size is asked for, a worker grows its ext4 before anybody is handed the device.
    /// - **Checks:** the volume is sealed and looks like a root filesystem; the pool is not full; the
    ///   size is at least the volume's and at most the configuration's.
    /// - **Again:** answers `AlreadyThere` for the same image, mode and size; refuses the name for
    ///   another. One that a crash left half grown is taken anew.
    /// - **Undone by:** `delete_volume`.
    async fn snapshot(request: Snapshot) -> Result<Outcome, NotDone>;

    /// Makes a snapshot's block device appear, as `/dev/airlock/NAME`.
    ///
    /// - **Changes:** one device in the device table, its node's owner and mode, one link.
    /// - **Checks:** the snapshot is in the ledger, and not given out by `mount`.
    /// - **Again:** answers the same device.
    /// - **Undone by:** `unmap`.
    async fn map(request: Map) -> Result<Mapped, NotDone>;

    /// Makes a snapshot's block device disappear. Its data stays.
    ///
    /// - **Changes:** the link and the device are gone.
    /// - **Checks:** nobody holds the device: never by force, never lazily.
    /// - **Again:** answers `AlreadyThere`.
    /// - **Undone by:** `map`.
    async fn unmap(request: Unmap) -> Result<Outcome, NotDone>;

    /// Mounts a snapshot on the host, as `/run/airlock/mnt/NAME`, instead of handing its device out.
    ///
    /// - **Changes:** one device in the device table, one directory, one mount: `nosuid`, `nodev`, and
    ///   read-only where the snapshot is.
    /// - **Checks:** the device was never handed out writable: the host parses no disk that a stranger
    ///   wrote. From here until `unmount` it is not handed out.
    /// - **Again:** answers the same mount; after a reboot, mounts it again.
    /// - **Undone by:** `unmount`.
    async fn mount(request: Mount) -> Result<Mapped, NotDone>;

    /// Unmounts a snapshot. Its data stays.
    ///
    /// - **Changes:** the mount, its directory and the device are gone.
    /// - **Checks:** nobody uses it: never by force, never lazily.
    /// - **Again:** answers `AlreadyThere`.
    /// - **Undone by:** `mount`.
    async fn unmount(request: Unmount) -> Result<Outcome, NotDone>;

    /// Deletes a volume or a snapshot, for good.
    ///
    /// - **Changes:** one thin device is gone from the pool, and from the ledger.
    /// - **Checks:** it is not mapped, not being extracted into, and no other volume or snapshot
    ///   was made from it.
    /// - **Again:** answers `AlreadyThere`.
    /// - **Undone by:** nothing.
    async fn delete_volume(request: DeleteVolume) -> Result<Outcome, NotDone>;

    /// Reads a sealed volume again, in a sandboxed worker that can write nothing, and says whether
    /// it is what was extracted, or the first entry that is not.
    ///
    /// - **Changes:** nothing; the volume's device is there, read-only, as long as it takes.
    /// - **Checks:** the volume is sealed, and its tree's digest is in the ledger; a snapshot is never
    ///   read. Type, mode, owner, size, content, links and attributes of every entry are compared
    ///   with the volume's manifest, and the digest of all with the ledger's. One at a time, with
    ///   a deadline.
    /// - **Again:** joins the verification that runs; answers what it came to to the request that
    ///   began it, and begins another for a new one.
    /// - **Undone by:** nothing to undo.
    async fn verify_volume(request: VerifyVolume) -> Result<VerifyState, NotDone>;

    /// Lists what the ledger knows, a page at a time, in order of thin ids.
    ///
    /// - **Changes:** nothing.
    /// - **Checks:** nothing.
    /// - **Again:** the list as it is by then.
    /// - **Undone by:** nothing to undo.
    async fn list_volumes(request: ListVolumes) -> Result<Inventory, NotDone>;
}

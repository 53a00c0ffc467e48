//! The one strict reader of image layers: decompress, hash, walk the tar, judge every entry.
//!
//! The controller's scan and the sandboxed worker read layers with this same code. It touches no
//! filesystem; memory is bounded whatever the blob holds. Where a strict and a lax reader would
//! find different members, the archive is refused rather than guessed at.
//!
//! | module | what it knows |
//! | --- | --- |
//! | `blob` | the bytes as they come: counted and hashed |
//! | `gzip`, `zstd`, `decompress` | the compressed stream |
//! | `source` | the uncompressed bytes: counted, hashed, held to the limits |
//! | `supply` | the same, by a second thread that reads ahead |
//! | `stream` | the uncompressed bytes, taken block by block |
//! | `number`, `header`, `pax`, `gnu_sparse` | the formats of tar: v7, ustar, GNU, pax |
//! | `member` | what headers and extension headers claim together |
//! | `walk` | from member to member, to the very end |
//! | [`Content`] | one file's data on its way to a [`Visitor`] |
//! | [`scan`] | a walk that keeps nothing but figures, and where names lead |
#![forbid(unsafe_code)]

mod blob;
mod buffer;
mod content;
mod decompress;
mod encoding;
mod fault;
mod gnu_sparse;
mod gzip;
mod header;
mod member;
mod number;
mod pax;
mod scan;
mod source;
mod stream;
mod supply;
#[cfg(test)]
mod testing;
mod walk;
mod zstd;

pub use content::{Chunk, Content};
pub use decompress::Compression;
pub use fault::{Cut, LayerFault, Refusal, Stop};
pub use scan::{Position, Scan, scan};
pub use supply::Work;
pub use walk::{Summary, Visitor, read_layer, read_layer_ahead};

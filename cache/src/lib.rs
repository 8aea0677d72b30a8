//! Bytes at rest and on the wire: the store, layers, images, registries and build records.
//!
//! The store ([`store`]) is a directory that several processes use at once: blobs as in an OCI layout
//! ([`content`]), layers unpacked side by side ([`layer`]) so that overlay mounts can stack them
//! ([`snapshot`]), and what earlier builds yielded ([`records`]). Images ([`image`]) are views of blobs; [`names`] keeps
//! what they are called. Everything that touches a root file system goes
//! through [`fs`], never through joined path strings.

pub mod account;
pub mod archive;
pub mod builds;
pub mod content;
pub mod copy;
pub mod digest;
pub mod export;
pub mod failed;
pub mod fault;
pub mod fs;
pub mod fsck;
pub mod gc;
pub mod image;
pub mod import;
pub mod layer;
pub mod load;
pub mod names;

pub mod records;
pub mod registry;
pub mod remote;
pub mod sbom;
pub mod snapshot;
pub mod store;
pub mod tarball;

//! Bytes at rest and on the wire: the store, layers, images, registries and build records.
//!
//! The store ([`store`]) is a directory that several processes use at once: blobs as in an OCI layout
//! ([`content`]), layers unpacked side by side ([`layer`]) so that overlay mounts can stack them
//! ([`snapshot`]), and what earlier builds yielded ([`records`]). Everything that touches a root file system goes
//! through [`fs`], never through joined path strings.

pub mod account;
pub mod content;
pub mod digest;
pub mod fs;
pub mod layer;
pub mod records;
pub mod snapshot;
pub mod store;
pub mod tarball;

//! Build caches of elsewhere: what steps yielded on other machines, and where the layers can be had.
//!
//! A cache holds *documents* of entries ([`Document`]) under a few names, and blobs. Each export writes the whole of
//! its build under two names (the newest of the cache, and that of the graph's definition), so a build that finds
//! nothing in its own store reads two documents and knows every result of the last like build. Steps that ran are
//! also kept each under its own key, which finds results of older builds by one question a step.
//!
//! Documents come first, blobs when somebody needs the files ([`Imports`]). Nothing that comes is believed further
//! than whoever may write the cache is: a blob has the digest and the size that were announced, its tar the diff ID,
//! the layer the content ID that keys were derived from; an entry counts for its key alone. Whoever may write a cache
//! decides what steps yield: let pull requests read the cache of the main branch, not write it.
//!
//! A cache never fails a build: what goes wrong is told once, and the cache is left alone for the rest of the build.

mod document;
mod error;
mod export;
mod gha;
mod http;
mod import;
mod local;
mod mounts;
mod registry;
mod s3;

use std::fmt;
use std::pin::Pin;

use lap_solver::digest::Key;
use oci_spec::image::Descriptor;

use crate::image::blobs::KnownBlob;
use crate::store::Store;

use document::MEDIA_TYPE;
pub use document::{Claim, DOCUMENT_LIMIT, Document, Entry, FORMAT};
pub use error::RemoteError;
pub use export::{Exports, Failed, Mode, Packing, Part, Step, Target};
pub use gha::{GhaCache, Protocol};
pub use import::{Imports, Lost, Source};
pub use local::{LocalCache, Selected};
pub use mounts::{Chunk, UsedMount};
pub use registry::{INLINE_FIELD, RegistryCache};
pub use s3::{S3Cache, S3Options};

/// The name of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Name {
    /// Of the newest export.
    Latest,
    /// Of the newest export of a graph with this definition.
    Definition(Key),
    /// Of one step, by content key.
    Step(Key),
    /// Of a cache mount, by what it is.
    Mount(Key),
}

/// What a question to a cache comes back with.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, RemoteError>> + Send + 'a>>;

/// A place that keeps documents and blobs.
pub trait Backend: fmt::Debug + Send + Sync {
    /// What it is called in messages. Two that are called the same are the same.
    fn label(&self) -> &str;

    /// The document of a name, if there is one. What is no document of this format counts as none.
    fn document(&self, name: Name) -> Answer<'_, Option<Document>>;

    /// Keeps a document, in place of the one of that name. The blobs that it names are there.
    fn put_document<'a>(&'a self, name: Name, document: &'a Document) -> Answer<'a, ()>;

    /// Brings a blob into the store, verified.
    fn fetch<'a>(&'a self, blob: &'a Descriptor, store: &'a Store) -> Answer<'a, ()>;

    /// Sends a blob that is in the store, unless it is there.
    fn send<'a>(&'a self, blob: &'a Descriptor, store: &'a Store) -> Answer<'a, ()>;

    /// Removes what is of no use after a whole export, where that is wanted; of documents those named `kept` stay.
    fn tidy<'a>(&'a self, _kept: &'a [Name]) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    /// What the store is to remember of a blob that was fetched.
    fn origin_of(&self, blob: &Descriptor) -> KnownBlob {
        KnownBlob::of(blob.clone())
    }
}

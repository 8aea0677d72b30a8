//! The files of a cache's directory, and the locks of those who write them.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use oci_spec::image::{Descriptor, ImageIndex};
use rustix::fs::{FlockOperation, OFlags, flock};

use crate::digest::Digest;
use crate::export::OCI_LAYOUT;
use crate::fs::read_limited;
use crate::image::manifest::{MANIFEST_LIMIT, annotated, annotation};
use crate::names::{IMAGE_NAME, REF_NAME, index_json};
use crate::remote::{FORMAT, Name, RemoteError};

/// Where what lies.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    /// Of all tags.
    pub(super) documents: PathBuf,
    /// Of the tag.
    pub(super) own: PathBuf,
}

/// Numbers the files that are being written by this process.
static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Directory {
    pub(super) fn new(root: &Path, tag: &str) -> Self {
        // Any text may be a tag, no text may leave the directory, and no two share files.
        let mut name = String::new();
        for byte in tag.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
                name.push(char::from(byte));
            } else {
                // Never fails.
                let _ = write!(name, "%{byte:02x}");
            }
        }
        let documents = root.join(format!("lapstrake-cache-{FORMAT}"));
        Self { root: root.to_owned(), own: documents.join(name), documents }
    }

    /// The file of a document that is no blob.
    pub(super) fn document(&self, name: Name) -> PathBuf {
        self.own.join(match name {
            Name::Latest => "latest.json".to_owned(),
            Name::Definition(key) => format!("definitions/{key}.json"),
            Name::Step(key) => format!("steps/{key}.json"),
            Name::Mount(key) => format!("mounts/{key}.json"),
        })
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// The bytes of a blob, which are those of its digest.
    pub(super) fn blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, RemoteError> {
        let path = self.blob_path(digest);
        let bytes = open(&path).and_then(|file| read_limited(file, limit)).map_err(failed("read", &path))?;
        if Digest::of(&bytes) == *digest {
            return Ok(bytes);
        }
        let source = io::Error::new(io::ErrorKind::InvalidData, "it has another digest than its name");
        Err(RemoteError::File { act: "read", path, source })
    }

    fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }

    /// What `index.json` names; nothing where there is none.
    pub(super) fn entries(&self) -> Result<Vec<Descriptor>, RemoteError> {
        let path = self.index_path();
        let Some(bytes) = read(&path, MANIFEST_LIMIT)? else { return Ok(Vec::new()) };
        let index = serde_json::from_slice::<ImageIndex>(&bytes).map_err(io::Error::from);
        Ok(index.map_err(failed("understand", &path))?.manifests().clone())
    }

    /// What a tag names.
    pub(super) fn tagged(&self, tag: &str) -> Result<Option<Descriptor>, RemoteError> {
        Ok(self.entries()?.into_iter().find(|entry| is_tagged(entry, tag)))
    }

    /// Lets a tag name `entry`, whose blobs are there.
    pub(super) fn set_tag(&self, tag: &str, entry: Descriptor) -> Result<(), RemoteError> {
        // Others who write do the same at the same time.
        let _held = self.locked("index.lock", FlockOperation::LockExclusive)?;
        let mut entries = self.entries()?;
        entries.retain(|entry| !is_tagged(entry, tag));
        entries.push(annotated(entry, &[(REF_NAME.to_owned(), tag.to_owned())].into()));
        write(&self.root.join("oci-layout"), &mut &*OCI_LAYOUT)?;
        write(&self.index_path(), &mut &*index_json(entries)?)
    }

    /// Announces somebody who writes.
    pub(super) fn hold(&self) -> Result<File, RemoteError> {
        self.locked("lock", FlockOperation::LockShared)
    }

    fn locked(&self, name: &str, how: FlockOperation) -> Result<File, RemoteError> {
        let path = self.documents.join(name);
        fs::create_dir_all(&self.documents).map_err(failed("make directory", &self.documents))?;
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = open.map_err(failed("open", &path))?;
        match flock(&file, how) {
            // There are shared disks without locks: what is written appears whole there, too.
            Ok(()) | Err(rustix::io::Errno::NOLCK | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                Ok(file)
            }
            Err(error) => Err(failed("lock", &path)(error.into())),
        }
    }
}

/// As BuildKit's: the bare tag, not the name of an image that has that tag.
fn is_tagged(entry: &Descriptor, tag: &str) -> bool {
    annotation(entry, REF_NAME) == Some(tag) && annotation(entry, IMAGE_NAME).is_none()
}

pub(super) fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RemoteError {
    move |source| RemoteError::File { act, path: path.to_owned(), source }
}

/// Opens a file, and nothing else: what came with the directory may be a pipe on which one waits for ever.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file")) }
}

/// A file of at most `limit` bytes; nothing where there is none.
pub(super) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, RemoteError> {
    let file = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(failed("read", path))?,
    };
    read_limited(file, limit).map(Some).map_err(failed("read", path))
}

pub(super) fn write(path: &Path, reader: &mut dyn Read) -> Result<(), RemoteError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(failed("make directory", parent))?;
    let part = parent.join(format!(".part-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
    let written = (|| {
        let mut file = File::create_new(&part)?;
        io::copy(reader, &mut file)?;
        file.flush()?;
        file.sync_all()?;
        fs::rename(&part, path)
    })();
    if written.is_err() {
        // Half a file is of no use; where it cannot be removed the first error counts.
        drop(fs::remove_file(&part));
    }
    written.map_err(failed("write", path))
}

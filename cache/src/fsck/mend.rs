//! What is done about a fault.

use rustix::fs::Mode as FileMode;
use rustix::io::Errno;

use super::{Outcome, Remedy, Scan};
use crate::digest::Digest;
use crate::fs::{self, Act, FsError};
use crate::image::ImageError;
use crate::image::Reference;
use crate::store::StoreError;

/// Where things go that may be somebody's.
pub(super) const LOST: &str = "lost+found";

/// A way to mend something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mend {
    /// Remove a file or a directory with everything below.
    Remove(String),
    /// Remove a blob, unless somebody is using it.
    Blob(Digest),
    /// Remove a layer, unless somebody is using it.
    Layer(Digest),
    /// Move it to `lost+found`.
    SetAside(String),
    /// Write a file, durably; what lay there is set aside.
    Write(String, Vec<u8>),
    /// Make a directory.
    Directory(String),
    /// Take a name, and with it its image, out of the index.
    Name(Reference),
    /// Take an image without a name out of the index.
    Image(Digest),
    /// Nothing that we could do: what the user can.
    Leave(String),
}

impl Mend {
    pub(super) const fn remedy(&self) -> Remedy {
        match self {
            Self::Remove(_) | Self::Blob(_) | Self::Layer(_) | Self::Name(_) | Self::Image(_) => Remedy::Remove,
            Self::SetAside(_) => Remedy::SetAside,
            Self::Write(..) | Self::Directory(_) => Remedy::Rewrite,
            Self::Leave(_) => Remedy::Leave,
        }
    }
}

impl Scan {
    /// Mends something; the caller keeps others from pruning.
    pub(super) fn mend(&self, mend: &Mend) -> Outcome {
        match self.try_mend(mend) {
            Ok(None) => Outcome::Repaired,
            Ok(Some(because)) => Outcome::Left { because },
            Err(error) => Outcome::Left { because: error.to_string() },
        }
    }

    /// Tells why it was not done.
    fn try_mend(&self, mend: &Mend) -> Result<Option<String>, ImageError> {
        let store = &self.store;
        match mend {
            Mend::Remove(path) => {
                let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
                let dir = fs::open_dir(&store.root().join(parent)).map_err(StoreError::from)?;
                fs::remove_entry(dir, name.as_bytes()).map_err(StoreError::from)?;
            }
            Mend::Blob(digest) => {
                if store.claimed()?.1.contains(digest) {
                    return Ok(Some("a running command uses it".to_owned()));
                }
                store.content().remove(digest)?;
            }
            Mend::Layer(diff_id) => {
                if store.claimed()?.0.contains(diff_id) {
                    return Ok(Some("a running command uses it".to_owned()));
                }
                store.remove_layer(diff_id)?;
            }
            Mend::SetAside(path) => self.set_aside(path)?,
            Mend::Write(path, bytes) => {
                if store.root().join(path).exists() {
                    self.set_aside(path)?;
                }
                store.write_file(path, bytes, true)?;
            }
            Mend::Directory(path) => {
                std::fs::create_dir_all(store.root().join(path))
                    .act("make directory", store.root().join(path))
                    .map_err(StoreError::from)?;
            }
            Mend::Name(name) => drop(store.name_remove(name)?),
            Mend::Image(digest) => drop(store.image_remove(digest)?),
            Mend::Leave(advice) => return Ok(Some(advice.clone())),
        }
        Ok(None)
    }

    fn set_aside(&self, path: &str) -> Result<(), StoreError> {
        let dir = self.store.dir();
        match rustix::fs::mkdirat(dir, LOST, FileMode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(FsError::new("make directory", self.store.root().join(LOST), errno).into()),
        }
        let flat = path.replace('/', "_");
        for number in 0_u32.. {
            let name = if number == 0 { format!("{LOST}/{flat}") } else { format!("{LOST}/{flat}.{number}") };
            match fs::durable::rename_new(dir, path, dir, &name) {
                Err(Errno::EXIST) => {}
                result => return Ok(result.act("set aside", self.store.root().join(path))?),
            }
        }
        Ok(())
    }
}

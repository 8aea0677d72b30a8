//! File actions: what COPY, ADD and WORKDIR do to a root file system, with BuildKit's results.
//!
//! Everything happens below one directory fd of the file system that is changed and one of each source; no path
//! of an image is ever resolved by name from the host's root.

mod chmod;
mod copy;
mod error;
mod owner;
mod target;
#[cfg(test)]
mod tests;
mod unpack;

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicBool;

use lap_cache::store::Mode as StoreMode;
use lap_solver::graph::{Copy, File, FileAction, Mode, Unpack};

pub use chmod::{BadMode, Chmod};
pub use error::FileError;
pub use owner::{Owner, OwnerError};

use crate::tree::{Tree, Walk};
use copy::{Copier, Ownership, prepare};
use target::{Attributes, Target};

/// Mode of a file made from text in the Dockerfile.
const INLINE_MODE: u32 = 0o644;

/// What became of the actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Owners and devices that were left out, since an unprivileged user cannot have them.
    pub skipped: u64,
}

/// Applies the actions of a step to the file system below `root`. `input` gives the tree of an input of the step;
/// actions without one copy from nothing. `mode` is that of the store that the result is for. Ends early when `cancelled` becomes true.
///
/// # Errors
/// The first action that fails; what was done before stays done.
pub fn apply<'t>(
    file: &File,
    root: BorrowedFd<'_>,
    mut input: impl FnMut(u32) -> Option<&'t Tree>,
    mode: StoreMode,
    cancelled: &AtomicBool,
) -> Result<Applied, FileError> {
    let target = Target::new(root.as_fd(), mode);
    for action in &file.actions {
        match action {
            FileAction::Mkdir { path, mode, owner } => {
                let owner = owner.as_deref().map_or(Ok(Owner::ROOT), |owner| Owner::resolve(owner, &target))?;
                target.mkdir_all(&target.resolve(path.as_bytes())?, mode & 0o777, owner)?;
            }
            FileAction::Mkfile { path, name, data, mode, owner } => {
                mkfile(&target, path, name, data.as_bytes(), mode.as_ref(), owner.as_deref())?;
            }
            FileAction::Copy(copy) => {
                let Some(from) = copy.from else {
                    return Err(crate::tree::TreeError::not_found(copy.source.as_bytes()).into());
                };
                copy_from(&target, copy, input(from).ok_or(FileError::NoInput(from))?, cancelled)?;
            }
        }
    }
    Ok(Applied { skipped: target.skipped() })
}

fn mkfile(
    target: &Target<'_>,
    dest: &str,
    name: &str,
    data: &[u8],
    mode: Option<&Mode>,
    owner: Option<&str>,
) -> Result<(), FileError> {
    let chmod = mode.map(Chmod::new).transpose()?;
    let owner = owner.map_or(Ok(Owner::ROOT), |owner| Owner::resolve(owner, target))?;
    let at = prepare(target, dest, name.as_bytes(), false, chmod.as_ref(), Ownership::Give(owner))?;
    let mut file = target.create_file(&at)?;
    let mode = chmod.map_or(INLINE_MODE, |chmod| chmod.apply(INLINE_MODE, false));
    file.write_all(data).map_err(|error| FileError::target("write", &at, error))?;
    target.finish(file.as_fd(), &at, &Attributes { owner, mode, mtime: None, xattrs: &[] })
}

fn copy_from(target: &Target<'_>, copy: &Copy, tree: &Tree, cancelled: &AtomicBool) -> Result<(), FileError> {
    let chmod = copy.mode.as_ref().map(Chmod::new).transpose()?;
    let ownership = match &copy.owner {
        Some(owner) => Ownership::Give(Owner::resolve(owner, target)?),
        None if copy.keep_owner => Ownership::Keep,
        None => Ownership::Give(Owner::ROOT),
    };
    let walk = Walk::new(&copy.include, &copy.exclude).map_err(crate::tree::TreeError::from)?;
    if copy.parents {
        tree.check_required(&copy.source, &copy.include)?;
    }
    for source in tree.matches(&copy.source, copy.wildcard)? {
        if copy.unpack == Unpack::IfArchive && unpack::unpack(target, copy, tree, &source, ownership)? {
            continue;
        }
        Copier::new(tree, target, &walk, ownership, chmod.as_ref(), cancelled).run(&source, copy)?;
    }
    Ok(())
}

//! A context whole, for what is no build: where definitions are read from.

use std::fs::File;
use std::io::Seek as _;
use std::path::{Path, PathBuf};

use anyhow::bail;
use lap_cache::fs;
use lap_cache::store::Lease;
use lap_cache::tarball::is_archive;
use lap_executor::source::http;

use super::{Context, Opener, open_inside, read_bounded};

/// What was fetched.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// A repository or an archive, unpacked; it stays while the lease is held.
    Directory(PathBuf, Lease),
    /// One file.
    File(Vec<u8>),
}

impl Opener<'_> {
    /// Fetches a repository, or what a web server has.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub(crate) fn fetch(&self, context: &Context) -> anyhow::Result<Fetched> {
        let lease = self.store()?.lease()?;
        match context {
            Context::Git(git) => {
                let fetched = self.fetch_git(git, false)?;
                Ok(Fetched::Directory(self.place(&fetched.snapshot)?, lease))
            }
            Context::Http(url) => {
                let dir = self.fetch_http(url)?;
                let mut file = File::from(open_inside(&fs::open_dir(&dir)?, Path::new("Dockerfile"))?);
                let archive = is_archive(&file);
                file.rewind()?;
                if archive {
                    return Ok(Fetched::Directory(self.place(&self.unpack(file, &http::shown(url))?)?, lease));
                }
                Ok(Fetched::File(read_bounded(file, &http::shown(url))?))
            }
            Context::Directory(_) | Context::Stdin => bail!("internal error: nothing to fetch"),
        }
    }
}

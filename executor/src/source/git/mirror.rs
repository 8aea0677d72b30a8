//! Bare repositories below the store that hold the objects of remote ones, as shallow as the server lets them be.
//!
//! `caches/git/<hash of the address>/`; its lock file is held while it is used. Every commit that was fetched whole
//! has a ref of its own, `refs/lap/<commit>`.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use lap_cache::fs::FsError;
use lap_solver::digest::Key;
use rustix::fs::FlockOperation;

use super::command::{Git, mirrors};
use super::{GitError, Resolved, is_commit};
use crate::source::Remote;
use crate::source::http::shown;

/// What the tree says about its own export is not asked for: every file comes out as it is.
const ATTRIBUTES: &str = "* -export-ignore -export-subst\n";

/// A mirror in use.
#[derive(Debug)]
pub(super) struct Mirror<'a> {
    pub(super) dir: PathBuf,
    pub(super) url: String,
    git: &'a Git,
    _lock: File,
}

impl<'a> Mirror<'a> {
    /// Makes the mirror where there is none; waits while somebody else uses it.
    pub(super) async fn open(remote: &Remote, git: &'a Git, url: &str) -> Result<Self, GitError> {
        let parent = mirrors(remote);
        let name = Key::of("git mirror", &shown(url)).to_hex();
        let (dir, lock) = (parent.join(&name), parent.join(format!("{name}.lock")));
        std::fs::create_dir_all(&parent).map_err(|error| FsError::new("make directory", &parent, error))?;
        let lock_file = File::options().create(true).append(true).open(&lock);
        let lock_file = lock_file.map_err(|error| FsError::new("open", &lock, error))?;
        // No blocking lock: it could not be given up when the build is.
        while let Err(errno) = rustix::fs::flock(&lock_file, FlockOperation::NonBlockingLockExclusive) {
            if errno != rustix::io::Errno::WOULDBLOCK {
                return Err(FsError::new("lock", &lock, errno).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Its time says when the mirror was last used.
        let touched = lock_file.set_modified(std::time::SystemTime::now());
        touched.map_err(|error| FsError::new("change the time of", &lock, error))?;
        let mirror = Self { dir, url: url.to_owned(), git, _lock: lock_file };
        if !mirror.dir.join("info/attributes").exists() {
            let failed = |act| {
                let path = mirror.dir.clone();
                move |error| FsError::new(act, &path, error)
            };
            std::fs::create_dir_all(mirror.dir.join("info")).map_err(failed("make directory"))?;
            mirror.run(&["init", "--quiet", "--bare", "--template="]).await?;
            std::fs::write(mirror.dir.join("info/attributes"), ATTRIBUTES).map_err(failed("write into"))?;
        }
        Ok(mirror)
    }

    /// Runs git here, without a word to the network.
    pub(super) async fn run(&self, args: &[&str]) -> Result<Vec<u8>, GitError> {
        self.git.run(&self.dir, None, args).await
    }

    /// The same, for one line of output; nothing where git fails.
    async fn ask(&self, args: &[&str]) -> Option<String> {
        let out = self.run(args).await.ok()?;
        Some(String::from_utf8_lossy(&out).trim().to_owned())
    }

    /// Sees to it that a commit is here. It is told by its own name, also where a tag object was asked for.
    pub(super) async fn fetch(&self, wanted: &Resolved) -> Result<String, GitError> {
        let ours = format!("refs/lap/{}", wanted.commit);
        let peeled = format!("{ours}^{{commit}}");
        if let Some(commit) = self.ask(&["rev-parse", "--verify", "--quiet", &peeled]).await {
            return Ok(commit);
        }
        let by_commit = format!("+{}:{ours}", wanted.commit);
        let by_name = wanted.name.as_ref().map(|name| format!("+{name}:{ours}"));
        let mut tries: Vec<Vec<&str>> = vec![vec!["--depth=1", "origin", &by_commit]];
        if let Some(by_name) = &by_name {
            tries.push(vec!["--depth=1", "origin", by_name]);
            tries.push(vec!["origin", by_name]);
        } else {
            // A server that gives no commits by name has it among what it does give, or not at all.
            tries.push(vec!["origin", "+refs/heads/*:refs/remote/heads/*", "+refs/tags/*:refs/remote/tags/*"]);
        }
        for what in tries {
            let mut args = vec!["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"];
            args.push("--no-auto-maintenance");
            args.extend(what);
            match self.git.run(&self.dir, Some(&self.url), &args).await {
                Ok(_) => {
                    let commit = format!("{}^{{commit}}", wanted.commit);
                    if let Some(commit) = self.ask(&["rev-parse", "--verify", "--quiet", &commit]).await
                        && is_commit(&commit)
                    {
                        self.run(&["update-ref", &ours, &commit]).await?;
                        return Ok(commit);
                    }
                }
                Err(error) if may_do_otherwise(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(GitError::NoCommit { url: shown(&self.url), commit: wanted.commit.clone() })
    }

    /// When a commit was made, in seconds since 1970.
    pub(super) async fn time_of(&self, commit: &str) -> Result<u64, GitError> {
        let out = self.run(&["show", "--no-patch", "--format=%ct", commit]).await?;
        Ok(String::from_utf8_lossy(&out).trim().parse().unwrap_or_default())
    }

    /// The tree of a directory of a commit; links are no directories.
    pub(super) async fn tree(&self, commit: &str, path: &str) -> Result<String, GitError> {
        let name = if path.is_empty() { format!("{commit}^{{tree}}") } else { format!("{commit}:{path}") };
        let missing = || {
            let (url, path, commit) = (shown(&self.url), path.to_owned(), commit.to_owned());
            GitError::NoDirectory { url, path, commit }
        };
        let tree = self.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &name]).await;
        let tree = tree.and_then(|text| text.lines().last().map(str::to_owned)).filter(|tree| is_commit(tree));
        let tree = tree.ok_or_else(missing)?;
        match self.ask(&["cat-file", "-t", &tree]).await.as_deref() {
            Some("tree") => Ok(tree),
            _ => Err(missing()),
        }
    }
}

/// Whether a server said that it does not give things in this way.
fn may_do_otherwise(error: &GitError) -> bool {
    let GitError::Git { message, .. } = error else { return false };
    ["not our ref", "unadvertised", "not advertised", "shallow", "remote ref", "not allow", "dumb http", "unexpected"]
        .iter()
        .any(|words| message.contains(words))
}

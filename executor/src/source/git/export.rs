//! Files out of mirrors into the directory that becomes the layer.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lap_cache::fs;
use lap_cache::layer::Owner;
use lap_cache::tarball::extract_into;

use super::command::Git;
use super::mirror::Mirror;
use super::{GitError, Resolved, address, is_commit};
use crate::source::Remote;
use crate::source::http::shown;

/// Submodules of one source, all in all.
const SUBMODULES: usize = 1000;
/// How deep submodules lie in each other.
const DEPTH: usize = 16;

/// Where files go.
pub(super) struct Export<'a> {
    pub(super) remote: &'a Remote,
    pub(super) git: &'a Git,
    pub(super) root: PathBuf,
}

/// A repository in another one.
#[derive(Debug, PartialEq, Eq)]
struct Submodule {
    commit: String,
    /// Relative to what is exported.
    path: String,
    url: String,
}

impl Export<'_> {
    /// The files of a directory of a commit go to `path`, with the time of the commit.
    pub(super) async fn files(
        &self,
        mirror: &Mirror<'_>,
        commit: &str,
        subdir: &str,
        path: &str,
        time: u64,
    ) -> Result<(), GitError> {
        let tree = mirror.tree(commit, subdir).await?;
        let time = format!("--mtime=@{time} +0000");
        let mut child = self.git.stream(&mirror.dir, &["archive", "--format=tar", &time, &tree])?;
        let (root, mode, path) = (self.root.clone(), self.remote.store.mode(), path.to_owned());
        let work = move || {
            let broken = |source| GitError::Run { act: "archive".to_owned(), source };
            let out = child.stdout.take().ok_or_else(|| broken(std::io::ErrorKind::BrokenPipe.into()))?;
            let root = fs::open_dir(&root)?;
            let done = extract_into(&root, path.as_bytes(), out, Owner::Fixed { uid: 0, gid: 0 }, mode);
            let status = child.wait().map_err(broken)?;
            done?;
            let failed = || GitError::Git { act: "archive".to_owned(), message: status.to_string() };
            if status.success() { Ok(()) } else { Err(failed()) }
        };
        tokio::task::spawn_blocking(work).await?
    }

    /// The files of a commit with a repository of their own, as `git clone --depth 1` leaves it.
    pub(super) async fn with_git_dir(&self, mirror: &Mirror<'_>, found: &Resolved) -> Result<(), GitError> {
        let git = |args: Vec<String>| async move {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            self.git.run_on_files(&self.root, &args).await
        };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
        let commit = found.commit.as_str();
        git(words(&["init", "--quiet", "--template="])).await?;
        let from = mirror.dir.display().to_string();
        let name = found.name.as_deref().filter(|name| name.starts_with("refs/tags/")).unwrap_or("refs/lap/head");
        let refs = format!("+refs/lap/{commit}:{name}");
        let fetch = ["fetch", "--quiet", "--no-tags", "--depth=1", "--no-write-fetch-head", "--update-shallow"];
        let url = format!("file://{from}");
        git([words(&fetch), words(&["--end-of-options", &url, &refs])].concat()).await?;
        git(words(&["checkout", "--quiet", "--force", "--detach", commit])).await?;
        git(words(&["config", "remote.origin.url", &shown(&mirror.url)])).await?;
        let fetched = "+refs/heads/*:refs/remotes/origin/*";
        git(words(&["config", "remote.origin.fetch", fetched])).await?;
        // Who did what when is of no use to anybody, and different each time.
        match std::fs::remove_dir_all(self.root.join(".git/logs")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(fs::FsError::new("remove", ".git/logs", error).into())
            }
            _ => Ok(()),
        }
    }

    /// The files of all submodules, and of theirs. Gives `mirror` up: a repository may be its own submodule.
    pub(super) async fn submodules(&self, mirror: Mirror<'_>, commit: &str, subdir: &str) -> Result<(), GitError> {
        let mut left = Vec::new();
        for module in listed(&mirror, commit, subdir).await? {
            left.push((module, 1));
        }
        let url = shown(&mirror.url);
        drop(mirror);
        let mut count = 0;
        while let Some((module, depth)) = left.pop() {
            count += 1;
            if count > SUBMODULES || depth > DEPTH {
                return Err(GitError::Submodules { url });
            }
            address::check(&module.url)?;
            let within = Mirror::open(self.remote, self.git, &module.url).await?;
            let wanted = Resolved { commit: module.commit.clone(), object: module.commit.clone(), name: None };
            let commit = within.fetch(&wanted).await?;
            let time = within.time_of(&commit).await?;
            self.files(&within, &commit, "", &module.path, time).await?;
            for inner in listed(&within, &commit, "").await? {
                let path = format!("{}/{}", module.path, inner.path);
                left.push((Submodule { path, ..inner }, depth + 1));
            }
        }
        Ok(())
    }
}

/// The submodules of a directory of a commit.
async fn listed(mirror: &Mirror<'_>, commit: &str, subdir: &str) -> Result<Vec<Submodule>, GitError> {
    let settings = format!("{commit}:.gitmodules");
    // Without the file there are none that could be found.
    let Ok(settings) = mirror.run(&["config", "--blob", &settings, "--null", "--list"]).await else {
        return Ok(Vec::new());
    };
    let addresses = addresses(&String::from_utf8_lossy(&settings), &mirror.url);
    let tree = mirror.tree(commit, subdir).await?;
    let entries = mirror.run(&["ls-tree", "-r", "-z", "--full-tree", &tree]).await?;
    Ok(modules(&String::from_utf8_lossy(&entries), subdir, &addresses))
}

/// Addresses by path, of `git config --null --list`.
fn addresses(settings: &str, parent: &str) -> BTreeMap<String, String> {
    let mut modules: BTreeMap<&str, [Option<&str>; 3]> = BTreeMap::new();
    for (key, value) in settings.split('\0').filter_map(|setting| setting.split_once('\n')) {
        let Some((name, field)) = key.strip_prefix("submodule.").and_then(|rest| rest.rsplit_once('.')) else {
            continue;
        };
        let module = modules.entry(name).or_default();
        match field {
            "path" => module[0] = Some(value),
            "url" => module[1] = Some(value),
            "update" => module[2] = Some(value),
            _ => {}
        }
    }
    let wanted = modules.values().filter_map(|module| match module {
        [_, _, Some("none")] => None,
        [Some(path), Some(url), _] => Some(((*path).to_owned(), address::of_submodule(parent, url))),
        _ => None,
    });
    wanted.collect()
}

/// The entries of `git ls-tree -r -z` that are commits and have an address.
fn modules(entries: &str, subdir: &str, addresses: &BTreeMap<String, String>) -> Vec<Submodule> {
    let entries = entries.split('\0').filter_map(|entry| {
        let (about, path) = entry.split_once('\t')?;
        let commit = about.strip_prefix("160000 commit ").filter(|commit| is_commit(commit))?;
        let full = if subdir.is_empty() { path.to_owned() } else { format!("{subdir}/{path}") };
        let url = addresses.get(&full)?.clone();
        Some(Submodule { commit: commit.to_owned(), path: path.to_owned(), url })
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submodules_are_those_with_a_path_and_an_address() {
        let settings = "submodule.a.path\nlib/a\0submodule.a.url\n../a.git\0submodule.b.c.path\nb\0submodule.b.c.url\nhttps://x/b\0submodule.d.path\nd\0submodule.e.path\ne\0submodule.e.url\nhttps://x/e\0submodule.e.update\nnone\0core.hooksPath\nx\0";
        let addresses = addresses(settings, "https://h/r/main.git");
        assert_eq!(addresses["lib/a"], "https://h/r/a.git");
        assert_eq!(addresses.keys().collect::<Vec<_>>(), ["b", "lib/a"]);
        let commit = "1".repeat(40);
        let tree = format!("100644 blob {commit}\tx\0160000 commit {commit}\ta\0160000 commit {commit}\tzz\0");
        let found = modules(&tree, "lib", &addresses);
        assert_eq!(found, [Submodule { commit, path: "a".into(), url: "https://h/r/a.git".into() }]);
    }
}

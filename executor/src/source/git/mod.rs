//! A git repository: `ADD https://…/repo.git#ref:dir`, and build contexts.
//!
//! A ref is resolved to a commit first, and what a commit gives is remembered: an unchanged ref costs one question,
//! a commit that is named costs none. Objects are kept in a bare mirror below the store; files come out of it by
//! `git archive` through our own unpacking, so that nothing is ever checked out by git, unless `.git` shall stay.

mod address;
mod command;
mod error;
mod export;
mod mirror;

use lap_cache::snapshot::{LayerRef, Snapshot};
use lap_solver::digest::Key;
use lap_solver::event::{Action, Event};
use serde::{Deserialize, Serialize};

use super::Remote;
use super::http::shown;
use command::Git;
pub use error::GitError;
use mirror::Mirror;

/// A repository and what to take of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// http, https, git or ssh URL, or `user@host:path`.
    pub url: String,
    /// Branch, tag, commit or full ref; the remote's HEAD where absent.
    pub reference: Option<String>,
    /// Directory that becomes the root.
    pub subdir: Option<String>,
    /// Whether `.git` stays; only where the root is that of the repository.
    pub keep_git_dir: bool,
    /// Expected commit, or a prefix of it.
    pub checksum: Option<String>,
    /// Whether submodules are fetched too.
    pub submodules: bool,
}

/// The files of a commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checkout {
    /// Its files.
    pub snapshot: Snapshot,
    /// The commit.
    pub commit: String,
    /// When it was made, in seconds since 1970.
    pub time: u64,
}

/// A commit, and the name by which the server gives it where it does not give commits by their own.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Resolved {
    commit: String,
    /// What the ref points to, if it is a tag object.
    object: String,
    name: Option<String>,
}

/// The files of a repository, as the root of a file system of their own.
///
/// # Errors
/// Where git is not there or fails, or the repository does not have what is wanted.
pub async fn fetch(remote: &Remote, wanted: &Wanted) -> Result<Checkout, GitError> {
    address::check(&wanted.url)?;
    let subdir = subdir(wanted)?;
    let git = Git::new(remote, &wanted.url)?;
    let progress = |done| {
        let (id, action) = (shown(&wanted.url), Action::Download);
        remote.events.send(Event::Progress { id, action, vertex: None, current: 0, total: None, done });
    };
    progress(false);
    let mut found = resolve(remote, &git, wanted).await?;
    check_sum(wanted, &found)?;
    let keep = wanted.keep_git_dir && subdir.is_empty();
    let key = |commit: &str| Key::of("git source", &(shown(&wanted.url), commit, &subdir, keep, wanted.submodules));
    if let Some(known) = remote.recall::<Checkout>("git", &key(&found.commit))?
        && let [layer] = known.snapshot.layers.as_slice()
        && remote.has(layer)?
    {
        progress(true);
        return Ok(known);
    }
    let mirror = Mirror::open(remote, &git, &wanted.url).await?;
    found.commit = mirror.fetch(&found).await?;
    let time = mirror.time_of(&found.commit).await?;
    let workspace = remote.store.workspace()?;
    let export = export::Export { remote, git: &git, root: workspace.upper() };
    if keep {
        export.with_git_dir(&mirror, &found).await?;
    } else {
        export.files(&mirror, &found.commit, &subdir, "", time).await?;
    }
    if wanted.submodules {
        export.submodules(mirror, &found.commit, &subdir).await?;
    }
    let store = remote.store.clone();
    let layer = tokio::task::spawn_blocking(move || store.commit(workspace, &[], true)).await??;
    let snapshot = Snapshot { layers: layer.as_ref().map(LayerRef::from).into_iter().collect() };
    let checkout = Checkout { snapshot, commit: found.commit, time };
    remote.remember("git", &key(&checkout.commit), &checkout)?;
    progress(true);
    Ok(checkout)
}

/// The directory without empty parts; nothing for the root.
fn subdir(wanted: &Wanted) -> Result<String, GitError> {
    let text = wanted.subdir.as_deref().unwrap_or_default();
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.iter().any(|part| matches!(*part, ".." | ".git")) || text.contains(['\0', '\n']) {
        let (url, commit) = (shown(&wanted.url), wanted.reference.clone().unwrap_or_else(|| "HEAD".to_owned()));
        return Err(GitError::NoDirectory { url, path: text.to_owned(), commit });
    }
    Ok(parts.join("/"))
}

async fn resolve(remote: &Remote, git: &Git, wanted: &Wanted) -> Result<Resolved, GitError> {
    let reference = wanted.reference.as_deref().unwrap_or("HEAD");
    if is_commit(reference) {
        let commit = reference.to_ascii_lowercase();
        return Ok(Resolved { object: commit.clone(), commit, name: None });
    }
    if !is_ref(reference) {
        return Err(GitError::BadRef(reference.to_owned()));
    }
    let peeled = format!("{reference}^{{}}");
    let dir = remote.store.root();
    let args = ["ls-remote", "--end-of-options", "origin", reference, &peeled];
    let listed = git.run(dir, Some(&wanted.url), &args).await?;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    choose(&listed, reference)
        .ok_or_else(|| GitError::NoRef { url: shown(&wanted.url), reference: reference.to_owned() })
}

/// What `git checkout` would take of a list of refs: a branch before a tag before anything else.
fn choose(listed: &str, reference: &str) -> Option<Resolved> {
    let commit_of = |name: &str| {
        let line = listed.lines().filter_map(|line| line.split_once('\t')).find(|(_, found)| *found == name);
        line.map(|(commit, _)| commit.to_owned()).filter(|commit| is_commit(commit))
    };
    let bare = |prefix: &str| format!("{prefix}{}", reference.strip_prefix(prefix).unwrap_or(reference));
    for name in [bare("refs/heads/"), bare("refs/tags/"), bare("refs/"), reference.to_owned()] {
        if let Some(object) = commit_of(&name) {
            let commit = commit_of(&format!("{name}^{{}}")).unwrap_or_else(|| object.clone());
            return Some(Resolved { commit, object, name: Some(name) });
        }
    }
    None
}

fn check_sum(wanted: &Wanted, found: &Resolved) -> Result<(), GitError> {
    let Some(expected) = &wanted.checksum else { return Ok(()) };
    let prefix = expected.to_ascii_lowercase();
    let is_one = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_one && (found.commit.starts_with(&prefix) || found.object.starts_with(&prefix)) {
        return Ok(());
    }
    let (url, actual) = (shown(&wanted.url), found.commit.clone());
    Err(GitError::Checksum { url, expected: expected.clone(), actual })
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a text can be a ref (`git check-ref-format`), and is nothing else to git.
fn is_ref(text: &str) -> bool {
    let bad = |byte: u8| byte <= b' ' || byte == 0x7f || b"~^:?*[\\".contains(&byte);
    !text.is_empty()
        && text.len() <= 1024
        && !text.bytes().any(bad)
        && !text.starts_with(['-', '/'])
        && !text.ends_with(['/', '.'])
        && !text.contains("..")
        && !text.contains("@{")
        && !text.contains("//")
        && text != "@"
        && text.split('/').all(|part| !part.starts_with('.') && !part.ends_with(".lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_are_refs_and_no_options_or_patterns() {
        for text in ["main", "refs/heads/a-b", "v1.2", "HEAD", "refs/pull/1/head", "a@b"] {
            assert!(is_ref(text), "{text}");
        }
        for text in ["", "-x", "--upload-pack=x", "a b", "a..b", "a^", "*", "a:b", "a.lock", ".a", "/a", "a/", "a@{1}"]
        {
            assert!(!is_ref(text), "{text}");
        }
    }

    #[test]
    fn branches_come_before_tags_and_tags_are_peeled() {
        let (one, two, three) = ("1".repeat(40), "2".repeat(40), "3".repeat(40));
        let list = format!("{one}\trefs/heads/x\n{two}\trefs/tags/x\n{three}\trefs/tags/x^{{}}\n");
        assert_eq!(choose(&list, "x").unwrap().commit, one);
        let tag = choose(&list, "refs/tags/x").unwrap();
        assert_eq!((tag.commit, tag.object), (three, two));
        assert_eq!(choose(&format!("{one}\tHEAD\n"), "HEAD").unwrap().name.as_deref(), Some("HEAD"));
        assert!(choose(&format!("{one}\trefs/heads/a/x\n"), "x").is_none());
        assert!(choose("-x\trefs/heads/x\n", "x").is_none());
    }

    #[test]
    fn directories_stay_in_the_repository() {
        let of = |text: &str| subdir(&Wanted { subdir: Some(text.to_owned()), ..Wanted::default() });
        assert_eq!(of("/a//b/./c/").unwrap(), "a/b/c");
        assert_eq!(of(".").unwrap(), "");
        for text in ["..", "a/../..", "../x", ".git", "a/.git/x", "a\nb"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}

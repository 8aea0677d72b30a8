//! Git references in `ADD` and as contexts: `https://host/repo.git?query#ref:dir`, `git@host:repo`, `ssh://…`.
//!
//! Follows `BuildKit`'s `dfgitutil`. Remotes and refs go to a program's command line later, so both are refused where
//! they could be read as an option.

use crate::go;

/// A repository and what to take of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitReference {
    /// URL without query and fragment.
    pub remote: String,
    /// Branch, tag, commit or full ref.
    pub reference: Option<String>,
    /// Directory that becomes the root.
    pub subdir: Option<String>,
    /// Expected commit, or a prefix of it.
    pub checksum: Option<String>,
    /// Whether `.git` stays.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched.
    pub submodules: Option<bool>,
}

/// Why a text that names a repository cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// A query key without value.
    #[error("query {} has no value", go::quote(.0))]
    NoValue(String),
    /// A query key given twice.
    #[error("query {} has multiple values", go::quote(.0))]
    Multiple(String),
    /// An unknown query key.
    #[error("unexpected query {}", go::quote(.0))]
    Unexpected(String),
    /// Two different refs or directories.
    #[error("{key} conflicts: {} vs {}", go::quote(.one), go::quote(.two))]
    Conflict {
        /// `ref` or `subdir`.
        key: &'static str,
        /// One of them.
        one: String,
        /// The other.
        two: String,
    },
    /// A branch and a tag.
    #[error("branch conflicts with tag")]
    BranchAndTag,
    /// Neither true nor false, or no other word that the key takes.
    #[error("invalid {key} value: {}", go::quote(.value))]
    NotBool {
        /// The query key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// Begins with a dash.
    #[error("{what} {} begins with a dash and could be taken for an option of git", go::quote(.text))]
    Option {
        /// What it is.
        what: &'static str,
        /// Its text.
        text: String,
    },
}

/// Reads a git reference; none where the text names no repository.
///
/// `known_git` says that an HTTP URL without `.git` is one all the same (`ADD --keep-git-dir`).
///
/// # Errors
/// Where it names a repository in a way that cannot be carried out.
pub fn parse(text: &str, known_git: bool) -> Result<Option<GitReference>, GitError> {
    let Some((address, query, fragment)) = address(text, known_git) else { return Ok(None) };
    let mut git = GitReference { remote: address.to_owned(), ..GitReference::default() };
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    git.reference = (!reference.is_empty()).then(|| reference.to_owned());
    git.subdir = (!subdir.is_empty()).then(|| subdir.to_owned());
    git.load(query)?;
    let host = git.remote.split_once("://").map_or(git.remote.as_str(), |(_, rest)| rest);
    for (what, text) in [
        ("remote", Some(git.remote.as_str())),
        ("host", Some(host.rsplit_once('@').map_or(host, |(_, host)| host))),
        ("ref", git.reference.as_deref()),
        ("commit", git.checksum.as_deref()),
    ] {
        if let Some(text) = text.filter(|text| text.starts_with('-')) {
            return Err(GitError::Option { what, text: text.to_owned() });
        }
    }
    Ok(Some(git))
}

/// Address, query and fragment, if the text is a git URL.
fn address(text: &str, known_git: bool) -> Option<(&str, &str, &str)> {
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    match address.split_once("://") {
        Some(("http" | "https", path)) => {
            let path = path.split_once('/').map_or("", |(_, path)| path);
            (path.ends_with(".git") || known_git).then_some((address, query, fragment))
        }
        Some(("git" | "ssh", _)) => Some((address, query, fragment)),
        Some(_) => None,
        None => {
            let (user, host) = address.split_once('@')?;
            let (host, path) = host.split_once(':')?;
            let word = |text: &str, more: &[u8]| {
                !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
            };
            (word(user, b"-_") && word(host, b"-_.") && !path.is_empty()).then_some((address, query, fragment))
        }
    }
}

impl GitReference {
    fn load(&mut self, query: &str) -> Result<(), GitError> {
        let (mut tag, mut branch) = (None, None);
        let mut seen = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            if seen.contains(&key) {
                return Err(GitError::Multiple(key.to_owned()));
            }
            seen.push(key);
            match key {
                "keep-git-dir" => self.keep_git_dir = Some(flag("keep-git-dir", value)?),
                "submodules" => self.submodules = Some(flag("submodules", value)?),
                "ref" | "tag" | "branch" | "subdir" | "checksum" | "commit" if value.is_empty() => {
                    return Err(GitError::NoValue(key.to_owned()));
                }
                "ref" => set("ref", &mut self.reference, value)?,
                "subdir" => set("subdir", &mut self.subdir, value)?,
                "tag" => tag = Some(full("refs/tags/", &value)),
                "branch" => branch = Some(full("refs/heads/", &value)),
                "checksum" | "commit" => self.checksum = Some(value),
                // Files always have the time of the commit, and commits are asked for by name first.
                "mtime" if matches!(value.as_str(), "checkout" | "commit") => {}
                "mtime" => return Err(GitError::NotBool { key: "mtime", value }),
                "fetch-by-commit" => {
                    flag("fetch-by-commit", value)?;
                }
                _ => return Err(GitError::Unexpected(key.to_owned())),
            }
        }
        if tag.is_some() && branch.is_some() {
            return Err(GitError::BranchAndTag);
        }
        if let Some(reference) = tag.or(branch) {
            set("ref", &mut self.reference, reference)?;
        }
        if self.reference.is_none() {
            self.reference.clone_from(&self.checksum);
        }
        Ok(())
    }
}

fn full(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

fn set(key: &'static str, slot: &mut Option<String>, value: String) -> Result<(), GitError> {
    match slot {
        Some(one) if *one != value => Err(GitError::Conflict { key, one: one.clone(), two: value }),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

fn flag(key: &'static str, value: String) -> Result<bool, GitError> {
    if value.is_empty() {
        return Ok(true);
    }
    go::parse_bool(&value).ok_or(GitError::NotBool { key, value })
}

/// Percent escapes and `+` of a query value.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match (byte, hex) {
            (b'%', Some(hex)) => {
                out.push(u8::from_str_radix(hex, 16).unwrap_or_default());
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_recognised() {
        let read = |text: &str| parse(text, false).unwrap().map(|git| (git.remote, git.reference, git.subdir));
        let some = |remote: &str, reference: &str, subdir: &str| {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Some((remote.to_owned(), text(reference), text(subdir)))
        };
        assert_eq!(read("https://h/a.git#v1:sub/dir"), some("https://h/a.git", "v1", "sub/dir"));
        assert_eq!(read("git@h:a/b"), some("git@h:a/b", "", ""));
        assert_eq!(read("ssh://git@h/a#x"), some("ssh://git@h/a", "x", ""));
        assert_eq!(read("https://h/a.git?branch=b&subdir=s"), some("https://h/a.git", "refs/heads/b", "s"));
        assert_eq!(read("https://h/a.git?commit=abc"), some("https://h/a.git", "abc", ""));
        for text in ["https://h/a", "a/b", "./a.git", "user@host", "C:\\x", "github.com/a/b"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert!(parse("https://h/a", true).unwrap().is_some());
        assert_eq!(read("https://h/a.git?mtime=commit&fetch-by-commit=1"), some("https://h/a.git", "", ""));
    }

    #[test]
    fn faults_are_named() {
        for (text, want) in [
            ("https://h/a.git?x=1", "unexpected query \"x\""),
            ("https://h/a.git?ref=", "query \"ref\" has no value"),
            ("https://h/a.git?ref=a&ref=a", "query \"ref\" has multiple values"),
            ("https://h/a.git?ref=a#b", "ref conflicts: \"b\" vs \"a\""),
            ("https://h/a.git?tag=a&branch=b", "branch conflicts with tag"),
            ("https://h/a.git?mtime=x", "invalid mtime value: \"x\""),
            ("https://h/a.git?submodules=x", "invalid submodules value: \"x\""),
            (
                "https://h/a.git#--upload-pack=x",
                "ref \"--upload-pack=x\" begins with a dash and could be taken for an option of git",
            ),
            (
                "ssh://-oProxyCommand=x/a",
                "host \"-oProxyCommand=x/a\" begins with a dash and could be taken for an option of git",
            ),
        ] {
            assert_eq!(parse(text, false).unwrap_err().to_string(), want);
        }
    }
}

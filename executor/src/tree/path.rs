//! Byte paths below a root: lexical helpers, resolving links inside the root, opening without following any.
//!
//! Paths here are relative to the root, without leading or trailing slash; the root itself is empty.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// How many symbolic links one path may go through (continuity's limit, which BuildKit has).
const MAX_LINKS: usize = 255;
/// Longest path handed to the kernel at once; `PATH_MAX` is 4096 with the final zero.
const MAX_CHUNK: usize = 4000;

/// For messages: with a leading slash, readable.
pub(crate) fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path.strip_prefix(b"/").unwrap_or(path)))
}

/// Lexically cleaned: no `.`, no `..`, no empty parts; nothing leads above the root.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// `name` below `path`.
pub(crate) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// Parent and last part; the root has neither.
pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => Some((&path[..at], &path[at + 1..])),
        None if path.is_empty() => None,
        None => Some((b"", path)),
    }
}

/// What one part of a path turned out to be.
pub(crate) enum Step {
    /// A symbolic link and where it points.
    Link(Vec<u8>),
    /// Anything else, or nothing.
    Other,
}

/// Why a path cannot be resolved.
pub(crate) enum ResolveError<E> {
    /// More than [`MAX_LINKS`] links.
    TooManyLinks,
    /// Looking failed.
    Look(E),
}

/// Follows every symbolic link in `path`, the last part's too, inside the root. Parts that do not exist stay.
pub(crate) fn resolve<E>(
    path: &[u8],
    mut look: impl FnMut(&[u8]) -> Result<Step, E>,
) -> Result<Vec<u8>, ResolveError<E>> {
    let mut rest: Vec<Vec<u8>> = parts_reversed(path);
    let mut done: Vec<u8> = Vec::new();
    let mut links = 0;
    while let Some(part) = rest.pop() {
        match part.as_slice() {
            b"" | b"." => continue,
            b".." => {
                done.truncate(split(&done).map_or(0, |(parent, _)| parent.len()));
                continue;
            }
            _ => {}
        }
        let here = join(&done, &part);
        match look(&here).map_err(ResolveError::Look)? {
            Step::Other => done = here,
            Step::Link(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(ResolveError::TooManyLinks);
                }
                if target.first() == Some(&b'/') {
                    done.clear();
                }
                rest.extend(parts_reversed(&target));
            }
        }
    }
    Ok(done)
}

fn parts_reversed(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect()
}

/// Opens `path` below `root`; no part of it may be a symbolic link. Paths of any length.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC;
    let mut path = path;
    let mut base: Option<OwnedFd> = None;
    while path.len() > MAX_CHUNK {
        let at = path[..MAX_CHUNK].iter().rposition(|byte| *byte == b'/').ok_or(Errno::NAMETOOLONG)?;
        let from = base.as_ref().map_or(root, AsFd::as_fd);
        base = Some(retry(|| openat2(from, &path[..at], OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how))?);
        path = &path[at + 1..];
    }
    let from = base.as_ref().map_or(root, AsFd::as_fd);
    let path = if path.is_empty() { b".".as_slice() } else { path };
    retry(|| openat2(from, path, flags, mode, how))
}

/// `openat2` says `EAGAIN` where a rename elsewhere made it unsure.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 0..64 {
        match call() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    call()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;

    fn resolved(links: &[(&str, &str)], path: &str) -> Option<String> {
        let links: BTreeMap<_, _> = links.iter().copied().collect();
        let found = resolve::<Infallible>(path.as_bytes(), |at| {
            Ok(links.get(std::str::from_utf8(at).unwrap()).map_or(Step::Other, |to| Step::Link(to.as_bytes().to_vec())))
        });
        found.ok().map(|path| String::from_utf8(path).unwrap())
    }

    #[test]
    fn links_stay_inside_the_root() {
        let links = [("app", "/canary"), ("b", "../../../canary"), ("d/up", ".."), ("loop", "loop"), ("d/self", ".")];
        for (path, want) in [
            ("/app/x", "canary/x"),
            ("b", "canary"),
            ("d/up/d/up/app", "canary"),
            ("../../etc/passwd", "etc/passwd"),
            ("d/self/self/x", "d/x"),
            ("missing/../app/./y/", "canary/y"),
            ("/", ""),
        ] {
            assert_eq!(resolved(&links, path).as_deref(), Some(want), "{path}");
        }
        assert_eq!(resolved(&links, "loop/x"), None);
    }

    #[test]
    fn paths_are_cleaned_below_the_root() {
        for (path, want) in [("/a//b/./c/", "a/b/c"), ("../a", "a"), ("a/../../b", "b"), ("", ""), ("/", "")] {
            assert_eq!(clean(path.as_bytes()), want.as_bytes(), "{path}");
        }
        assert_eq!(split(b"a/b"), Some((b"a".as_slice(), b"b".as_slice())));
        assert_eq!(split(b"a"), Some((b"".as_slice(), b"a".as_slice())));
        assert_eq!(split(b""), None);
    }

    #[test]
    fn paths_longer_than_the_kernel_takes_are_opened_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let name = "n".repeat(200);
        let mut at: OwnedFd = root.try_clone().unwrap().into();
        let mut path = Vec::new();
        for _ in 0..30 {
            rustix::fs::mkdirat(&at, name.as_str(), Mode::from(0o755)).unwrap();
            at = open_beneath(at.as_fd(), name.as_bytes(), OFlags::DIRECTORY, Mode::empty()).unwrap();
            path = join(&path, name.as_bytes());
        }
        assert!(path.len() > 6000);
        let found = open_beneath(root.as_fd(), &path, OFlags::DIRECTORY, Mode::empty()).unwrap();
        assert_eq!(rustix::fs::fstat(&found).unwrap().st_ino, rustix::fs::fstat(&at).unwrap().st_ino);
        // tempfile removes by fds, so the depth does not matter to it.
    }
}

//! What a COPY or a bind mount takes of a tree, and the identity of that.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::os::fd::AsFd;

use lap_cache::records::Listed;
use lap_solver::digest::Key;
use lap_solver::graph::Copy;
use lap_solver::pattern::match_name;
use rayon::prelude::*;
use rustix::fs::{Mode, OFlags};
use serde::Serialize;

use super::walk::{Matched, Verdict, Walk};
use super::{Kind, Node, Tree, TreeError, path, shown};

/// Version of the encoding of [`Tree::identity`].
const IDENTITY: &[u8] = b"selection 1\0";

/// A part of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub enum Selection {
    /// One path with everything below it, its own metadata included: a bind mount.
    Path(String),
    /// What a COPY takes.
    Copy {
        /// Path or pattern.
        source: String,
        /// Whether it is a pattern.
        wildcard: bool,
        /// Patterns of which one has to match; all match where empty.
        include: Vec<String>,
        /// Patterns of which none may match.
        exclude: Vec<String>,
        /// Whether an included path without wildcard has to exist.
        required: bool,
    },
}

impl Selection {
    /// What `copy` takes of its input.
    #[must_use]
    pub fn of_copy(copy: &Copy) -> Self {
        Self::Copy {
            source: copy.source.clone(),
            wildcard: copy.wildcard,
            include: copy.include.clone(),
            exclude: copy.exclude.clone(),
            required: copy.parents,
        }
    }

    /// Whether nothing of the tree is left out.
    pub(crate) fn is_everything(&self) -> bool {
        match self {
            Self::Path(source) => path::clean(source.as_bytes()).is_empty(),
            Self::Copy { source, include, exclude, .. } => {
                path::clean(source.as_bytes()).is_empty() && include.is_empty() && exclude.is_empty()
            }
        }
    }
}

/// One entry of a selection.
struct Selected<'t> {
    /// Path below the match.
    below: Vec<u8>,
    /// Path below the tree's root.
    at: Vec<u8>,
    node: &'t Node,
    /// Whether its own metadata count: not those of a directory of which only the contents are taken.
    own: bool,
}

/// A part of a selection, as its identity is made of.
enum Part<'s> {
    /// So many paths match.
    Matches(usize),
    /// One of them.
    Match(&'s [u8]),
    /// What lies there or below, and the digest of its content.
    Entry(&'s Selected<'s>, Key),
    /// The entry before is a hard link to this one, which a copy keeps: number of its match, and path below that.
    Link(usize, &'s [u8]),
}

impl Tree {
    /// The paths that `source` stands for: itself, or in order of name everything that matches it.
    ///
    /// Links among the directories before the first wildcard are followed; the last part is not resolved.
    ///
    /// # Errors
    /// [`TreeError::NotFound`] where a source without wildcard does not exist; a pattern may match nothing.
    pub fn matches(&self, source: &str, wildcard: bool) -> Result<Vec<Vec<u8>>, TreeError> {
        let source = path::clean(source.as_bytes());
        let parts: Vec<&[u8]> = source.split(|byte| *byte == b'/').collect();
        let first = parts.iter().position(|part| wildcard && has_wildcard(part));
        let Some(first) = first else {
            self.existing(&source)?;
            return Ok(vec![source]);
        };
        let (base, pattern) = (parts[..first].join(&b'/'), &parts[first..]);
        let (at, node) = self.existing(&base)?;
        let mut found = Vec::new();
        let text = String::from_utf8_lossy(&pattern.join(&b'/')).into_owned();
        self.glob(&at, node, b"", &text, pattern.len(), &mut found)?;
        Ok(found)
    }

    /// The entry that `path` leads to, links followed, and where that is.
    pub(crate) fn existing(&self, path: &[u8]) -> Result<(Vec<u8>, &Node), TreeError> {
        let at = self.resolve(path)?;
        match self.lookup(&at)? {
            Some(node) => Ok((at, node)),
            None if self.is_filtered() && self.lies_there(&at) => Err(TreeError::Ignored { path: shown(path) }),
            None => Err(TreeError::not_found(path)),
        }
    }

    fn lies_there(&self, at: &[u8]) -> bool {
        path::open_beneath(self.fd().as_fd(), at, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).is_ok()
    }

    fn glob(
        &self,
        at: &[u8],
        node: &Node,
        below: &[u8],
        pattern: &str,
        depth: usize,
        found: &mut Vec<Vec<u8>>,
    ) -> Result<(), TreeError> {
        for entry in self.entries(at, node)? {
            let below = path::join(below, &entry.name);
            let at = path::join(at, &entry.name);
            if match_name(pattern, &String::from_utf8_lossy(&below))? {
                found.push(at);
            } else if depth > 1 {
                self.glob(&at, entry, &below, pattern, depth - 1, found)?;
            }
        }
        Ok(())
    }

    /// The identity of what `selections` take: equal identities mean that no COPY and no mount can tell the two apart.
    ///
    /// Holds paths, types, modes, owners, sizes, link targets, device numbers, contents and attributes; no times.
    ///
    /// # Errors
    /// Where something that is named does not exist, cannot be read, or changed while it was read.
    pub fn identity(&self, selections: &[Selection]) -> Result<Key, TreeError> {
        let mut text = IDENTITY.to_vec();
        for selection in selections {
            self.encode(selection, &mut text)?;
        }
        Ok(Key::from_bytes(*blake3::hash(&text).as_bytes()))
    }

    /// What `selections` take, entry by entry, with what [`Self::identity`] is made of.
    ///
    /// # Errors
    /// As there.
    pub fn listing(&self, selections: &[Selection]) -> Result<Vec<Listed>, TreeError> {
        let mut listed = Vec::new();
        for selection in selections {
            self.each(selection, &mut |part| {
                if let Part::Entry(entry, digest) = part {
                    listed.push(entry.listed(digest));
                }
            })?;
        }
        Ok(listed)
    }

    fn encode(&self, selection: &Selection, text: &mut Vec<u8>) -> Result<(), TreeError> {
        self.each(selection, &mut |part| match part {
            Part::Matches(count) => field(text, b'S', &count.to_le_bytes()),
            Part::Match(found) => field(text, b'M', found),
            Part::Entry(entry, digest) => entry.encode(text, digest),
            Part::Link(number, below) => {
                field(text, b'H', below);
                text.extend_from_slice(&number.to_le_bytes());
            }
        })
    }

    /// Gives every part of a selection, in order.
    fn each(&self, selection: &Selection, give: &mut dyn FnMut(Part<'_>)) -> Result<(), TreeError> {
        let nothing = Vec::new();
        let (matches, include, exclude, own) = match selection {
            Selection::Path(source) => (self.matches(source, false)?, &nothing, &nothing, true),
            Selection::Copy { source, wildcard, include, exclude, required } => {
                let matches = self.matches(source, *wildcard)?;
                if *required {
                    self.check_required(source, include)?;
                }
                (matches, include, exclude, false)
            }
        };
        let walk = Walk::new(include, exclude)?;
        give(Part::Matches(matches.len()));
        let mut linked: HashMap<(u64, u64), (usize, Vec<u8>)> = HashMap::new();
        for (number, found) in matches.into_iter().enumerate() {
            give(Part::Match(&found));
            let (at, node) = self.existing(&found)?;
            if matches!(selection, Selection::Path(_)) || walk.is_everything() {
                self.load(&at, node)?;
            }
            let mut selected = vec![Selected { below: Vec::new(), at, node, own: own || !node.is_dir() }];
            self.collect(&walk, &Matched::default(), 0, &mut selected)?;
            let digests = selected.par_iter().with_min_len(16).map(|entry| self.entry_digest(entry));
            let digests = digests.collect::<Result<Vec<_>, _>>()?;
            for (entry, digest) in selected.iter().zip(digests) {
                give(Part::Entry(entry, digest));
                let meta = &entry.node.meta;
                if meta.links < 2 || !matches!(entry.node.kind, Kind::File(_)) {
                    continue;
                }
                match linked.entry((meta.dev, meta.ino)) {
                    Slot::Occupied(first) => give(Part::Link(first.get().0, &first.get().1)),
                    Slot::Vacant(slot) => drop(slot.insert((number, entry.below.clone()))),
                }
            }
        }
        Ok(())
    }

    pub(crate) fn check_required(&self, source: &str, include: &[String]) -> Result<(), TreeError> {
        for pattern in include.iter().filter(|pattern| !has_wildcard(pattern.as_bytes())) {
            self.existing(&path::join(&path::clean(source.as_bytes()), &path::clean(pattern.as_bytes())))?;
        }
        Ok(())
    }

    /// Adds what is taken below the last of `selected`.
    fn collect<'t>(
        &'t self,
        walk: &Walk,
        matched: &Matched,
        parent: usize,
        selected: &mut Vec<Selected<'t>>,
    ) -> Result<(), TreeError> {
        let (node, at, below) = (selected[parent].node, selected[parent].at.clone(), selected[parent].below.clone());
        for entry in self.entries(&at, node)? {
            let below = path::join(&below, &entry.name);
            let (verdict, matched) = walk.judge(&below, entry.is_dir(), matched);
            if verdict == Verdict::Skip {
                continue;
            }
            let mark = selected.len();
            selected.push(Selected { below, at: path::join(&at, &entry.name), node: entry, own: true });
            self.collect(walk, &matched, mark, selected)?;
            if verdict == Verdict::Pass && selected.len() == mark + 1 {
                selected.pop();
            }
        }
        Ok(())
    }

    fn entry_digest(&self, entry: &Selected<'_>) -> Result<Key, TreeError> {
        match &entry.node.kind {
            Kind::File(_) => self.file_digest(&entry.at, entry.node),
            Kind::Directory(_) if entry.own => self.directory_xattrs(&entry.at, entry.node),
            Kind::Symlink(_) => {
                let target = self.target(&entry.at, entry.node)?;
                Ok(Key::from_bytes(*blake3::hash(target).as_bytes()))
            }
            _ => Ok(Key::from_bytes([0; 32])),
        }
    }
}

impl Selected<'_> {
    fn listed(&self, digest: Key) -> Listed {
        let meta = &self.node.meta;
        let kind = match &self.node.kind {
            Kind::Directory(_) => "directory",
            Kind::File(_) => "file",
            Kind::Symlink(_) => "link",
            Kind::Block | Kind::Char => "device",
            Kind::Fifo => "pipe",
        };
        let own = if self.own { format!(" {:o} {}:{}", meta.mode, meta.uid, meta.gid) } else { String::new() };
        let has_content = matches!(self.node.kind, Kind::File(_) | Kind::Symlink(_));
        Listed {
            path: shown(&self.at).trim_start_matches('/').to_owned(),
            digest: has_content.then_some(digest),
            about: format!("{kind}{own}"),
        }
    }

    fn encode(&self, text: &mut Vec<u8>, digest: Key) {
        let meta = &self.node.meta;
        let (tag, mode, number) = match &self.node.kind {
            Kind::Directory(_) => (b'd', meta.mode, 0),
            Kind::File(_) => (b'f', meta.mode, meta.size),
            Kind::Symlink(_) => (b'l', 0, 0),
            Kind::Block => (b'b', meta.mode, meta.rdev),
            Kind::Char => (b'c', meta.mode, meta.rdev),
            Kind::Fifo => (b'p', meta.mode, 0),
        };
        field(text, tag, &self.below);
        if self.own {
            for value in [mode, meta.uid, meta.gid] {
                text.extend_from_slice(&value.to_le_bytes());
            }
            text.extend_from_slice(&number.to_le_bytes());
            text.extend_from_slice(digest.as_bytes());
        } else {
            text.push(b'-');
        }
    }
}

fn field(text: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    text.push(tag);
    text.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    text.extend_from_slice(bytes);
}

/// Whether Go's `filepath.Match` would see more than literal text.
pub(crate) fn has_wildcard(text: &[u8]) -> bool {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::super::{Owners, StatCache};
    use super::*;

    fn tree(dir: &Path) -> Tree {
        Tree::open(dir, None, Owners::Root).unwrap()
    }

    fn copy(source: &str) -> Selection {
        let wildcard = has_wildcard(source.as_bytes());
        Selection::Copy { source: source.into(), wildcard, include: vec![], exclude: vec![], required: false }
    }

    fn sample() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("src/deep")).unwrap();
        fs::create_dir_all(dir.path().join("other")).unwrap();
        for name in ["src/a.c", "src/b.c", "src/deep/c.c", "other/a.c", "top.txt", "star*"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        symlink("src", dir.path().join("link")).unwrap();
        dir
    }

    #[test]
    fn wildcards_match_as_go_does() {
        let dir = sample();
        let tree = tree(dir.path());
        for (source, want) in [
            ("/*.txt", &["top.txt"][..]),
            ("/*/a.c", &["other/a.c", "src/a.c"]),
            ("/s*", &["src", "star*"]),
            ("/link/*.c", &["src/a.c", "src/b.c"]),
            ("/src/[ab].c", &["src/a.c", "src/b.c"]),
            ("/nothing*", &[]),
            ("/src/*/c.c", &["src/deep/c.c"]),
        ] {
            let found = tree.matches(source, true).unwrap();
            let found: Vec<_> = found.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
            assert_eq!(found, want, "{source}");
        }
        let missing = tree.matches("/x/y", true).unwrap_err().to_string();
        assert_eq!(missing, r#""/x/y": not found"#);
        assert!(tree.matches("/missing/*.c", true).is_err());
        assert!(tree.matches("/star*", false).is_ok(), "without wildcards the name is taken as it is");
    }

    #[test]
    fn identity_is_of_what_is_taken_and_nothing_else() {
        let dir = sample();
        let identity = |source: &str| tree(dir.path()).identity(&[copy(source)]).unwrap();
        let (src, top, other) = (identity("/src"), identity("/top.txt"), identity("/other"));
        assert_ne!(src, other);

        fs::write(dir.path().join("other/a.c"), "changed").unwrap();
        assert_eq!(identity("/src"), src);
        assert_eq!(identity("/top.txt"), top);
        assert_ne!(identity("/other"), other);

        let file = fs::File::options().write(true).open(dir.path().join("src/a.c")).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(identity("/src"), src, "times do not count");
        fs::set_permissions(dir.path().join("src/a.c"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(identity("/src"), src, "modes do");
        fs::set_permissions(dir.path().join("src/a.c"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(identity("/src"), src);
        fs::rename(dir.path().join("src/b.c"), dir.path().join("src/d.c")).unwrap();
        assert_ne!(identity("/src"), src, "names do");
        assert_eq!(identity("/link/a.c"), identity("/link/a.c"));
    }

    #[test]
    fn identity_changes_with_everything_that_a_layer_would_hold() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &[u8]| dir.path().join("src").join(std::ffi::OsStr::from_bytes(name));
        let mut seen = std::collections::BTreeSet::new();
        let mut changed = |what: &str| {
            let identity = tree(dir.path()).identity(&[copy("/src")]).unwrap();
            assert!(seen.insert(format!("{identity:?}")), "{what}");
        };
        fs::create_dir(dir.path().join("src")).unwrap();
        changed("nothing");
        fs::create_dir(path(b"d")).unwrap();
        changed("an empty directory");
        fs::remove_dir(path(b"d")).unwrap();
        fs::write(path(b"d"), "").unwrap();
        changed("a file in its place");
        fs::rename(path(b"d"), path(b"D")).unwrap();
        changed("the case of a name");
        fs::rename(path(b"D"), path(b"\xff")).unwrap();
        changed("a name that is no text");
        fs::rename(path(b"\xff"), path(b"\xfe")).unwrap();
        changed("another such name");
        symlink("one", path(b"l")).unwrap();
        changed("a link");
        fs::remove_file(path(b"l")).unwrap();
        symlink("two", path(b"l")).unwrap();
        changed("the target of a link");
        fs::write(path(b"two"), "x").unwrap();
        changed("what it leads to");
        fs::set_permissions(path(b"two"), fs::Permissions::from_mode(0o4755)).unwrap();
        changed("a set-user-ID bit");
        fs::set_permissions(path(b"two"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(path(b"three"), "x").unwrap();
        fs::set_permissions(path(b"three"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(path(b"three"), path(b"four")).unwrap();
        changed("two files of the same content");
        for (first, second) in [(b"three".as_slice(), b"four".as_slice()), (b"two", b"four"), (b"two", b"three")] {
            fs::remove_file(path(second)).unwrap();
            fs::hard_link(path(first), path(second)).unwrap();
            changed("which files are one");
        }
        fs::hard_link(path(b"two"), dir.path().join("outside")).unwrap();
        let identity = |dir: &Path| tree(dir).identity(&[copy("/src")]).unwrap();
        let before = identity(dir.path());
        fs::remove_file(dir.path().join("outside")).unwrap();
        assert_eq!(identity(dir.path()), before, "links to elsewhere are none in a copy");

        // Attributes count as far as they are copied: those of a user stay behind where the files are a context's.
        let set = |name: &str, value: &[u8]| {
            let flags = rustix::fs::XattrFlags::empty();
            match rustix::fs::setxattr(path(b"three"), name, value, flags) {
                Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM) => false,
                result => result.map(|()| true).unwrap(),
            }
        };
        let owned = |dir: &Path| Tree::open(dir, None, Owners::Kept).unwrap().identity(&[copy("/src")]).unwrap();
        if !set("user.note", b"one") {
            println!("SKIPPED the attributes: this file system has none");
            return;
        }
        assert_eq!(identity(dir.path()), before);
        let one = owned(dir.path());
        assert!(set("user.note", b"two"));
        let two = owned(dir.path());
        assert_ne!(one, two, "a value");
        rustix::fs::removexattr(path(b"three"), "user.note").unwrap();
        assert!(![one, two].contains(&owned(dir.path())), "an attribute that is gone");
        // Revision 2, effective, net_bind_service.
        if set("security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) {
            assert_ne!(identity(dir.path()), before, "a capability of a file");
        }
    }

    #[test]
    fn patterns_bound_what_is_taken() {
        let dir = sample();
        let select = |include: &[&str], exclude: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            let selection = Selection::Copy {
                source: "/".into(),
                wildcard: true,
                include: owned(include),
                exclude: owned(exclude),
                required: true,
            };
            tree(dir.path()).identity(&[selection])
        };
        let deep = select(&["src/deep"], &[]).unwrap();
        fs::write(dir.path().join("src/a.c"), "changed").unwrap();
        assert_eq!(select(&["src/deep"], &[]).unwrap(), deep);
        fs::write(dir.path().join("src/deep/c.c"), "changed").unwrap();
        assert_ne!(select(&["src/deep"], &[]).unwrap(), deep);
        assert!(select(&["no/such"], &[]).is_err(), "an included path without wildcards has to exist");
        assert!(select(&["no/such*"], &[]).is_ok());

        let without = select(&[], &["**/*.c", "link"]).unwrap();
        fs::write(dir.path().join("src/deep/new.c"), "new").unwrap();
        assert_eq!(select(&[], &["**/*.c", "link"]).unwrap(), without);
    }

    #[test]
    fn known_digests_are_not_computed_again() {
        let dir = sample();
        let stats = std::sync::Arc::new(StatCache::open(dir.path().join("stats")));
        let cached = || tree(dir.path()).with_stats(stats.clone());
        let first = cached().identity(&[copy("/src")]).unwrap();
        let tree = cached();
        let node = tree.lookup(b"src/a.c").unwrap().unwrap();
        stats.put(&node.meta, std::time::SystemTime::now() + std::time::Duration::from_secs(10), Key::of("t", "fake"));
        assert_ne!(cached().identity(&[copy("/src")]).unwrap(), first, "the remembered digest was used");
    }
}

//! How an OCI layer says that something is not there (image spec, "Whiteouts").

/// Begins the name of a file that hides another.
pub(super) const PREFIX: &[u8] = b".wh.";
/// Hides all of its directory that lower layers have.
pub(super) const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
/// Begins names that AUFS kept for itself; they say nothing.
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// What a name in a layer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// An entry.
    Plain,
    /// The entry of this name in lower layers is hidden.
    Whiteout(&'a [u8]),
    /// Everything in this directory in lower layers is hidden.
    Opaque,
    /// AUFS's own.
    Ignored,
    /// Hides nothing that could be.
    Bad,
}

/// Tells what the last component of a path means.
pub(super) fn meaning(name: &[u8]) -> Name<'_> {
    match name {
        OPAQUE_MARKER => Name::Opaque,
        _ if name.starts_with(AUFS_PREFIX) => Name::Ignored,
        _ => match name.strip_prefix(PREFIX) {
            None => Name::Plain,
            Some(b"" | b"." | b"..") => Name::Bad,
            Some(hidden) => Name::Whiteout(hidden),
        },
    }
}

/// The path of the whiteout that hides `path`.
pub(super) fn whiteout_path(path: &[u8]) -> Vec<u8> {
    let (parent, name) = crate::fs::split_last(path);
    super::join(parent, &[PREFIX, name].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_the_specification_says() {
        for (name, expected) in [
            ("a", Name::Plain),
            (".wh", Name::Plain),
            (".wh.a", Name::Whiteout(b"a")),
            (".wh.", Name::Bad),
            (".wh..", Name::Bad),
            (".wh...", Name::Bad),
            (".wh....", Name::Whiteout(b"...")),
            (".wh..a", Name::Whiteout(b".a")),
            (".wh..wh..opq", Name::Opaque),
            (".wh..wh.plnk", Name::Ignored),
        ] {
            assert_eq!(meaning(name.as_bytes()), expected, "{name}");
        }
        assert_eq!(whiteout_path(b"a/b"), b"a/.wh.b");
        assert_eq!(whiteout_path(b"b"), b".wh.b");
    }
}

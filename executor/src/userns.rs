//! The user namespace of an unprivileged `lap`.

/// What entering did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entered {
    /// The process is root already; nothing was done.
    Root,
    /// All of the user's id ranges are mapped.
    Ranges,
    /// Only the user's own id is mapped, and why: images with files of several owners will not unpack wholly.
    SingleId(String),
}

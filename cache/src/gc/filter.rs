//! Filters of `du` and `prune`, in buildx's words.

use super::usage::{Kind, Usage};

/// Something that must hold of a part of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Its ID begins so.
    Id(String),
    /// It lies on the part whose ID begins so.
    Parent(String),
    /// Its description holds this.
    Description(String),
    /// It is of one of these kinds.
    Kinds(Vec<Kind>),
    /// It is in use, or not.
    InUse(bool),
    /// It changes, or not.
    Mutable(bool),
    /// An image has it too, or not.
    Shared(bool),
}

/// Why a filter cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// There is no such filter.
    #[error(
        "no such filter: {0:?}; there are id, parents, description, type, inuse, mutable, immutable, shared, private, until and unused-for"
    )]
    Unknown(String),
    /// There is no such kind of part.
    #[error(
        "no such type: {0:?}; there are regular, internal, frontend, source.local, source.git.checkout and exec.cachemount"
    )]
    Kind(String),
    /// The value is missing.
    #[error("the filter {0} needs a value: {0}=...")]
    NoValue(&'static str),
}

impl Filter {
    /// `name` or `name=value`, as after `--filter`; not the ones about time.
    ///
    /// # Errors
    /// Where there is no such filter, or it makes no sense.
    pub fn parse(name: &str, value: Option<&str>) -> Result<Self, FilterError> {
        let need = |name| value.map(str::to_owned).ok_or(FilterError::NoValue(name));
        let yes = !matches!(value, Some("false" | "0"));
        match name {
            "id" => Ok(Self::Id(need("id")?)),
            "parents" | "parent" => Ok(Self::Parent(need("parents")?)),
            "description" => Ok(Self::Description(need("description")?)),
            "type" => match need("type")?.as_str() {
                // There are none: our frontend is part of this program.
                "frontend" => Ok(Self::Kinds(Vec::new())),
                text => {
                    Kind::parse(text).map(|kind| Self::Kinds(vec![kind])).ok_or_else(|| FilterError::Kind(text.into()))
                }
            },
            "inuse" => Ok(Self::InUse(yes)),
            "mutable" => Ok(Self::Mutable(yes)),
            "immutable" => Ok(Self::Mutable(!yes)),
            "shared" => Ok(Self::Shared(yes)),
            "private" => Ok(Self::Shared(!yes)),
            other => Err(FilterError::Unknown(other.to_owned())),
        }
    }

    /// Whether it holds.
    #[must_use]
    pub fn matches(&self, part: &Usage) -> bool {
        match self {
            Self::Id(id) => part.id.starts_with(id.trim_start_matches("sha256:")),
            Self::Parent(id) => part.parents.iter().any(|parent| parent.starts_with(id.trim_start_matches("sha256:"))),
            Self::Description(text) => part.description.contains(text),
            Self::Kinds(kinds) => kinds.contains(&part.kind),
            Self::InUse(wanted) => part.in_use == *wanted,
            Self::Mutable(wanted) => part.mutable == *wanted,
            Self::Shared(wanted) => part.shared == *wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_say_what_buildx_says() {
        let part = Usage { id: "abc".into(), kind: Kind::CacheMount, mutable: true, ..Usage::default() };
        for (name, value, holds) in [
            ("id", Some("ab"), true),
            ("id", Some("b"), false),
            ("type", Some("exec.cachemount"), true),
            ("type", Some("regular"), false),
            ("mutable", None, true),
            ("immutable", None, false),
            ("private", None, true),
            ("inuse", None, false),
        ] {
            assert_eq!(Filter::parse(name, value).unwrap().matches(&part), holds, "{name} {value:?}");
        }
        assert!(Filter::parse("colour", None).is_err());
        assert!(Filter::parse("type", Some("x")).is_err());
        assert!(Filter::parse("id", None).is_err());
    }
}

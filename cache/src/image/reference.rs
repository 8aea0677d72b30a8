//! Names of images: `[registry/]repository[:tag][@digest]`, normalised as Docker does.
//!
//! Follows the grammar of distribution/reference: `busybox` is `docker.io/library/busybox:latest`, a first part with
//! a dot, a colon or an upper-case letter (or `localhost`) is a registry. Parsed by hand: the published regular
//! expressions take longer to compile than a whole cached build may take.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

const DEFAULT_REGISTRY: &str = "docker.io";
const LEGACY_REGISTRY: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// Longest `registry/repository`, in bytes.
const NAME_LIMIT: usize = 255;
/// Longest tag, in bytes.
const TAG_LIMIT: usize = 128;

/// A normalised image reference. It has a tag, a digest, or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no image reference: {why}")]
pub struct NotAReference {
    text: String,
    why: Flaw,
}

/// What is wrong with a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Registry and repository together are too long.
    #[error("the name is longer than 255 characters")]
    TooLong,
    /// Repositories are lower-case.
    #[error("the repository must be lower-case")]
    UpperCase,
    /// The host part.
    #[error("the registry is no host[:port]")]
    Registry,
    /// A path component.
    #[error("a part of the repository has a character out of place (allowed: a-z 0-9 and . _ - between them)")]
    Repository,
    /// The tag.
    #[error("the tag has up to 128 letters, digits, '_', '.' and '-', and starts with neither '.' nor '-'")]
    Tag,
    /// The digest.
    #[error("the digest is not sha256: and 64 lower-case hexadecimal digits")]
    Digest,
    /// 64 hexadecimal digits could be taken for an image ID.
    #[error("a repository of 64 hexadecimal digits could be taken for an image ID")]
    LooksLikeId,
}

impl Reference {
    /// The registry as `host[:port]`; `docker.io` for Docker Hub.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry: `library/busybox`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; none where the reference has a digest only.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index that it pins.
    #[must_use]
    pub const fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// `registry/repository`, without tag and digest.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The name as people write it: `busybox` for `docker.io/library/busybox`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        match self.repository.strip_prefix(OFFICIAL) {
            // Only `library/x` may lose its prefix: `library/x/y` would become the repository of a user `x`.
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.repository.clone(),
        }
    }

    /// The whole reference as people write it: `busybox:latest`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.with_suffixes(self.familiar_name())
    }

    /// The same repository and tag, pinned to `digest`.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The same repository under another tag.
    ///
    /// # Errors
    /// Where `tag` is none.
    pub fn with_tag(&self, tag: &str) -> Result<Self, NotAReference> {
        if !is_tag(tag) {
            return Err(NotAReference { text: tag.to_owned(), why: Flaw::Tag });
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository and tag without a digest; none where there is no tag.
    #[must_use]
    pub fn without_digest(&self) -> Option<Self> {
        self.tag.is_some().then(|| Self { digest: None, ..self.clone() })
    }

    /// What a registry calls it: the digest where there is one, the tag else.
    #[must_use]
    pub fn tag_or_digest(&self) -> String {
        match (self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    fn with_suffixes(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }

    fn read(text: &str) -> Result<Self, Flaw> {
        if text.is_empty() {
            return Err(Flaw::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|_| Flaw::Digest)?)),
            None => (text, None),
        };
        // A colon before the last slash belongs to a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(Flaw::Tag);
        }
        if name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Flaw::LooksLikeId);
        }
        let (registry, repository) = split_registry(name);
        if !is_registry(registry) {
            return Err(Flaw::Registry);
        }
        let repository = match registry {
            DEFAULT_REGISTRY if !repository.contains('/') => format!("{OFFICIAL}{repository}"),
            _ => repository.to_owned(),
        };
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(Flaw::UpperCase);
        }
        if !repository.split('/').all(is_component) {
            return Err(Flaw::Repository);
        }
        if registry.len() + 1 + repository.len() > NAME_LIMIT {
            return Err(Flaw::TooLong);
        }
        let tag = match (tag, digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

impl FromStr for Reference {
    type Err = NotAReference;

    fn from_str(text: &str) -> Result<Self, NotAReference> {
        // What is shown of a hostile text stays short.
        Self::read(text).map_err(|why| NotAReference { text: text.chars().take(300).collect(), why })
    }
}

impl TryFrom<String> for Reference {
    type Error = NotAReference;

    fn try_from(text: String) -> Result<Self, NotAReference> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffixes(self.name()))
    }
}

/// The rule of Docker's `splitDockerDomain`.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (if first == LEGACY_REGISTRY { DEFAULT_REGISTRY } else { first }, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, tail)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("", tail),
            _ => return false,
        },
        None => text.find(':').map_or((text, ""), |colon| text.split_at(colon)),
    };
    let port_is_sound = match port.strip_prefix(':') {
        Some(number) => !number.is_empty() && number.len() <= 5 && number.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    port_is_sound && (text.starts_with('[') || host.split('.').all(label))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends_are_words = bytes.first().is_some_and(|b| word(*b)) && bytes.last().is_some_and(|b| word(*b));
    let separators = part.split(|c: char| u8::try_from(c).is_ok_and(word)).filter(|gap| !gap.is_empty());
    ends_are_words
        && separators.into_iter().all(|gap| matches!(gap, "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG_LIMIT
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

    #[test]
    fn names_are_normalised_as_docker_does() {
        for (text, whole, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("user/app", "docker.io/user/app:latest", "user/app:latest"),
            ("index.docker.io/app", "docker.io/library/app:latest", "app:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/a/b:x", "localhost:5000/a/b:x", "localhost:5000/a/b:x"),
            ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
            ("ghcr.io/o/p__q-r.s", "ghcr.io/o/p__q-r.s:latest", "ghcr.io/o/p__q-r.s:latest"),
            ("Upper/x", "Upper/x:latest", "Upper/x:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), whole);
            assert_eq!(reference.familiar(), familiar);
        }
        let pinned: Reference = format!("app:1@sha256:{HEX}").parse().unwrap();
        assert_eq!(pinned.tag(), Some("1"));
        assert_eq!(pinned.tag_or_digest(), format!("sha256:{HEX}"));
        let untagged: Reference = format!("app@sha256:{HEX}").parse().unwrap();
        assert_eq!(untagged.tag(), None);
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long = "a".repeat(256);
        for text in [
            "",
            "a/../b",
            "a:b:c",
            "@",
            "a@",
            "a@sha256:12",
            "-foo",
            "--help",
            "a//b",
            "/a",
            "a/",
            "aB",
            "a:",
            "a:-x",
            "localhost/../x:5000",
            "a b",
            "аpp",
            "a___b",
            "a.-b",
            "x.io:99999999/a",
            "[::1/a",
            "-x.io/a",
            "[]/a",
            HEX,
            &long,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_oci_spec(text in "[a-zA-Z0-9._:/@-]{0,24}") {
            let ours = text.parse::<Reference>();
            let theirs = text.parse::<oci_spec::distribution::Reference>();
            // It does not know that an upper-case first part is a registry, nor how long a port can be.
            let (first, _) = text.split_once('/').unwrap_or_default();
            prop_assume!(!first.bytes().any(|b| b.is_ascii_uppercase()));
            prop_assume!(first.split_once(':').is_none_or(|(_, port)| port.len() <= 5));
            if let (Ok(ours), Ok(theirs)) = (&ours, &theirs) {
                prop_assert_eq!(ours.to_string(), theirs.to_string());
            }
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?}: {:?} / {:?}", text, ours, theirs);
        }

        #[test]
        fn printing_and_parsing_agree(text in "\\PC{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference.clone()));
                prop_assert_eq!(reference.familiar().parse::<Reference>(), Ok(reference));
            }
        }
    }
}

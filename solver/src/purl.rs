//! Package URLs (`pkg:type/namespace/name@version?qualifiers`), by the rules of the purl specification.

use std::collections::BTreeMap;
use std::fmt;

use crate::platform::Platform;

/// A package URL; its parts are not encoded yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Purl {
    /// `deb`, `npm`, `docker`; in lower case.
    pub kind: String,
    /// Parts separated by slashes; may be empty.
    pub namespace: String,
    /// What the package is called.
    pub name: String,
    /// May be empty.
    pub version: String,
    /// In order of name; those without a value are left out.
    pub qualifiers: BTreeMap<String, String>,
}

impl Purl {
    /// A URL without namespace and qualifiers.
    #[must_use]
    pub fn new(kind: &str, name: &str, version: &str) -> Self {
        Self { kind: kind.to_owned(), name: name.to_owned(), version: version.to_owned(), ..Self::default() }
    }

    /// The same in a namespace.
    #[must_use]
    pub fn within(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// The same with a qualifier.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.qualifiers.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The URL of an image, as BuildKit writes it: the familiar name in parts, the tag as version, a digest and the
    /// platform as qualifiers.
    #[must_use]
    pub fn of_image(reference: &str, platform: Option<&Platform>) -> Self {
        let (rest, digest) = match reference.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (reference, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (rest, if digest.is_some() { "" } else { "latest" }),
        };
        let name = name.strip_prefix("docker.io/").unwrap_or(name);
        let name = name.strip_prefix("library/").unwrap_or(name);
        let (namespace, name) = name.rsplit_once('/').unwrap_or(("", name));
        let mut purl = Self::new("docker", name, tag).within(namespace);
        if let Some(digest) = digest {
            purl = purl.with("digest", digest);
        }
        if let Some(platform) = platform {
            purl = purl.with("platform", &platform.to_string());
        }
        purl
    }
}

impl fmt::Display for Purl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pkg:{}/", self.kind)?;
        for part in self.namespace.split('/').filter(|part| !part.is_empty()) {
            write!(f, "{}/", Encoded(part))?;
        }
        write!(f, "{}", Encoded(&self.name))?;
        if !self.version.is_empty() {
            write!(f, "@{}", Encoded(&self.version))?;
        }
        let given = self.qualifiers.iter().filter(|(_, value)| !value.is_empty());
        for (number, (key, value)) in given.enumerate() {
            write!(f, "{}{key}={}", if number == 0 { '?' } else { '&' }, Encoded(value))?;
        }
        Ok(())
    }
}

/// Percent-encoded but for what the specification leaves as it is.
struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                write!(f, "{}", char::from(byte))
            }
            other => write!(f, "%{other:02X}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_encoded() {
        let deb = Purl::new("deb", "libstdc++6", "1:12.2.0-14+deb12u1").within("debian").with("arch", "amd64");
        let deb = deb.with("distro", "debian-12").with("none", "");
        assert_eq!(deb.to_string(), "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12");
        assert_eq!(Purl::new("npm", "core", "7.0.0").within("@babel").to_string(), "pkg:npm/%40babel/core@7.0.0");
        assert_eq!(Purl::new("generic", "ä b/#?", "").to_string(), "pkg:generic/%C3%A4%20b%2F%23%3F");
    }

    #[test]
    fn images_are_named_as_buildkit_does() {
        let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        for (reference, want) in [
            ("docker.io/library/alpine:3.17", "pkg:docker/alpine@3.17?platform=linux%2Famd64"),
            ("docker.io/docker/dockerfile", "pkg:docker/docker/dockerfile@latest?platform=linux%2Famd64"),
            ("localhost:5000/a/b", "pkg:docker/localhost:5000/a/b@latest?platform=linux%2Famd64"),
            ("quay.io/x@sha256:ab", "pkg:docker/quay.io/x?digest=sha256:ab&platform=linux%2Famd64"),
            ("quay.io/x:1@sha256:ab", "pkg:docker/quay.io/x@1?digest=sha256:ab&platform=linux%2Famd64"),
        ] {
            assert_eq!(Purl::of_image(reference, Some(&platform)).to_string(), want);
        }
    }
}

//! Image references as `FROM` and `--from` take them, in Docker's normal form.
//!
//! Follows `distribution/reference`: `alpine` is `docker.io/library/alpine:latest`.

/// Why a text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It does not have the form `[host/]path[:tag][@digest]`.
    #[error("invalid reference format")]
    Format,
    /// Its path has capital letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// It looks like an image ID.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// Its digest is of no known algorithm or of the wrong length.
    #[error("invalid checksum digest format")]
    Digest,
    /// Its name is longer than 255 letters.
    #[error("repository name must not be more than 255 characters")]
    Length,
}

/// The normal form: host, path, and a tag or digest (`latest` where neither was given).
///
/// # Errors
/// Where `text` is no reference.
pub fn normalize(text: &str) -> Result<String, ReferenceError> {
    if text.len() == 64 && text.bytes().all(is_lower_hex) {
        return Err(ReferenceError::Identifier(text.to_owned()));
    }
    let (host, remainder) = split_host(text);
    let path = remainder.split([':', '@']).next().unwrap_or_default();
    let lower = remainder.split(':').next().unwrap_or_default();
    if lower.to_lowercase() != lower {
        return Err(ReferenceError::Uppercase(lower.to_owned()));
    }
    if !is_host(host) || !path.split('/').all(is_path_part) {
        return Err(ReferenceError::Format);
    }
    let tail = &remainder[path.len()..];
    let (tag, digest) = tail.split_once('@').map_or((tail, None), |(tag, digest)| (tag, Some(digest)));
    match tag.strip_prefix(':') {
        None if tag.is_empty() => {}
        Some(tag) if is_tag(tag) => {}
        _ => return Err(ReferenceError::Format),
    }
    if let Some(digest) = digest {
        check_digest(digest)?;
    }
    if host.len() + 1 + path.len() > 255 {
        return Err(ReferenceError::Length);
    }
    let latest = if tail.is_empty() { ":latest" } else { "" };
    Ok(format!("{host}/{path}{tail}{latest}").replace("index.docker.io/", "docker.io/"))
}

/// A normal form as people write it: without Docker Hub's host and without `:latest`.
#[must_use]
pub fn familiar(reference: &str) -> &str {
    let short = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let short = short.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(short);
    short.strip_suffix(":latest").unwrap_or(short)
}

/// Host and the rest, with Docker Hub's defaults.
fn split_host(text: &str) -> (&str, std::borrow::Cow<'_, str>) {
    let host = text
        .split_once('/')
        .filter(|(first, _)| first.contains(['.', ':']) || *first == "localhost" || first.to_lowercase() != **first);
    let (host, rest) = host.unwrap_or(("docker.io", text));
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    if host == "docker.io" && !rest.contains('/') {
        return (host, format!("library/{rest}").into());
    }
    (host, rest.into())
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let part = |part: &str| {
        let edge = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
        edge(part.chars().next())
            && edge(part.chars().last())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let address = name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let named = match address {
        Some(address) => !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':'),
        None => name.split('.').all(part),
    };
    named && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Letters and digits, joined by one dot, one or two underscores, or any number of dashes.
fn is_path_part(part: &str) -> bool {
    let letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = [part.as_bytes().first(), part.as_bytes().last()];
    let joint = |joint: &str| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|byte| byte == b'-');
    edges.iter().all(|edge| edge.is_some_and(letter))
        && part.split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit()).all(joint)
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn check_digest(digest: &str) -> Result<(), ReferenceError> {
    let Some((algorithm, hex)) = digest.split_once(':') else { return Err(ReferenceError::Format) };
    if hex.len() < 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(ReferenceError::Format);
    }
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(ReferenceError::Digest),
    };
    if hex.len() == length && hex.bytes().all(is_lower_hex) { Ok(()) } else { Err(ReferenceError::Digest) }
}

const fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// `sha256:…` with the right number of digits.
///
/// # Errors
/// Where it is none.
pub fn digest(text: &str) -> Result<(), ReferenceError> {
    check_digest(text).map_err(|_| ReferenceError::Digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed() {
        let hex = "a".repeat(64);
        for (text, want) in [
            ("alpine", "docker.io/library/alpine:latest".to_owned()),
            ("me/app:1", "docker.io/me/app:1".to_owned()),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest".to_owned()),
            ("localhost/x", "localhost/x:latest".to_owned()),
            ("localhost:5000/a/b:v1.0", "localhost:5000/a/b:v1.0".to_owned()),
            (&format!("a@sha256:{hex}"), format!("docker.io/library/a@sha256:{hex}")),
            (&format!("a:1@sha256:{hex}"), format!("docker.io/library/a:1@sha256:{hex}")),
            ("[::1]:5000/a", "[::1]:5000/a:latest".to_owned()),
            ("a__b/c--d.e", "docker.io/a__b/c--d.e:latest".to_owned()),
        ] {
            assert_eq!(normalize(text), Ok(want), "{text}");
        }
        assert_eq!(familiar("docker.io/library/alpine:latest"), "alpine");
        assert_eq!(familiar("quay.io/a/b:1"), "quay.io/a/b:1");
    }

    #[test]
    fn others_are_refused() {
        let message = |text: &str| normalize(text).unwrap_err().to_string();
        assert_eq!(
            message("BUG_stage"),
            "invalid reference format: repository name (library/BUG_stage) must be lowercase"
        );
        for text in ["", "%s", "a:", "a b", "a/", "/a", "-a", "a..b", "a___b", "a@sha256:12", "host_x.io:x/a", "a:b:c"]
        {
            assert_eq!(normalize(text), Err(ReferenceError::Format), "{text}");
        }
        assert!(normalize(&"a".repeat(64)).is_err());
        assert_eq!(normalize(&format!("a@md5:{}", "a".repeat(32))), Err(ReferenceError::Digest));
    }
}

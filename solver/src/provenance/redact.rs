//! Keeping credentials out of what is told about a build.
//!
//! Three things are hidden, wherever they stand: user and password of a URL, values of variables whose names say that
//! they are secret, and the same values where they turn up again (in a command, in the Dockerfile). Values of secret
//! mounts never come here.

use std::collections::BTreeSet;

/// Stands for what was hidden; BuildKit's word.
pub const MASK: &str = "xxxxx";
/// Shorter values are hidden where they are set, but not looked for elsewhere: they are words of any text.
const SHORTEST: usize = 4;
/// Parts of a name that call its value a secret, those of BuildKit's check SecretsUsedInArgOrEnv.
const DENIED: &[&str] =
    &["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
/// The same inside of a part.
const DENIED_WITHIN: &[&str] = &["apikey", "credential", "password", "passwd", "secret", "token"];
/// Parts that say it is none.
const ALLOWED: &[&str] = &["public", "file", "version"];
/// Variables that hold addresses of this machine's surroundings, often with a password.
const PROXIES: &[&str] = &["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"];

/// Whether the name of a variable says that its value is a secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let parts = || name.split(['_', '-', '.']);
    let denied = |part: &str| DENIED.contains(&part) || DENIED_WITHIN.iter().any(|word| part.contains(word));
    parts().any(denied) && !parts().any(|part| ALLOWED.contains(&part))
}

/// Whether a variable sets a proxy.
#[must_use]
pub fn is_proxy(name: &str) -> bool {
    PROXIES.contains(&name.to_ascii_lowercase().as_str())
}

/// Hides secrets in texts.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    /// Longest first, so that one within another does not spoil it.
    values: Vec<String>,
}

impl Redactor {
    /// Knows the values of those variables that are secret by name, or proxies.
    pub fn new<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let secret = variables.into_iter().filter(|(name, value)| {
            value.len() >= SHORTEST && *value != MASK && (is_secret_name(name) || is_proxy(name))
        });
        let values: BTreeSet<String> = secret.map(|(_, value)| value.to_owned()).collect();
        let mut values: Vec<String> = values.into_iter().collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { values }
    }

    /// A text without secrets.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.values {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), MASK);
            }
        }
        without_userinfo(&text)
    }

    /// The value of a variable.
    #[must_use]
    pub fn value(&self, name: &str, value: &str) -> String {
        match is_secret_name(name) || is_proxy(name) {
            true => MASK.to_owned(),
            false => self.text(value),
        }
    }

    /// `NAME=value`
    #[must_use]
    pub fn variable(&self, entry: &str) -> String {
        match entry.split_once('=') {
            Some((name, value)) => format!("{name}={}", self.value(name, value)),
            None => self.text(entry),
        }
    }
}

/// Masks user and password of every URL in a text.
fn without_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>' | '`');
        let authority = &after[..after.find(ends).unwrap_or(after.len())];
        match authority.rfind('@') {
            Some(end) => {
                let mask = if authority[..end].contains(':') { "xxxxx:xxxxx" } else { MASK };
                out.push_str(mask);
                rest = &after[end..];
            }
            None => rest = after,
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_secrets() {
        for name in ["TOKEN", "NPM_TOKEN", "db_password", "AWS_SECRET_ACCESS_KEY", "githubToken", "API_KEY", "my-auth"]
        {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["VERSION", "PUBLIC_KEY", "KEYBOARD", "TOKEN_FILE", "AUTHOR", "PATH", ""] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn urls_lose_user_and_password() {
        let none = Redactor::default();
        for (text, want) in [
            ("https://u:p@h/x", "https://xxxxx:xxxxx@h/x"),
            ("git clone https://tok@h/x && echo a@b", "git clone https://xxxxx@h/x && echo a@b"),
            ("a://b@c@d/e f://g:h@i", "a://xxxxx@d/e f://xxxxx:xxxxx@i"),
            ("https://h/x@y", "https://h/x@y"),
            ("://", "://"),
            ("x://@", "x://xxxxx@"),
            ("https://ü:ö@ä/ß", "https://xxxxx:xxxxx@ä/ß"),
        ] {
            assert_eq!(none.text(text), want);
        }
    }

    #[test]
    fn secret_values_are_found_again() {
        let redactor = Redactor::new([("TOKEN", "abcd"), ("LONG_TOKEN", "abcdef"), ("X_KEY", "1"), ("N", "plain")]);
        assert_eq!(redactor.text("abcdef abcd 1 plain"), "xxxxx xxxxx 1 plain");
        assert_eq!(redactor.variable("X_KEY=1"), "X_KEY=xxxxx");
        assert_eq!(redactor.variable("http_proxy=http://a"), "http_proxy=xxxxx");
        assert_eq!(redactor.variable("A=x abcd"), "A=x xxxxx");
    }
}

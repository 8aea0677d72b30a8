//! `WWW-Authenticate`: what a registry wants to see before it answers (RFC 9110, 11.6.1; distribution token spec).

/// A challenge that we can meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token from a token server.
    Bearer {
        /// Address of the token server.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// What the registry thinks is needed.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best challenge of all `WWW-Authenticate` headers: Bearer before Basic.
    pub(super) fn of<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let all: Vec<Self> =
            headers.flat_map(split).filter_map(|(scheme, parameters)| read(&scheme, &parameters)).collect();
        all.iter().find(|challenge| matches!(challenge, Self::Bearer { .. })).or_else(|| all.first()).cloned()
    }
}

type Parameters = Vec<(String, String)>;

fn read(scheme: &str, parameters: &Parameters) -> Option<Challenge> {
    let value = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            Some(Challenge::Bearer { realm: value("realm")?, service: value("service"), scope: value("scope") })
        }
        _ => None,
    }
}

/// Splits a header into schemes (lower-case) with their parameters. What makes no sense ends the list.
fn split(header: &str) -> Vec<(String, Parameters)> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',', '\t']).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        let tail = tail.trim_start_matches([' ', '\t']);
        match tail.strip_prefix('=') {
            Some(value) => {
                let Some((value, after)) = read_value(value.trim_start_matches([' ', '\t'])) else { break };
                let Some((_, parameters)) = challenges.last_mut() else { break };
                parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            None => {
                challenges.push((word.to_ascii_lowercase(), Vec::new()));
                rest = tail;
            }
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    challenges
}

/// A token or a quoted string, and what comes after it.
fn read_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.into(), service: own(service), scope: own(scope) })
    }

    #[test]
    fn headers_as_registries_send_them() {
        for (headers, want) in [
            (
                &[
                    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push""#,
                ][..],
                bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/x:pull,push"),
                ),
            ),
            (&[r#"Basic realm="Registry Realm""#], Some(Challenge::Basic)),
            (&["Basic"], Some(Challenge::Basic)),
            (
                &[r#"Basic realm="a, b=c", BEARER realm=https://t/ , service="s\"x""#],
                bearer("https://t/", Some("s\"x"), None),
            ),
            (&["Negotiate", "Basic realm=x"], Some(Challenge::Basic)),
            (&["Bearer"], None),
            (&[r#"Bearer realm="unclosed"#], None),
            (&["", ",,,", "=", "=x", "realm=x"], None),
        ] {
            assert_eq!(Challenge::of(headers.iter().copied()), want, "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_is_too_odd(text in "\\PC{0,80}") {
            drop(Challenge::of(std::iter::once(text.as_str())));
        }
    }
}

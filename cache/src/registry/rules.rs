//! Where a repository is looked for: podman's `[[registry]]` of `registries.conf` (containers-registries.conf(5)).
//!
//! The rule with the longest prefix holds. It may close a registry, move it, or name mirrors that are asked first.

use super::RegistryError;

/// What holds for a registry or a part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// `host[:port][/namespace…]`, or `*.domain` for the hosts below one.
    pub prefix: String,
    /// Whether nothing may be asked of it.
    pub blocked: bool,
    /// What stands in place of the prefix; nothing where it stays.
    pub location: Option<String>,
    /// Asked first, in order.
    pub mirrors: Vec<Mirror>,
}

/// A place that is asked before the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// What stands in place of the prefix.
    pub location: String,
    /// For what it is asked.
    pub pull: PullBy,
}

/// For what a mirror is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullBy {
    /// Tags and digests.
    #[default]
    Any,
    /// What is named by its digest.
    Digest,
    /// What is named by a tag.
    Tag,
}

/// A registry and a repository in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) registry: String,
    pub(super) repository: String,
}

/// Where to look, in order. `by_digest` tells whether that is how the image is named; nothing where that does not
/// matter any more.
pub(super) fn places(
    rules: &[Rule],
    registry: &str,
    repository: &str,
    by_digest: Option<bool>,
) -> Result<Vec<Place>, RegistryError> {
    let whole = format!("{registry}/{repository}");
    let home = || Place { registry: registry.to_owned(), repository: repository.to_owned() };
    let fitting = rules.iter().filter_map(|rule| Some((length(&rule.prefix, registry, &whole)?, rule)));
    // Of equals, the last: later files come after.
    let Some((length, rule)) = fitting.max_by_key(|(length, _)| *length) else { return Ok(vec![home()]) };
    if rule.blocked {
        return Err(RegistryError::Blocked { registry: rule.prefix.clone() });
    }
    let moved = |location: &str| {
        let text = format!("{}{}", location.trim_end_matches('/'), &whole[length..]);
        let (registry, repository) = text.split_once('/')?;
        Some(Place { registry: registry.to_owned(), repository: repository.to_owned() })
    };
    let wanted = |mirror: &&Mirror| match (mirror.pull, by_digest) {
        (PullBy::Any, _) | (_, None) => true,
        (PullBy::Digest, Some(by_digest)) => by_digest,
        (PullBy::Tag, Some(by_digest)) => !by_digest,
    };
    let mut places: Vec<Place> =
        rule.mirrors.iter().filter(wanted).filter_map(|mirror| moved(&mirror.location)).collect();
    places.push(rule.location.as_deref().and_then(moved).unwrap_or_else(home));
    Ok(places)
}

/// How much of `whole` a prefix covers; nothing where it does not fit.
fn length(prefix: &str, registry: &str, whole: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix('*') {
        return (domain.starts_with('.') && registry.ends_with(domain)).then_some(registry.len());
    }
    let rest = whole.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(prefix: &str) -> Rule {
        Rule { prefix: prefix.to_owned(), ..Rule::default() }
    }

    fn say(rules: &[Rule], name: &str, by_digest: Option<bool>) -> Vec<String> {
        let (registry, repository) = name.split_once('/').unwrap();
        let places = places(rules, registry, repository, by_digest).unwrap();
        places.into_iter().map(|place| format!("{}/{}", place.registry, place.repository)).collect()
    }

    #[test]
    fn the_longest_prefix_holds_and_moves_what_is_below() {
        let mirror = |location: &str, pull| Mirror { location: location.to_owned(), pull };
        let hub = Rule {
            mirrors: vec![
                mirror("m.lan/hub", PullBy::Any),
                mirror("d.lan", PullBy::Digest),
                mirror("t.lan", PullBy::Tag),
            ],
            ..rule("docker.io")
        };
        let rules = [
            hub,
            Rule { location: Some("inner.lan/x/".to_owned()), ..rule("docker.io/team") },
            Rule { mirrors: vec![mirror("any.lan/all", PullBy::Any)], ..rule("*.example.com") },
            Rule { blocked: true, ..rule("evil.lan") },
        ];
        for (name, by_digest, places) in [
            ("docker.io/library/a", Some(true), &["m.lan/hub/library/a", "d.lan/library/a", "docker.io/library/a"][..]),
            ("docker.io/library/a", Some(false), &["m.lan/hub/library/a", "t.lan/library/a", "docker.io/library/a"]),
            ("docker.io/team/a", None, &["inner.lan/x/a"]),
            ("docker.io/teams/a", Some(true), &["m.lan/hub/teams/a", "d.lan/teams/a", "docker.io/teams/a"]),
            ("a.example.com/x", None, &["any.lan/all/x", "a.example.com/x"]),
            ("example.com/x", None, &["example.com/x"]),
            ("other.lan:5000/x", None, &["other.lan:5000/x"]),
        ] {
            assert_eq!(say(&rules, name, by_digest), places, "{name}");
        }
        assert!(matches!(places(&rules, "evil.lan", "x", None), Err(RegistryError::Blocked { .. })));
    }
}

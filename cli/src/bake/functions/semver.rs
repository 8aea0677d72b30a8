//! Versions and the constraints that they may fulfil, as `semvercmp` has them.
//!
//! The forms are those of Masterminds/semver: `1.2.x`, `~1.2`, `^1.2`, `>= 1.2, < 2 || 3.0.1`, `1.2 - 1.4`.

use std::cmp::Ordering;

use crate::bake::source::Fault;

/// Numbers, and what stands after `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    numbers: [u64; 3],
    pre: Vec<String>,
}

/// Whether a version fulfils a constraint.
///
/// # Errors
/// Where one of them cannot be read.
pub(super) fn matches(version: &str, constraint: &str) -> Result<bool, Fault> {
    let no_version = || Fault::new(format!("{version:?} is no version, such as 1.2.3"));
    let (parsed, given) = parse(version).ok_or_else(no_version)?;
    if given == 0 {
        return Err(no_version());
    }
    for all in constraint.split("||") {
        let mut holds = true;
        for one in split(all) {
            holds &= holds_for(&parsed, &one)
                .ok_or_else(|| Fault::new(format!("{one:?} is no constraint, such as >= 1.2 or ~1.2.3")))?;
        }
        if holds {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The single constraints of a list of them.
fn split(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split([',', ' ']).filter(|word| !word.is_empty()).collect();
    let mut all = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let (word, next) = (words[at], words.get(at + 1));
        let is_operator = word.chars().all(|c| "<>=!~^".contains(c));
        match (is_operator, next, words.get(at + 2)) {
            (true, Some(version), _) => {
                all.push(format!("{word}{version}"));
                at += 2;
            }
            (_, Some(&"-"), Some(to)) => {
                all.extend([format!(">={word}"), format!("<={to}")]);
                at += 3;
            }
            _ => {
                all.push(word.to_owned());
                at += 1;
            }
        }
    }
    all
}

fn holds_for(version: &Version, constraint: &str) -> Option<bool> {
    let end = constraint.find(|c| !"<>=!~^".contains(c))?;
    let (operator, text) = constraint.split_at(end);
    let (wanted, given) = parse(text)?;
    // Versions before a release count only where they are asked for.
    if !version.pre.is_empty() && wanted.pre.is_empty() {
        return Some(false);
    }
    let order = compare(version, &wanted);
    // The first version that no longer begins as the one that is wanted.
    let below = |part: usize| {
        let mut next = Version { numbers: [0; 3], pre: Vec::new() };
        next.numbers[..=part].copy_from_slice(&wanted.numbers[..=part]);
        next.numbers[part] += 1;
        order != Ordering::Less && compare(version, &next) == Ordering::Less
    };
    let same = || if given == 3 { order == Ordering::Equal } else { given == 0 || below(given - 1) };
    Some(match operator {
        "" | "=" | "==" => same(),
        "!=" => !same(),
        ">" if given < 3 => given > 0 && order == Ordering::Greater && !below(given - 1),
        ">" => order == Ordering::Greater,
        ">=" | "=>" => order != Ordering::Less,
        "<" => order == Ordering::Less,
        "<=" | "=<" => order != Ordering::Greater || (given < 3 && same()),
        "~" | "~>" => given == 0 || below(given.min(2) - 1),
        "^" => {
            let first = wanted.numbers.iter().position(|number| *number > 0).unwrap_or_else(|| given.saturating_sub(1));
            given == 0 || below(first.min(given - 1))
        }
        _ => return None,
    })
}

/// A version, and how many of its numbers were given: `x` or `*` gives none.
fn parse(text: &str) -> Option<(Version, usize)> {
    let text = text.trim();
    let text = text.strip_prefix('v').unwrap_or(text);
    let text = text.split_once('+').map_or(text, |(text, _)| text);
    let (numbers, pre) = text.split_once('-').map_or((text, ""), |(numbers, pre)| (numbers, pre));
    let mut version = Version { numbers: [0; 3], pre: Vec::new() };
    let mut given = 0;
    for (at, part) in numbers.split('.').enumerate() {
        if ["x", "X", "*"].contains(&part) {
            break;
        }
        *version.numbers.get_mut(at)? = part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit()))?;
        given = at + 1;
    }
    if !pre.is_empty() {
        version.pre = pre.split('.').map(str::to_owned).collect();
    }
    Some((version, given))
}

fn compare(one: &Version, two: &Version) -> Ordering {
    let pre = || match (one.pre.is_empty(), two.pre.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => {
            let parts = one.pre.iter().zip(&two.pre).map(|(a, b)| match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            });
            parts.fold(Ordering::Equal, Ordering::then).then(one.pre.len().cmp(&two.pre.len()))
        }
    };
    one.numbers.cmp(&two.numbers).then_with(pre)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_hold_or_not() {
        for (version, constraint, holds) in [
            ("1.2.3", "1.2.3", true),
            ("v1.2.3", "=1.2", true),
            ("1.3.0", "1.2.x", false),
            ("1.2.3", "*", true),
            ("1.2.3", ">= 1.2, < 2", true),
            ("2.0.0", ">=1.2 <2", false),
            ("2.0.0", ">=1.2 <2 || 2.0.x", true),
            ("1.9.0", "^1.2", true),
            ("2.0.0", "^1.2", false),
            ("0.2.9", "^0.2.3", true),
            ("0.3.0", "^0.2.3", false),
            ("1.2.9", "~1.2.3", true),
            ("1.3.0", "~1.2.3", false),
            ("1.3.0", "~1", true),
            ("1.3.0", "1.2 - 1.4", true),
            ("1.2.5", ">1.2", false),
            ("1.3.0", ">1.2", true),
            ("1.2.9", "<=1.2", true),
            ("1.2.3", "!=1.2.3", false),
            ("1.2.3-beta.1", ">=1.0", false),
            ("1.2.3-beta.2", ">1.2.3-beta.1", true),
            ("1.2.3-beta.10", ">1.2.3-beta.2", true),
            ("1.2.3", ">1.2.3-rc", true),
        ] {
            assert_eq!(
                matches(version, constraint).map_err(|fault| fault.to_string()),
                Ok(holds),
                "{version} {constraint}"
            );
        }
        for (version, constraint) in [("one", "1"), ("1", "<>1"), ("1", ">"), ("1.2.3.4", "1"), ("x", "1")] {
            assert!(matches(version, constraint).is_err(), "{version} {constraint}");
        }
    }
}

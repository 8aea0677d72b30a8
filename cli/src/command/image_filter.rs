//! Which images `--filter` leaves.

use anyhow::{Context as _, bail};
use lap_cache::image::{Image, Reference};
use lap_cache::names::Entry;
use lap_cache::store::Store;

use crate::args::KeyValue;
use crate::image::need;
use crate::ui::table::seconds_of_rfc3339;

/// What an image must be. All of it must hold; of several values for one name, Docker wants any, but of labels all.
#[derive(Debug, Default)]
pub(super) struct Filter {
    dangling: Option<bool>,
    references: Vec<String>,
    /// Without a value, the label only has to be there.
    labels: Vec<(String, Option<String>)>,
    /// Seconds since 1970: made before, made after.
    before: Option<i64>,
    since: Option<i64>,
}

impl Filter {
    /// Of `--filter NAME=VALUE` and the name after the flags.
    ///
    /// # Errors
    /// Where there is no such filter, or no such image to compare with.
    pub(super) fn new(store: &Store, filters: &[KeyValue], name: Option<&str>) -> anyhow::Result<Self> {
        let mut filter = Self { references: name.map(pattern).into_iter().collect(), ..Self::default() };
        let created =
            |name: &str| -> anyhow::Result<i64> {
                let image = need(store, name)?.image;
                image.config.created.as_deref().and_then(seconds_of_rfc3339).with_context(|| {
                    format!("{name} does not tell when it was made, so nothing can be compared with it")
                })
            };
        for KeyValue { key, value } in filters {
            let value = value.as_deref().with_context(|| format!("--filter {key}: write {key}=VALUE"))?;
            match key.as_str() {
                "dangling" => {
                    filter.dangling = Some(match value {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        _ => bail!("--filter dangling={value}: write true or false"),
                    });
                }
                "reference" => filter.references.push(pattern(value)),
                "label" => {
                    let (name, wanted) = value.split_once('=').map_or((value, None), |(name, v)| (name, Some(v)));
                    filter.labels.push((name.to_owned(), wanted.map(str::to_owned)));
                }
                "before" => filter.before = Some(created(value)?),
                "since" => filter.since = Some(created(value)?),
                "until" => {
                    let until = seconds_of(value)?;
                    filter.before = Some(filter.before.map_or(until, |before| before.min(until)));
                }
                _ => {
                    bail!("invalid filter '{key}': there are dangling, reference, label, before, since and until")
                }
            }
        }
        Ok(filter)
    }

    /// What can be told without the image's documents.
    pub(super) fn fits_name(&self, entry: &Entry) -> bool {
        let reference = |pattern: &String| {
            entry.name.as_ref().is_some_and(|name| {
                let bare = name.familiar_name();
                let tagged = name.tag().map(|tag| format!("{bare}:{tag}"));
                matches(pattern, &bare) || tagged.is_some_and(|tagged| matches(pattern, &tagged))
            })
        };
        self.dangling.is_none_or(|dangling| dangling == entry.name.is_none())
            && (self.references.is_empty() || self.references.iter().any(reference))
    }

    /// The rest of it.
    pub(super) fn fits(&self, entry: &Entry, image: &Image) -> bool {
        let labels = &image.config.config.labels;
        let label = |(name, wanted): &(String, Option<String>)| {
            labels.get(name).is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value))
        };
        let created = image.config.created.as_deref().and_then(seconds_of_rfc3339).unwrap_or(0);
        self.fits_name(entry)
            && self.labels.iter().all(label)
            && self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since)
    }
}

/// A name as users write it, in the short form that patterns are held against.
fn pattern(name: &str) -> String {
    match name.parse::<Reference>() {
        Ok(reference) if name.rsplit('/').next().unwrap_or(name).contains(':') => reference.familiar(),
        Ok(reference) => reference.familiar_name(),
        Err(_) => name.to_owned(),
    }
}

/// A time as Docker's filters take it, in seconds since 1970: RFC 3339, a date, seconds, or how long ago (`10m`,
/// `1h30m`).
fn seconds_of(text: &str) -> anyhow::Result<i64> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        19 => format!("{text}Z"),
        _ => text.to_owned(),
    };
    if let Some(seconds) = text.parse().ok().or_else(|| seconds_of_rfc3339(&whole)) {
        return Ok(seconds);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let ago = duration(text).with_context(|| {
        format!("{text:?} is no time: write 2026-01-02, 2026-01-02T03:04:05Z, seconds since 1970, or how long ago as 10m or 1h30m")
    })?;
    Ok(i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_sub(ago))
}

/// Seconds of `1h30m`.
fn duration(text: &str) -> Option<i64> {
    let (mut total, mut rest) = (0i64, text);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: i64 = rest.get(..digits)?.parse().ok()?;
        let unit = match rest.as_bytes().get(digits)? {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then_some(total)
}

/// Go's `path.Match`: `*` and `?`, which stay within a part, `[a-z]`, `[^a-z]`, and `\\` before a letter that means itself.
/// A pattern that is none fits nothing.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when the last star takes one more.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let fitting = match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(_) => one(&pattern[p..], text[t]),
            None => None,
        };
        match fitting {
            Some(length) => {
                p += length;
                t += 1;
            }
            None => match star {
                Some((at, from)) if text[from] != '/' => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|letter| *letter == '*')
}

/// How long the part of a pattern is that fits one letter; nothing where it does not fit.
fn one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern {
        ['?', ..] => (letter != '/').then_some(1),
        ['\\', own, ..] => (*own == letter).then_some(2),
        ['[', ..] => {
            let is_negated = pattern.get(1) == Some(&'^');
            let mut at = 1 + usize::from(is_negated);
            let begin = at;
            let mut is_in = false;
            let take = |at: &mut usize| {
                let is_escaped = pattern.get(*at) == Some(&'\\');
                *at += usize::from(is_escaped);
                let own = pattern.get(*at).copied().filter(|own| is_escaped || !matches!(own, '-' | ']'));
                *at += 1;
                own
            };
            while at == begin || pattern.get(at) != Some(&']') {
                let low = take(&mut at)?;
                let high = if pattern.get(at) == Some(&'-') {
                    at += 1;
                    take(&mut at)?
                } else {
                    low
                };
                is_in |= (low..=high).contains(&letter);
            }
            (is_in != is_negated).then_some(at + 1)
        }
        [own, ..] => (*own == letter).then_some(1),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stay_within_a_part() {
        for (pattern, text, fits) in [
            ("busybox", "busybox", true),
            ("busy*", "busybox", true),
            ("busy*", "team/busybox", false),
            ("*/busy*:?", "team/busybox:1", true),
            ("*:1*", "busybox:1.36", true),
            ("b*x*", "bxax", true),
            ("b*y", "bx", false),
            ("*", "", true),
            ("a", "", false),
            ("l[ae]g*", "legacy", true),
            ("l[^ae]g*", "legacy", false),
            ("app:[0-9].[0-9]", "app:1.2", true),
            ("app:[0-9]", "app:x", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("*[0-9]", "app:12", true),
            ("[", "[", false),
            ("[]a]", "a", false),
            ("[]a]", "a", false),
            ("[a", "a", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn times_are_dockers() {
        assert_eq!(seconds_of("2000-02-29").unwrap(), 951_782_400);
        assert_eq!(seconds_of("2000-02-29T00:00:01").unwrap(), 951_782_401);
        assert_eq!(seconds_of("951782400").unwrap(), 951_782_400);
        assert_eq!(duration("1h30m"), Some(5400));
        for bad in ["", "tomorrow", "10", "5d", "h"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert!(seconds_of("tomorrow").is_err());
    }
}

//! Words that were nearly right.

/// The option that differs least from `word`, if by fewer than three letters; none where one is equal.
pub(crate) fn nearest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best = None;
    let mut least = 3;
    for option in options {
        if option == word {
            return None;
        }
        let distance = distance(word, option, least);
        if distance < least {
            best = Some(option);
            least = distance;
        }
    }
    best
}

/// As [`nearest`] for words whose case means nothing; the answer has the case of `word`.
pub(crate) fn nearest_in_any_case(word: &str, options: &[&str]) -> Option<String> {
    let near = nearest(&word.to_lowercase(), options.iter().copied())?;
    let upper = word == word.to_uppercase();
    Some(if upper { near.to_uppercase() } else { near.to_owned() })
}

/// Levenshtein's distance with neighbours that changed places counted once; words whose lengths alone differ by `limit` are not compared.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(256).collect(), b.chars().take(256).collect());
    if a.len().abs_diff(b.len()) >= limit {
        return limit;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(from != to)).min(row[j] + 1).min(above[j + 1] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found() {
        assert_eq!(nearest("chwon", ["chmod", "chown"]), Some("chown"));
        assert_eq!(nearest("mont", ["network", "mount"]), Some("mount"));
        assert_eq!(nearest("mount", ["mount", "mont"]), None);
        assert_eq!(nearest("user", ["mount", "network"]), None);
        assert_eq!(nearest_in_any_case("FNTRYPOINT", &["entrypoint"]), Some("ENTRYPOINT".into()));
        assert_eq!(nearest_in_any_case("rum", &["run"]), Some("run".into()));
    }
}

//! Reasons in words.

use lap_cache::builds::{Reason, Why};
use lap_solver::digest::Key;
use lap_solver::graph::Metadata;
use lap_solver::key::CONCEALED;
use lap_solver::why::Difference;

use crate::ui::{label, visible};

/// What stands for the value of a variable whose name is that of a secret.
const HIDDEN: &str = "***";
/// Longer texts are cut where they are told in a line.
const WIDTH: usize = 60;

/// `[build 2/5] COPY src /src`.
pub(crate) fn title(metadata: &Metadata) -> String {
    label(metadata)
}

/// The reason beside a step that is executed; none where there is nothing to say.
pub(crate) fn short(why: &Why) -> Option<String> {
    match why {
        Why::Never => None,
        Why::NoCache => Some("no cache wanted".to_owned()),
        Why::Failed => Some("it failed the last time".to_owned()),
        Why::Pruned => Some("its result was pruned".to_owned()),
        Why::Changed { differences } => {
            let first = differences.first().map(|first| match first {
                Reason::Other(Difference::Command { .. }) => "its text changed".to_owned(),
                first => reason(first),
            });
            let more = differences.len().saturating_sub(1);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Some(first.map_or_else(|| "its key changed".to_owned(), |first| format!("{}{more}", cut(&first))))
        }
    }
}

/// All that is known, a line each.
pub(crate) fn long(why: &Why) -> Vec<String> {
    match why {
        Why::Never => vec!["never built before".to_owned()],
        Why::NoCache => vec!["the cache was not to be used (--no-cache)".to_owned()],
        Why::Failed => vec!["it did not succeed the last time".to_owned()],
        Why::Pruned => vec!["its result was removed from the cache".to_owned()],
        Why::Changed { differences } if differences.is_empty() => vec!["its key changed".to_owned()],
        Why::Changed { differences } => differences.iter().flat_map(lines).collect(),
    }
}

fn lines(one: &Reason) -> Vec<String> {
    match one {
        Reason::Other(Difference::Command { before, after }) => {
            let mut out = vec!["its text changed:".to_owned()];
            out.extend(before.lines().map(|line| format!("  - {}", visible(line))));
            out.extend(after.lines().map(|line| format!("  + {}", visible(line))));
            out
        }
        one => vec![reason(one)],
    }
}

fn reason(one: &Reason) -> String {
    let digest = |key: &Option<Key>| key.map_or_else(String::new, |key| key.to_hex()[..12].to_owned());
    match one {
        Reason::File { file, change, before, after } => {
            let file = visible(file);
            match change.as_str() {
                "content" => format!("{file} changed ({} -> {})", digest(before), digest(after)),
                "added" => format!("{file} is new"),
                "removed" => format!("{file} is gone"),
                other => format!("{other} of {file} changed"),
            }
        }
        Reason::MoreFiles { more_files } => format!("{more_files} more files changed"),
        Reason::Image { image } => format!("the image {} is another one", visible(image)),
        Reason::Step { step } => format!("{} yielded something else", visible(step)),
        Reason::Other(Difference::Variable { name, before, after }) => match (before, after) {
            (Some(before), Some(after)) => {
                format!("{} changed: {} -> {}", visible(name), visible(before), visible(after))
            }
            (None, Some(after)) => format!("{} is new: {}", visible(name), visible(after)),
            (Some(_), None) | (None, None) => format!("{} is gone", visible(name)),
        },
        Reason::Other(Difference::Secret { name }) => format!("the secret {} changed", visible(name)),
        Reason::Other(Difference::Setting { what, before, after }) => {
            format!("{what} changed: {} -> {}", visible(before), visible(after))
        }
        Reason::Other(Difference::Command { .. }) => "its text changed".to_owned(),
        Reason::Other(Difference::Input { input }) => format!("input {input} changed"),
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() > WIDTH { text.chars().take(WIDTH - 1).chain(['…']).collect() } else { text.to_owned() }
}

/// Without what stands for the values of credentials.
pub(super) fn hidden(difference: Difference) -> Difference {
    match difference {
        Difference::Variable { name, before, after } => {
            let is_stand_in = |value: &Option<String>| value.as_ref().is_some_and(|value| value.starts_with(CONCEALED));
            if !is_stand_in(&before) && !is_stand_in(&after) {
                return Difference::Variable { name, before, after };
            }
            let hide = |value: Option<String>| value.map(|_| HIDDEN.to_owned());
            Difference::Variable { before: hide(before), after: hide(after), name }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_in_words_and_secrets_are_not() {
        let variable = |name: &str, before: &str, after: &str| Difference::Variable {
            name: name.into(),
            before: Some(before.into()),
            after: Some(after.into()),
        };
        let why = |difference| Why::Changed { differences: vec![Reason::Other(hidden(difference))] };
        assert_eq!(short(&why(variable("VERSION", "one", "two"))).unwrap(), "VERSION changed: one -> two");
        assert_eq!(
            short(&why(variable("API_TOKEN", "concealed:1", "concealed:2"))).unwrap(),
            "API_TOKEN changed: *** -> ***"
        );
        let secret = Difference::Secret { name: "npm".into() };
        assert_eq!(short(&why(secret)).unwrap(), "the secret npm changed");
        let command = Difference::Command { before: "make".into(), after: "make all".into() };
        assert_eq!(long(&why(command)), ["its text changed:", "  - make", "  + make all"]);
        assert_eq!(short(&Why::Never), None);
    }
}

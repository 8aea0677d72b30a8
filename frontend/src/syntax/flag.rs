//! Flags of instructions: known names, their kinds, and one value or several.

use std::collections::BTreeMap;

use super::instruction::Argument;
use crate::diagnostic::Fault;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// `--link`, `--link=true`
    Bool,
    /// `--from=a`, once.
    Text,
    /// `--mount=…`, any number of times.
    Texts,
}

/// The flags that an instruction was given.
#[derive(Debug, Default)]
pub(super) struct Flags<'a>(BTreeMap<&'a str, Vec<Argument>>);

impl<'a> Flags<'a> {
    /// Checks `given` against the flags that exist.
    pub(super) fn read(given: &'a [Argument], known: &[(&str, Takes)]) -> Result<Self, Fault> {
        let mut flags = Self::default();
        for flag in given {
            let fault = |message: String| Fault::new(message).at(flag.span);
            let (written, value) = flag.text.split_once('=').map_or((flag.text.as_str(), None), |(n, v)| (n, Some(v)));
            let name = written.strip_prefix("--").unwrap_or(written);
            let Some((_, takes)) = known.iter().find(|(own, _)| *own == name) else {
                let names = known.iter().map(|(own, _)| *own);
                return Err(fault(format!("unknown flag: {written}")).suggest(name, names));
            };
            let values = flags.0.entry(name).or_default();
            if !values.is_empty() && *takes != Takes::Texts {
                return Err(fault(format!("duplicate flag specified: {written}")));
            }
            let text = match (takes, value) {
                (Takes::Bool, None) => "true".to_owned(),
                (Takes::Bool, Some("")) | (Takes::Text | Takes::Texts, None) => {
                    return Err(fault(format!("missing a value on flag: {written}")));
                }
                (Takes::Bool, Some(value)) => match value.to_lowercase().as_str() {
                    known @ ("true" | "false") => known.to_owned(),
                    _ => return Err(fault(format!("expecting boolean value for flag {written}, not: {value}"))),
                },
                (Takes::Text | Takes::Texts, Some(value)) => value.to_owned(),
            };
            values.push(Argument { text, span: flag.span });
        }
        Ok(flags)
    }

    pub(super) fn all(&mut self, name: &str) -> Vec<Argument> {
        self.0.remove(name).unwrap_or_default()
    }

    /// A value that is not empty.
    pub(super) fn text(&mut self, name: &str) -> Option<Argument> {
        self.all(name).pop().filter(|value| !value.text.is_empty())
    }

    pub(super) fn bool(&mut self, name: &str) -> Option<bool> {
        self.all(name).pop().map(|value| value.text == "true")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_the_flag() {
        let known = [("link", Takes::Bool), ("from", Takes::Text), ("mount", Takes::Texts)];
        for (given, want) in [
            (&["--mont=x"][..], "unknown flag: --mont"),
            (&["--from"], "missing a value on flag: --from"),
            (&["--link="], "missing a value on flag: --link"),
            (&["--link=maybe"], "expecting boolean value for flag --link, not: maybe"),
            (&["--from=a", "--from=b"], "duplicate flag specified: --from"),
        ] {
            let given: Vec<Argument> =
                given.iter().map(|text| Argument { text: (*text).into(), span: Default::default() }).collect();
            assert_eq!(Flags::read(&given, &known).unwrap_err().message, want);
        }
    }
}

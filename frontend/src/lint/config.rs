//! Which rules run: `# check=skip=A,B;error=true;experimental=C`.

use super::{RULES, Rule};
use crate::go;

/// Which rules run and what their findings mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    skip: Selection,
    experimental: Selection,
    /// Whether findings fail the build.
    pub error: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Selection {
    #[default]
    None,
    All,
    Names(Vec<String>),
}

/// The text is no configuration of checks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse check options: invalid check option {}", go::quote(.0))]
pub struct ConfigError(pub(crate) String);

impl Config {
    /// Reads `skip=…;error=…;experimental=…`.
    ///
    /// # Errors
    /// Names the option that is none.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        // What follows a blank is a note.
        let text = text.split_whitespace().next().unwrap_or_default();
        for option in text.split(';').filter(|option| !option.is_empty()) {
            let refuse = || ConfigError(option.trim().to_owned());
            let (key, value) = option.split_once('=').ok_or_else(refuse)?;
            match key.trim() {
                "skip" => config.skip = Selection::read(value),
                "experimental" => config.experimental = Selection::read(value),
                "error" => config.error = go::parse_bool(value.trim()).ok_or_else(refuse)?,
                key => return Err(ConfigError(key.to_owned())),
            }
        }
        Ok(config)
    }

    /// The configuration in a comment, if there is one.
    pub(super) fn of_comment(comment: &str) -> Option<Self> {
        let (key, value) = comment.split_once('=')?;
        Self::parse(value.trim()).ok().filter(|_| key.trim().eq_ignore_ascii_case("check"))
    }

    pub(super) fn skips(&self, rule: &Rule) -> bool {
        self.skip.holds(rule.name)
    }

    pub(super) fn enabled(&self, rule: &Rule) -> bool {
        if rule.experimental { self.experimental.holds(rule.name) } else { !self.skip.holds(rule.name) }
    }

    /// Names that are no rule's.
    #[must_use]
    pub fn unknown_rules(&self) -> Vec<String> {
        let names = [&self.skip, &self.experimental].into_iter().flat_map(|selection| match selection {
            Selection::Names(names) => names.as_slice(),
            _ => &[],
        });
        names.filter(|name| !RULES.iter().any(|rule| rule.name == name.as_str())).cloned().collect()
    }
}

impl Selection {
    fn read(text: &str) -> Self {
        match text.trim() {
            "all" => Self::All,
            names => Self::Names(names.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }

    fn holds(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Names(names) => names.iter().any(|own| own == name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FROM_AS_CASING, INVALID_DEFINITION_DESCRIPTION, UNDEFINED_VAR};
    use super::*;

    #[test]
    fn options_select_rules() {
        let config = Config::parse("skip=FromAsCasing,Nope;error=true;experimental=all // why").unwrap();
        assert!(!config.enabled(&FROM_AS_CASING) && config.enabled(&UNDEFINED_VAR) && config.error);
        assert!(config.enabled(&INVALID_DEFINITION_DESCRIPTION));
        assert!(!Config::default().enabled(&INVALID_DEFINITION_DESCRIPTION));
        assert_eq!(config.unknown_rules(), ["Nope"]);
        assert!(!Config::parse("skip=all").unwrap().enabled(&UNDEFINED_VAR));
        assert!(Config::parse("nonsense").is_err() && Config::parse("error=x").is_err());
    }
}

//! What Docker's `config.json` says of lists and prunes; its logins are read by [`crate::registry`].

use serde::Deserialize;

use crate::settings::Settings;

/// Bytes of the file, at most.
const LARGEST: u64 = 16 << 20;

/// The keys that mean something to commands.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DockerConfig {
    /// `--format` of `ps`, where none is given.
    pub(crate) ps_format: String,
    /// `--format` of `images`, where none is given.
    pub(crate) images_format: String,
    /// `--filter` that every prune has.
    pub(crate) prune_filters: Vec<String>,
}

impl DockerConfig {
    /// Of the user's file. One that is broken is told of and says nothing, as with Docker: a list must still be had.
    pub(crate) fn read(settings: &Settings) -> Self {
        let Some(path) = settings.docker_config.as_ref().map(|dir| dir.join("config.json")) else {
            return Self::default();
        };
        let read = std::fs::File::open(&path).and_then(|file| lap_cache::fs::read_limited(file, LARGEST));
        let warn = |why: &dyn std::fmt::Display| {
            eprintln!("lap: {} is left out: {}", path.display(), crate::ui::visible(&why.to_string()));
            Self::default()
        };
        match read {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| warn(&error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(error) => warn(&error),
        }
    }

    /// What is left of Docker's rule for filters: those of the file, but for labels that the command line asks about
    /// in the other way.
    pub(crate) fn prune_filters_with(mut self, given: &[String]) -> Vec<String> {
        self.prune_filters.retain(|filter| match filter.split_once('=') {
            Some(("label", value)) => !given.contains(&format!("label!={value}")),
            Some(("label!", value)) => !given.contains(&format!("label={value}")),
            _ => true,
        });
        self.prune_filters.extend_from_slice(given);
        self.prune_filters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_files_filters() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let config = || DockerConfig {
            prune_filters: texts(&["label!=keep", "label=old", "until=24h"]),
            ..DockerConfig::default()
        };
        assert_eq!(config().prune_filters_with(&[]), texts(&["label!=keep", "label=old", "until=24h"]));
        let given = texts(&["label=keep"]);
        assert_eq!(config().prune_filters_with(&given), texts(&["label=old", "until=24h", "label=keep"]));
    }
}

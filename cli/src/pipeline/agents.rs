//! `--ssh`: agents that the user has, and keys that get one of ours.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail};
use lap_executor::agent::KeyAgent;

use crate::settings::{Settings, variable};
use crate::ui::error::Hint as _;

/// The agents that were started, by their keys. They end with this.
#[derive(Debug, Default)]
pub(crate) struct Agents(Mutex<BTreeMap<Vec<PathBuf>, KeyAgent>>);

impl Agents {
    /// Sockets by id, of `ID[=SOCKET|KEY[,KEY]]`; without a place, the user's own agent.
    ///
    /// # Errors
    /// Where there is no such agent, or a key cannot be used.
    pub(crate) fn sockets(&self, settings: &Settings, texts: &[String]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
        let mut sockets = BTreeMap::new();
        for text in texts {
            let (id, places) = text.split_once('=').unwrap_or((text, ""));
            let places: Vec<PathBuf> = places.split(',').filter(|place| !place.is_empty()).map(PathBuf::from).collect();
            let id = if id.is_empty() { "default" } else { id };
            let socket = if places.is_empty() {
                let own = variable("SSH_AUTH_SOCK").map(PathBuf::from);
                own.with_context(|| format!("--ssh {text}: no agent runs here: SSH_AUTH_SOCK is not set"))
                    .hint(format!("name a key or the socket of an agent: --ssh {id}=PATH"))?
            } else {
                self.socket(settings, &places).with_context(|| format!("--ssh {text}"))?
            };
            if sockets.insert(id.to_owned(), socket).is_some() {
                bail!("--ssh {text}: the id {id:?} is given twice");
            }
        }
        Ok(sockets)
    }

    fn socket(&self, settings: &Settings, places: &[PathBuf]) -> anyhow::Result<PathBuf> {
        let mut keys = Vec::new();
        for place in places {
            let found = std::fs::metadata(place).with_context(|| format!("cannot read {}", place.display()))?;
            if !found.file_type().is_socket() {
                keys.push(std::path::absolute(place)?);
            } else if places.len() > 1 {
                bail!("{} is a socket: one id has one socket, or keys", place.display());
            }
        }
        let [place] = places else { return self.of_keys(settings, keys) };
        if keys.is_empty() { Ok(place.clone()) } else { self.of_keys(settings, keys) }
    }

    fn of_keys(&self, settings: &Settings, keys: Vec<PathBuf>) -> anyhow::Result<PathBuf> {
        let mut started = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = started.get(&keys) {
            return Ok(agent.socket());
        }
        let agent = match KeyAgent::start(&settings.run_dir, &keys) {
            Ok(agent) => agent,
            Err(error) => {
                return match error.hint() {
                    Some(hint) => Err(error).hint(hint),
                    None => Err(error.into()),
                };
            }
        };
        let socket = agent.socket();
        started.insert(keys, agent);
        Ok(socket)
    }
}

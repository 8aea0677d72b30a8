//! What the user lets steps have: secrets, agent sockets, and walls that may be left out.
//!
//! Nothing here is ever part of a key, a record or an event; of a secret mounted with `cache=hash`, a code is.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use lap_solver::graph::{Exec, Network, Security};

/// Longest secret, as BuildKit's.
const MAX_SECRET: u64 = 500 * 1024;

/// What the user granted.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Secrets by id.
    pub secrets: BTreeMap<String, Secret>,
    /// Sockets of SSH agents by id (`default`).
    pub ssh: BTreeMap<String, PathBuf>,
    /// Keys of ssh servers that the user knows (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT); never written.
    pub known_hosts: Option<PathBuf>,
    /// Whether a step may use the machine's own network.
    pub network_host: bool,
    /// Whether a step may have all capabilities.
    pub insecure: bool,
}

/// A secret, read when a step needs it.
#[derive(Clone)]
pub enum Secret {
    /// The content of a file.
    File(PathBuf),
    /// This value (of an environment variable).
    Value(Vec<u8>),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Value(_) => f.write_str("Value(..)"),
        }
    }
}

/// A step asks for what was not granted.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// A required secret was not given.
    #[error("secret {0:?} is required and was not given: pass it with --secret id={0},src=FILE or env=NAME")]
    NoSecret(String),
    /// A secret cannot be read.
    #[error("cannot read secret {id:?} from {}", path.display())]
    Unreadable {
        /// Its id.
        id: String,
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A secret is longer than anything that is one.
    #[error("secret {0:?} is longer than {MAX_SECRET} bytes")]
    TooLong(String),
    /// A required agent was not given.
    #[error("ssh agent {0:?} is required and was not given: pass it with --ssh {0}=SOCKET or {0}=KEY")]
    NoAgent(String),
    /// The machine's network was not granted.
    #[error("the network of the machine is not allowed: pass --allow network.host")]
    Network,
    /// A sandbox without walls was not granted.
    #[error("security=insecure is not allowed: pass --allow security.insecure")]
    Insecure,
}

impl Grants {
    /// The content of a secret; nothing where it was not given and need not be.
    ///
    /// # Errors
    /// Where it is required and was not given, or cannot be read.
    pub fn secret(&self, id: &str, required: bool) -> Result<Option<Vec<u8>>, GrantError> {
        let data = match self.secrets.get(id) {
            None if required => return Err(GrantError::NoSecret(id.to_owned())),
            None => return Ok(None),
            Some(Secret::Value(value)) => value.clone(),
            Some(Secret::File(path)) => {
                let unreadable = |source| GrantError::Unreadable { id: id.to_owned(), path: path.clone(), source };
                let mut data = Vec::new();
                let file = File::open(path).map_err(unreadable)?;
                file.take(MAX_SECRET + 1).read_to_end(&mut data).map_err(unreadable)?;
                data
            }
        };
        if data.len() as u64 > MAX_SECRET { Err(GrantError::TooLong(id.to_owned())) } else { Ok(Some(data)) }
    }

    /// The socket of an agent; nothing where it was not given and need not be.
    ///
    /// # Errors
    /// Where it is required and was not given.
    pub fn agent(&self, id: &str, required: bool) -> Result<Option<&PathBuf>, GrantError> {
        match self.ssh.get(id) {
            None if required => Err(GrantError::NoAgent(id.to_owned())),
            found => Ok(found),
        }
    }

    /// Whether a command may have the walls left out that it asks for.
    ///
    /// # Errors
    /// Where it may not.
    pub const fn check(&self, exec: &Exec) -> Result<(), GrantError> {
        match (exec.network, exec.security) {
            (Network::Host, _) if !self.network_host => Err(GrantError::Network),
            (_, Security::Insecure) if !self.insecure => Err(GrantError::Insecure),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_bounded_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "abc").unwrap();
        let big = dir.path().join("big");
        std::fs::write(&big, vec![0; 600 * 1024]).unwrap();
        let secrets = [
            ("file".to_owned(), Secret::File(file)),
            ("value".to_owned(), Secret::Value(b"hidden".to_vec())),
            ("big".to_owned(), Secret::File(big)),
            ("gone".to_owned(), Secret::File(dir.path().join("gone"))),
        ];
        let grants = Grants { secrets: secrets.into(), ..Grants::default() };
        assert_eq!(grants.secret("file", true).unwrap().unwrap(), b"abc");
        assert_eq!(grants.secret("value", false).unwrap().unwrap(), b"hidden");
        assert!(grants.secret("none", false).unwrap().is_none());
        assert!(matches!(grants.secret("none", true), Err(GrantError::NoSecret(_))));
        assert!(matches!(grants.secret("big", true), Err(GrantError::TooLong(_))));
        assert!(matches!(grants.secret("gone", false), Err(GrantError::Unreadable { .. })));
        assert!(!format!("{grants:?}").contains("hidden"));
    }
}

//! Keeping logins: `login` and `logout` write Docker's `config.json` or podman's `auth.json`, or tell a helper.
//!
//! What else stands in the file stays. It is replaced as a whole, readable by its owner alone from its first byte.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde_json::{Map, Value, json};

use super::credentials::{self, ConfigFile};
use super::helper::{self, Verb};
use super::transport::{Call, Scope};
use super::{Client, RegistryError, basic_authorization};

/// Bytes of a file with logins, at most.
const LARGEST: u64 = 16 << 20;

/// A file with logins.
#[derive(Debug, Clone)]
pub struct LoginFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is one of podman's, which calls Docker Hub `docker.io`.
    pub is_podmans: bool,
}

/// Where a login is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In the file, which anybody who can read it can use.
    InFile,
    /// By `docker-credential-NAME`.
    ByHelper(String),
}

impl Client {
    /// Asks a registry whether it takes the login that this client has for it.
    ///
    /// # Errors
    /// Where the registry refuses or cannot be asked.
    pub async fn check_login(&self, registry: &str) -> Result<(), RegistryError> {
        let endpoint = self.transport.upstream(registry).await?;
        let address = || RegistryError::Address { text: registry.to_owned() };
        let url = endpoint.base.join("v2/").map_err(|_| address())?;
        let call = Call::new(reqwest::Method::GET, url);
        match self.transport.expect(&endpoint, &Scope::pull(""), &call).await {
            Ok(_) => Ok(()),
            Err(RegistryError::Denied { registry, message, .. }) => {
                Err(RegistryError::LoginRefused { registry, message })
            }
            Err(error) => Err(error),
        }
    }
}

impl LoginFile {
    /// What the file says; nothing where there is none.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&self) -> Result<ConfigFile, RegistryError> {
        serde_json::from_value(Value::Object(self.document(&self.path)?)).map_err(|source| self.broken(source))
    }

    /// Keeps a login for a registry.
    ///
    /// # Errors
    /// Where the file cannot be written or the helper fails.
    pub async fn store(&self, registry: &str, username: &str, password: &str) -> Result<Kept, RegistryError> {
        let key = self.key(registry);
        let helper = self.read()?.helper(std::slice::from_ref(&key)).map(|(helper, _)| helper);
        let entry = match &helper {
            Some(helper) => {
                let document = json!({"ServerURL": key, "Username": username, "Secret": password}).to_string();
                helper::call(helper, Verb::Store, document.as_bytes(), registry).await?;
                json!({})
            }
            None => {
                let header = basic_authorization(username, password);
                json!({"auth": header.trim_start_matches("Basic ")})
            }
        };
        self.edit(|document| {
            let auths = document.entry("auths").or_insert_with(|| json!({}));
            if !auths.is_object() {
                *auths = json!({});
            }
            auths[key.as_str()] = entry;
        })?;
        Ok(helper.map_or(Kept::InFile, Kept::ByHelper))
    }

    /// Forgets the login for a registry. False where there was none.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub async fn erase(&self, registry: &str) -> Result<bool, RegistryError> {
        let hosts = credentials::host_keys(registry);
        let mut found = false;
        if let Some((helper, key)) = self.read()?.helper(&hosts) {
            let known = helper::call(&helper, Verb::Get, key.as_bytes(), registry).await?;
            if known.is_some() {
                helper::call(&helper, Verb::Erase, key.as_bytes(), registry).await?;
                found = true;
            }
        }
        if !self.path.exists() {
            return Ok(found);
        }
        self.edit(|document| {
            let Some(auths) = document.get_mut("auths").and_then(Value::as_object_mut) else { return };
            let before = auths.len();
            auths.retain(|key, _| !hosts.iter().any(|host| host == key || host == credentials::host_of(key)));
            found |= auths.len() < before;
        })?;
        Ok(found)
    }

    /// The registries for which there is a login, in the file or by its helpers.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub async fn registries(&self) -> Result<Vec<String>, RegistryError> {
        let document = self.document(&self.path)?;
        let keys = |name: &str| document.get(name).and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let mut found: Vec<String> = keys("auths").chain(keys("credHelpers")).cloned().collect();
        if let Some(helper) = document.get("credsStore").and_then(Value::as_str).filter(|helper| !helper.is_empty()) {
            let listed = helper::call(helper, Verb::List, b"", "all registries").await?.unwrap_or_default();
            let listed: Map<String, Value> = serde_json::from_str(&listed).unwrap_or_default();
            found.extend(listed.into_iter().map(|(key, _)| key));
        }
        let mut found: Vec<String> = found.iter().map(|key| credentials::registry_of(key)).collect();
        found.sort();
        found.dedup();
        Ok(found)
    }

    fn key(&self, registry: &str) -> String {
        let keys = credentials::host_keys(registry);
        let key = if self.is_podmans { None } else { keys.into_iter().next() };
        key.unwrap_or_else(|| registry.to_owned())
    }

    fn failed(&self, source: std::io::Error) -> RegistryError {
        RegistryError::LoginFile { path: self.path.display().to_string(), source }
    }

    fn broken(&self, source: serde_json::Error) -> RegistryError {
        self.failed(std::io::Error::new(ErrorKind::InvalidData, source))
    }

    fn document(&self, path: &Path) -> Result<Map<String, Value>, RegistryError> {
        match File::open(path).and_then(|file| crate::fs::read_limited(file, LARGEST)) {
            Ok(text) if text.trim_ascii().is_empty() => Ok(Map::new()),
            Ok(text) => serde_json::from_slice(&text).map_err(|source| self.broken(source)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Map::new()),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn edit(&self, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), RegistryError> {
        // A link stays one: what it leads to is replaced.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let failed = |error| self.failed(error);
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let lock = File::open(dir).map_err(failed)?;
        // Two logins at once must not lose one.
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        let mut document = self.document(&path)?;
        change(&mut document);
        let mut text = Vec::new();
        let indent = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut writer = serde_json::Serializer::with_formatter(&mut text, indent);
        serde::Serialize::serialize(&document, &mut writer).map_err(|source| self.broken(source))?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let temporary = dir.join(name);
        let written =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
                file.write_all(&text)?;
                file.sync_all()?;
                fs::rename(&temporary, &path)?;
                lock.sync_all()
            });
        if written.is_err() {
            // Gone already where the rename was made.
            drop(fs::remove_file(&temporary));
        }
        written.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::registry::{Credentials, Login};

    fn file(dir: &Path, is_podmans: bool) -> LoginFile {
        LoginFile { path: dir.join("new/config.json"), is_podmans }
    }

    async fn known(file: &LoginFile, registry: &str) -> Option<Login> {
        let credentials = Credentials { files: vec![file.read().unwrap()], ..Credentials::default() };
        credentials.find(registry, "x").await.unwrap()
    }

    #[tokio::test]
    async fn what_is_kept_is_found_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        for is_podmans in [false, true] {
            let file = file(dir.path(), is_podmans);
            for registry in ["docker.io", "reg.lan:5000"] {
                assert_eq!(file.store(registry, "me", "p:w").await.unwrap(), Kept::InFile);
                let login = Login::Password { username: "me".into(), password: "p:w".into() };
                assert_eq!(known(&file, registry).await, Some(login));
            }
            assert_eq!(file.registries().await.unwrap(), ["docker.io", "reg.lan:5000"]);
            let mode = fs::metadata(&file.path).unwrap().permissions().mode() & 0o777;
            let above = fs::metadata(dir.path().join("new")).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode, above), (0o600, 0o700));
            assert!(file.erase("docker.io").await.unwrap());
            assert!(!file.erase("docker.io").await.unwrap());
            assert!(file.erase("reg.lan:5000").await.unwrap());
            assert_eq!(known(&file, "reg.lan:5000").await, None);
        }
    }

    #[tokio::test]
    async fn the_rest_of_the_file_stays_and_links_too() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real.json");
        fs::write(&real, r#"{"HttpHeaders":{"X":"y"},"auths":{"https://reg.lan/v2/":{"auth":"bjp4"},"other":{}}}"#)
            .unwrap();
        let file = LoginFile { path: dir.path().join("config.json"), is_podmans: false };
        std::os::unix::fs::symlink("real.json", &file.path).unwrap();
        file.store("new.lan", "me", "pw").await.unwrap();
        assert!(file.erase("reg.lan").await.unwrap(), "an older spelling");
        let text: Value = serde_json::from_slice(&fs::read(&real).unwrap()).unwrap();
        assert_eq!(text, json!({"HttpHeaders": {"X": "y"}, "auths": {"new.lan": {"auth": "bWU6cHc="}, "other": {}}}));
        assert!(file.path.is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside it");
    }

    #[tokio::test]
    async fn a_broken_file_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let file = LoginFile { path: dir.path().join("config.json"), is_podmans: false };
        fs::write(&file.path, "{broken").unwrap();
        assert!(matches!(file.store("a.lan", "me", "pw").await, Err(RegistryError::LoginFile { .. })));
        assert_eq!(fs::read_to_string(&file.path).unwrap(), "{broken");
    }
}

//! Certificates of single registries, as Docker keeps them: `certs.d/HOST[:PORT]/` with `NAME.crt` of authorities and
//! pairs of `NAME.cert` and `NAME.key` by which we are known.

use std::path::{Path, PathBuf};

use super::RegistryError;

/// What there is for a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Certificates {
    /// Authorities, beside those of the machine.
    pub(super) authorities: Vec<PathBuf>,
    /// Our certificates and their keys, in order of name.
    pub(super) own: Vec<(PathBuf, PathBuf)>,
}

impl Certificates {
    /// Of the first directory that is there for `host[:port]`.
    pub(super) fn of(dirs: &[PathBuf], host: &str) -> Result<Self, RegistryError> {
        // A host comes from others and must stay a single name.
        if host.is_empty() || host.starts_with('.') || host.contains('/') {
            return Ok(Self::default());
        }
        let mut names = vec![host.to_owned()];
        match host {
            "registry-1.docker.io" => names.push("docker.io".to_owned()),
            host if !host.ends_with(']') && !host.contains(':') => names.push(format!("{host}:443")),
            _ => {}
        }
        for dir in dirs.iter().flat_map(|dir| names.iter().map(|name| dir.join(name))) {
            if let Some(found) = Self::read(&dir)? {
                return Ok(found);
            }
        }
        Ok(Self::default())
    }

    /// Of a directory that holds those of one host; it must be there.
    pub(super) fn within(dir: &Path) -> Result<Self, RegistryError> {
        Self::read(dir)?.ok_or_else(|| failed(dir, "no such directory"))
    }

    /// Nothing where there is no such directory.
    fn read(dir: &Path) -> Result<Option<Self>, RegistryError> {
        match std::fs::read_dir(dir) {
            Ok(entries) => {
                let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
                files.sort();
                Self::among(&files).map(Some)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(dir, error)),
        }
    }

    fn among(files: &[PathBuf]) -> Result<Self, RegistryError> {
        let with = |extension: &'static str| {
            files.iter().filter(move |path| path.extension().is_some_and(|it| it == extension))
        };
        let authorities = with("crt").cloned().collect();
        let mut own = Vec::new();
        for certificate in with("cert") {
            let key = certificate.with_extension("key");
            if !files.contains(&key) {
                return Err(failed(certificate, format!("its key {} is missing", key.display())));
            }
            own.push((certificate.clone(), key));
        }
        if let Some(key) = with("key").find(|key| !files.contains(&key.with_extension("cert"))) {
            let certificate = key.with_extension("cert");
            return Err(failed(key, format!("its certificate {} is missing", certificate.display())));
        }
        Ok(Self { authorities, own })
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) fn failed(path: &Path, why: impl std::fmt::Display) -> RegistryError {
    RegistryError::Certificate { path: path.display().to_string(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dir: &Path, host: &str, files: &[&str]) {
        let dir = dir.join(host);
        std::fs::create_dir_all(&dir).unwrap();
        files.iter().for_each(|file| std::fs::write(dir.join(file), "").unwrap());
    }

    #[test]
    fn directories_are_those_of_docker() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dirs = [first.path().to_path_buf(), second.path().to_path_buf()];
        put(&dirs[0], "reg.lan:5000", &["ca.crt", "b.cert", "b.key", "a.cert", "a.key", "notes.txt"]);
        put(&dirs[1], "reg.lan:5000", &["other.crt"]);
        put(&dirs[1], "plain.lan:443", &["ca.crt"]);
        put(&dirs[1], "docker.io", &["ca.crt"]);
        let found = Certificates::of(&dirs, "reg.lan:5000").unwrap();
        assert_eq!(found.authorities, [dirs[0].join("reg.lan:5000/ca.crt")]);
        let keys: Vec<PathBuf> = found.own.into_iter().map(|(_, key)| key).collect();
        assert_eq!(keys, ["a.key", "b.key"].map(|key| dirs[0].join("reg.lan:5000").join(key)));
        for (host, count) in [("plain.lan", 1), ("registry-1.docker.io", 1), ("reg.lan", 0), ("..", 0), ("", 0)] {
            assert_eq!(Certificates::of(&dirs, host).unwrap().authorities.len(), count, "{host}");
        }
    }

    #[test]
    fn half_a_pair_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for (host, file, missing) in [("a", "x.cert", "x.key is missing"), ("b", "x.key", "x.cert is missing")] {
            put(dir.path(), host, &[file]);
            let error = Certificates::of(&[dir.path().to_path_buf()], host).unwrap_err().to_string();
            assert!(error.contains(missing), "{error}");
        }
    }
}

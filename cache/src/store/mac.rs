//! What may be told apart, but not guessed: codes made with a key that never leaves the store.

use std::fs::File;
use std::io::Read as _;

use lap_solver::digest::Key;
use rustix::fs::Mode;
use rustix::io::Errno;

use super::{Store, StoreError};
use crate::fs::{Act, durable};

/// 32 random bytes, for the store's owner alone.
const FILE: &str = "secret.key";

impl Store {
    /// A message authentication code (BLAKE3's keyed mode) of `value`, of the kind `domain` and called `name`. Equal
    /// values have equal codes in this store and nowhere else; who does not have its key cannot tell a value from one.
    ///
    /// # Errors
    /// Where the key cannot be read or made.
    pub fn mac(&self, domain: &str, name: &str, value: &[u8]) -> Result<Key, StoreError> {
        let key = match self.inner.secret.get() {
            Some(key) => key,
            None => {
                let key = self.secret()?;
                self.inner.secret.get_or_init(|| key)
            }
        };
        let mut hasher = blake3::Hasher::new_keyed(key);
        for part in [domain.as_bytes(), name.as_bytes(), value] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        Ok(Key::from_bytes(*hasher.finalize().as_bytes()))
    }

    fn secret(&self) -> Result<[u8; 32], StoreError> {
        let found = || Ok::<_, StoreError>(self.read_file(FILE)?.map(<[u8; 32]>::try_from));
        let damaged = match found()? {
            Some(Ok(key)) => return Ok(key),
            found => found.is_some(),
        };
        let mut key = [0; 32];
        let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut key));
        random.act("read", "/dev/urandom")?;
        let session = self.session()?;
        let (mut file, name) = session.create_file()?;
        rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR).act("change the mode of", self.root().join(FILE))?;
        std::io::Write::write_all(&mut file, &key).act("write", self.root().join(FILE))?;
        durable::sync_file(&file).act("sync", self.root().join(FILE))?;
        // Of two processes that make one, the first one's stays.
        let renamed = match damaged {
            true => durable::rename(session.dir(), &name, self.dir(), FILE),
            false => durable::rename_new(session.dir(), &name, self.dir(), FILE),
        };
        match renamed {
            Ok(()) => Ok(key),
            Err(Errno::EXIST) => {
                session.discard_file(&name);
                Ok(found()?.and_then(Result::ok).unwrap_or(key))
            }
            Err(errno) => Err(crate::fs::FsError::new("create", self.root().join(FILE), errno).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::store::Mode as StoreMode;

    #[test]
    fn codes_are_those_of_one_store() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = |dir: &tempfile::TempDir| Store::open(dir.path(), StoreMode::Root).unwrap();
        let mac = |store: &Store, name: &str, value: &str| store.mac("secret", name, value.as_bytes()).unwrap();
        let first = mac(&open(&one), "a", "value");
        assert_eq!(mac(&open(&one), "a", "value"), first, "another process");
        assert_ne!(mac(&open(&one), "a", "other"), first);
        assert_ne!(mac(&open(&one), "b", "value"), first);
        assert_ne!(mac(&open(&two), "a", "value"), first, "another store");
        let mode = std::fs::metadata(one.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        std::fs::write(one.path().join(FILE), "cut").unwrap();
        let new = mac(&open(&one), "a", "value");
        assert_ne!(new, first);
        assert_eq!(mac(&open(&one), "a", "value"), new, "a damaged key is made anew, once");
    }

    #[test]
    fn processes_that_make_a_key_at_once_agree() {
        let dir = tempfile::tempdir().unwrap();
        let stores: Vec<Store> = (0..8).map(|_| Store::open(dir.path(), StoreMode::Root).unwrap()).collect();
        let codes: Vec<Key> = std::thread::scope(|scope| {
            let made: Vec<_> = stores.iter().map(|store| scope.spawn(|| store.mac("t", "", b"x").unwrap())).collect();
            made.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(codes.iter().all(|code| *code == codes[0]));
    }
}

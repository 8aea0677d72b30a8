//! `--chown`: numbers as they are, names from the changed root's own passwd and group.

use lap_cache::account::{AccountError, Accounts};

use super::target::Target;

/// The last id is the kernel's "leave it".
const MAX_ID: u32 = u32::MAX - 1;

/// Owner and group by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// An owner that cannot be understood or found.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// Not `user[:group]`.
    #[error("invalid owner {0:?}: it has to be user[:group], by name or number")]
    Syntax(String),
    /// A name that the image does not know, or files that cannot be read.
    #[error(transparent)]
    Account(#[from] AccountError),
}

impl Owner {
    /// The superuser.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };

    /// Reads `user[:group]`. A user by number has the group of the same number, a user by name the one in passwd.
    pub(super) fn resolve(text: &str, target: &Target<'_>) -> Result<Self, OwnerError> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (text, None),
        };
        let syntax = || OwnerError::Syntax(text.to_owned());
        let named = |text: &str| {
            let account = Accounts::read(target.root())?.resolve(text)?;
            Ok::<_, OwnerError>(Self { uid: account.uid, gid: account.gid })
        };
        let mut owner = match number(user).map_err(|()| syntax())? {
            Some(id) => Self { uid: id, gid: id },
            None if user.is_empty() => Self::ROOT,
            None => named(user)?,
        };
        if let Some(group) = group {
            owner.gid = match number(group).map_err(|()| syntax())? {
                Some(id) => id,
                None => named(&format!("0:{group}"))?.gid,
            };
        }
        Ok(owner)
    }
}

/// Digits are always a number, whatever passwd says; nothing where it is a name.
fn number(text: &str) -> Result<Option<u32>, ()> {
    if text.bytes().any(|byte| byte.is_ascii_whitespace() || byte == b'/' || byte == b':' || byte == 0) {
        return Err(());
    }
    match text.as_bytes().first() {
        Some(b'+' | b'-') => Err(()),
        Some(_) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().ok().filter(|id| *id <= MAX_ID).map(Some).ok_or(())
        }
        _ => Ok(None),
    }
}

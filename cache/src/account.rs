//! Users and groups of an image, read from its own `/etc/passwd` and `/etc/group`: never through the C library,
//! which would ask the host's.
//!
//! The meaning of `user[:group]` is that of Docker and runc: a name must exist, a number need not; without a group
//! the user's own group and all groups that list the user hold.

use std::io::Read;
use std::os::fd::AsFd;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::fs::{self, Act, FsError};
use crate::layer::View;

/// Bytes of a passwd or group file that are read.
pub const MAX_FILE: u64 = 4 << 20;
/// Numbers above are refused, as runc does.
const MAX_ID: u32 = i32::MAX as u32;

/// Why a user cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The file cannot be read.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The file is larger than any sensible one.
    #[error("/etc/{file} of the image is larger than {MAX_FILE} bytes")]
    TooLarge {
        /// `passwd` or `group`.
        file: &'static str,
    },
    /// No such user.
    #[error("no user {name:?} in the image's /etc/passwd")]
    NoUser {
        /// The name asked for.
        name: String,
    },
    /// No such group.
    #[error("no group {name:?} in the image's /etc/group")]
    NoGroup {
        /// The name asked for.
        name: String,
    },
    /// The number is too large.
    #[error("user or group number {number} is not between 0 and {MAX_ID}")]
    OutOfRange {
        /// The number asked for.
        number: String,
    },
}

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups, sorted.
    pub groups: Vec<u32>,
    /// Home directory; `/` where the user has no line.
    pub home: String,
    /// Login name, if the user has a line.
    pub name: Option<String>,
}

/// The users and groups of an image.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
}

#[derive(Debug, Clone)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

#[derive(Debug, Clone)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

impl Accounts {
    /// Reads them in the root file system behind `root`; a missing file is an empty one.
    ///
    /// # Errors
    /// Where a file is there and cannot be read, or is too large.
    pub fn read(root: impl AsFd) -> Result<Self, AccountError> {
        let open = |file: &'static str| match fs::open_in_root(
            &root,
            format!("etc/{file}").as_bytes(),
            OFlags::RDONLY | OFlags::NONBLOCK,
        ) {
            Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => Ok(Vec::new()),
            result => read_bounded(result?, file),
        };
        Ok(Self::parse(&open("passwd")?, &open("group")?))
    }

    /// Reads them in a stack of layers, without a mount; a file that is a symbolic link counts as missing.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_view(view: &View) -> Result<Self, AccountError> {
        let open = |file: &'static str| {
            let found = view.find(format!("etc/{file}").as_bytes())?;
            let is_file =
                |found: &crate::layer::Found<'_>| FileType::from_raw_mode(found.stat.st_mode) == FileType::RegularFile;
            match found.filter(is_file) {
                None => Ok(Vec::new()),
                Some(found) => read_bounded(fs::open_beneath(found.layer, &found.path, OFlags::RDONLY)?, file),
            }
        };
        Ok(Self::parse(&open("passwd")?, &open("group")?))
    }

    /// Parses the two files; lines that are none are passed over, as the C library does.
    #[must_use]
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        let lines = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let lines = text.lines().map(|line| line.trim().split(':').map(str::to_owned).collect::<Vec<_>>());
            lines.filter(|fields| fields.len() >= 3 && !fields[0].is_empty() && !fields[0].starts_with('#')).collect()
        };
        let (passwd, group): (Vec<Vec<String>>, Vec<Vec<String>>) = (lines(passwd), lines(group));
        let user = |fields: &Vec<String>| {
            let home = fields.get(5).filter(|home| !home.is_empty()).map_or("/", |home| home);
            let gid = fields.get(3)?.parse().ok()?;
            Some(User { name: fields[0].clone(), uid: fields[2].parse().ok()?, gid, home: home.to_owned() })
        };
        let group_of = |fields: &Vec<String>| {
            let members = fields.get(3).map_or("", String::as_str).split(',');
            let members = members.filter(|member| !member.is_empty()).map(str::to_owned).collect();
            Some(Group { name: fields[0].clone(), gid: fields[2].parse().ok()?, members })
        };
        Self { users: passwd.iter().filter_map(user).collect(), groups: group.iter().filter_map(group_of).collect() }
    }

    /// Resolves `user[:group]`, names or numbers; empty is user 0.
    ///
    /// # Errors
    /// Where a name is not there or a number is out of range.
    pub fn resolve(&self, spec: &str) -> Result<Account, AccountError> {
        let (user_spec, group_spec) = spec.split_once(':').map_or((spec, ""), |(user, group)| (user, group));
        let user_spec = if user_spec.is_empty() { "0" } else { user_spec };
        let number = number(user_spec)?;
        // Digits are always a number: a user who is called 1000 must not make somebody else of number 1000.
        let known = self.users.iter().find(|user| number.map_or(user.name == user_spec, |number| user.uid == number));
        let mut account = match (known, number) {
            (Some(user), _) => Account {
                uid: user.uid,
                gid: user.gid,
                groups: self.groups_of(&user.name),
                home: user.home.clone(),
                name: Some(user.name.clone()),
            },
            (None, Some(uid)) => Account { uid, gid: 0, groups: Vec::new(), home: "/".to_owned(), name: None },
            (None, None) => return Err(AccountError::NoUser { name: user_spec.to_owned() }),
        };
        if !group_spec.is_empty() {
            account.gid = self.group(group_spec)?;
            account.groups = Vec::new();
        }
        Ok(account)
    }

    /// Resolves a group's name or number.
    ///
    /// # Errors
    /// Where the name is not there or the number is out of range.
    pub fn group(&self, spec: &str) -> Result<u32, AccountError> {
        if let Some(number) = number(spec)? {
            return Ok(number);
        }
        let group = self.groups.iter().find(|group| group.name == spec);
        group.map(|group| group.gid).ok_or_else(|| AccountError::NoGroup { name: spec.to_owned() })
    }

    fn groups_of(&self, name: &str) -> Vec<u32> {
        let lists = |group: &&Group| group.members.iter().any(|member| member == name);
        let mut groups: Vec<u32> = self.groups.iter().filter(lists).map(|group| group.gid).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

/// A number in range; nothing where the text is no number.
fn number(text: &str) -> Result<Option<u32>, AccountError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let in_range = text.parse().ok().filter(|number| *number <= MAX_ID);
    in_range.map(Some).ok_or_else(|| AccountError::OutOfRange { number: text.chars().take(40).collect() })
}

fn read_bounded(file: std::os::fd::OwnedFd, name: &'static str) -> Result<Vec<u8>, AccountError> {
    let file = std::fs::File::from(file);
    if !file.metadata().act("stat", name)?.is_file() {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).act("read", name)?;
    if bytes.len() as u64 > MAX_FILE { Err(AccountError::TooLarge { file: name }) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nwww:x:33:33::/var/www:/bin/false\n\
        1000:x:7:8::/odd:/x\nnohome:x:9:9:::\n";
    const GROUP: &[u8] = b"root:x:0:\n50:x:1:\nwww:x:33:\nadm:x:4:www,root\ntape:x:26:www\n";

    #[test]
    fn users_as_docker_reads_them() {
        let accounts = Accounts::parse(PASSWD, GROUP);
        for (spec, uid, gid, groups, home) in [
            ("", 0, 0, &[4][..], "/root"),
            ("root", 0, 0, &[4], "/root"),
            ("www", 33, 33, &[4, 26], "/var/www"),
            ("33", 33, 33, &[4, 26], "/var/www"),
            ("www:adm", 33, 4, &[], "/var/www"),
            ("www:77", 33, 77, &[], "/var/www"),
            ("12345", 12345, 0, &[], "/"),
            ("12345:www", 12345, 33, &[], "/"),
            // Digits are a number, whoever is called so.
            ("1000", 1000, 0, &[], "/"),
            ("www:50", 33, 50, &[], "/var/www"),
            ("7", 7, 8, &[], "/odd"),
            ("nohome", 9, 9, &[], "/"),
            (":adm", 0, 4, &[], "/root"),
        ] {
            let account = accounts.resolve(spec).unwrap();
            let expected = (uid, gid, groups.to_vec(), home.to_owned());
            assert_eq!((account.uid, account.gid, account.groups, account.home), expected, "{spec:?}");
        }
        for bad in ["nobody", "www:nogroup", "2147483648", "99999999999999999999", "-1", "broken"] {
            assert!(accounts.resolve(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_are_read_inside_the_root_and_bounded() {
        let root = tempfile::tempdir().unwrap();
        let open = || fs::open_dir(root.path()).unwrap();
        assert_eq!(Accounts::read(open()).unwrap().resolve("").unwrap().home, "/");
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), PASSWD).unwrap();
        assert_eq!(Accounts::read(open()).unwrap().resolve("www").unwrap().uid, 33);
        // A link to the host's file means the image's own.
        std::fs::remove_file(root.path().join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", root.path().join("etc/passwd")).unwrap();
        assert!(Accounts::read(open()).unwrap().users.is_empty());
        let huge = std::fs::File::create(root.path().join("etc/group")).unwrap();
        huge.set_len(MAX_FILE + 1).unwrap();
        assert!(matches!(Accounts::read(open()), Err(AccountError::TooLarge { file: "group" })));
    }
}

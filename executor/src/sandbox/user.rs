//! Who a command runs as: `user[:group]` against the image's own passwd and group files.
//!
//! Never through libc's name service: the answer must come from the image, and a static program cannot load the
//! host's modules. Numbers always work; a name that is not there is an error. Sizes are bounded by the caller.

use super::error::{Failure, FailureKind};

/// A resolved identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Identity {
    /// User.
    pub(crate) uid: u32,
    /// Primary group.
    pub(crate) gid: u32,
    /// Supplementary groups, sorted.
    pub(crate) groups: Vec<u32>,
    /// Home directory.
    pub(crate) home: String,
}

/// Largest passwd or group file that is read.
pub(crate) const MAX_FILE: u64 = 8 << 20;

/// Resolves as Docker does: the first matching line counts; without a group in the request, the primary group comes
/// from passwd (0 for a bare number) and further groups from group; `extra` groups are added in any case.
pub(crate) fn resolve(request: &str, extra: &[String], passwd: &[u8], group: &[u8]) -> Result<Identity, Failure> {
    let (user, wanted_group) = match request.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (request, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = number(user);
    let line = lines(passwd).find(|fields| match number {
        Some(uid) => id(fields.get(2)) == Some(uid),
        None => fields.first() == Some(&user.as_bytes()),
    });
    let mut identity = match (&line, number) {
        (Some(fields), _) => Identity {
            uid: id(fields.get(2)).ok_or_else(|| unknown("user", user, "its line in /etc/passwd has no number"))?,
            gid: id(fields.get(3)).unwrap_or(0),
            groups: Vec::new(),
            home: fields.get(5).map(|home| String::from_utf8_lossy(home).into_owned()).unwrap_or_default(),
        },
        (None, Some(uid)) => Identity { uid, ..Identity::default() },
        (None, None) => return Err(unknown("user", user, "the image's /etc/passwd does not name it")),
    };
    if identity.home.is_empty() || !identity.home.starts_with('/') || identity.home.contains(char::is_control) {
        "/".clone_into(&mut identity.home);
    }
    match wanted_group {
        Some(name) => identity.gid = group_id(name, group)?,
        None => {
            if let Some(name) = line.as_ref().and_then(|fields| fields.first()) {
                let member = |fields: &Vec<&[u8]>| {
                    fields.get(3).is_some_and(|members| members.split(|byte| *byte == b',').any(|one| one == *name))
                };
                identity.groups.extend(lines(group).filter(member).filter_map(|fields| id(fields.get(2))));
            }
        }
    }
    for name in extra {
        identity.groups.push(group_id(name, group)?);
    }
    identity.groups.sort_unstable();
    identity.groups.dedup();
    Ok(identity)
}

fn group_id(name: &str, group: &[u8]) -> Result<u32, Failure> {
    if let Some(gid) = number(name) {
        return Ok(gid);
    }
    lines(group)
        .find(|fields| fields.first() == Some(&name.as_bytes()))
        .and_then(|fields| id(fields.get(2)))
        .ok_or_else(|| unknown("group", name, "the image's /etc/group does not name it"))
}

fn unknown(what: &str, name: &str, why: &str) -> Failure {
    Failure {
        kind: FailureKind::User,
        act: format!("unable to find {what} {name:?}: {why}"),
        errno: None,
        hint: Some(format!("create the {what} in the image, or use its number")),
    }
}

fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let real = |line: &&[u8]| !line.is_empty() && !line.starts_with(b"#");
    file.split(|byte| *byte == b'\n').filter(real).map(|line| line.splitn(7, |byte| *byte == b':').collect())
}

fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten().filter(|id| *id != u32::MAX)
}

fn id(field: Option<&&[u8]>) -> Option<u32> {
    field.and_then(|bytes| std::str::from_utf8(bytes).ok()).and_then(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\n# c\nbad\nada:x:1000:100:Ada:/home/ada:/bin/sh\nada:x:7:7::/x:\n";
    const GROUP: &[u8] = b"root:x:0:\nusers:x:100:\nwheel:x:10:root,ada\nvideo:x:44:ada\n";

    #[test]
    fn requests_resolve_as_dockers() {
        let cases: [(&str, (u32, u32, &[u32], &str)); 9] = [
            ("", (0, 0, &[10], "/root")),
            ("root", (0, 0, &[10], "/root")),
            ("ada", (1000, 100, &[10, 44], "/home/ada")),
            ("1000", (1000, 100, &[10, 44], "/home/ada")),
            ("ada:video", (1000, 44, &[], "/home/ada")),
            ("ada:5", (1000, 5, &[], "/home/ada")),
            ("4242", (4242, 0, &[], "/")),
            ("4242:wheel", (4242, 10, &[], "/")),
            (":wheel", (0, 10, &[], "/root")),
        ];
        for (request, (uid, gid, groups, home)) in cases {
            let identity = resolve(request, &[], PASSWD, GROUP).unwrap();
            assert_eq!(
                (identity.uid, identity.gid, &identity.groups[..], &identity.home[..]),
                (uid, gid, groups, home)
            );
        }
        for request in ["bob", "ada:staff", "bad", "99999999999", "-1", "4294967295"] {
            assert_eq!(resolve(request, &[], PASSWD, GROUP).unwrap_err().kind, FailureKind::User, "{request}");
        }
        assert_eq!(resolve("4242", &["video".into(), "9".into()], PASSWD, GROUP).unwrap().groups, [9, 44]);
    }

    #[test]
    fn a_hostile_home_is_not_taken() {
        assert_eq!(resolve("0", &[], b"root:x:0:0::relative:", b"").unwrap().home, "/");
        assert_eq!(resolve("0", &[], b"", b"").unwrap().home, "/");
    }
}

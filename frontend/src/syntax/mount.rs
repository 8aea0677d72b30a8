//! `RUN --mount=type=…,…`.

use lap_solver::graph::CacheSharing;

use crate::diagnostic::Fault;
use crate::go;

/// What is mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum MountType {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

/// A mount whose variables are expanded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) kind: MountType,
    pub(crate) from: String,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) readonly: bool,
    pub(crate) size: Option<u64>,
    pub(crate) id: String,
    pub(crate) sharing: Option<CacheSharing>,
    pub(crate) required: bool,
    /// Whether the value of a secret is part of the step's key; BuildKit has no such option.
    pub(crate) keyed: bool,
    pub(crate) env: Option<String>,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

const KEYS: [&str; 20] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
    "cache",
];
const TYPES: [(&str, MountType); 5] = [
    ("bind", MountType::Bind),
    ("cache", MountType::Cache),
    ("secret", MountType::Secret),
    ("ssh", MountType::Ssh),
    ("tmpfs", MountType::Tmpfs),
];
const SHARING: [(&str, CacheSharing); 3] =
    [("locked", CacheSharing::Locked), ("private", CacheSharing::Private), ("shared", CacheSharing::Shared)];

/// Whether a step runs again when its secret has another value.
const SECRET_CACHE: [(&str, bool); 2] = [("hash", true), ("ignore", false)];

impl MountType {
    fn name(self) -> &'static str {
        TYPES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether mode, owner and group can be set.
    const fn has_owner(self) -> bool {
        matches!(self, Self::Cache | Self::Secret | Self::Ssh)
    }
}

/// Fields between commas; a quoted field may hold some.
pub(super) fn fields(text: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let field = if let Some(quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            let mut tail = quoted;
            loop {
                let (part, after) = tail.split_once('"').ok_or("extraneous or missing \" in quoted-field")?;
                field.push_str(part);
                tail = after;
                let Some(more) = tail.strip_prefix('"') else { break };
                field.push('"');
                tail = more;
            }
            rest = tail;
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err("extraneous or missing \" in quoted-field");
            }
            field
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let field = &rest[..end];
            if field.contains('"') {
                return Err("bare \" in non-quoted-field");
            }
            rest = &rest[end..];
            field.to_owned()
        };
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok(fields),
        }
    }
}

fn csv(text: &str) -> Result<Vec<String>, Fault> {
    fields(text).map_err(|reason| Fault::new(format!("failed to parse csv mounts: {reason}")))
}

/// The source of a mount, the one value without variables, so that stages know what they need.
pub(super) fn from(text: &str) -> Result<Option<String>, Fault> {
    let mut from = None;
    for field in csv(text)? {
        let Some((key, value)) = field.split_once('=').filter(|(key, _)| key.eq_ignore_ascii_case("from")) else {
            continue;
        };
        let key = key.to_lowercase();
        if value.find('$').is_some_and(|at| at + 1 != value.len()) {
            return Err(Fault::new(format!("'{key}' doesn't support variable expansion, define alias stage instead")));
        }
        from = Some(value.to_owned());
    }
    Ok(from)
}

/// Reads a mount; `expand` is asked for each value.
pub(crate) fn read(text: &str, mut expand: impl FnMut(&str) -> Result<String, Fault>) -> Result<Mount, Fault> {
    let mut mount = Mount::default();
    let mut readonly = None;
    for field in csv(text)? {
        let (key, value) = field.split_once('=').map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
        let key = key.to_lowercase();
        let value = match (key.as_str(), value) {
            (_, Some(value)) => expand(value)?,
            ("readonly" | "ro" | "readwrite" | "rw" | "required", None) => "true".to_owned(),
            (_, None) => return Err(Fault::new(format!("invalid field '{field}' must be a key=value pair"))),
        };
        let unexpected =
            |kind: MountType| Fault::new(format!("unexpected key '{key}' for mount type '{}'", kind.name()));
        let invalid = || Fault::new(format!("invalid value for {key}: {value}"));
        let number = |radix| {
            let wrong = |_| Fault::new(format!("invalid value {value} for {key}"));
            u32::from_str_radix(&value, radix).map_err(wrong)
        };
        match key.as_str() {
            "type" => {
                mount.kind = choose(&TYPES, &value).ok_or_else(|| {
                    let fault = Fault::new(format!("unsupported mount type {}", go::quote(&value)));
                    fault.suggest(&value, TYPES.iter().map(|(name, _)| *name))
                })?;
            }
            "from" => mount.from = value,
            "source" | "src" => mount.source = value,
            "target" | "dst" | "destination" => mount.target = value,
            "readonly" | "ro" => readonly = Some(go::parse_bool(&value).ok_or_else(invalid)?),
            "readwrite" | "rw" => readonly = Some(!go::parse_bool(&value).ok_or_else(invalid)?),
            "required" if matches!(mount.kind, MountType::Secret | MountType::Ssh) => {
                mount.required = go::parse_bool(&value).ok_or_else(invalid)?;
            }
            "size" if mount.kind == MountType::Tmpfs => {
                mount.size = Some(go::ram_in_bytes(&value).ok_or_else(invalid)?);
            }
            "cache" if mount.kind == MountType::Secret => {
                mount.keyed = choose(&SECRET_CACHE, &value).ok_or_else(|| {
                    let fault = Fault::new(format!("unsupported cache value {}", go::quote(&value)));
                    fault.suggest(&value, SECRET_CACHE.iter().map(|(name, _)| *name))
                })?;
            }
            "required" | "size" | "cache" => return Err(unexpected(mount.kind)),
            "id" => mount.id = value,
            "sharing" => {
                let chosen = choose(&SHARING, &value).ok_or_else(|| {
                    let fault = Fault::new(format!("unsupported sharing value {}", go::quote(&value)));
                    fault.suggest(&value, SHARING.iter().map(|(name, _)| *name))
                })?;
                mount.sharing = Some(chosen);
            }
            "mode" => mount.mode = Some(number(8)?),
            "uid" => mount.uid = Some(number(10)?),
            "gid" => mount.gid = Some(number(10)?),
            "env" => mount.env = Some(value),
            _ => return Err(Fault::new(format!("unexpected key '{key}' in '{field}'")).suggest(&key, KEYS)),
        }
    }
    mount.readonly = readonly.unwrap_or(!matches!(mount.kind, MountType::Cache | MountType::Tmpfs));
    check(&mount)?;
    Ok(mount)
}

fn choose<T: Copy>(table: &[(&str, T)], value: &str) -> Option<T> {
    table.iter().find(|(name, _)| value.eq_ignore_ascii_case(name)).map(|(_, chosen)| *chosen)
}

/// What does not go together.
fn check(mount: &Mount) -> Result<(), Fault> {
    let kind = mount.kind;
    let owner = [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)];
    if let Some((key, _)) = owner.iter().find(|(_, value)| value.is_some() && !kind.has_owner()) {
        return Err(Fault::new(format!("{key} not allowed for {} type mounts", go::quote(kind.name()))));
    }
    if kind == MountType::Secret {
        if !mount.from.is_empty() {
            return Err(Fault::new("secret mount should not have a from"));
        }
        if mount.sharing.is_some() {
            return Err(Fault::new("secret mount should not define sharing"));
        }
        if mount.source.is_empty() && mount.target.is_empty() && mount.id.is_empty() {
            return Err(Fault::new("invalid secret mount. one of source, target required"));
        }
        if !mount.source.is_empty() && !mount.id.is_empty() {
            return Err(Fault::new("both source and id can't be set"));
        }
    }
    if kind == MountType::Ssh && !mount.source.is_empty() {
        return Err(Fault::new("ssh does not support source"));
    }
    if mount.sharing.is_some() && kind != MountType::Cache {
        return Err(Fault::new(format!("invalid cache sharing set for {} mount", kind.name())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(text: &str) -> Result<Mount, String> {
        read(text, |value| Ok(value.to_owned())).map_err(|fault| fault.message)
    }

    #[test]
    fn mounts_are_read() {
        let bind = mount("target=/x,source=a,from=b").unwrap();
        assert_eq!((bind.kind, bind.readonly, bind.from.as_str()), (MountType::Bind, true, "b"));
        let cache = mount("type=cache,dst=/c,sharing=LOCKED,mode=0700,uid=5").unwrap();
        assert_eq!((cache.sharing, cache.mode, cache.uid), (Some(CacheSharing::Locked), Some(0o700), Some(5)));
        assert!(!cache.readonly);
        assert_eq!(mount("type=tmpfs,target=/t,size=1k").unwrap().size, Some(1024));
        assert_eq!(mount("type=secret,id=s,env=TOKEN,required").unwrap().env.as_deref(), Some("TOKEN"));
        assert!(mount("type=secret,id=s,cache=hash").unwrap().keyed);
        assert!(!mount("type=secret,id=s,cache=ignore").unwrap().keyed);
        assert_eq!(mount("\"target=/a,b\"").unwrap().target, "/a,b");
    }

    #[test]
    fn faults_are_named() {
        for (text, want) in [
            ("type=tmp", "unsupported mount type \"tmp\""),
            ("typ=tmpfs", "unexpected key 'typ' in 'typ=tmpfs'"),
            ("target=/x,z", "invalid field 'z' must be a key=value pair"),
            ("type=cache,ro=maybe", "invalid value for ro: maybe"),
            ("mode=1", "mode not allowed for \"bind\" type mounts"),
            ("type=cache,mode=9", "invalid value 9 for mode"),
            ("required", "unexpected key 'required' for mount type 'bind'"),
            ("type=secret,id=a,cache=hsh", "unsupported cache value \"hsh\""),
            ("type=ssh,cache=hash", "unexpected key 'cache' for mount type 'ssh'"),
            ("type=secret", "invalid secret mount. one of source, target required"),
            ("type=secret,id=a,src=b", "both source and id can't be set"),
            ("sharing=private", "invalid cache sharing set for bind mount"),
            ("a\"b", "failed to parse csv mounts: bare \" in non-quoted-field"),
        ] {
            assert_eq!(mount(text).unwrap_err(), want, "{text}");
        }
        assert!(from("from=$x").is_err());
        assert_eq!(from("from=a$,target=/x").unwrap().as_deref(), Some("a$"));
    }
}

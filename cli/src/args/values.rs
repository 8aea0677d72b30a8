//! Values of flags, parsed at the door.

use std::str::FromStr;

use lap_executor::container::Volume;

/// `NAME=VALUE`; without a value, the environment's is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyValue {
    pub(crate) key: String,
    pub(crate) value: Option<String>,
}

impl FromStr for KeyValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        if key.is_empty() {
            return Err("the name before = is missing".to_owned());
        }
        Ok(Self { key: key.to_owned(), value })
    }
}

/// `512m`, `1.5g`, `64MiB`: bytes, with units of 1024 as Docker has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} is no size: write bytes with b, k, m, g or t, such as 512m");
        let lower = text.trim().to_ascii_lowercase();
        let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match lower[digits.len()..].trim_end_matches("ib").trim_end_matches('b') {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return Err(refuse()),
        };
        let number: f64 = digits.trim().parse().map_err(|_| refuse())?;
        let size = number * f64::from(1u32 << (shift % 32)) * if shift >= 32 { 4_294_967_296.0 } else { 1.0 };
        if !(0.0..9e18).contains(&size) {
            return Err(refuse());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
        Ok(Self(size as u64))
    }
}

/// `1.5`: processors, in billionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cpus(pub(crate) u64);

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number of processors, such as 1.5"))?;
        if !(0.01..100_000.0).contains(&number) {
            return Err(format!("{text} processors are out of range: 0.01 at least"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
        Ok(Self((number * 1e9).round() as u64))
    }
}

/// `nofile=1024:2048`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ulimit {
    pub(crate) name: String,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

impl FromStr for Ulimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} is no limit: write NAME=SOFT[:HARD], such as nofile=1024:2048");
        let (name, values) = text.split_once('=').ok_or_else(refuse)?;
        let number = |text: &str| match text {
            "-1" | "unlimited" => Ok(u64::MAX),
            text => text.parse().map_err(|_| refuse()),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let limit = Self { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? };
        if limit.soft > limit.hard {
            return Err(format!("the soft limit of {name} is above the hard one"));
        }
        Ok(limit)
    }
}

/// `SRC:DST[:ro]`, where SRC may also be a path relative to where the user is.
pub(crate) fn volume(text: &str) -> Result<Volume, String> {
    let (source, rest) = text.split_once(':').ok_or_else(|| format!("{text:?} has no source: write SRC:DST[:ro]"))?;
    let relative = source.starts_with('.') || (source.contains('/') && !source.starts_with('/'));
    let source = match relative {
        true => std::path::absolute(source).map_err(|error| error.to_string())?.display().to_string(),
        false => source.to_owned(),
    };
    Volume::parse(&format!("{source}:{rest}")).map_err(|error| error.to_string())
}

/// One CSV record of `key[=value]` fields; a field in double quotes may hold commas.
pub(crate) fn fields(text: &str) -> Result<Vec<(String, Option<String>)>, String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let last = fields.len() - 1;
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                fields[last].push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields[last].push(c),
        }
    }
    if quoted {
        return Err(format!("a quote is not closed in {text:?}"));
    }
    fields
        .into_iter()
        .map(|field| match field.split_once('=') {
            // Names of annotations have their own case.
            Some((key, value)) if key.starts_with("annotation") => Ok((key.to_owned(), Some(value.to_owned()))),
            Some((key, value)) => Ok((key.trim().to_ascii_lowercase(), Some(value.to_owned()))),
            None if field.is_empty() => Err(format!("an empty field in {text:?}")),
            None => Ok((field, None)),
        })
        .collect()
}

/// A word of `--allow`. Devices are known, though none are handed out: who grants them gets no more than without.
pub(crate) fn entitlement(text: &str) -> Result<String, String> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    match (name, value) {
        ("network.host" | "security.insecure" | "buildx.local.delete", None) | ("device", _) => Ok(text.to_owned()),
        ("network.host" | "security.insecure" | "buildx.local.delete", Some(_)) => {
            Err(format!("{name} takes no value"))
        }
        _ => Err(format!(
            "unknown entitlement {text:?}: known are network.host, security.insecure, device and buildx.local.delete"
        )),
    }
}

/// What `--call` asks, other than to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Check { json: bool },
    Outline { json: bool },
    Targets { json: bool },
}

impl Call {
    /// Whether the answer is JSON.
    pub(crate) const fn is_json(self) -> bool {
        let (Self::Check { json } | Self::Outline { json } | Self::Targets { json }) = self;
        json
    }

    /// As it is typed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Check { .. } => "check",
            Self::Outline { .. } => "outline",
            Self::Targets { .. } => "targets",
        }
    }
}

/// `build`, or what is asked instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Called(pub(crate) Option<Call>);

impl FromStr for Called {
    type Err = String;

    /// Reads `check`, `outline`, `targets` or `build`, perhaps with `,format=json`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, option) = text.split_once(',').unwrap_or((text, ""));
        let json = match option {
            "" | "format=text" => false,
            "format=json" => true,
            other => return Err(format!("unknown option {other:?}: known are format=text and format=json")),
        };
        Ok(Self(match name {
            "build" => None,
            "check" | "lint" => Some(Call::Check { json }),
            "outline" => Some(Call::Outline { json }),
            "targets" => Some(Call::Targets { json }),
            other => return Err(format!("unknown call {other:?}: known are build, check, outline and targets")),
        }))
    }
}

#[cfg(test)]
mod tests {
    use lap_executor::container::VolumeSource;

    use super::*;

    #[test]
    fn sizes_have_dockers_units() {
        for (text, size) in
            [("512", 512), ("1k", 1024), ("64MiB", 64 << 20), ("1.5g", 3 << 29), ("2T", 2 << 40), ("7b", 7)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(size)), "{text}");
        }
        assert!("x".parse::<ByteSize>().is_err() && "-1m".parse::<ByteSize>().is_err());
    }

    #[test]
    fn entitlements_are_buildkits() {
        for good in ["network.host", "security.insecure", "device", "device=vendor.com/x", "buildx.local.delete"] {
            assert_eq!(entitlement(good).as_deref(), Ok(good));
        }
        for bad in ["", "network", "network.host=1", "buildx.local.delete=1", "security.insecure.more"] {
            assert!(entitlement(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_volume_may_lie_where_the_user_is() {
        let here = std::path::absolute("x").unwrap();
        assert_eq!(volume("./x:/b").unwrap().source, VolumeSource::Path(here));
        assert_eq!(volume("data:/b:ro").unwrap().source, VolumeSource::Named("data".into()));
        assert!(volume("/b").is_err() && volume("a:b").is_err() && volume(":/b").is_err());
    }

    #[test]
    fn limits_have_a_soft_and_a_hard_value() {
        let limit: Ulimit = "nofile=1:2".parse().unwrap();
        assert_eq!((limit.soft, limit.hard), (1, 2));
        assert!("nofile=2:1".parse::<Ulimit>().is_err() && "nofile".parse::<Ulimit>().is_err());
        assert_eq!("1.5".parse(), Ok(Cpus(1_500_000_000)));
    }
}

//! Values of flags, parsed at the door.

use std::path::PathBuf;
use std::str::FromStr;

use lap_executor::container::Volume;

use super::Annotation;

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

/// What a build is written out as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputKind {
    Oci,
    Docker,
    Tar,
    Local,
    Image,
    Registry,
    CacheOnly,
}

/// `type=oci,dest=out.tar`, or just a place: a directory, or `-` for a tar on standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) kind: OutputKind,
    /// `-` is standard output.
    pub(crate) dest: Option<PathBuf>,
    /// Whether the archive is a tar rather than a directory.
    pub(crate) tar: bool,
    pub(crate) names: Vec<String>,
    pub(crate) push: bool,
    pub(crate) compression: Option<String>,
    pub(crate) level: Option<i32>,
    pub(crate) force_compression: bool,
    /// Whether layers made here get times that do not depend on when they were made.
    pub(crate) rewrite_timestamp: bool,
    /// Docker's media types instead of OCI's.
    pub(crate) docker_types: Option<bool>,
    /// Stands before the names of attestation files.
    pub(crate) attestation_prefix: String,
    pub(crate) annotations: Vec<Annotation>,
}

impl Output {
    fn of(kind: OutputKind) -> Self {
        Self {
            kind,
            dest: None,
            tar: true,
            names: Vec::new(),
            push: false,
            compression: None,
            level: None,
            force_compression: false,
            rewrite_timestamp: false,
            docker_types: None,
            annotations: Vec::new(),
            attestation_prefix: String::new(),
        }
    }
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields = fields(text)?;
        if let [(place, None)] = fields.as_slice() {
            let kind = if place == "-" { OutputKind::Tar } else { OutputKind::Local };
            return Ok(Self { dest: Some(PathBuf::from(place)), ..Self::of(kind) });
        }
        let value = |name: &str| fields.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.clone());
        let kind = match value("type").as_deref() {
            Some("oci") => OutputKind::Oci,
            Some("docker") => OutputKind::Docker,
            Some("tar") => OutputKind::Tar,
            Some("local") => OutputKind::Local,
            Some("image") => OutputKind::Image,
            Some("registry") => OutputKind::Registry,
            Some("cacheonly") => OutputKind::CacheOnly,
            Some(other) => {
                return Err(format!(
                    "unknown type {other:?}: known are oci, docker, tar, local, image, registry, cacheonly"
                ));
            }
            None => return Err("type= is missing: write type=oci|docker|tar|local|image|registry,dest=PATH".to_owned()),
        };
        let mut output = Self::of(kind);
        output.push = kind == OutputKind::Registry;
        for (key, value) in &fields {
            let text = value.clone().unwrap_or_default();
            let truth = || match value.as_deref() {
                None | Some("true" | "1") => Ok(true),
                Some("false" | "0") => Ok(false),
                Some(other) => Err(format!("{key}={other}: write true or false")),
            };
            match key.as_str() {
                "type" => {}
                "dest" => output.dest = Some(PathBuf::from(text)),
                "tar" => output.tar = truth()?,
                "name" => output.names.extend(text.split(',').map(str::to_owned)),
                "push" => output.push = truth()?,
                "compression" => output.compression = Some(text),
                "compression-level" => {
                    output.level = Some(text.parse().map_err(|_| format!("{key}={text}: not a number"))?);
                }
                "rewrite-timestamp" => output.rewrite_timestamp = truth()?,
                "force-compression" => output.force_compression = truth()?,
                "oci-mediatypes" => output.docker_types = Some(!truth()?),
                "attestation-prefix" if text.contains("..") || text.starts_with('/') => {
                    return Err(format!("{key}={text}: must stay inside the output"));
                }
                "attestation-prefix" => output.attestation_prefix = text,
                // The store holds every result, unpacked, already.
                "unpack" | "store" => {
                    truth()?;
                }
                other => match Annotation::of_output(other, &text) {
                    Some(annotation) => output.annotations.push(annotation?),
                    None => return Err(format!("unknown option {other:?} of type={}", value_of(&fields))),
                },
            }
        }
        if output.dest.is_none() && kind == OutputKind::Local {
            return Err("dest= is missing: the directory to write into".to_owned());
        }
        Ok(output)
    }
}

fn value_of(fields: &[(String, Option<String>)]) -> String {
    fields.iter().find(|(key, _)| key == "type").and_then(|(_, value)| value.clone()).unwrap_or_default()
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
    fn outputs_are_csv_or_a_place() {
        let output: Output = "type=oci,dest=a.tar,tar=false".parse().unwrap();
        assert_eq!((output.kind, output.tar), (OutputKind::Oci, false));
        assert_eq!("out".parse::<Output>().unwrap().kind, OutputKind::Local);
        assert_eq!("-".parse::<Output>().unwrap().kind, OutputKind::Tar);
        let named: Output = "type=image,\"name=a,b\",push=true".parse().unwrap();
        assert!(named.push && named.names == ["a", "b"]);
        for bad in ["type=zip", "dest=x", "type=local", "type=oci,what=1", "type=oci,tar=perhaps"] {
            assert!(bad.parse::<Output>().is_err(), "{bad}");
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

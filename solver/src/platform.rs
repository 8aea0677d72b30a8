//! Platforms: operating system, architecture and variant, in Go's names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A platform such as `linux/amd64` or `linux/arm/v7` (OCI image index, `platform`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// GOARCH: `amd64`, `arm64`, `arm`, ...
    pub architecture: String,
    /// `v7`, `v8`; none for most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Operating systems, in Go's names.
const SYSTEMS: [&str; 15] = [
    "linux",
    "windows",
    "darwin",
    "freebsd",
    "netbsd",
    "openbsd",
    "solaris",
    "illumos",
    "aix",
    "android",
    "dragonfly",
    "plan9",
    "wasip1",
    "js",
    "ios",
];
/// Architectures, in Go's names.
const ARCHITECTURES: [&str; 14] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64",
    "s390x", "wasm",
];

/// The text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no platform: write os/architecture[/variant], such as linux/amd64")]
pub struct NotAPlatform(String);

impl Platform {
    /// The platform this program was built for.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "x86" => ("386", None),
            "arm" => ("arm", Some("v7".to_owned())),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self { os: std::env::consts::OS.to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// Reads `os[/architecture[/variant]]`, normalised as containerd does (`x86_64` is `amd64`, `arm64/v8` is `arm64`).
    ///
    /// A lone word is an operating system (`linux`) or an architecture (`arm64`), completed from `default`.
    ///
    /// # Errors
    /// Where a part is empty, has odd characters, or there are more than three.
    pub fn parse(text: &str, default: &Self) -> Result<Self, NotAPlatform> {
        let refuse = || NotAPlatform(text.to_owned());
        let parts: Vec<String> = text.split('/').map(str::to_ascii_lowercase).collect();
        let sound = |part: &String| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if parts.len() > 3 || !parts.iter().all(sound) {
            return Err(refuse());
        }
        match parts.as_slice() {
            [one] if SYSTEMS.contains(&one.as_str()) || one == "macos" => {
                Ok(Self { os: normal_os(one), ..default.clone() })
            }
            [one] => {
                let (architecture, variant) = normal_architecture(one, None);
                if !ARCHITECTURES.contains(&architecture.as_str()) {
                    return Err(refuse());
                }
                Ok(Self { os: default.os.clone(), architecture, variant })
            }
            [os, architecture, rest @ ..] => {
                let (architecture, variant) = normal_architecture(architecture, rest.first().map(String::as_str));
                Ok(Self { os: normal_os(os), architecture, variant })
            }
            [] => Err(refuse()),
        }
    }
}

impl Platform {
    /// Whether it is one that Go programs, and so images, are made for; what an image says of itself may be anything.
    ///
    /// # Errors
    /// With the names that there are.
    pub fn check(&self) -> Result<(), UnknownPlatform> {
        for (what, name, known) in
            [("operating system", &self.os, &SYSTEMS[..]), ("architecture", &self.architecture, &ARCHITECTURES)]
        {
            if !known.contains(&name.as_str()) {
                return Err(UnknownPlatform { what, name: name.clone(), known });
            }
        }
        Ok(())
    }
}

/// A part of a platform has no known name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} {name:?}: known are {}", known.join(", "))]
pub struct UnknownPlatform {
    what: &'static str,
    name: String,
    known: &'static [&'static str],
}

fn normal_os(os: &str) -> String {
    if os == "macos" { "darwin" } else { os }.to_owned()
}

/// Follows containerd's `platforms/database.go`.
fn normal_architecture(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let (architecture, variant) = match (architecture, variant) {
        ("i386", _) => ("386", None),
        ("x86_64" | "x86-64" | "amd64", Some("v1") | None) => ("amd64", None),
        ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
        ("aarch64" | "arm64", Some("8" | "v8") | None) => ("arm64", None),
        ("aarch64" | "arm64", other) => ("arm64", other),
        ("armhf", _) => ("arm", Some("v7")),
        ("armel", _) => ("arm", Some("v6")),
        ("arm", None | Some("" | "7")) => ("arm", Some("v7")),
        ("arm", Some("5")) => ("arm", Some("v5")),
        ("arm", Some("6")) => ("arm", Some("v6")),
        ("arm", Some("8")) => ("arm", Some("v8")),
        (other, variant) => (other, variant),
    };
    (architecture.to_owned(), variant.map(str::to_owned))
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        let host = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        for (text, want) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("arm64", "linux/arm64"),
            ("linux", "linux/amd64"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(Platform::parse(text, &host).unwrap().to_string(), want, "{text}");
        }
        assert!(host.check().is_ok());
        for text in ["linux/amd46", "linus/amd64"] {
            assert!(Platform::parse(text, &host).unwrap().check().is_err(), "{text}");
        }
        for text in ["", "linux/", "a/b/c/d", "linux/am d64", "nonsense"] {
            assert!(Platform::parse(text, &host).is_err(), "{text}");
        }
    }
}

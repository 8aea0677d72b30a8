//! Where an image is copied from and to, in skopeo's spelling (containers-transports(5)).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::image::Reference;

/// A place for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `docker://NAME`: a registry.
    Registry(Reference),
    /// `oci:PATH[:NAME]`: an image in an OCI layout.
    Layout {
        /// The directory.
        path: PathBuf,
        /// `org.opencontainers.image.ref.name`, or a digest.
        name: Option<String>,
    },
    /// `oci-archive:PATH[:NAME]`: an OCI layout in a tar.
    LayoutArchive {
        /// The file.
        path: PathBuf,
        /// As of a layout.
        name: Option<String>,
    },
    /// `docker-archive:PATH[:NAME]`: what `docker save` writes.
    DockerArchive {
        /// The file.
        path: PathBuf,
        /// One of its `RepoTags`, or `@N`, the image number N.
        name: Option<String>,
    },
    /// `dir:PATH`: a manifest beside its blobs.
    Directory(PathBuf),
    /// `store:NAME`, or a name alone: the store.
    Store(String),
}

/// The text names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no place for an image: {why}")]
pub struct NotALocation {
    text: String,
    why: String,
}

/// Transports of skopeo that are none of ours.
const OTHERS: [&str; 6] = ["containers-storage", "docker-daemon", "ostree", "sif", "tarball", "atomic"];

impl FromStr for Location {
    type Err = NotALocation;

    fn from_str(text: &str) -> Result<Self, NotALocation> {
        let refuse = |why: String| NotALocation { text: text.chars().take(300).collect(), why };
        let (transport, rest) = text.split_once(':').unwrap_or(("", text));
        // As skopeo does: the path ends at the first colon.
        let split = || -> Result<(PathBuf, Option<String>), NotALocation> {
            let (path, name) = rest.split_once(':').map_or((rest, None), |(path, name)| (path, Some(name)));
            if path.is_empty() {
                return Err(refuse(format!("write {transport}:PATH or {transport}:PATH:NAME")));
            }
            Ok((PathBuf::from(path), name.filter(|name| !name.is_empty()).map(str::to_owned)))
        };
        match transport {
            "docker" => {
                let name = rest.strip_prefix("//").ok_or_else(|| refuse("write docker://NAME".to_owned()))?;
                name.parse().map(Self::Registry).map_err(|error| refuse(format!("{error}")))
            }
            "oci" => split().map(|(path, name)| Self::Layout { path, name }),
            "oci-archive" => split().map(|(path, name)| Self::LayoutArchive { path, name }),
            "docker-archive" => split().map(|(path, name)| Self::DockerArchive { path, name }),
            "dir" if rest.is_empty() => Err(refuse("write dir:PATH".to_owned())),
            "dir" => Ok(Self::Directory(PathBuf::from(rest))),
            "store" if rest.is_empty() => Err(refuse("write store:NAME".to_owned())),
            "store" => Ok(Self::Store(rest.to_owned())),
            other if OTHERS.contains(&other) => Err(refuse(format!(
                "{other} is not known here; there are docker://, oci:, oci-archive:, docker-archive:, dir: and store:"
            ))),
            _ if text.is_empty() => Err(refuse("it is empty".to_owned())),
            _ => Ok(Self::Store(text.to_owned())),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut file = |transport: &str, path: &PathBuf, name: &Option<String>| {
            write!(f, "{transport}:{}", path.display())?;
            name.as_ref().map_or(Ok(()), |name| write!(f, ":{name}"))
        };
        match self {
            Self::Layout { path, name } => file("oci", path, name),
            Self::LayoutArchive { path, name } => file("oci-archive", path, name),
            Self::DockerArchive { path, name } => file("docker-archive", path, name),
            Self::Directory(path) => file("dir", path, &None),
            Self::Registry(name) => write!(f, "docker://{name}"),
            Self::Store(name) => write!(f, "store:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spelt_as_skopeo_spells_them() {
        let path = PathBuf::from("/a/b");
        for (text, want) in [
            ("docker://busybox", Location::Registry("busybox:latest".parse().unwrap())),
            ("oci:/a/b", Location::Layout { path: path.clone(), name: None }),
            ("oci:/a/b:v1", Location::Layout { path: path.clone(), name: Some("v1".into()) }),
            (
                "oci:/a/b:reg.lan:5000/x:1",
                Location::Layout { path: path.clone(), name: Some("reg.lan:5000/x:1".into()) },
            ),
            ("oci-archive:/a/b:v1", Location::LayoutArchive { path: path.clone(), name: Some("v1".into()) }),
            ("docker-archive:/a/b:@0", Location::DockerArchive { path: path.clone(), name: Some("@0".into()) }),
            ("dir:/a/b", Location::Directory(path)),
            ("store:app:1", Location::Store("app:1".into())),
            ("app:1", Location::Store("app:1".into())),
            ("localhost:5000/app:1", Location::Store("localhost:5000/app:1".into())),
        ] {
            assert_eq!(text.parse::<Location>().as_ref(), Ok(&want), "{text}");
            assert_eq!(want.to_string().parse::<Location>(), Ok(want));
        }
        for bad in [
            "",
            "docker:busybox",
            "docker://",
            "docker://A",
            "oci:",
            "oci::x",
            "dir:",
            "store:",
            "containers-storage:x",
        ] {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
    }
}

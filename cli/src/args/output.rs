//! `-o`: where the result of a build goes besides the store, and in which form.

use std::path::PathBuf;
use std::str::FromStr;

use lap_cache::image::Compression;

use super::{Annotation, fields};

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

impl OutputKind {
    const NAMES: [(&'static str, Self); 7] = [
        ("oci", Self::Oci),
        ("docker", Self::Docker),
        ("tar", Self::Tar),
        ("local", Self::Local),
        ("image", Self::Image),
        ("registry", Self::Registry),
        ("cacheonly", Self::CacheOnly),
    ];

    /// Whether it stays in the store or goes to a registry.
    pub(crate) const fn is_image(self) -> bool {
        matches!(self, Self::Image | Self::Registry)
    }

    /// Whether it is a file or a stream with an image in it.
    pub(crate) const fn is_archive(self) -> bool {
        matches!(self, Self::Oci | Self::Docker)
    }

    /// Whether it is the files of the result, without an image around them.
    pub(crate) const fn is_tree(self) -> bool {
        matches!(self, Self::Tar | Self::Local)
    }
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
    /// Whether it is pushed without a tag, under its digest.
    pub(crate) by_digest: bool,
    /// Whether plain http and unchecked certificates will do for the push.
    pub(crate) insecure: bool,
    /// Whether its names are names in the store too.
    pub(crate) store: bool,
    /// Whether each name gets another one with the digest.
    pub(crate) canonical: bool,
    /// With the digest behind it, the name of what has no other name.
    pub(crate) dangling_prefix: Option<String>,
    /// Whether that name is only for what has no other.
    pub(crate) dangling_only: bool,
    /// None: gzip for layers made here.
    pub(crate) compression: Option<Compression>,
    pub(crate) force_compression: bool,
    /// Whether layers made here get times that do not depend on when they were made.
    pub(crate) rewrite_timestamp: bool,
    /// Seconds since 1970 that the result is dated to.
    pub(crate) epoch: Option<u64>,
    /// Docker's media types instead of OCI's.
    pub(crate) docker_types: Option<bool>,
    /// Whether attestations are artifacts with a subject rather than images for an unknown platform.
    pub(crate) oci_artifact: bool,
    /// Stands before the names of attestation files.
    pub(crate) attestation_prefix: String,
    /// Whether each platform has a directory of its own; without a word, where there are several.
    pub(crate) platform_split: Option<bool>,
    /// Whether what is in the directory and not in the result goes away.
    pub(crate) delete: bool,
    pub(crate) annotations: Vec<Annotation>,
}

impl Output {
    const fn of(kind: OutputKind) -> Self {
        Self {
            kind,
            dest: None,
            tar: true,
            names: Vec::new(),
            push: matches!(kind, OutputKind::Registry),
            by_digest: false,
            insecure: false,
            store: true,
            canonical: false,
            dangling_prefix: None,
            dangling_only: false,
            compression: None,
            force_compression: false,
            rewrite_timestamp: false,
            epoch: None,
            docker_types: None,
            oci_artifact: false,
            attestation_prefix: String::new(),
            platform_split: None,
            delete: false,
            annotations: Vec::new(),
        }
    }

    /// What `-o type=registry` means.
    pub(crate) const fn registry() -> Self {
        Self::of(OutputKind::Registry)
    }

    /// Takes an option in. Those that speak of what this kind does not have are refused: nothing is swallowed.
    fn option(&mut self, key: &str, value: Option<&str>) -> Result<(), String> {
        let text = value.unwrap_or_default();
        let truth = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(format!("{key}={other}: write true or false")),
        };
        let kind = self.kind;
        let (image, packed) = (kind.is_image(), kind.is_image() || kind.is_archive());
        match key {
            "type" => {}
            "dest" if kind.is_archive() || kind.is_tree() => self.dest = Some(PathBuf::from(text)),
            "tar" if kind.is_archive() => self.tar = truth()?,
            "context" if kind.is_archive() => {
                return Err(
                    "context= names a Docker daemon, and lap has none: write dest= and load the file there".to_owned()
                );
            }
            "name" if packed => {
                self.names.extend(text.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
            }
            "push" if image => self.push = truth()?,
            "push-by-digest" if image => self.by_digest = truth()?,
            "registry.insecure" if image => self.insecure = truth()?,
            "store" if image => self.store = truth()?,
            // The store has every result unpacked, and so it does not unpack it once more.
            "unpack" if image => drop(truth()?),
            "name-canonical" if image => self.canonical = truth()?,
            "dangling-name-prefix" if image => self.dangling_prefix = Some(text.to_owned()),
            // The first is how BuildKit spells it.
            "danging-name-empty-only" | "dangling-name-empty-only" if image => self.dangling_only = truth()?,
            "compression" if packed => {
                self.compression = Some(text.parse().map_err(|error| format!("{key}: {error}"))?);
            }
            "compression-level" if packed => {
                let level = text.parse().map_err(|_| format!("{key}={text}: not a number"))?;
                let compression = self.compression.unwrap_or_default();
                self.compression = Some(compression.at_level(level).map_err(|error| format!("{key}: {error}"))?);
            }
            "force-compression" if packed => self.force_compression = truth()?,
            "oci-mediatypes" if packed => self.docker_types = Some(!truth()?),
            "oci-artifact" if packed => self.oci_artifact = truth()?,
            // Attestations that were asked for are always in the image.
            "attestation-inline" if packed => drop(truth()?),
            "prefer-nondist-layers" if packed => {
                if !truth()? {
                    return Err(format!(
                        "{key}=false: layers that may not be distributed are never sent to a registry"
                    ));
                }
            }
            "buildinfo" | "buildinfo-attrs" if packed => {
                return Err(format!("{key}: build info is gone from BuildKit too: use --provenance"));
            }
            "compatibility-version" => {
                return Err(format!("{key}: images have one form here so far, and no older one to go back to"));
            }
            "rewrite-timestamp" if kind != OutputKind::CacheOnly => self.rewrite_timestamp = truth()?,
            "source-date-epoch" if kind != OutputKind::CacheOnly => {
                self.epoch = Some(text.parse().map_err(|_| format!("{key}={text}: write seconds since 1970"))?);
            }
            "attestation-prefix" if kind.is_tree() && (text.contains("..") || text.starts_with('/')) => {
                return Err(format!("{key}={text}: must stay inside the output"));
            }
            "attestation-prefix" if kind.is_tree() => text.clone_into(&mut self.attestation_prefix),
            "platform-split" if kind == OutputKind::Local => self.platform_split = Some(truth()?),
            "mode" if kind == OutputKind::Local => match text {
                "copy" => self.delete = false,
                "delete" => self.delete = true,
                other => return Err(format!("mode={other}: write copy or delete")),
            },
            other => match Annotation::of_output(other, text).filter(|_| packed) {
                Some(annotation) => self.annotations.push(annotation?),
                None => {
                    let name = OutputKind::NAMES.iter().find(|(_, other)| *other == kind).map_or("", |(name, _)| name);
                    return Err(format!("unknown option {other:?} of type={name}"));
                }
            },
        }
        Ok(())
    }

    /// What only all options together show.
    fn check(self) -> Result<Self, String> {
        if self.dest.is_none() && self.kind == OutputKind::Local {
            return Err("dest= is missing: the directory to write into".to_owned());
        }
        if self.dest.is_none() && self.kind.is_archive() && !self.tar {
            return Err("tar=false needs dest=DIRECTORY".to_owned());
        }
        if self.by_digest {
            let tagged = |name: &&String| name.rsplit('/').next().is_some_and(|last| last.contains(':'));
            if let Some(name) = self.names.iter().find(tagged) {
                return Err(format!("name={name}: what is pushed by its digest has no tag"));
            }
        }
        if matches!(self.compression, Some(Compression::Estargz(_))) && self.docker_types == Some(true) {
            return Err("compression=estargz needs annotations of layers, which Docker's media types do not have: \
                leave oci-mediatypes=false out"
                .to_owned());
        }
        Ok(self)
    }
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut fields = fields(text)?;
        if let [(place, None)] = fields.as_slice() {
            let kind = if place == "-" { OutputKind::Tar } else { OutputKind::Local };
            return Ok(Self { dest: Some(PathBuf::from(place)), ..Self::of(kind) });
        }
        let named = fields.iter().find(|(key, _)| key == "type").and_then(|(_, value)| value.as_deref());
        let Some(named) = named else {
            return Err("type= is missing: write type=oci|docker|tar|local|image|registry,dest=PATH".to_owned());
        };
        let Some((_, kind)) = OutputKind::NAMES.into_iter().find(|(name, _)| *name == named) else {
            let known: Vec<&str> = OutputKind::NAMES.iter().map(|(name, _)| *name).collect();
            return Err(format!("unknown type {named:?}: known are {}", known.join(", ")));
        };
        // A level is one of a compression, wherever that stands.
        fields.sort_by_key(|(key, _)| key == "compression-level");
        let mut output = Self::of(kind);
        for (key, value) in &fields {
            output.option(key, value.as_deref())?;
        }
        output.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Output {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn outputs_are_csv_or_a_place() {
        let output = read("type=oci,dest=a.tar,tar=false");
        assert_eq!((output.kind, output.tar), (OutputKind::Oci, false));
        assert_eq!(read("out").kind, OutputKind::Local);
        assert_eq!(read("-").kind, OutputKind::Tar);
        let named = read("type=image,\"name=a,b\",name=c,push=true");
        assert!(named.push && named.names == ["a", "b", "c"]);
        for bad in ["type=zip", "dest=x", "type=local", "type=oci,what=1", "type=oci,tar=perhaps", "type=oci,tar=false"]
        {
            assert!(bad.parse::<Output>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_option_of_buildkits_exporters_is_known() {
        let image = read(
            "type=image,name=a,push=true,push-by-digest=true,registry.insecure=true,unpack=true,store=false,\
             dangling-name-prefix=p,danging-name-empty-only=true,name-canonical=true,oci-mediatypes=true,\
             oci-artifact=true,attestation-inline=true,prefer-nondist-layers=true,compression-level=22,\
             compression=zstd,force-compression=true,rewrite-timestamp=true,source-date-epoch=7,\
             annotation.a=b,annotation-index.c=d",
        );
        assert!(image.by_digest && image.insecure && !image.store && image.canonical && image.dangling_only);
        assert_eq!((image.dangling_prefix.as_deref(), image.epoch), (Some("p"), Some(7)));
        assert!(image.oci_artifact && image.force_compression && image.rewrite_timestamp);
        assert_eq!((image.compression, image.docker_types), (Some(Compression::Zstd(22)), Some(false)));
        assert_eq!(image.annotations.len(), 2);
        assert!(read("type=registry").push && !read("type=image").push);
        let local = read("type=local,dest=d,platform-split=false,mode=delete,attestation-prefix=p-");
        assert_eq!((local.platform_split, local.delete), (Some(false), true));
        assert!(!read("type=local,dest=d,mode=copy").delete);
        assert_eq!(read("type=cacheonly").kind, OutputKind::CacheOnly);
    }

    #[test]
    fn levels_are_those_of_the_compression() {
        for (text, compression) in [
            ("compression=gzip,compression-level=0", Compression::Gzip(0)),
            ("compression=estargz,compression-level=9", Compression::Estargz(9)),
            ("compression=zstd,compression-level=0", Compression::Zstd(1)),
            ("compression-level=9", Compression::Gzip(9)),
            ("compression=uncompressed", Compression::Uncompressed),
        ] {
            assert_eq!(read(&format!("type=oci,{text}")).compression, Some(compression), "{text}");
        }
        for bad in ["compression=nydus", "compression-level=10", "compression=zstd,compression-level=23"] {
            assert!(format!("type=oci,{bad}").parse::<Output>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_would_mean_nothing_is_refused() {
        for bad in [
            "type=oci,push=true",
            "type=local,dest=d,compression=gzip",
            "type=image,dest=x",
            "type=tar,name=a",
            "type=docker,context=other",
            "type=image,prefer-nondist-layers=false",
            "type=image,compatibility-version=10",
            "type=image,buildinfo=true",
            "type=image,name=a:1,push-by-digest=true",
            "type=image,compression=estargz,oci-mediatypes=false",
            "type=local,dest=d,mode=move",
            "type=local,dest=d,annotation.a=b",
            "type=image,source-date-epoch=now",
        ] {
            assert!(bad.parse::<Output>().is_err(), "{bad}");
        }
        assert_eq!(read("type=image,name=host:5000/a,push-by-digest=true").names, ["host:5000/a"]);
    }
}

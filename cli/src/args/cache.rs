//! `--cache-from` and `--cache-to`.

use std::path::PathBuf;
use std::str::FromStr;

use lap_cache::image::Compression;
use lap_cache::image::artifact::ArtifactForm;
use lap_cache::remote::{Mode, Packing, Selected};

use super::fields;

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the image itself; only written so, read as a registry's.
    Inline,
    /// A reference in a registry.
    Registry { reference: String, form: ArtifactForm },
    /// A directory.
    Local { dir: PathBuf, selected: Selected, form: ArtifactForm, reset: bool },
    /// The cache of GitHub Actions; what is not given is the environment's.
    Gha { url: Option<String>, url_v2: Option<String>, token: Option<String>, scope: String },
    /// A bucket; what is not given is the environment's.
    S3(Box<Bucket>),
}

/// A cache in S3.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) bucket: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) path_style: bool,
    pub(crate) prefix: String,
    pub(crate) blobs_prefix: String,
    pub(crate) manifests_prefix: String,
    pub(crate) names: Vec<String>,
    pub(crate) access_key_id: Option<String>,
    pub(crate) secret_access_key: Option<String>,
    pub(crate) session_token: Option<String>,
}

/// A cache to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheFrom {
    pub(crate) place: Place,
    pub(crate) mounts: bool,
}

/// A cache to write.
#[derive(Debug, Clone)]
pub(crate) struct CacheTo {
    pub(crate) place: Place,
    pub(crate) mode: Mode,
    pub(crate) packing: Packing,
    pub(crate) ignore_error: bool,
    pub(crate) mounts: bool,
}

/// The fields of one flag, each to be used once.
struct Options {
    kind: String,
    fields: Vec<(String, Option<String>)>,
}

impl Options {
    /// `type=KIND,KEY=VALUE,...`; a reference alone is that of a registry, as in buildx.
    fn read(text: &str) -> Result<Self, String> {
        let mut fields = fields(text)?;
        if let [(reference, None)] = fields.as_slice() {
            return Ok(Self { kind: "registry".to_owned(), fields: vec![("ref".to_owned(), Some(reference.clone()))] });
        }
        let kind = fields.iter().position(|(key, _)| key == "type").map(|at| fields.remove(at));
        let Some((_, Some(kind))) = kind else {
            return Err("type= is missing: write type=registry,ref=NAME or type=local".to_owned());
        };
        Ok(Self { kind, fields })
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let at = self.fields.iter().position(|(name, _)| name == key)?;
        Some(self.fields.remove(at).1.unwrap_or_default())
    }

    fn need(&mut self, key: &str, what: &str) -> Result<String, String> {
        let value = self.take(key).filter(|value| !value.is_empty());
        value.ok_or_else(|| format!("type={}: {key}= is missing: {what}", self.kind))
    }

    fn truth(&mut self, key: &str) -> Result<Option<bool>, String> {
        match self.take(key).as_deref() {
            None => Ok(None),
            Some("" | "true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(format!("{key}={other}: write true or false")),
        }
    }

    /// Of which exports of a directory.
    fn tag(&mut self) -> Result<Selected, String> {
        match self.take("tag").as_deref() {
            None => Ok(Selected::default()),
            Some("") => Err("type=local: tag= is empty".to_owned()),
            Some(tag) => Ok(Selected::Tag(tag.to_owned())),
        }
    }

    /// What holds an export together.
    fn form(&mut self) -> Result<ArtifactForm, String> {
        let oci_types = self.truth("oci-mediatypes")?.unwrap_or(true);
        Ok(ArtifactForm::new(oci_types, self.truth("image-manifest")?.unwrap_or(true)))
    }

    /// Whether cache mounts belong to it.
    fn mounts(&mut self) -> Result<bool, String> {
        match self.take("mounts").as_deref() {
            None | Some("none") => Ok(false),
            Some("all") => Ok(true),
            Some(other) => Err(format!("mounts={other}: write all or none")),
        }
    }

    fn gha(&mut self) -> Place {
        // How long to wait is our own concern.
        self.take("timeout");
        let scope = self.take("scope").unwrap_or_else(|| "buildkit".to_owned());
        Place::Gha { url: self.take("url"), url_v2: self.take("url_v2"), token: self.take("token"), scope }
    }

    fn s3(&mut self) -> Result<Place, String> {
        // These tune a library of Amazon's that is not used here.
        for key in
            ["touch_refresh", "upload_parallelism", "retry_mode", "retry_max_attempts", "disable_accept_encoding"]
        {
            self.take(key);
        }
        let names = self.take("name").unwrap_or_else(|| "buildkit".to_owned());
        let names: Vec<String> = names.split(';').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if names.is_empty() {
            return Err("type=s3: name= is empty".to_owned());
        }
        Ok(Place::S3(Box::new(Bucket {
            bucket: self.take("bucket"),
            region: self.take("region"),
            endpoint: self.take("endpoint_url"),
            path_style: self.truth("use_path_style")?.unwrap_or(false),
            prefix: self.take("prefix").unwrap_or_default(),
            blobs_prefix: self.take("blobs_prefix").unwrap_or_else(|| "blobs/".to_owned()),
            manifests_prefix: self.take("manifests_prefix").unwrap_or_else(|| "manifests/".to_owned()),
            names,
            access_key_id: self.take("access_key_id"),
            secret_access_key: self.take("secret_access_key"),
            session_token: self.take("session_token"),
        })))
    }

    /// What was not understood is an error.
    fn end(self) -> Result<(), String> {
        match self.fields.first() {
            None => Ok(()),
            Some((key, _)) => Err(format!("unknown option {key:?} of type={}", self.kind)),
        }
    }

    fn unknown_kind<T>(&self) -> Result<T, String> {
        match self.kind.as_str() {
            "azblob" => Err("type=azblob is not supported: use a registry, s3, gha or a directory".to_owned()),
            other => Err(format!("unknown type {other:?}: known are registry, local, inline, gha and s3")),
        }
    }
}

impl FromStr for CacheFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut options = Options::read(text)?;
        let place = match options.kind.as_str() {
            "registry" => {
                let reference = options.need("ref", "the name of the cache")?;
                Place::Registry { reference, form: ArtifactForm::default() }
            }
            "local" => {
                let dir = PathBuf::from(options.need("src", "the directory of the cache")?);
                let tag = options.tag()?;
                let digest = options.take("digest").filter(|digest| !digest.is_empty());
                let digest = digest.map(|text| text.parse().map_err(|error| format!("digest={text}: {error}")));
                let selected = digest.transpose()?.map_or(tag, Selected::Digest);
                Place::Local { dir, selected, form: ArtifactForm::default(), reset: false }
            }
            "gha" => options.gha(),
            "s3" => options.s3()?,
            // An image's own cache is read by the image's name.
            "inline" => return Err("type=inline is only written: read it with type=registry,ref=IMAGE".to_owned()),
            _ => return options.unknown_kind(),
        };
        let mounts = options.mounts()?;
        options.end()?;
        Ok(Self { place, mounts })
    }
}

impl FromStr for CacheTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut options = Options::read(text)?;
        let mut packing = Packing::default();
        let place = match options.kind.as_str() {
            "inline" => Place::Inline,
            "registry" => {
                let form = options.form()?;
                Place::Registry { reference: options.need("ref", "the name of the cache")?, form }
            }
            "local" => {
                let dir = PathBuf::from(options.need("dest", "the directory of the cache")?);
                let reset = options.truth("reset")?.unwrap_or(false);
                Place::Local { dir, selected: options.tag()?, form: options.form()?, reset }
            }
            "gha" => options.gha(),
            "s3" => options.s3()?,
            _ => return options.unknown_kind(),
        };
        let mode = match options.take("mode").as_deref() {
            None | Some("min") => Mode::Min,
            Some("max") if place == Place::Inline => {
                return Err("mode=max: an inline cache holds the layers of the image and no others".to_owned());
            }
            Some("max") => Mode::Max,
            Some(other) => return Err(format!("mode={other}: write min or max")),
        };
        if let Some(name) = options.take("compression") {
            packing.compression = name.parse::<Compression>().map_err(|error| error.to_string())?;
            if matches!(packing.compression, Compression::Estargz(_)) {
                return Err("compression=estargz: its layers are others than those that steps made: use gzip or zstd"
                    .to_owned());
            }
        }
        if let Some(level) = options.take("compression-level") {
            let level = level.parse().map_err(|_| format!("compression-level={level}: not a number"))?;
            packing.compression = packing.compression.at_level(level).map_err(|error| error.to_string())?;
        }
        packing.force = options.truth("force-compression")?.unwrap_or(false);
        let ignore_error = options.truth("ignore-error")?.unwrap_or(true);
        let mounts = options.mounts()?;
        if mounts && place == Place::Inline {
            return Err("mounts=all: an inline cache holds the layers of the image and no others".to_owned());
        }
        options.end()?;
        Ok(Self { place, mode, packing, ignore_error, mounts })
    }
}

#[cfg(test)]
mod tests {
    use lap_cache::digest::Digest;

    use super::*;

    #[test]
    fn a_reference_alone_is_a_registrys() {
        let reference = |reference: &str| Place::Registry { reference: reference.into(), form: ArtifactForm::Manifest };
        assert_eq!("user/app:cache".parse(), Ok(CacheFrom { place: reference("user/app:cache"), mounts: false }));
        assert_eq!("type=registry,ref=user/app".parse(), Ok(CacheFrom { place: reference("user/app"), mounts: false }));
        assert_eq!("user/app".parse::<CacheTo>().unwrap().place, reference("user/app"));
    }

    #[test]
    fn options_are_those_of_buildx() {
        let to: CacheTo =
            "type=registry,ref=a/b,mode=max,image-manifest=true,oci-mediatypes=false,compression=zstd,compression-level=9,force-compression=true,ignore-error=false"
                .parse()
                .unwrap();
        assert_eq!(to.place, Place::Registry { reference: "a/b".into(), form: ArtifactForm::DockerManifest });
        let index: CacheTo = "type=registry,ref=a/b,image-manifest=false".parse().unwrap();
        assert_eq!(index.place, Place::Registry { reference: "a/b".into(), form: ArtifactForm::Index });
        assert_eq!((to.mode, to.packing.compression, to.packing.force), (Mode::Max, Compression::Zstd(9), true));
        assert!(!to.ignore_error);
        let local: CacheTo = "type=local,dest=x".parse().unwrap();
        let at = |selected, form, reset| Place::Local { dir: "x".into(), selected, form, reset };
        assert_eq!(local.place, at(Selected::Tag("latest".into()), ArtifactForm::Manifest, false));
        let whole: CacheTo = "type=local,dest=x,tag=t,image-manifest=false,reset=true".parse().unwrap();
        assert_eq!(whole.place, at(Selected::Tag("t".into()), ArtifactForm::Index, true));
        let digest = Digest::of(b"x");
        let old: CacheFrom = format!("type=local,src=x,tag=t,digest={digest}").parse().unwrap();
        assert_eq!(old.place, at(Selected::Digest(digest), ArtifactForm::Manifest, false));
        assert!(local.mode == Mode::Min && local.ignore_error);
        let s3: CacheFrom = "type=s3,bucket=b,region=r,name=a;b,use_path_style=true".parse().unwrap();
        let Place::S3(bucket) = s3.place else { panic!("no bucket") };
        assert!(bucket.path_style && bucket.names == ["a", "b"] && bucket.blobs_prefix == "blobs/");
        let gha: CacheTo = "type=gha,scope=main,mode=max".parse().unwrap();
        assert!(matches!(gha.place, Place::Gha { scope, .. } if scope == "main"));
        for bad in [
            "type=registry",
            "type=local",
            "type=inline,mode=max",
            "type=inline,mounts=all",
            "type=local,dest=x,mounts=some",
            "type=local,dest=x,mode=all",
            "type=local,dest=x,what=1",
            "type=local,dest=x,tag=",
            "type=local,dest=x,reset=often",
            "type=local,dest=x,digest=sha256:00",
            "type=azblob,name=x",
            "type=zip",
            "mode=max,ref=x",
        ] {
            assert!(bad.parse::<CacheTo>().is_err(), "{bad}");
        }
        assert!("type=local,src=x,digest=sha256:00".parse::<CacheFrom>().is_err());
        assert!("type=inline".parse::<CacheFrom>().is_err() && "type=local,dest=x".parse::<CacheFrom>().is_err());
    }
}

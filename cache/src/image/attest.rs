//! Attestations: statements about an image, kept beside it as BuildKit keeps them.
//!
//! Each statement (in-toto's Statement v1) is a layer of an attestation manifest, whose config lists the statements
//! as diff IDs. The manifest stands in an index beside the image, for the platform `unknown/unknown` (BuildKit's
//! `docs/attestations/attestation-storage.md`).

use std::collections::BTreeMap;

use oci_spec::image::MediaType;
use serde_json::{Value, json};

use super::index::{Entry, Index, Role};
use super::manifest::{self, canonical_json};
use super::{Image, ImageError};
use crate::digest::Digest;
use crate::store::Store;

/// Media type of a statement.
pub const STATEMENT: &str = "application/vnd.in-toto+json";
/// Annotation of a statement's descriptor: the type of its predicate.
pub const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";

/// Media type of the config that an artifact has.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Type of the artifact that attestations are.
const ARTIFACT: &str = "application/vnd.docker.attestation.manifest.v1+json";

/// What attestations are kept as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// An image with a config, as registries of any age take it.
    #[default]
    Image,
    /// An OCI artifact whose subject is the image (image spec 1.1).
    Artifact,
}

/// Something told about an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicate {
    /// URI of its type.
    pub kind: String,
    /// What is told.
    pub content: Value,
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// A package URL of an image, or the path of a file.
    pub name: String,
    /// Of the manifest, or of the file.
    pub digest: Digest,
}

/// A statement as in-toto defines it (`spec/v1/statement.md`).
#[must_use]
pub fn statement(predicate: &Predicate, subjects: &[Subject]) -> Value {
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|subject| json!({"name": subject.name, "digest": {"sha256": subject.digest.hex()}}))
        .collect();
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": predicate.kind,
        "predicate": predicate.content,
    })
}

/// Puts statements about an image into the store; `names` are what the image is called in them (package URLs).
///
/// # Errors
/// Where the store cannot be written.
pub fn attest(
    store: &Store,
    image: &Image,
    names: &[String],
    predicates: &[Predicate],
    form: Form,
) -> Result<Entry, ImageError> {
    let write = |what| move |source| ImageError::Write { what, source };
    let anonymous = ["_".to_owned()];
    let names = if names.is_empty() { &anonymous[..] } else { names };
    let subjects: Vec<Subject> =
        names.iter().map(|name| Subject { name: name.clone(), digest: image.digest() }).collect();
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for predicate in predicates {
        let raw = canonical_json(&statement(predicate, &subjects)).map_err(write("statement"))?;
        let digest = store.content().put(&raw)?;
        layers.push(json!({
            "mediaType": STATEMENT,
            "digest": digest.to_string(),
            "size": raw.len(),
            "annotations": {PREDICATE_TYPE: predicate.kind},
        }));
        diff_ids.push(digest.to_string());
    }
    let (config, config_type) = match form {
        Form::Image => {
            let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
            let config = json!({"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": rootfs});
            (config, MediaType::ImageConfig.to_string())
        }
        Form::Artifact => (json!({}), EMPTY.to_owned()),
    };
    let raw_config = canonical_json(&config).map_err(write("config"))?;
    let media_type = MediaType::ImageManifest.to_string();
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": manifest::descriptor(&config_type, Digest::of(&raw_config), raw_config.len() as u64)?,
        "layers": layers,
    });
    if form == Form::Artifact {
        // As the image specification gives the empty config.
        document["config"]["data"] = "e30=".into();
        document["artifactType"] = ARTIFACT.into();
        let (kind, size) = (image.descriptor.media_type().as_ref(), image.descriptor.size());
        document["subject"] = json!({"mediaType": kind, "digest": image.digest().to_string(), "size": size});
    }
    let raw_manifest = canonical_json(&document).map_err(write("manifest"))?;
    let attestation = Image::read(raw_manifest, Some(&media_type), raw_config)?;
    store.put_image(&attestation)?;
    Ok(Entry { image: attestation, role: Role::Attests(image.digest()) })
}

/// An index of one image and what is attested of it, with annotations of its own.
///
/// # Errors
/// As [`attest`].
pub fn attested(
    store: &Store,
    image: Image,
    names: &[String],
    predicates: &[Predicate],
    form: Form,
    annotations: &BTreeMap<String, String>,
) -> Result<Index, ImageError> {
    let attestation = attest(store, &image, names, predicates, form)?;
    let image = Entry { image, role: Role::Runnable };
    Index::assemble(store, vec![image, attestation], annotations)
}

#[cfg(test)]
mod tests {
    use lap_solver::event::Events;
    use lap_solver::image::ImageConfig;
    use lap_solver::platform::Platform;

    use super::*;
    use crate::image::{Artifact, AssembleOptions, assemble};
    use crate::store::Mode;

    #[test]
    fn an_attested_image_is_stored_as_buildkit_stores_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Mode::User).unwrap();
        let config = ImageConfig { os: "linux".into(), architecture: "arm64".into(), ..ImageConfig::default() };
        let image = assemble(&store, &[], config, &AssembleOptions::default(), &Events::none()).unwrap();
        let predicate = Predicate { kind: "https://spdx.dev/Document".into(), content: json!({"a": 1}) };
        let predicates = std::slice::from_ref(&predicate);
        let index = attested(&store, image.clone(), &[], predicates, Form::Image, &BTreeMap::new()).unwrap();

        let document: Value = serde_json::from_slice(&index.raw).unwrap();
        assert_eq!(document["manifests"][0]["platform"], json!({"architecture": "arm64", "os": "linux"}));
        let entry = &document["manifests"][1];
        assert_eq!(entry["platform"], json!({"architecture": "unknown", "os": "unknown"}));
        assert_eq!(
            entry["annotations"],
            json!({
                "vnd.docker.reference.digest": image.digest().to_string(),
                "vnd.docker.reference.type": "attestation-manifest",
            })
        );
        let attestation = &index.entries[1].image;
        let manifest: Value = serde_json::from_slice(&attestation.raw_manifest).unwrap();
        assert_eq!(manifest["layers"][0]["mediaType"], STATEMENT);
        assert_eq!(manifest["layers"][0]["annotations"][PREDICATE_TYPE], predicate.kind);
        assert_eq!(attestation.config.rootfs.diff_ids[0], manifest["layers"][0]["digest"]);
        let raw = store.content().read(&attestation.layers[0].digest, 1 << 20).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&raw).unwrap(),
            json!({
                "_type": "https://in-toto.io/Statement/v1",
                "subject": [{"name": "_", "digest": {"sha256": image.digest().hex()}}],
                "predicateType": predicate.kind,
                "predicate": {"a": 1},
            })
        );

        let arm = image.platform();
        assert_eq!(store.image_for(&index.digest(), &arm).unwrap().digest(), image.digest());
        let amd = Platform { architecture: "amd64".into(), ..arm };
        assert!(matches!(store.image_for(&index.digest(), &amd), Err(ImageError::NoPlatform { .. })));
        let Artifact::Index(again) = store.artifact(&index.digest()).unwrap() else { panic!("an index") };
        assert_eq!(again.entries[1].role, Role::Attests(image.digest()));
        assert_eq!(again.entries[0].role, Role::Runnable);

        let index = attested(&store, image.clone(), &[], predicates, Form::Artifact, &BTreeMap::new()).unwrap();
        let manifest: Value = serde_json::from_slice(&index.entries[1].image.raw_manifest).unwrap();
        assert_eq!(manifest["artifactType"], "application/vnd.docker.attestation.manifest.v1+json");
        let config = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let empty = json!({"mediaType": EMPTY, "digest": config, "size": 2, "data": "e30="});
        assert_eq!(manifest["config"], empty);
        let subject = serde_json::to_value(&image.descriptor).unwrap();
        assert_eq!(manifest["subject"], subject);
        let Artifact::Index(again) = store.artifact(&index.digest()).unwrap() else { panic!("an index") };
        assert_eq!(again.entries[1].image.layers.len(), 1);

        let name = "docker.io/library/app:1".parse().unwrap();
        store.name_point(&name, &index.descriptor).unwrap();
        store.prune_unreferenced(std::time::Duration::ZERO).unwrap();
        assert!(store.artifact(&index.digest()).is_ok(), "what a named index leads to is kept");
    }
}

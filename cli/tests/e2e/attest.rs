//! `--provenance` and `--sbom`: what is told of an image, and where it is kept.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::support::{Lap, Registry, debian, needs, run};
use crate::web::{Daemon, Page, Repository, Web};

const CANARY: &str = "canary-8d1f";

/// The JSON blob of an OCI layout.
pub(crate) fn blob(layout: &Path, digest: &Value) -> Value {
    let hex = digest.as_str().unwrap().trim_start_matches("sha256:");
    serde_json::from_slice(&std::fs::read(layout.join("blobs/sha256").join(hex)).unwrap()).unwrap()
}

/// The statements beside an image in an index, by type of predicate.
fn statements(layout: &Path, index: &Value) -> Vec<(String, Value)> {
    let manifests = index["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 2, "{index:#}");
    assert_eq!(manifests[1]["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(manifests[1]["annotations"]["vnd.docker.reference.digest"], manifests[0]["digest"]);
    let manifest = blob(layout, &manifests[1]["digest"]);
    let layers = manifest["layers"].as_array().unwrap();
    layers
        .iter()
        .map(|layer| {
            assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
            let statement = blob(layout, &layer["digest"]);
            assert_eq!(statement["predicateType"], layer["annotations"]["in-toto.io/predicate-type"]);
            let digest = format!("sha256:{}", statement["subject"][0]["digest"]["sha256"].as_str().unwrap());
            assert_eq!(digest, manifests[0]["digest"]);
            (statement["predicateType"].as_str().unwrap().to_owned(), statement["predicate"].clone())
        })
        .collect()
}

fn purls(spdx: &Value) -> BTreeSet<String> {
    let packages = spdx["packages"].as_array().unwrap().iter().skip(1);
    packages.map(|package| package["externalRefs"][0]["referenceLocator"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn nothing_is_attested_unless_asked_for() {
    needs!(root);
    let lap = Lap::new();
    lap.build_with("app", "FROM busybox\nCMD true\n", &["-o", "type=oci,dest=out,tar=false"]).ok();
    let index: Value = serde_json::from_slice(&std::fs::read(lap.path("out/index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["mediaType"], "application/vnd.oci.image.manifest.v1+json");
}

#[test]
fn no_statement_holds_a_credential() {
    needs!(root);
    let lap = Lap::new();
    lap.write("secret", CANARY);
    lap.write("ctx/package-lock.json", r#"{"packages":{"node_modules/a":{"version":"1.0.0"}}}"#);
    let dockerfile = format!(
        "FROM busybox AS base\nARG API_TOKEN\nARG REPO\nARG VERSION\nARG HTTP_PROXY\n\
         RUN --mount=type=secret,id=s cat /run/secrets/s > /dev/null; echo $API_TOKEN > /dev/null\n\
         RUN echo https://u:{CANARY}@example.invalid/ > /dev/null\n\
         COPY package-lock.json /app/\n"
    );
    let token = format!("API_TOKEN={CANARY}");
    let repo = format!("REPO=https://user:{CANARY}@git.invalid/r.git");
    let proxy = format!("HTTP_PROXY=http://u:{CANARY}@proxy.invalid:3128");
    let flags = [
        "--provenance=mode=max",
        "--sbom",
        "--secret",
        "id=s,src=secret",
        "--build-arg",
        &token,
        "--build-arg",
        &repo,
        "--build-arg",
        &proxy,
        "--build-arg",
        "VERSION=1.2",
        "--network",
        "none",
        "-o",
        "type=oci,dest=out,tar=false",
    ];
    lap.build_with("app:1", &dockerfile, &flags).ok();
    let layout = lap.path("out");
    let top: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let index = blob(&layout, &top["manifests"][0]["digest"]);
    let statements = statements(&layout, &index);
    let [(_, spdx), (kind, provenance)] = statements.as_slice() else { panic!("{statements:?}") };
    assert_eq!(kind, "https://slsa.dev/provenance/v1");
    for (_, predicate) in &statements {
        assert!(!predicate.to_string().contains(CANARY), "{predicate:#}");
    }
    let manifest = blob(&layout, &index["manifests"][1]["digest"]);
    let encoded = run("base64", &["-w0", lap.path("ctx/Dockerfile").to_str().unwrap()]).out;
    assert!(!provenance.to_string().contains(&encoded), "the Dockerfile is masked too");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");

    let request = &provenance["buildDefinition"]["externalParameters"]["request"];
    assert_eq!(request["args"]["build-arg:VERSION"], "1.2");
    assert_eq!(request["args"]["build-arg:API_TOKEN"], "xxxxx");
    assert_eq!(request["args"]["build-arg:REPO"], "https://xxxxx:xxxxx@git.invalid/r.git");
    assert_eq!(request["secrets"], serde_json::json!([{"id": "s", "optional": true}]));
    let base = &provenance["buildDefinition"]["resolvedDependencies"][0];
    assert!(base["uri"].as_str().unwrap().starts_with("pkg:docker/busybox@latest?platform=linux%2F"), "{base}");
    let digest = lap.run(&["inspect", "busybox"]).ok().json()[0]["Descriptor"]["digest"].clone();
    assert_eq!(format!("sha256:{}", base["digest"]["sha256"].as_str().unwrap()), digest);
    assert_eq!(purls(spdx), BTreeSet::from(["pkg:npm/a@1.0.0".to_owned()]));
}

#[test]
fn an_attested_image_is_pushed_as_an_index_and_used_as_an_image() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    let registry = Registry::start();
    let name = format!("{}/team/app:1", registry.address);
    let lap = Lap::new();
    lap.build_with(&name, "FROM busybox\nCMD echo hello\n", &["--provenance", "--sbom=true", "--push"]).ok();
    let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).ok().json();
    assert_eq!(raw["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(raw["manifests"][1]["platform"], serde_json::json!({"architecture": "unknown", "os": "unknown"}));
    let theirs = run("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{name}")]).ok().json();
    let ours = lap.run(&["inspect", &name]).ok().json()[0]["Descriptor"]["digest"].clone();
    assert_eq!(theirs["Digest"], ours);
    let (from, to) = (format!("docker://{name}"), format!("oci:{}:all", lap.path("all").display()));
    run("skopeo", &["copy", "-q", "--all", "--src-tls-verify=false", &from, &to]).ok();
    let layout = lap.path("all");
    let top: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let kinds: Vec<String> =
        statements(&layout, &blob(&layout, &top["manifests"][0]["digest"])).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1"]);

    assert_eq!(lap.run(&["run", "--rm", "--network", "none", &name]).ok().out, "hello\n");
    lap.run(&["tag", &name, "other:2"]).ok();
    let tagged = lap.run(&["inspect", "other:2"]).ok().json()[0]["Descriptor"]["digest"].clone();
    assert_eq!(tagged, ours, "a second name stands for the index too");
    assert!(lap.run(&["images"]).ok().out.contains("other"));
    lap.run(&["push", &format!("{}/team/app:1", registry.address)]).ok();
    lap.build("child", "FROM other:2\nRUN true\n").ok();
    lap.run(&["save", "-o", "b.tar", "other:2"]).ok();
    let other = Lap::empty();
    other.run(&["pull", &name]).ok();
    assert_eq!(other.run(&["run", "--rm", "--network", "none", &name]).ok().out, "hello\n");
    lap.run(&["rmi", "other:2", &name]).ok();
}

#[test]
fn every_platform_has_its_own_statements() {
    needs!(root);
    let lap = Lap::empty();
    lap.write("ctx/a", "one");
    let flags =
        ["--platform", "linux/amd64,linux/arm64", "--provenance", "--sbom", "-o", "type=oci,dest=out,tar=false"];
    lap.build_with("app:1", "FROM scratch\nCOPY . /\n", &flags).ok();
    let layout = lap.path("out");
    let top: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let index = blob(&layout, &top["manifests"][0]["digest"]);
    let of = |number: usize| index["manifests"][number].clone();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 4, "{index:#}");
    for (image, attestation, platform) in [(0, 2, "amd64"), (1, 3, "arm64")] {
        assert_eq!(of(image)["platform"]["architecture"], platform);
        assert_eq!(of(attestation)["annotations"]["vnd.docker.reference.digest"], of(image)["digest"]);
        let layers = blob(&layout, &of(attestation)["digest"])["layers"].clone();
        let name = blob(&layout, &layers[0]["digest"])["subject"][0]["name"].clone();
        assert_eq!(name, format!("pkg:docker/app@1?platform=linux%2F{platform}"));
    }
}

#[test]
fn what_was_fetched_is_told_with_its_digest() {
    needs!(root);
    needs!("git");
    let (lap, web) = (Lap::empty(), Web::start());
    let repository = Repository::new(lap.path("git/r.git"));
    repository.write("f", "one");
    let commit = repository.commit();
    let daemon = Daemon::start(&lap.path("git"));
    let url = web.page("/a", Page::new("abc"));
    let dockerfile = format!("FROM scratch\nADD {url} /a\nADD {}/r.git#main /r/\n", daemon.url);
    let flags = ["--provenance", "--annotation", "index:org.example.a=b", "-o", "type=oci,dest=out,tar=false"];
    // A build that takes everything from the cache tells the same.
    for _ in 0..2 {
        lap.build_with("app", &dockerfile, &flags).ok();
        let layout = lap.path("out");
        let top: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
        let index = blob(&layout, &top["manifests"][0]["digest"]);
        assert_eq!(index["annotations"], serde_json::json!({"org.example.a": "b"}));
        let [(_, provenance)] = &statements(&layout, &index)[..] else { panic!("one statement") };
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(
            provenance["buildDefinition"]["resolvedDependencies"],
            serde_json::json!([
                {"uri": format!("{}/r.git#main", daemon.url), "digest": {"sha1": commit}},
                {"uri": url, "digest": {"sha256": sum}},
            ])
        );
        std::fs::remove_dir_all(&layout).unwrap();
    }
}

#[test]
fn a_fetched_context_is_the_source_of_the_build() {
    needs!(root);
    needs!("git");
    let lap = Lap::empty();
    let repository = Repository::new(lap.path("git/r.git"));
    repository.write("Dockerfile", "FROM scratch\nCOPY . /\n");
    let commit = repository.commit();
    let daemon = Daemon::start(&lap.path("git"));
    let url = format!("{}/r.git#main", daemon.url);
    lap.run(&["build", "--provenance", "-o", "type=oci,dest=out,tar=false", &url]).ok();
    let layout = lap.path("out");
    let top: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let [(_, provenance)] = &statements(&layout, &blob(&layout, &top["manifests"][0]["digest"]))[..] else {
        panic!("one statement")
    };
    assert_eq!(
        provenance["buildDefinition"]["externalParameters"]["configSource"],
        serde_json::json!({"uri": url, "digest": {"sha1": commit}, "path": "Dockerfile"})
    );
    let metadata = &provenance["runDetails"]["metadata"];
    assert_eq!(metadata["buildkit_completeness"]["resolvedDependencies"], true, "{provenance:#}");
    assert_eq!(metadata["buildkit_hermetic"], true);
}

#[test]
fn trees_get_the_statements_as_files() {
    needs!(root);
    let lap = Lap::empty();
    lap.write("ctx/a", "one");
    // A link in the tree does not lead the files elsewhere.
    std::os::unix::fs::symlink("/nonexistent/x", lap.path("ctx/p-provenance.json")).unwrap();
    let flags = [
        "--provenance=max",
        "--sbom",
        "-o",
        "type=local,dest=tree,attestation-prefix=p-",
        "-o",
        "type=tar,dest=tree.tar",
    ];
    lap.build_with("app", "FROM scratch\nCOPY . /\n", &flags).ok();
    for (path, kind) in [
        ("tree/p-sbom.spdx.json", "https://spdx.dev/Document"),
        ("tree/p-provenance.json", "https://slsa.dev/provenance/v1"),
    ] {
        assert!(std::fs::symlink_metadata(lap.path(path)).unwrap().is_file(), "{path}");
        let statement: Value = serde_json::from_slice(&std::fs::read(lap.path(path)).unwrap()).unwrap();
        assert_eq!(statement["predicateType"], kind);
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
        let subject = statement["subject"].as_array().unwrap().iter().find(|subject| subject["name"] == "a").unwrap();
        let sum = run("sha256sum", &[lap.path("ctx/a").to_str().unwrap()]).ok().out;
        assert!(sum.starts_with(subject["digest"]["sha256"].as_str().unwrap()), "{sum}");
    }
    let listed = run("tar", &["-tf", lap.path("tree.tar").to_str().unwrap()]).ok().out;
    assert!(listed.contains("sbom.spdx.json\n") && listed.contains("provenance.json\n"), "{listed}");
}

#[test]
fn the_same_build_at_the_same_time_has_the_same_index() {
    needs!(root);
    let digest = || {
        let lap = Lap::empty();
        lap.write("ctx/a", "one");
        let flags = ["--provenance=max", "--sbom", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--reproducible"];
        lap.build_with("app", "FROM scratch\nCOPY a /\n", &flags).ok();
        lap.run(&["inspect", "app"]).ok().json()[0]["Descriptor"]["digest"].clone()
    };
    assert_eq!(digest(), digest());
}

#[test]
fn the_packages_of_debian_are_those_that_dpkg_lists() {
    needs!(root);
    needs!("mmdebstrap");
    let lap = Lap::empty();
    lap.run(&["import", debian().to_str().unwrap(), "debian:base"]).ok();
    lap.build_with(
        "app",
        "FROM debian:base\nRUN true\n",
        &["--sbom", "--network=none", "-o", "type=oci,dest=out,tar=false"],
    )
    .ok();
    let layout = lap.path("out");
    let top: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let statements = statements(&layout, &blob(&layout, &top["manifests"][0]["digest"]));
    let spdx = &statements[0].1;
    assert_eq!(spdx["spdxVersion"], "SPDX-2.3");
    assert_eq!(spdx.get("comment"), None, "everything could be read");
    let ours: BTreeSet<String> = spdx["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| {
            let purl = package["externalRefs"][0]["referenceLocator"].as_str().unwrap_or_default();
            purl.starts_with("pkg:deb/debian/")
        })
        .map(|package| format!("{} {}", package["name"].as_str().unwrap(), package["versionInfo"].as_str().unwrap()))
        .collect();
    let listed = lap.sh("app", "dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\\n'");
    let theirs: BTreeSet<String> =
        listed.lines().filter_map(|line| line.strip_prefix("ii ")).map(|line| line.trim().to_owned()).collect();
    assert!(theirs.len() > 50, "{listed}");
    assert_eq!(ours, theirs);
}

#[test]
fn attestations_can_be_artifacts() {
    needs!(root);
    needs!("docker-registry");
    let registry = Registry::start();
    let name = format!("{}/app:1", registry.address);
    let lap = Lap::new();
    let flags = ["--provenance", "--sbom", "-o", "type=oci,dest=out,tar=false,oci-artifact=true"];
    lap.build_with(&name, "FROM busybox\nCMD echo hello\n", &flags).ok();
    let layout = lap.path("out");
    let top: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let index = blob(&layout, &top["manifests"][0]["digest"]);
    assert_eq!(statements(&layout, &index).len(), 2);
    let manifest = blob(&layout, &index["manifests"][1]["digest"]);
    assert_eq!(manifest["artifactType"], "application/vnd.docker.attestation.manifest.v1+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
    assert_eq!(manifest["subject"]["digest"], index["manifests"][0]["digest"]);
    // And it is an image like any other, through an archive and through a registry.
    run("tar", &["-C", layout.to_str().unwrap(), "-cf", lap.path("out.tar").to_str().unwrap(), "."]).ok();
    let other = Lap::empty();
    other.run(&["load", "-i", lap.path("out.tar").to_str().unwrap()]).ok();
    assert_eq!(other.run(&["run", "--rm", "--network", "none", &name]).ok().out, "hello\n");
    lap.run(&["push", &name]).ok();
    let third = Lap::empty();
    third.run(&["pull", &name]).ok();
    assert_eq!(third.run(&["run", "--rm", "--network", "none", &name]).ok().out, "hello\n");
}

#[test]
fn what_an_sbom_lacks_is_told() {
    needs!(root);
    let lap = Lap::empty();
    lap.write("ctx/Packages", "neither SQLite nor Berkeley DB");
    lap.write("ctx/package-lock.json", "{");
    let dockerfile = "FROM scratch\nCOPY Packages /var/lib/rpm/\nCOPY package-lock.json /app/\n";
    let outputs = ["--sbom", "-o", "type=local,dest=tree", "-o", "type=oci,dest=o.tar"];
    let said = lap.build_with("app", dockerfile, &outputs).ok();
    assert_eq!(said.err.matches("the SBOM lacks what could not be read").count(), 1, "{}", said.err);
    assert!(said.err.contains("(and 1 more"), "{}", said.err);
    let text = std::fs::read_to_string(lap.path("tree/sbom.spdx.json")).unwrap();
    assert!(text.contains("/var/lib/rpm/Packages") && text.contains("/app/package-lock.json"), "{text}");
}

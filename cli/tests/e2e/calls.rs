//! Questions about a Dockerfile, and what is attached to an image.

use crate::support::{Lap, needs, run};

const DOCKERFILE: &str = "\
# base compiles
FROM busybox AS base
# WHO is greeted
ARG WHO=world
RUN --mount=type=secret,id=token,required=true true
FROM base as app
CMD echo hi
";

fn ask(lap: &Lap, args: &[&str]) -> crate::support::Said {
    lap.write("ctx/Dockerfile", DOCKERFILE);
    lap.run(&[args, &["ctx"]].concat())
}

#[test]
fn checks_are_told_in_three_forms() {
    needs!(root);
    let lap = Lap::new();
    let text = ask(&lap, &["build", "--check"]).code(1);
    assert!(
        text.out.starts_with("Check complete, 2 warnings have been found!\n\nWARNING: FromAsCasing - "),
        "{}",
        text.out
    );
    assert!(text.out.contains("   6 | >>> FROM base as app\n"), "{}", text.out);
    assert_eq!(ask(&lap, &["check"]).code(1).out, text.out);
    let json = ask(&lap, &["build", "--call", "check,format=json"]).code(1).json();
    assert_eq!(json["warnings"][1]["ruleName"], "JSONArgsRecommended");
    assert_eq!(json["warnings"][1]["location"]["ranges"][0]["start"]["line"], 7);
    let sarif = ask(&lap, &["check", "--format", "sarif"]).code(1).json();
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "FromAsCasing");

    lap.write("ctx/Dockerfile", "# check=error=true\nFROM busybox as x\nMAINTAINER y\n");
    let text = lap.run(&["check", "ctx"]).code(1).out;
    assert!(text.starts_with("Check complete, 2 warnings have been found!\n"), "{text}");
    let json = lap.run(&["check", "--format", "json", "ctx"]).code(1).json();
    assert_eq!(json["warnings"].as_array().unwrap().len(), 2, "{json}");
    let summary = "lint violation found for rules: ";
    assert!(json["buildError"]["message"].as_str().unwrap().starts_with(summary), "{json}");
    let built = lap.run(&["build", "ctx"]).code(1).err;
    assert!(built.contains(&format!("lap: failed to solve: {summary}FromAsCasing, MaintainerDeprecated")), "{built}");

    lap.write("ctx/Dockerfile", "FROM busybox\nRUM x\n");
    let faults = lap.run(&["check", "--format", "sarif", "ctx"]).code(1).json();
    assert_eq!(faults["runs"][0]["results"][0]["level"], "error");
    let faults = lap.run(&["check", "--format", "json", "ctx"]).code(1).json();
    assert!(faults["buildError"]["message"].as_str().unwrap().contains("RUM"), "{faults}");
    lap.write("ctx/Dockerfile", "FROM busybox\nRUN x\n");
    assert_eq!(lap.run(&["check", "ctx"]).ok().out, "Check complete, no warnings found.\n");
}

#[test]
fn outlines_targets_and_graphs() {
    needs!(root);
    let lap = Lap::new();
    let outline = ask(&lap, &["build", "--call=outline", "--target=base"]).ok().out;
    assert_eq!(
        outline,
        "TARGET:        base\nDESCRIPTION:   compiles\n\nBUILD ARG   VALUE   DESCRIPTION\nWHO         world   is greeted\n\nSECRET   REQUIRED\ntoken    true\n"
    );
    let json = ask(&lap, &["build", "--call=outline,format=json"]).ok().json();
    assert_eq!((&json["args"][0]["name"], &json["secrets"][0]["required"]), (&"WHO".into(), &true.into()));
    // What is nothing is left out, as BuildKit does, and the file is there in bytes.
    assert!(json.get("description").is_none() && json.get("ssh").is_none(), "{json}");
    assert!(json["sources"][0].as_str().is_some_and(|bytes| bytes.len() > 20), "{json}");
    let targets = ask(&lap, &["build", "--call=targets"]).ok().out;
    assert_eq!(targets, "TARGET          DESCRIPTION\nbase            compiles\napp (default)\n");
    let json = ask(&lap, &["build", "--call=targets,format=json"]).ok().json();
    assert_eq!((&json["targets"][1]["default"], &json["targets"][0]["base"]), (&true.into(), &"busybox".into()));
    assert_eq!(ask(&lap, &["build", "--call=nonsense"]).code, 2);
    let svg = ask(&lap, &["build", "--print=svg"]).ok().out;
    assert!(svg.starts_with("<svg") && svg.contains("RUN --mount=type=secret"), "{svg}");
    assert!(ask(&lap, &["build", "--print=dot"]).ok().out.starts_with("digraph"));
    assert!(ask(&lap, &["build", "--print=json"]).ok().json()["vertices"].is_array());
}

#[test]
fn annotations_go_where_they_are_said_to_go() {
    needs!(root);
    let lap = Lap::new();
    let outputs =
        "type=oci,dest=o,tar=false,annotation.A.b=1,annotation-manifest-descriptor.d=2,annotation[linux/s390x].x=3";
    let flags = ["-o", outputs, "--annotation", "org.example=all", "--annotation", "manifest-descriptor:e=4"];
    lap.build_with("app", "FROM busybox\nRUN echo a > /a\n", &flags).ok();
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(lap.path("o/index.json")).unwrap()).unwrap();
    let entry = &index["manifests"][0];
    assert_eq!((&entry["annotations"]["d"], &entry["annotations"]["e"]), (&"2".into(), &"4".into()));
    let hex = entry["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(lap.path(&format!("o/blobs/sha256/{hex}"))).unwrap()).unwrap();
    assert_eq!(manifest["annotations"], serde_json::json!({"A.b": "1", "org.example": "all"}));
    let refused =
        lap.build_with("app", "FROM busybox\nRUN echo a > /a\n", &["-o", "type=oci,dest=x.tar,annotation-index.a=b"]);
    assert!(refused.code(1).err.contains("annotations of an index need several platforms"));
}

#[test]
fn forced_compression_takes_hold_of_base_layers_too() {
    needs!(root);
    needs!("skopeo");
    let first = Lap::new();
    first.run(&["save", "-o", "base.tar", "busybox"]).ok();
    let lap = Lap::empty();
    lap.run(&["load", "-i", first.path("base.tar").to_str().unwrap()]).ok();
    let dockerfile = "FROM busybox\nRUN echo a > /a\n";
    for (options, kind) in [
        ("type=oci,dest=o,tar=false,compression=zstd,compression-level=19,force-compression=true", "zstd"),
        ("type=oci,dest=o,tar=false,compression=gzip,compression-level=1,force-compression=true", "gzip"),
        ("type=oci,dest=o,tar=false,compression=uncompressed,force-compression=true", "tar"),
    ] {
        lap.build_with("app", dockerfile, &["-o", options]).ok();
        let layout = format!("oci:{}:latest", lap.path("o").display());
        let manifest = run("skopeo", &["inspect", "--raw", &layout]).ok().json();
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 2);
        for layer in layers {
            assert!(layer["mediaType"].as_str().unwrap().ends_with(kind), "{kind}: {layer}");
        }
        let id = run("skopeo", &["inspect", "--config", &layout]).ok().json();
        assert_eq!(id["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
    }
}

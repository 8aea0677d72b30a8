//! Many targets at once.

use crate::support::{Lap, needs};

/// What a file is with `lap bake`'s flags.
fn bake(lap: &Lap, flags: &[&str]) -> crate::support::Said {
    let mut args = vec!["bake", "--progress", "plain"];
    args.extend(flags);
    lap.run(&args)
}

#[test]
fn two_targets_run_a_shared_stage_once() {
    needs!(root);
    let lap = Lap::new();
    let dockerfile = "FROM busybox AS shared\nRUN --mount=type=cache,target=/c echo x >> /c/n && cp /c/n /n\n\
        FROM shared AS one\nRUN echo one > /who\nFROM shared AS two\nRUN echo two > /who\n";
    lap.write("Dockerfile", dockerfile);
    lap.write(
        "docker-bake.hcl",
        "group \"default\" { targets = [\"one\", \"two\"] }\n\
         target \"one\" {\n target = \"one\"\n tags = [\"one\"]\n}\n\
         target \"two\" {\n target = \"two\"\n tags = [\"two\"]\n}\n",
    );
    let said = bake(&lap, &["--metadata-file", "facts.json"]).ok();
    assert_eq!(said.err.matches("echo x >>").count(), 1, "{}", said.err);
    assert!(said.err.contains("[one one "), "{}", said.err);
    assert_eq!(lap.sh("one", "cat /who /n"), "one\nx\n");
    assert_eq!(lap.sh("two", "cat /who /n"), "two\nx\n");
    let facts: serde_json::Value = serde_json::from_slice(&std::fs::read(lap.path("facts.json")).unwrap()).unwrap();
    let inspected = lap.run(&["inspect", "two"]).ok().json();
    assert_eq!(facts["two"]["containerimage.digest"], inspected[0]["Descriptor"]["digest"]);
}

#[test]
fn a_context_may_be_another_target() {
    needs!(root);
    let lap = Lap::new();
    lap.write("base/Dockerfile", "FROM busybox\nENV FROM_BASE=yes\nCOPY file /base-file\nLABEL of=base\n");
    lap.write("base/file", "base\n");
    lap.write(
        "app/Dockerfile",
        "FROM base\nRUN test $FROM_BASE = yes\nCOPY --from=files /made /made\nCOPY file /app-file\n",
    );
    lap.write("app/file", "app\n");
    lap.write(
        "docker-bake.hcl",
        "target \"default\" {\n context = \"app\"\n tags = [\"app\"]\n\
         contexts = { base = \"target:base\", files = \"target:files\" }\n}\n\
         target \"base\" {\n context = \"base\"\n}\n\
         target \"files\" {\n dockerfile-inline = \"FROM busybox\\nRUN echo made > /made\"\n tags = [\"never\"]\n}\n",
    );
    bake(&lap, &[]).ok();
    assert_eq!(lap.sh("app", "cat /base-file /app-file /made; echo $FROM_BASE"), "base\napp\nmade\nyes\n");
    assert_eq!(lap.config("app")["Labels"]["of"], "base");
    assert_ne!(lap.run(&["inspect", "never"]).code, 0, "a target that is only used by others leaves no name");
    let again = bake(&lap, &[]).ok();
    assert!(again.err.contains("CACHED"), "{}", again.err);
    // A changed base is built again, and so is what stands on it.
    lap.write("base/file", "new\n");
    bake(&lap, &[]).ok();
    assert_eq!(lap.sh("app", "cat /base-file"), "new\n");
}

#[test]
fn targets_without_a_path_between_them_run_side_by_side() {
    needs!(root);
    let lap = Lap::new();
    // Each waits for the other: only side by side do they end.
    let wait = |mine: &str, other: &str| {
        format!(
            "FROM busybox\\nRUN --mount=type=cache,target=/c touch /c/{mine}; for i in $(seq 300); do [ -e /c/{other} ] && exit 0; sleep 0.1; done; exit 1"
        )
    };
    let target =
        |name: &str, other: &str| format!("target \"{name}\" {{\n dockerfile-inline = \"{}\"\n}}\n", wait(name, other));
    let group = "group \"default\" { targets = [\"a\", \"b\"] }\n";
    lap.write("docker-bake.hcl", format!("{group}{}{}", target("a", "b"), target("b", "a")));
    bake(&lap, &[]).ok();
}

#[test]
fn values_come_from_the_command_line_and_the_environment() {
    needs!(root);
    let lap = Lap::new();
    lap.write("Dockerfile", "FROM busybox\nARG WHO\nARG EXTRA\nRUN echo $WHO $EXTRA > /out\n");
    lap.write(
        "docker-bake.hcl",
        "variable \"WHO\" { default = \"file\" }\ntarget \"default\" {\n args = { WHO = WHO }\n tags = [\"app\"]\n}\n",
    );
    let flags = ["bake", "--progress", "plain", "--set", "*.args.EXTRA=set", "--set", "default.tags+=more:1"];
    let status = lap.command().env("WHO", "environment").args(flags).output().unwrap().status;
    assert!(status.success());
    assert_eq!(lap.sh("app", "cat /out"), "environment set\n");
    assert_eq!(lap.sh("more:1", "cat /out"), "environment set\n");
}

#[test]
fn compose_services_are_targets() {
    needs!(root);
    let lap = Lap::new();
    lap.write("web/Dockerfile", "FROM busybox\nARG V\nRUN echo web $V > /out\n");
    lap.write(
        "compose.yaml",
        "services:\n  web:\n    image: shop/web\n    build:\n      context: web\n      args: [V=2]\n",
    );
    let said = bake(&lap, &["web", "--load"]).ok();
    assert_eq!(said.out, "", "the store has the image, nothing is streamed");
    assert_eq!(lap.sh("shop/web", "cat /out"), "web 2\n");
}

#[test]
fn nothing_is_needed_to_look_at_a_file() {
    let lap = Lap::empty();
    lap.write(
        "docker-bake.hcl",
        "variable \"V\" {\n default = \"1\"\n description = \"a version\"\n}\n\
         target \"_hidden\" {}\ntarget \"default\" {\n description = \"the app\"\n tags = [\"app:${V}\"]\n}\n",
    );
    let printed = bake(&lap, &["--print"]).ok().json();
    assert_eq!(printed["target"]["default"]["tags"][0], "app:1");
    assert_eq!(printed["group"]["default"]["targets"][0], "default");
    let targets = bake(&lap, &["--list", "targets"]).ok().out;
    assert!(targets.contains("the app") && !targets.contains("_hidden"), "{targets}");
    let variables = bake(&lap, &["--list", "variables"]).ok().out;
    assert!(variables.contains("a version"), "{variables}");
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let lap = Lap::empty();
    let none = bake(&lap, &[]);
    assert!(none.code == 1 && none.err.contains("no bake file"), "{none:?}");
    lap.write("docker-bake.hcl", "target \"default\" {\n  tags = [\"a:${TAG}\"]\n}\n");
    let said = bake(&lap, &["--print"]);
    assert!(
        said.code == 1 && said.err.contains("docker-bake.hcl:2:16: the variable \"TAG\" is not defined"),
        "{said:?}"
    );
    lap.write(
        "docker-bake.hcl",
        "target \"default\" {\n network = \"host\"\n dockerfile-inline = \"FROM scratch\"\n}\n",
    );
    let said = bake(&lap, &[]);
    assert!(said.code == 1 && said.err.contains("--allow=network.host"), "{said:?}");
}

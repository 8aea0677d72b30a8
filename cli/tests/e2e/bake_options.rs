//! `lap bake`: where definitions come from, what they may do, what is asked of them, and where results go.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::support::{Lap, Said, needs, run};
use crate::web::{Daemon, Page, Repository, Web};

fn bake(lap: &Lap, flags: &[&str]) -> Said {
    let mut args = vec!["bake", "--progress", "plain"];
    args.extend(flags);
    lap.run(&args)
}

/// The same with a variable in the environment.
fn bake_with(lap: &Lap, variable: (&str, &str), flags: &[&str]) -> Said {
    let output = lap.command().env(variable.0, variable.1).arg("bake").args(flags).output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn lists_are_tables_or_json() {
    let lap = Lap::empty();
    lap.write(
        "docker-bake.hcl",
        "variable \"V\" {\n type = number\n default = 1\n description = \"a number\"\n}\nvariable \"NONE\" { default = null }\n\
         group \"all\" {\n description = \"everything\"\n targets = [\"b\", \"a\"]\n}\n\
         group \"some\" { targets = [\"a\"] }\ntarget \"a\" { description = \"the a\" }\ntarget \"b\" {}\ntarget \"_x\" {}\n",
    );
    let table = bake(&lap, &["--list", "targets"]).ok().out;
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.splitn(2, "  ").map(str::trim).collect()).collect();
    let expected = [["TARGET", "DESCRIPTION"], ["a", "the a"], ["all", "everything (a, b)"], ["b", ""], ["some", "a"]];
    for (row, expected) in rows.iter().zip(expected) {
        assert_eq!((row[0], *row.get(1).unwrap_or(&"")), (expected[0], expected[1]), "{table}");
    }
    assert_eq!(
        bake(&lap, &["--list=type=targets,format=json"]).ok().json(),
        json!([
            {"name": "a", "description": "the a"},
            {"name": "all", "description": "everything (a, b)", "group": true},
            {"name": "b"},
            {"name": "some", "description": "a", "group": true},
        ])
    );
    assert_eq!(
        bake(&lap, &["--list=type=variables,format=json", "--var", "V=2"]).ok().json(),
        json!([{"name": "NONE"}, {"name": "V", "description": "a number", "type": "number", "value": "2"}])
    );
    let table = bake(&lap, &["--list-variables"]).ok().out;
    assert!(table.contains("<null>"), "{table}");
    for bad in [["--list", "things"], ["--list", "type=targets,format=xml"], ["--var", "V"]] {
        assert_ne!(bake(&lap, &bad).code, 0, "{bad:?}");
    }
}

#[test]
fn files_may_be_named_by_the_environment() {
    let lap = Lap::empty();
    lap.write("one.hcl", "variable \"V\" { default = \"file\" }\ntarget \"default\" { tags = [\"a:${V}\"] }\n");
    lap.write("two.hcl", "target \"default\" { target = \"x\" }\n");
    let printed = bake_with(&lap, ("BUILDX_BAKE_FILE", "one.hcl:two.hcl"), &["--print"]).ok().json();
    assert_eq!(printed["target"]["default"]["tags"], json!(["a:file"]));
    assert_eq!(printed["target"]["default"]["target"], "x");
    // What -f names counts alone.
    let printed = bake_with(&lap, ("BUILDX_BAKE_FILE", "two.hcl"), &["--print", "-f", "one.hcl"]).ok().json();
    assert_eq!(printed["target"]["default"].get("target"), None);
    let printed = bake_with(&lap, ("V", "environment"), &["--print", "-f", "one.hcl"]).ok().json();
    assert_eq!(printed["target"]["default"]["tags"], json!(["a:environment"]));
    let flags = ["--print", "-f", "one.hcl", "--var", "V=flag"];
    assert_eq!(
        bake_with(&lap, ("V", "environment"), &flags).ok().json()["target"]["default"]["tags"],
        json!(["a:flag"])
    );
    let mut command = lap.command();
    command.env("V", "environment").env("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP", "1");
    let output = command.args(["bake", "--print", "-f", "one.hcl"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("a:file"), "{output:?}");
    // Both override files count where none is named, and standard input may be one.
    lap.write("docker-bake.json", "{\"target\": {\"app\": {\"tags\": [\"json\"], \"args\": {\"A\": \"1\"}}}}");
    lap.write("docker-bake.override.hcl", "target \"app\" { tags = [\"override\"] }\n");
    lap.write("compose.yaml", "services:\n  web:\n    image: web:${V}\n    build: ./web\n");
    lap.write(".env", "V=dotenv\n");
    let printed = bake(&lap, &["--print", "app", "web"]).ok().json();
    assert_eq!(printed["target"]["app"]["tags"], json!(["override"]));
    assert_eq!(printed["target"]["app"]["args"], json!({"A": "1"}));
    assert_eq!(
        (&printed["target"]["web"]["tags"], &printed["target"]["web"]["context"]),
        (&json!(["web:dotenv"]), &json!("web"))
    );
    let said =
        lap.run_with(&["bake", "-f", "-", "-f", "two.hcl", "--print"], b"target \"default\" { tags = [\"stdin\"] }\n");
    assert_eq!(said.ok().json()["target"]["default"]["tags"], json!(["stdin"]));
}

#[test]
fn every_target_can_be_asked() {
    needs!(root);
    let lap = Lap::new();
    lap.write("Dockerfile", "FROM busybox AS base\n# V the version\nARG V=1\nFROM base AS app\nRUN touch /never\n");
    lap.write("bad/Dockerfile", "FROM busybox as app\nMAINTAINER x\n");
    lap.write(
        "docker-bake.hcl",
        "group \"default\" { targets = [\"good\", \"bad\"] }\ntarget \"good\" {\n description = \"the good\"\n args = { V = \"2\" }\n}\n\
         target \"bad\" { context = \"bad\" }\n",
    );
    let said = bake(&lap, &["--call", "outline", "good"]).ok();
    assert!(said.out.starts_with("good\nthe good\n\n") && said.out.contains("BUILD ARG"), "{}", said.out);
    let said = bake(&lap, &["--call=targets"]).ok();
    assert!(said.out.contains("bad\n\nTARGET") && said.out.contains("app (default)"), "{}", said.out);
    let said = bake(&lap, &["--check"]).code(1);
    assert!(said.out.contains("MaintainerDeprecated") && said.out.contains("no warnings"), "{}", said.out);
    bake(&lap, &["--check", "good"]).ok();
    let said = bake(&lap, &["--call=check,format=json"]).code(1).json();
    assert_eq!(said["target"]["good"]["check"]["warnings"].as_array().map_or(0, Vec::len), 0);
    assert_eq!(said["target"]["bad"]["check"]["warnings"].as_array().map(Vec::len), Some(2));
    assert_eq!(said["target"]["bad"]["build"]["context"], "bad");
    assert!(!said["group"]["default"].is_null());
    // A target may ask by itself.
    let said = bake(&lap, &["good", "--set", "good.call=targets"]).ok();
    assert!(said.out.contains("app (default)"), "{}", said.out);
    assert_ne!(bake(&lap, &["--call", "dance"]).code, 0);
}

#[test]
fn a_user_at_a_terminal_is_asked_for_leave() {
    needs!(root);
    let lap = Lap::new();
    lap.write("outside/f", "f");
    lap.write("work/Dockerfile", "FROM busybox\nCOPY --from=other / /other/\n");
    lap.write("work/docker-bake.hcl", "target \"default\" {\n contexts = { other = \"../outside\" }\n}\n");
    for (typed, code) in [
        (Some("y\n"), 0),
        (Some(" Y \n"), 0),
        (Some("yes\n"), 1),
        (Some("n\n"), 1),
        (Some("\n"), 1),
        (Some("\x04"), 1),
        (None, 1),
    ] {
        let (mut user, program) = terminal();
        let mut command = lap.command();
        command.current_dir(lap.path("work")).args(["bake", "--progress", "plain"]).stdin(program);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
        let child = command.spawn().unwrap();
        // What still holds the other end of the terminal.
        drop(command);
        match typed {
            Some(text) => user.write_all(text.as_bytes()).unwrap(),
            None => drop(std::mem::replace(&mut user, std::fs::File::open("/dev/null").unwrap())),
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        // One who has hung up may not be asked any more.
        assert!(typed.is_none() || said.contains("continue? [y/N] "), "{typed:?}: {said}");
        assert_eq!(output.status.code(), Some(code), "{typed:?}: {said}");
        assert_eq!(said.contains("COPY --from=other"), code == 0, "{typed:?}: {said}");
    }
}

/// A terminal: where its user types, and what a program has of it.
fn terminal() -> (std::fs::File, std::fs::File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&user).unwrap();
    unlockpt(&user).unwrap();
    let name = ptsname(&user, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let program = rustix::fs::open(&*name, flags, rustix::fs::Mode::empty()).unwrap();
    (user.into(), program.into())
}

#[test]
fn what_lies_outside_needs_leave() {
    needs!(root);
    let lap = Lap::new();
    let here = "work";
    lap.write("outside/f", "f");
    lap.write("work/Dockerfile", "FROM busybox\nCOPY --from=other / /other/\n");
    lap.write(
        "work/docker-bake.hcl",
        "target \"default\" {\n contexts = { other = \"../outside\" }\n output = [\"type=oci,dest=../out.tar\"]\n}\n\
         target \"key\" {\n dockerfile-inline = \"FROM scratch\"\n secret = [\"id=s,src=/etc/hostname\"]\n ssh = [\"default\"]\n}\n\
         target \"link\" {\n context = \"link\"\n dockerfile-inline = \"FROM scratch\"\n}\n",
    );
    std::os::unix::fs::symlink("../outside", lap.path("work/link")).unwrap();
    let bake = |flags: &[&str], env: Option<(&str, &str)>| {
        let mut command = lap.command();
        command.current_dir(lap.path(here)).envs(env).arg("bake").args(flags).stdin(std::process::Stdio::null());
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let root = std::fs::canonicalize(lap.dir.path()).unwrap();
    let (read, write) =
        (format!("--allow=fs.read={}/outside", root.display()), format!("--allow=fs.write={}/out.tar", root.display()));
    let (code, said) = bake(&[], None);
    assert!(code == 1 && said.contains(&read) && said.contains(&write), "{said}");
    assert!(said.contains(" - Write access to path ") && said.contains("additional privileges requested"), "{said}");
    assert!(!lap.path("out.tar").exists(), "nothing was done");
    assert_eq!(bake(&[&read], None).0, 1);
    assert_eq!(bake(&[&read, &write], None).0, 0);
    let two = format!("--allow=fs={}", root.display());
    assert_eq!(bake(&[&two], None).0, 0);
    assert_eq!(bake(&["--allow", "fs=*"], None).0, 0);
    assert_eq!(bake(&[], Some(("BUILDX_BAKE_ENTITLEMENTS_FS", "0"))).0, 0);
    // The user's own words need no leave.
    assert_eq!(
        bake(&["--set", "*.output=type=oci,dest=../out.tar", "--set", "*.contexts.other=../outside"], None).0,
        0
    );
    let (code, said) = bake(&["key"], None);
    assert!(code == 1 && said.contains("fs.read=/etc/hostname") && said.contains("--allow=ssh"), "{said}");
    let (code, said) = bake(&["link"], None);
    assert!(code == 1 && said.contains(&read), "{said}");
    let (code, said) = bake(&["--allow", "everything"], None);
    assert!(code == 1 && said.contains("--allow everything: known are"), "{said}");
    // To look at a file is no danger.
    assert_eq!(bake(&["--print"], None).0, 0);
}

#[test]
fn definitions_may_be_elsewhere() {
    needs!(root);
    needs!("git");
    let (lap, web) = (Lap::new(), Web::start());
    let file = "group \"default\" { targets = [\"all\", \"sub\", \"here\"] }\n\
        target \"all\" {\n tags = [\"all\"]\n contexts = { more = \"sub\" }\n}\n\
        target \"sub\" {\n context = \"sub\"\n dockerfile = \"D\"\n tags = [\"sub\"]\n}\n\
        target \"here\" {\n context = \"cwd://mine\"\n dockerfile-inline = \"FROM busybox\\nCOPY . /ctx/\"\n tags = [\"here\"]\n}\n\
        target \"command\" {\n context = BAKE_CMD_CONTEXT\n tags = [\"command\"]\n}\n";
    let files = [
        ("docker-bake.hcl", file),
        ("Dockerfile", "FROM busybox\nCOPY a /a\nCOPY --from=more . /more/\n"),
        ("a", "root"),
        ("sub/D", "FROM busybox\nCOPY a /a\n"),
        ("sub/a", "sub"),
        ("other/bake.hcl", "target \"default\" { tags = [\"other\"] }\n"),
    ];
    let repository = Repository::new(lap.path("git/r"));
    for (name, text) in files {
        repository.write(name, text);
    }
    repository.commit();
    lap.write("mine/f", "mine");
    let daemon = Daemon::start(&lap.path("git"));
    let url = format!("{}/r", daemon.url);
    run(
        "tar",
        &[
            "-C",
            lap.path("git/r").to_str().unwrap(),
            "--exclude=.git",
            "-czf",
            lap.path("c.tar.gz").to_str().unwrap(),
            ".",
        ],
    )
    .ok();
    let archive = web.page("/c.tar.gz", Page::new(std::fs::read(lap.path("c.tar.gz")).unwrap()));
    for place in [&url, &archive] {
        bake(&lap, &[place]).ok();
        assert_eq!(lap.sh("all", "cat /a /more/a"), "rootsub");
        assert_eq!(lap.sh("sub", "cat /a"), "sub");
        assert_eq!(lap.sh("here", "cat /ctx/f"), "mine");
        lap.run(&["rmi", "all", "sub", "here"]).ok();
    }
    let printed = bake(&lap, &[&url, "--print"]).ok().json();
    assert_eq!(printed["target"]["sub"]["context"], format!("{url}#:sub"));
    assert_eq!(printed["target"]["all"]["context"], url);
    assert_eq!(printed["target"]["here"]["context"], "mine");
    // A file in it, a file here beside it, and a file alone.
    let printed = bake(&lap, &[&url, "--print", "-f", "other/bake.hcl"]).ok().json();
    assert_eq!(printed["target"]["default"]["tags"], json!(["other"]));
    lap.write("local.hcl", "target \"all\" { labels = { from = \"here\" } }\n");
    let printed = bake(&lap, &[&url, "--print", "-f", "docker-bake.hcl", "-f", "cwd://local.hcl", "all"]).ok().json();
    assert_eq!(printed["target"]["all"]["labels"], json!({"from": "here"}));
    let alone = web.page("/bake.hcl", Page::new("target \"default\" { context = \"mine\" }\n"));
    assert_eq!(bake(&lap, &[&alone, "--print"]).ok().json()["target"]["default"]["context"], "mine");
    // A second URL is where the command is.
    let printed = bake(&lap, &[&url, &format!("{url}#main:sub"), "command", "--print"]).ok().json();
    assert_eq!(printed["target"]["command"]["context"], format!("{url}#main:sub"));
    for bad in [format!("{url}#nothing"), format!("{url}#main:sub"), format!("{}/gone", web.url)] {
        assert_ne!(bake(&lap, &[&bad, "--print"]).code, 0, "{bad}");
    }
    assert_ne!(bake(&lap, &[&url, "-f", "../../etc/passwd", "--print"]).code, 0);
}

/// A blob of an OCI layout.
fn blob(lap: &Lap, layout: &str, digest: &Value) -> Value {
    let hex = digest.as_str().unwrap().trim_start_matches("sha256:");
    serde_json::from_slice(&std::fs::read(lap.path(&format!("{layout}/blobs/sha256/{hex}"))).unwrap()).unwrap()
}

#[test]
fn platforms_attestations_annotations_and_outputs_go_together() {
    needs!(root);
    let lap = Lap::new();
    lap.write("Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\n");
    lap.write("amd64", "x");
    lap.write("arm64", "arm");
    lap.write(
        "docker-bake.hcl",
        "target \"default\" {\n platforms = [\"linux/amd64\", \"linux/arm64\"]\n tags = [\"app\"]\n\
         attest = [{ type = \"provenance\", mode = \"max\" }, \"type=sbom\"]\n\
         annotations = [\"index:title=both\", \"manifest[linux/arm64]:title=arm\"]\n\
         output = [\"type=oci,dest=out,tar=false\", { type = \"local\", dest = \"files\" }, { type = \"image\" }]\n}\n",
    );
    bake(&lap, &["--metadata-file", "facts.json"]).ok();
    assert_eq!(std::fs::read_to_string(lap.path("files/linux_arm64/arch")).unwrap(), "arm");
    assert!(lap.path("files/linux_amd64/provenance.json").exists());
    let layout: Value = serde_json::from_slice(&std::fs::read(lap.path("out/index.json")).unwrap()).unwrap();
    let index = blob(&lap, "out", &layout["manifests"][0]["digest"]);
    assert_eq!(index["annotations"]["title"], "both");
    let manifests = index["manifests"].as_array().unwrap();
    let images: Vec<&Value> = manifests.iter().filter(|one| one["platform"]["os"] == "linux").collect();
    assert_eq!((images.len(), manifests.len()), (2, 4), "{index:#}");
    let arm = images.iter().find(|one| one["platform"]["architecture"] == "arm64").unwrap();
    assert_eq!(blob(&lap, "out", &arm["digest"])["annotations"]["title"], "arm");
    let facts: Value = serde_json::from_slice(&std::fs::read(lap.path("facts.json")).unwrap()).unwrap();
    assert_eq!(facts["default"]["containerimage.digest"], layout["manifests"][0]["digest"]);
    lap.run(&["inspect", "app"]).ok();
    // What is attested may be changed from outside.
    let flags = ["--provenance=false", "--sbom=false", "--set", "*.output=type=oci,dest=one,tar=false"];
    bake(&lap, &flags).ok();
    let layout: Value = serde_json::from_slice(&std::fs::read(lap.path("one/index.json")).unwrap()).unwrap();
    let index = blob(&lap, "one", &layout["manifests"][0]["digest"]);
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2), "{index:#}");
}

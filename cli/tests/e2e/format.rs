//! `--format`: templates, tables and JSON, with podman beside where both know a field.

use crate::support::{Lap, needs, run};

/// What `lap` says with the newline at its end.
fn said(lap: &Lap, args: &[&str]) -> String {
    lap.run(args).ok().out
}

#[test]
fn inspect_answers_dockers_templates() {
    needs!(root);
    let lap = Lap::new();
    lap.build("app", "FROM busybox\nENV A=b\nLABEL com.example.x=y\nEXPOSE 80\nCMD [\"sleep\", \"100\"]\n").ok();
    lap.write("src/f", "x");
    let volume = format!("{}:/dst:ro", lap.path("src").display());
    said(&lap, &["run", "-d", "--name", "web", "-v", &volume, "--memory", "64m", "app"]);
    let inspect = |template: &str| said(&lap, &["inspect", "-f", template, "web"]);
    let image_env = said(&lap, &["inspect", "--type", "image", "-f", "{{json .Config.Env}}", "app"]);
    let address = inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    assert_eq!(address.trim(), lap.run(&["inspect", "web"]).ok().json()[0]["NetworkSettings"]["IPAddress"]);
    assert_eq!(inspect("{{.Mounts}}"), format!("[{{bind  {} /dst  ro false rprivate}}]\n", lap.path("src").display()));
    assert_eq!(inspect("{{.State.Status}} {{.HostConfig.Memory}} {{.Name}}"), "running 67108864 /web\n");
    assert_eq!(inspect("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}"), "none\n");
    assert_eq!(inspect("{{json .Config.Cmd}} {{json .HostConfig.CapAdd}}"), "[\"sleep\",\"100\"] null\n");
    assert_eq!(inspect("{{index .Config.Labels \"com.example.x\"}}"), "y\n");
    // The variables that every container gets are not told; the image is called by its ID.
    assert_eq!(inspect("{{json .Config.Env}}"), image_env);
    assert_eq!(inspect("{{.Image}}"), said(&lap, &["inspect", "-f", "{{.Id}}", "app"]));
    assert_eq!(inspect("{{json .Config.StopSignal}} {{json .HostConfig.Init}}"), "\"\" null\n");
    let pid: u32 = inspect("{{.State.Pid}}").trim().parse().unwrap();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());

    let image = |template: &str| said(&lap, &["image", "inspect", "--format", template, "app"]);
    assert_eq!(image("{{.Config.ExposedPorts}} {{.Os}} {{.RepoTags}}"), "map[80/tcp:{}] linux [app:latest]\n");
    assert!(image("{{range .Config.Env}}{{println .}}{{end}}").contains("A=b\n"));
    assert_eq!(image("{{len .RootFS.Layers}}"), "1\n");
    let one = said(&lap, &["inspect", "--format", "json", "app"]);
    assert!(one.starts_with("[{\"Id\":\"sha256:") && one.ends_with("}]\n") && one.lines().count() == 1, "{one}");

    for (template, message) in [
        ("{{.Nope}}", "template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""),
        ("{{.Id", "template: :1: unclosed action"),
        ("{{nope .Id}}", "template: :1: function \"nope\" not defined"),
    ] {
        let error = lap.run(&["inspect", "-f", template, "web"]).code(1).err;
        assert!(error.contains("template parsing error") && error.contains(message), "{error}");
    }
    let mixed = lap.run(&["inspect", "-f", "{{.Name}}", "web", "missing"]).code(1);
    assert_eq!(mixed.out, "/web\n");
    assert!(mixed.err.contains("missing"), "{}", mixed.err);
    assert_eq!(lap.run(&["container", "inspect", "missing"]).code(1).out, "[]\n");
    lap.run(&["container", "rm", "-f", "web"]).ok();
}

#[test]
fn lists_are_tables_templates_and_json() {
    needs!(root);
    let lap = Lap::new();
    lap.build("team/app:1", "FROM busybox\nLABEL tier=web\nRUN true\n").ok();
    let run = ["run", "--name", "done", "--network", "none", "-l", "com.example.my-role=db"];
    lap.run(&[&run[..], &["busybox", "sh", "-c", "exit 3"]].concat()).code(3);
    assert_eq!(said(&lap, &["images", "--format", "{{.Repository}}:{{.Tag}}"]), "team/app:1\nbusybox:latest\n");
    let table = said(&lap, &["image", "ls", "--format", "table {{.Repository}}\\t{{.Tag}}\\t{{upper .Tag}}"]);
    assert_eq!(table, "REPOSITORY   TAG       TAG\nteam/app     1         1\nbusybox      latest    LATEST\n");
    let lines = said(&lap, &["images", "--format", "json"]);
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((lines.lines().count(), first["Repository"].as_str()), (2, Some("team/app")));
    assert!(lines.starts_with("{\"Containers\":\"N/A\",\"CreatedAt\":\""), "{lines}");
    let table = said(&lap, &["images"]);
    assert!(table.starts_with("REPOSITORY   TAG       IMAGE ID       CREATED"), "{table}");

    assert_eq!(
        said(&lap, &["ps", "-a", "--format", "{{.Names}} {{.State}} {{.Label \"com.example.my-role\"}}"]),
        "done exited db\n"
    );
    assert_eq!(
        said(&lap, &["ps", "-a", "--format", "table {{.Names}}\\t{{.Label \"com.example.my-role\"}}"]),
        "NAMES     my role\ndone      db\n"
    );
    assert_eq!(said(&lap, &["ps", "--format", "{{.ID}}"]), "");
    assert_eq!(said(&lap, &["ps", "--format", "table {{.ID}}"]), "CONTAINER ID\n");
    let row: serde_json::Value =
        serde_json::from_str(&said(&lap, &["container", "ls", "-a", "--format", "json"])).unwrap();
    assert_eq!((row["Names"].as_str(), row["Command"].as_str()), (Some("done"), Some("\"sh -c exit 3\"")));
    assert!(said(&lap, &["ps", "-as"]).contains("(virtual "));

    let commands = said(&lap, &["history", "--format", "{{.CreatedBy}}", "--no-trunc", "team/app:1"]);
    assert!(commands.starts_with("RUN /bin/sh -c true"), "{commands}");
    assert_eq!(said(&lap, &["history", "-q", "team/app:1"]).lines().last(), Some("<missing>"));
    let sizes = said(&lap, &["history", "--human=false", "--format", "{{.Size}}", "busybox"]);
    assert!(sizes.trim().parse::<u64>().unwrap() > 1000, "{sizes}");

    let version = said(&lap, &["version", "--format", "{{.Client.Version}} {{.Server.Os}}"]);
    assert_eq!(version, format!("{} linux\n", env!("CARGO_PKG_VERSION")));
    let error = lap.run(&["images", "--format", "{{.Nope}}"]).code(1).err;
    assert!(error.contains("can't evaluate field Nope in type *formatter.imageContext"), "{error}");
}

#[test]
fn images_and_containers_are_filtered() {
    needs!(root);
    let lap = Lap::new();
    lap.build("team/app:1", "FROM busybox\nLABEL tier=web\nRUN echo 1 > /a\n").ok();
    // The first loses its name.
    lap.build("team/app:1", "FROM busybox\nLABEL tier=db\nRUN echo 2 > /a\n").ok();
    let names = |flags: &[&str]| {
        let mut args = vec!["images", "--format", "{{.Repository}}:{{.Tag}}"];
        args.extend(flags);
        said(&lap, &args)
    };
    assert_eq!(names(&["-f", "reference=team/*"]), "team/app:1\n");
    assert_eq!(names(&["-f", "reference=busy*", "-f", "reference=*/app:1"]), "team/app:1\nbusybox:latest\n");
    assert_eq!(names(&["busybox"]), "busybox:latest\n");
    assert_eq!(names(&["docker.io/library/busybox:latest"]), "busybox:latest\n");
    assert_eq!(names(&["--filter", "label=tier=db"]), "team/app:1\n");
    assert_eq!(names(&["--filter", "label=tier", "-f", "dangling=false"]), "team/app:1\n");
    assert_eq!(names(&["--filter", "dangling=true", "-f", "label=tier=web"]), "<none>:<none>\n");
    assert_eq!(names(&["--filter", "until=1000000000"]), "");
    assert!(lap.run(&["images", "-f", "nope=1"]).code(1).err.contains("invalid filter 'nope'"));
    assert!(lap.run(&["images", "-f", "before=nothing"]).code(1).err.contains("nothing"));

    for name in ["one", "two"] {
        said(&lap, &["run", "--name", name, "--network", "none", "-l", &format!("n={name}"), "busybox", "true"]);
    }
    let names = |flags: &[&str]| {
        let mut args = vec!["ps", "-a", "--format", "{{.Names}}"];
        args.extend(flags);
        said(&lap, &args)
    };
    assert_eq!(names(&["-f", "name=on"]), "one\n");
    assert_eq!(names(&["-f", "label=n=two"]), "two\n");
    assert_eq!(names(&["-f", "status=exited", "-f", "exited=0"]), "two\none\n");
    assert_eq!(names(&["-f", "since=one"]), "two\n");
    assert_eq!(names(&["-f", "before=two", "-f", "ancestor=busybox"]), "one\n");
    assert_eq!(names(&["-l"]), "two\n");
    assert!(lap.run(&["ps", "-f", "nope=1"]).code(1).err.contains("invalid filter 'nope'"));
}

#[test]
fn podman_agrees_on_templates() {
    needs!(root);
    needs!("podman");
    needs!("skopeo");
    let lap = Lap::new();
    lap.build(
        "agreed",
        "FROM busybox\nENV A=b C=\"d e\"\nLABEL x=y z=\"a b\"\nWORKDIR /w\nCMD [\"sh\", \"-c\", \"echo <&>\"]\n",
    )
    .ok();
    lap.run(&["save", "-o", "a.tar", "agreed"]).ok();
    let store = lap.path("podman");
    let podman = |args: &[&str]| {
        let root = [store.join("root"), store.join("run")].map(|path| path.display().to_string());
        let mut all = vec!["--root", &root[0], "--runroot", &root[1], "--storage-driver", "vfs"];
        all.extend(args);
        run("podman", &all)
    };
    podman(&["load", "-q", "-i", lap.path("a.tar").to_str().unwrap()]).ok();
    for template in [
        "{{.Config.Env}}",
        "{{json .Config.Env}}",
        "{{json .Config.Cmd}}",
        "{{.Config.Labels}}",
        "{{json .Config.Labels}}",
        "{{index .Config.Labels \"x\"}}",
        "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
        "{{range $i, $e := .Config.Env}}{{if $i}}, {{end}}{{printf \"%q\" $e}}{{end}}",
        "{{.Config.WorkingDir}}|{{.Os}}|{{.Architecture}}",
        "{{len .Config.Env}} {{len .RootFS.Layers}} {{.RootFS.Type}}",
        "{{join .Config.Env \",\"}} {{upper .Os}} {{(index .Config.Cmd 2) | printf \"%-12s|\"}}",
        "{{with .Config}}{{slice .WorkingDir 1}}{{end}}{{- /* c */ -}} x",
        "{{if and (eq .Os \"linux\") (gt (len .Config.Env) 1)}}yes{{else}}no{{end}}",
        "{{.Id}}",
    ] {
        let theirs = podman(&["image", "inspect", "--format", template, "localhost/agreed"]);
        let theirs =
            if theirs.code == 0 { theirs } else { podman(&["image", "inspect", "--format", template, "agreed"]) };
        let ours = said(&lap, &["image", "inspect", "--format", template, "agreed"]);
        // Podman leaves the algorithm of an ID away.
        assert_eq!(ours.trim_start_matches("sha256:"), theirs.ok().out, "{template}");
    }
}

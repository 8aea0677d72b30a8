//! `lap image tree` and `lap diff`: looking into images.

use serde_json::Value;

use crate::support::{Lap, has, needs, run};

/// Names that would act in a page or on a terminal.
const MARKUP: &str = "<script>document.title=1<!--.js";
const CONTROL: &str = "esc\x1b]0;x\x07\u{202e}red.bin";

/// An image of which a known part is wasted.
fn heavy(lap: &Lap) {
    for (name, size) in [("a.so", 100_000), ("b.so", 60_000), (MARKUP, 50_000), (CONTROL, 40_000), ("small", 7)] {
        lap.write(&format!("ctx/lib/{name}"), vec![b'x'; size]);
    }
    let text =
        "FROM scratch\nCOPY lib /usr/lib/app/\nCOPY lib/a.so /big\nCOPY --chmod=600 lib/b.so /usr/lib/app/b.so\n";
    lap.build("heavy", text).ok();
    // The same image with a layer that removes.
    let from =
        "FROM busybox AS tool\nFROM heavy\nRUN --mount=from=tool,target=/t [\"/t/bin/busybox\", \"rm\", \"/big\"]\n";
    lap.build("heavy", from).ok();
}

#[test]
fn a_tree_tells_what_is_heavy_and_what_is_wasted() {
    needs!(root);
    let lap = Lap::new();
    heavy(&lap);
    let shown = lap.run(&["image", "tree", "heavy"]).ok().out;
    for part in [
        "linux/amd64  410kB in 4 layers",
        "├─ 1    250kB  COPY lib /usr/lib/app/",
        "60kB  /usr/lib/app/b.so  (replaced in layer 3)",
        "100kB  /big  (removed in layer 4)",
        "└─ 4       0B  RUN",
        "Efficiency: 61.0 %",
        "Wasted:     160kB",
    ] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    assert!(!shown.contains(['\x1b', '\x07', '\u{202e}']), "names are text: {shown}");
    let json = lap.run(&["image", "tree", "--json", "-n", "2", "heavy"]).ok().json();
    assert_eq!(json["image"]["sizeBytes"], 410_007);
    assert_eq!(json["image"]["inefficientBytes"], 160_000);
    let wasted = json["image"]["fileReference"].as_array().unwrap();
    let files: Vec<&str> = wasted.iter().map(|file| file["file"].as_str().unwrap()).collect();
    assert_eq!(files, ["/big", "/usr/lib/app/b.so"]);
    assert_eq!(json["layer"][0]["sizeBytes"], 250_007);
    assert_eq!(json["layer"][0]["wastedBytes"], 60_000);
    assert_eq!(json["layer"][0]["largestFiles"].as_array().unwrap().len(), 2);
    assert_eq!(json["layer"][1]["largestFiles"][0]["hiddenByLayer"], 3);
    // A gate for CI.
    lap.run(&["image", "tree", "--max-wasted", "40%", "heavy"]).ok();
    lap.run(&["image", "tree", "--max-wasted", "200k", "heavy"]).ok();
    let said = lap.run(&["image", "tree", "--max-wasted", "39%", "heavy"]).code(1);
    assert!(said.err.contains("160kB of 410kB are wasted"), "{}", said.err);
    lap.run(&["image", "tree", "--max-wasted", "100k", "heavy"]).code(1);
    lap.run(&["image", "tree", "--max-wasted", "much", "heavy"]).code(2);
    lap.run(&["image", "tree", "none"]).code(1);
}

#[test]
fn a_tree_becomes_a_page_that_a_browser_shows() {
    needs!(root);
    let lap = Lap::new();
    heavy(&lap);
    let page = lap.path("page.html");
    let said = lap.run(&["image", "tree", "--html", page.to_str().unwrap(), "heavy"]).ok();
    assert_eq!(said.out.trim(), page.to_str().unwrap());
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("src="), "self-contained");
    assert_eq!(text.matches("<script").count(), 2, "data and our own script");
    assert!(!text.contains(['\x1b', '\u{202e}']));
    let chromium = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| has("page", name));
    let Some(chromium) = chromium else { return };
    let dom = |fragment: &str| {
        let data = format!("--user-data-dir={}", lap.path("chromium").display());
        let address = format!("file://{}{fragment}", page.display());
        let flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1200,900",
            data.as_str(),
            "--dump-dom",
            address.as_str(),
        ];
        // The script itself, which holds the same words, is not what was drawn.
        let seen = run(chromium, &flags).ok().out;
        let end = seen.find("<script").unwrap();
        seen[..end].to_owned()
    };
    let start = dom("");
    assert!(start.contains("<title>heavy: what is heavy</title>"), "{start}");
    // Image, all, wasted and four layers; the map has a link into the only directory.
    assert_eq!(start.matches("class=\"what\"").count(), 7, "{start}");
    assert!(start.contains("<a class=\"box\" title=\"usr/, 250kB, layer 1, 3\""), "{start}");
    assert!(!start.contains(">big<"), "what is removed is not in the image: {start}");
    // Into the directory, as a click on it and its only child does.
    let inside = dom("#v=image&p=0.0.0");
    assert!(inside.contains("aria-current=\"page\">app/</a>"), "{inside}");
    assert!(inside.contains("&lt;script&gt;document.title=1&lt;!--.js"), "names stay text: {inside}");
    assert!(inside.contains("<td>a.so</td>") && !inside.contains("hidden by layer"), "{inside}");
    // By layer, and what is wasted.
    assert!(dom("#v=1").contains("<td>big  (hidden by layer 4)</td>"));
    let wasted = dom("#v=wasted&p=0.0.0");
    assert!(wasted.contains("b.so  (hidden by layer 3)") && !wasted.contains("<td>a.so</td>"), "{wasted}");
    // An address that somebody made up shows what there is.
    assert!(dom("#v=%3Cscript%3E&p=9.x.9999999999999999").contains("Nothing here."));
}

#[test]
fn two_images_differ_in_files_and_config_by_layer() {
    needs!(root);
    let lap = Lap::new();
    lap.write("ctx/one", "1");
    lap.write("ctx/two", "2");
    let base = "FROM busybox\nCOPY one /kept\n";
    lap.build(
        "before",
        &format!("{base}COPY one /changed\nCOPY one /gone\nRUN ln -s a /link && echo x > /same\nENV A=1 B=2\n"),
    )
    .ok();
    lap.build(
        "after",
        &format!(
            "{base}COPY two /changed\nCOPY --chmod=600 --chown=5:6 one /new\nRUN ln -s b /link && chmod 700 /kept\nRUN touch -d 2001-01-01 /kept\nENV A=1 B=3\nUSER 7\n"
        ),
    )
    .ok();
    let text = lap.run(&["diff", "before", "after"]).ok().out;
    for part in [
        "--- before\n+++ after\n2 layers are shared\n",
        "+ layer 3  COPY two /changed # buildkit\n  C /changed  (content",
        "  A /new  1B\n",
        "  C /link  (target a → b",
        "  C /kept  (mode 0644 → 0700, mtime ",
        "  D /gone  1B\n",
        "config\n",
        "  C config.Env.B: \"2\" → \"3\"\n",
        "  A config.User: \"7\"\n",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(!text.contains("config.Env.A") && !text.contains("C /bin"), "{text}");
    let json = lap.run(&["diff", "--json", "--ignore", "mtime", "before", "after"]).ok().json();
    let find = |path: &str| -> Value {
        let files = json["files"].as_array().unwrap();
        files.iter().find(|file| file["path"] == path).cloned().unwrap_or(Value::Null)
    };
    assert_eq!(find("/changed")["differs"], serde_json::json!(["content"]));
    assert_eq!((&find("/changed")["change"], &find("/gone")["change"]), (&"changed".into(), &"removed".into()));
    let new = find("/new");
    assert_eq!(
        (&new["after"]["uid"], &new["after"]["gid"], &new["after"]["mode"]),
        (&5.into(), &6.into(), &"0600".into())
    );
    assert_eq!(json["before"]["layers"][0]["shared"], true);
    assert_eq!(json["after"]["layers"][2]["shared"], false);

    lap.run(&["diff", "--exit-code", "before", "after"]).code(1);
    assert_eq!(lap.run(&["diff", "-q", "before", "after"]).code(1).out, "");
    assert_eq!(lap.run(&["diff", "--exit-code", "before", "before"]).ok().out.lines().last(), Some("no differences"));
    lap.run(&["diff", "before", "none"]).code(1);
    let alone = lap.run(&["diff", "before"]).code(1);
    assert!(alone.err.contains("try: name a second image"), "{}", alone.err);
}

#[test]
fn what_a_container_changed_is_told_as_docker_does() {
    needs!(root);
    let lap = Lap::new();
    let script = "echo a > /new; rm /bin/vi; mkdir /d; echo b > /d/x; echo more >> /etc/group; touch /tmp/t; rm /tmp/t";
    lap.run(&["run", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]).ok();
    let said = lap.run(&["diff", "box"]).ok().out;
    let lines: Vec<&str> = said.lines().collect();
    for line in ["A /new", "D /bin/vi", "C /bin", "A /d", "A /d/x", "C /etc", "C /etc/group"] {
        assert!(lines.contains(&line), "{line} is missing in {said}");
    }
    assert!(!said.contains("/tmp/t") && lines.is_sorted_by_key(|line| &line[2..]), "{said}");
    assert_eq!(lap.run(&["container", "diff", "box"]).ok().out, said);
    let json = lap.run(&["diff", "--json", "box"]).ok().json();
    assert!(json.as_array().unwrap().contains(&serde_json::json!({"Path": "/new", "Kind": 1})), "{json}");
    lap.run(&["diff", "nobody"]).code(1);
}

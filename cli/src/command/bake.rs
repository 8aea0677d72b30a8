//! `lap bake`: files to targets, each target to the flags of `lap build`, all of them solved as one graph.
//!
//! A target becomes the command line that builds it alone, so it means what the flags mean.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use clap::{CommandFactory as _, Parser as _};
use lap_solver::platform::Platform;
use serde_json::{Map, Value, json};

use super::build;
use crate::args::{Bake, Build, Command, Lap};
use crate::bake::{self, Config, DEFAULT_FILES, Resolved, Source, Target, entry_text};
use crate::command::App;
use crate::pipeline::{self, Built, Job, Request};
use crate::ui::error::Hint as _;
use crate::ui::table::table;
use crate::ui::{Mode, Screen};

/// Largest bake file that is read.
const FILE_LIMIT: u64 = 16 << 20;
/// Files may nest deep; only what is used of it is ever there.
const STACK: usize = 256 << 20;

pub(super) fn run(app: &App, args: &Bake) -> anyhow::Result<i32> {
    let files = read(args)?;
    let config = evaluate(args, &files)?;
    if let Some(what) = &args.list {
        return list(&config, what);
    }
    let names = if args.targets.is_empty() { vec!["default".to_owned()] } else { args.targets.clone() };
    let mut resolved = config.resolve(&names, &overrides(args))?;
    if args.print {
        outln!("{}", serde_json::to_string_pretty(&resolved)?)?;
        return Ok(0);
    }
    if args.check {
        for target in resolved.target.values_mut() {
            target.call = Some("check".to_owned());
        }
    }
    allow(args, &resolved)?;
    let order = order(&resolved);
    let mut requests = Vec::with_capacity(order.len());
    let mut calls = Vec::new();
    for name in &order {
        let parsed = parsed(args, &resolved.target[name]).with_context(|| format!("target {name}"))?;
        let mut request = build::request(app, &parsed).with_context(|| format!("target {name}"))?;
        if let Some(call) = parsed.call.and_then(|called| called.0).filter(|_| !resolved.linked.contains(name)) {
            calls.push((name, request, call));
            continue;
        }
        pipeline::settle_epoch(app, &mut request)?;
        requests.push(request);
    }
    if !calls.is_empty() {
        let mut worst = 0;
        for (name, request, call) in calls {
            eprintln!("target {name}:");
            worst = super::call::answer(app, request, &call)?.max(worst);
        }
        return Ok(worst);
    }
    pipeline::tell_apart(&mut requests);
    let jobs: Vec<Job<'_>> =
        order.iter().zip(&requests).map(|(name, request)| job(&resolved, &order, name, request)).collect();
    let mode = build::mode(&app.settings, false, args.progress)?;
    let screen = Screen::start(mode, app.settings.color);
    let built = pipeline::build_all(app, &jobs, &screen);
    screen.finish();
    let reported = built.and_then(|built| report(args, mode, &order, &built));
    super::collect::collect(app);
    reported.map(|()| 0)
}

/// The files that are named, or all that have one of the usual names.
fn read(args: &Bake) -> anyhow::Result<Vec<Source>> {
    use std::io::Read as _;
    let mut sources = Vec::new();
    let mut add = |name: &str, reader: &mut dyn std::io::Read| -> anyhow::Result<()> {
        let mut text = Vec::new();
        reader.take(FILE_LIMIT + 1).read_to_end(&mut text).with_context(|| format!("cannot read {name}"))?;
        if text.len() as u64 > FILE_LIMIT {
            bail!("{name} is larger than {FILE_LIMIT} bytes: no bake file");
        }
        let text = String::from_utf8(text).map_err(|_| anyhow::anyhow!("{name} is no text of UTF-8"))?;
        sources.push(Source::new(name, text.strip_prefix('\u{feff}').unwrap_or(&text)));
        Ok(())
    };
    for path in &args.files {
        if path.as_os_str() == "-" {
            add("standard input", &mut std::io::stdin().lock())?;
            continue;
        }
        let mut file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        add(&path.display().to_string(), &mut file)?;
    }
    if args.files.is_empty() {
        for name in DEFAULT_FILES {
            match std::fs::File::open(name) {
                Ok(mut file) => add(name, &mut file)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("cannot read {name}")),
            }
        }
    }
    if sources.is_empty() {
        return Err(anyhow::anyhow!("there is no bake file here")).hint("name one with -f, or write docker-bake.hcl");
    }
    Ok(sources)
}

fn evaluate(args: &Bake, files: &[Source]) -> anyhow::Result<Config> {
    let given: BTreeMap<&str, Option<&str>> =
        args.variables.iter().map(|pair| (pair.key.as_str(), pair.value.as_deref())).collect();
    let environment = |name: &str| match given.get(name) {
        Some(Some(value)) => Some((*value).to_owned()),
        _ => std::env::var(name).ok(),
    };
    let builtin = BTreeMap::from([
        ("BAKE_CMD_CONTEXT".to_owned(), "cwd://".to_owned()),
        ("BAKE_LOCAL_PLATFORM".to_owned(), Platform::host().to_string()),
    ]);
    std::thread::scope(|scope| {
        let work = || bake::load(files, &environment, builtin);
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work)?;
        let loaded = thread.join().map_err(|_| anyhow::anyhow!("internal error: the bake file broke its reader"))?;
        Ok(loaded?)
    })
}

/// Flags that are short for `--set '*.KEY=…'`.
fn overrides(args: &Bake) -> Vec<String> {
    let flag = |given: bool, text: &str| given.then(|| text.to_owned());
    let attest = |kind: &str, given: &Option<String>| {
        given.as_ref().map(|options| match options.as_str() {
            "" | "true" => format!("*.attest=type={kind}"),
            "false" => format!("*.attest=type={kind},disabled=true"),
            options => format!("*.attest=type={kind},{options}"),
        })
    };
    let flags = [
        flag(args.no_cache, "*.no-cache=true"),
        flag(args.pull, "*.pull=true"),
        flag(args.push, "*.push=true"),
        flag(args.load, "*.load=true"),
        attest("provenance", &args.provenance),
        attest("sbom", &args.sbom),
    ];
    flags.into_iter().flatten().chain(args.set.iter().cloned()).collect()
}

fn list(config: &Config, what: &str) -> anyhow::Result<i32> {
    let text = if what == "targets" {
        let groups = config.groups.iter().map(|(name, group)| (name, &group.description));
        let targets = config.targets.iter().map(|(name, target)| (name, &target.description));
        let mut rows: Vec<Vec<String>> = groups
            .chain(targets)
            // Names that begin so are only inherited from.
            .filter(|(name, _)| !name.starts_with('_'))
            .map(|(name, description)| vec![name.clone(), description.clone().unwrap_or_default()])
            .collect();
        rows.sort();
        rows.dedup_by(|one, two| one[0] == two[0]);
        table(&["TARGET", "DESCRIPTION"], &rows)
    } else {
        let row = |variable: &bake::Listed| {
            let value = variable.value.to_text().unwrap_or_else(|_| variable.value.to_json().to_string());
            let (kind, description) = (variable.kind.clone(), variable.description.clone());
            vec![variable.name.clone(), kind.unwrap_or_default(), value, description.unwrap_or_default()]
        };
        let rows: Vec<Vec<String>> = config.variables.iter().map(row).collect();
        table(&["VARIABLE", "TYPE", "VALUE", "DESCRIPTION"], &rows)
    };
    outln!("{}", text.trim_end())?;
    Ok(0)
}

/// What targets ask for and the user did not allow.
fn allow(args: &Bake, resolved: &Resolved) -> anyhow::Result<()> {
    for known in &args.allow {
        let name = known.split('=').next().unwrap_or_default();
        if !["network.host", "security.insecure", "fs", "fs.read", "fs.write", "ssh", "device", "*"].contains(&name) {
            bail!("--allow {known}: known are network.host, security.insecure, fs, fs.read, fs.write and ssh");
        }
    }
    let allowed = |wanted: &str| args.allow.iter().any(|word| word == wanted || word == "*");
    for (name, target) in &resolved.target {
        let granted = |wanted: &str| {
            let set = args.set.iter().filter_map(|set| set.split_once(".entitlements")).map(|(_, value)| value);
            set.into_iter().any(|value| value.trim_start_matches(['+', '=']) == wanted)
        };
        for wanted in target.entitlements.iter().flatten() {
            if !allowed(wanted) && !granted(wanted) {
                return Err(anyhow::anyhow!("target {name} asks for {wanted}, which is not allowed"))
                    .hint(format!("--allow {wanted}"));
            }
        }
    }
    Ok(())
}

/// Targets after those whose results they use.
fn order(resolved: &Resolved) -> Vec<String> {
    fn visit(name: &str, resolved: &Resolved, order: &mut Vec<String>) {
        if order.iter().any(|other| other == name) {
            return;
        }
        // There are no circles: resolving has refused them.
        for other in resolved.target.get(name).into_iter().flat_map(links) {
            visit(&other.1, resolved, order);
        }
        order.push(name.to_owned());
    }
    let mut order = Vec::new();
    for name in resolved.target.keys() {
        visit(name, resolved, &mut order);
    }
    order
}

/// Contexts that are other targets: name, and target.
fn links(target: &Target) -> impl Iterator<Item = (String, String)> {
    let link = |(name, place): (&String, &String)| Some((name.clone(), place.strip_prefix("target:")?.to_owned()));
    target.contexts.iter().filter_map(link)
}

fn job<'a>(resolved: &Resolved, order: &[String], name: &str, request: &'a Request) -> Job<'a> {
    let position = |(context, other): (String, String)| Some((context, order.iter().position(|own| *own == other)?));
    Job {
        request,
        name: name.to_owned(),
        linked: links(&resolved.target[name]).filter_map(position).collect(),
        wanted: !resolved.linked.contains(name),
    }
}

/// A target as the flags of `lap build`.
fn parsed(args: &Bake, target: &Target) -> anyhow::Result<Build> {
    let lap = Lap::try_parse_from(words(args, target)?).map_err(|error| {
        let text = error.to_string();
        anyhow::anyhow!("{}", text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
    })?;
    let Command::Build(mut parsed) = lap.command else { bail!("internal error: no build") };
    parsed.inline.clone_from(&target.dockerfile_inline);
    Ok(*parsed)
}

/// The flags of a target.
fn words(args: &Bake, target: &Target) -> anyhow::Result<Vec<String>> {
    let command = Lap::command();
    let build = command.find_subcommand("build").context("internal error: no build")?;
    let known = |name: &str| build.get_arguments().any(|argument| argument.get_long() == Some(name));
    let mut words = vec!["lap".to_owned(), "build".to_owned()];
    let mut flag = |name: &str, value: &str| {
        if known(name) {
            words.push(format!("--{name}={value}"));
        } else {
            eprintln!("lap: {name} is not supported yet: {value} has no effect");
        }
    };
    let context = target.context.as_deref().unwrap_or(".");
    let context = match context.strip_prefix("cwd://") {
        Some("") => ".",
        Some(path) => path,
        None => context,
    };
    if context == "-" || target.dockerfile.as_deref() == Some("-") {
        bail!("neither the context nor the Dockerfile of a target can be standard input");
    }
    let remote = context.contains("://") || context.starts_with("git@");
    if target.dockerfile_inline.is_none()
        && let Some(path) = &target.dockerfile
    {
        let path = path.strip_prefix("cwd://").unwrap_or(path);
        // A name of the file system is seen from the context, one of a remote context stays as it is.
        let inside = std::path::Path::new(context).join(path);
        if path != "Dockerfile" {
            flag("file", &if remote { path.to_owned() } else { inside.display().to_string() });
        }
    }
    for (name, value) in &target.args {
        flag("build-arg", &format!("{name}={value}"));
    }
    for (name, value) in &target.labels {
        flag("label", &format!("{name}={value}"));
    }
    for (name, place) in target.contexts.iter().filter(|(_, place)| !place.starts_with("target:")) {
        flag("build-context", &format!("{name}={}", place.strip_prefix("cwd://").unwrap_or(place)));
    }
    for (name, address) in &target.extra_hosts {
        for address in address.split(',') {
            flag("add-host", &format!("{name}={address}"));
        }
    }
    let lists = [
        ("tag", &target.tags),
        ("no-cache-filter", &target.no_cache_filter),
        ("ulimit", &target.ulimits),
        ("annotation", &target.annotations),
        ("allow", &target.entitlements),
    ];
    for (name, values) in lists {
        values.iter().flatten().for_each(|value| flag(name, value));
    }
    // Without a file, `type=docker` loads the image where containers are run from: the store has it.
    let loaded =
        |entry: &&bake::Entry| entry.get("type").is_some_and(|kind| kind == "docker") && !entry.contains_key("dest");
    for entry in target.output.iter().flatten().filter(|entry| !loaded(entry)) {
        flag("output", &entry_text(entry));
    }
    let entries = [
        ("cache-from", &target.cache_from),
        ("cache-to", &target.cache_to),
        ("secret", &target.secret),
        ("attest", &target.attest),
    ];
    for (name, values) in entries {
        values.iter().flatten().for_each(|entry| flag(name, &entry_text(entry)));
    }
    for agent in target.ssh.iter().flatten() {
        let id = agent.get("id").map_or("default", String::as_str);
        flag("ssh", &agent.get("paths").map_or_else(|| id.to_owned(), |paths| format!("{id}={paths}")));
    }
    if let Some(platforms) = target.platforms.as_ref().filter(|platforms| !platforms.is_empty()) {
        flag("platform", &platforms.join(","));
    }
    let call = target.call.as_ref().map(|call| call.replacen("lint", "check", 1));
    let single =
        [("target", &target.target), ("network", &target.network), ("shm-size", &target.shm_size), ("call", &call)];
    for (name, value) in single {
        if let Some(value) = value {
            flag(name, value);
        }
    }
    for mirror in &args.registry_mirrors {
        flag("registry-mirror", &format!("{}={}", mirror.key, mirror.value.as_deref().unwrap_or_default()));
    }
    let switches = [("no-cache", target.no_cache), ("pull", target.pull)];
    words.extend(switches.iter().filter(|(_, given)| *given == Some(true)).map(|(name, _)| format!("--{name}")));
    words.extend(["--".to_owned(), context.to_owned()]);
    Ok(words)
}

fn report(args: &Bake, mode: Mode, order: &[String], built: &[Option<Built>]) -> anyhow::Result<()> {
    let built = order.iter().zip(built).filter_map(|(name, built)| Some((name, built.as_ref()?)));
    let mut facts = Map::<String, Value>::new();
    for (name, built) in built {
        facts.insert(name.clone(), build::metadata(built));
        if mode != Mode::Quiet && mode != Mode::Rawjson {
            eprintln!("{name}: {}", built.image.id());
            for name in &built.names {
                eprintln!("named {}", name.familiar());
            }
        }
    }
    if let Some(path) = &args.metadata_file {
        let text = serde_json::to_string_pretty(&json!(facts))?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

//! `lap bake`: files to targets, each target to the flags of `lap build`, all of them solved as one graph.

mod allow;
mod definition;
mod list;
mod words;

use std::collections::BTreeMap;

use anyhow::Context as _;
use lap_solver::platform::Platform;
use serde_json::{Map, Value, json};

use super::build;
use crate::args::{Bake, Call};
use crate::bake::{self, Config, Outside, Resolved, Source, Target};
use crate::command::App;
use crate::pipeline::{self, Built, Job, Request};
use crate::record::Recorder;
use crate::settings::variable;
use crate::ui::{Mode, Screen};
use definition::{Asked, Place};

/// Files may nest deep; only what is used of it is ever there.
const STACK: usize = 256 << 20;

pub(super) fn run(app: &App, args: &Bake) -> anyhow::Result<i32> {
    let asked = Asked::new(&args.targets);
    let (files, place) = asked.read(app, args)?;
    let config = evaluate(args, &asked, &place, &files)?;
    if let Some(listing) = args.listing() {
        return list::list(&config, listing);
    }
    let names = if asked.targets.is_empty() { vec!["default".to_owned()] } else { asked.targets.to_vec() };
    let mut resolved = config.resolve(&names, &overrides(args))?;
    if args.print {
        print(&mut resolved, &place)?;
        return Ok(0);
    }
    if let Some(call) = args.called() {
        // The target is asked, and with it no other that only it uses.
        for target in resolved.target.values_mut() {
            target.call = Some(call.clone());
        }
    }
    allow::allow(args, &place, &resolved)?;
    let order = order(&resolved);
    let mut requests = Vec::with_capacity(order.len());
    let mut calls = Vec::new();
    for name in &order {
        let parsed = words::parsed(args, &place, &resolved.target[name]).with_context(|| format!("target {name}"))?;
        let mut request = build::request(app, &parsed).with_context(|| format!("target {name}"))?;
        if let Some(call) = parsed.call.and_then(|called| called.0).filter(|_| !resolved.linked.contains(name)) {
            calls.push((name, request, call));
            continue;
        }
        pipeline::settle_epoch(app, &mut request)?;
        requests.push(request);
    }
    if !calls.is_empty() {
        return answer(app, &resolved, calls);
    }
    pipeline::tell_apart(&mut requests);
    let jobs: Vec<Job<'_>> =
        order.iter().zip(&requests).map(|(name, request)| job(&resolved, &order, name, request)).collect();
    let mode = build::mode(&app.settings, false, args.progress)?;
    let recorder = Recorder::new(app.store()?, &requests.iter().collect::<Vec<_>>());
    let screen = Screen::recording(mode, &app.settings, Some(recorder));
    let built = pipeline::build_all(app, &jobs, &screen);
    let record = screen.finish();
    let reported = built.and_then(|built| report(args, mode, &order, &built));
    record.keep(reported.as_ref().err());
    super::collect::collect(app);
    reported.map(|()| 0)
}

fn evaluate(args: &Bake, asked: &Asked<'_>, place: &Place, files: &[Source]) -> anyhow::Result<Config> {
    let mut given = BTreeMap::new();
    for pair in &args.variables {
        let value = pair.value.as_deref();
        given.insert(pair.key.as_str(), value.with_context(|| format!("--var {}: write NAME=VALUE", pair.key))?);
    }
    let looks = variable("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP")
        .is_none_or(|text| lap_frontend::go::parse_bool(&text) != Some(true));
    let environment = |name: &str| match given.get(name) {
        Some(value) => Some((*value).to_owned()),
        None if looks => std::env::var(name).ok(),
        None => None,
    };
    let builtin = BTreeMap::from([
        ("BAKE_CMD_CONTEXT".to_owned(), asked.command_context.to_owned()),
        ("BAKE_LOCAL_PLATFORM".to_owned(), Platform::host().to_string()),
    ]);
    std::thread::scope(|scope| {
        let work = || {
            let outside = Outside { environment: &environment, read: &|path| place.read(path) };
            bake::load(files, &outside, builtin)
        };
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work)?;
        let loaded = thread.join().map_err(|_| anyhow::anyhow!("internal error: the bake file broke its reader"))?;
        Ok(loaded?)
    })
}

/// Flags that are short for `--set '*.KEY=…'`.
fn overrides(args: &Bake) -> Vec<String> {
    let flag = |given: bool, text: &str| given.then(|| text.to_owned());
    let switch = |key: &str, given: Option<bool>| given.map(|on| format!("*.{key}={on}"));
    let attest = |kind: &str, given: &Option<String>| {
        given.as_ref().map(|options| match options.as_str() {
            "" | "true" => format!("*.attest=type={kind}"),
            "false" => format!("*.attest=type={kind},disabled=true"),
            options => format!("*.attest=type={kind},{options}"),
        })
    };
    let flags = [
        switch("no-cache", args.no_cache),
        switch("pull", args.pull),
        flag(args.push, "*.push=true"),
        flag(args.load, "*.load=true"),
        attest("provenance", &args.provenance),
        attest("sbom", &args.sbom),
    ];
    args.set.iter().cloned().chain(flags.into_iter().flatten()).collect()
}

/// What would be built, in buildx's JSON.
fn print(resolved: &mut Resolved, place: &Place) -> anyhow::Result<()> {
    for target in resolved.target.values_mut() {
        let Some(context) = &target.context else { continue };
        let shown = match place {
            // Where an archive was unpacked says nothing.
            Place::Unpacked { .. } if !context.starts_with("cwd://") => context.clone(),
            place => place.context(context),
        };
        target.context = Some(if words::is_remote(&shown) { shown } else { definition::clean(&shown) });
    }
    outln!("{}", serde_json::to_string_pretty(resolved)?)?;
    Ok(())
}

/// Answers of every target; one JSON object where all are asked for JSON.
fn answer(app: &App, resolved: &Resolved, calls: Vec<(&String, Request, Call)>) -> anyhow::Result<i32> {
    let mut worst = 0;
    let (json, text): (Vec<_>, Vec<_>) = calls.into_iter().partition(|(_, _, call)| call.is_json());
    for (number, (name, request, call)) in text.into_iter().enumerate() {
        if number > 0 {
            outln!("")?;
        }
        outln!("{name}")?;
        if let Some(description) = &resolved.target[name].description {
            outln!("{description}")?;
        }
        outln!("")?;
        worst = super::call::answer(app, request, &call)?.max(worst);
    }
    if json.is_empty() {
        return Ok(worst);
    }
    let mut targets = Map::new();
    for (name, request, call) in json {
        let (said, code) = super::call::json(app, request, &call)?;
        worst = code.max(worst);
        targets.insert(name.clone(), json!({"build": &resolved.target[name], call.name(): said}));
    }
    outln!("{:#}", json!({"group": &resolved.group, "target": targets}))?;
    Ok(worst)
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

//! `lap build`: flags to a request, the pipeline, and what is said at the end.

use anyhow::{Context as _, bail};
use lap_executor::sandbox::{Limits, Rlimit};
use lap_executor::worker::HOST_GATEWAY;
use lap_solver::graph::Network;
use lap_solver::platform::Platform;
use serde_json::json;

use crate::args::{Annotation, Attestations, Build, Call, Called, KeyValue};
use crate::command::App;
use crate::pipeline::context::{Context, Opener, keeps_git_dir};
use crate::pipeline::failure::Located;
use crate::pipeline::{self, Built, Request};
use crate::record::Recorder;
use crate::settings::{Settings, variable};
use crate::ui::{Mode, Screen};

pub(super) fn run(app: &App, mut args: Build) -> anyhow::Result<i32> {
    if args.platforms.is_empty() {
        args.platforms.extend(app.settings.default_platform.clone());
    }
    let mut request = request(app, &args)?;
    let mode = mode(&app.settings, args.quiet, args.progress)?;
    if mode != Mode::Quiet && mode != Mode::Rawjson {
        for warning in args.ignored.warnings() {
            eprintln!("lap: {warning}");
        }
    }
    let called = args.call.and_then(|called| called.0);
    let old = args.print.as_deref().and_then(|text| text.parse::<Called>().ok()).and_then(|called| called.0);
    if let Some(call) = called.or(old).or_else(|| args.check.then_some(Call::Check { json: false })) {
        return super::call::answer(app, request, &call);
    }
    if let Some(form) = &args.print {
        let screen = Screen::start(mode, &app.settings);
        let graph = pipeline::graph(app, &request, &screen)?;
        drop(screen.finish());
        let printed = match form.as_str() {
            "dot" => graph.to_dot(),
            "svg" => graph.to_svg(),
            _ => serde_json::to_string_pretty(&graph)?,
        };
        outln!("{}", printed.trim_end())?;
        return Ok(0);
    }
    pipeline::settle_epoch(app, &mut request)?;
    let recorder = Recorder::new(app.store()?, &[&request]);
    let screen = Screen::recording(mode, &app.settings, Some(recorder));
    let built = pipeline::build(app, &request, &screen);
    let record = screen.finish();
    let reported = built.and_then(|built| report(&args, mode, &built));
    record.keep(reported.as_ref().err());
    if let (Some(_), Err(error)) = (&args.on_error, &reported) {
        shell(app, &args, error)?;
    }
    super::collect::collect(app);
    reported.map(|()| 0)
}

/// A shell in the step that has failed, if it was a command; the build has failed all the same.
fn shell(app: &App, args: &Build, error: &anyhow::Error) -> anyhow::Result<()> {
    let failed = error.downcast_ref::<Located>().is_some_and(|located| located.kept);
    if !failed {
        return Ok(());
    }
    if !crate::terminal::is_interactive() {
        eprintln!("lap: --on-error shell needs a terminal");
        return Ok(());
    }
    eprint!("{}", crate::ui::error::render(error, app.settings.color));
    super::debug::last(app, &args.secrets, &args.ssh)?;
    Err(crate::exit::WithCode { code: crate::exit::FAILED, error: None }.into())
}

/// The last words: IDs into files, and the ID on standard output, which scripts read.
fn report(args: &Build, mode: Mode, built: &Built) -> anyhow::Result<()> {
    let Built { image, names, .. } = built;
    if let Some(path) = &args.iidfile {
        std::fs::write(path, image.id().to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.metadata_file {
        let text = serde_json::to_string_pretty(&metadata(built))?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let streams = args.outputs.iter().any(pipeline::to_stdout);
    if !streams {
        outln!("{}", image.id())?;
    }
    if mode != Mode::Quiet && mode != Mode::Rawjson {
        for name in names {
            eprintln!("named {}", name.familiar());
        }
    }
    Ok(())
}

/// Facts about a result, as `--metadata-file` has them, by the names of buildx.
pub(super) fn metadata(built: &Built) -> serde_json::Value {
    let Built { image, artifact, names, invocation, provenance } = built;
    let mut descriptor = json!(artifact.descriptor());
    descriptor["annotations"]["config.digest"] = json!(image.id().to_string());
    if let Some(created) = &image.config.created {
        descriptor["annotations"]["org.opencontainers.image.created"] = json!(created);
    }
    let mut metadata = json!({
        "buildx.build.ref": format!("lap/local/{invocation}"),
        "containerimage.config.digest": image.id().to_string(),
        "containerimage.digest": artifact.digest().to_string(),
        "containerimage.descriptor": descriptor,
    });
    match provenance.as_slice() {
        [(_, told)] => metadata["buildx.build.provenance"] = told.clone(),
        several => {
            for (platform, told) in several {
                metadata[format!("buildx.build.provenance/{platform}")] = told.clone();
            }
        }
    }
    if !names.is_empty() {
        metadata["image.name"] = json!(names.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
    }
    metadata
}

/// How progress is shown.
pub(super) fn mode(settings: &Settings, quiet: bool, progress: Option<Mode>) -> anyhow::Result<Mode> {
    if quiet {
        return Ok(Mode::Quiet);
    }
    match (progress, &settings.progress) {
        (Some(mode), _) => Ok(mode),
        (None, Some(text)) => {
            clap::ValueEnum::from_str(text, true).map_err(|_| anyhow::anyhow!("BUILDKIT_PROGRESS={text}: no such mode"))
        }
        (None, None) => Ok(Mode::Auto),
    }
}

/// What the flags mean.
pub(super) fn request(app: &App, args: &Build) -> anyhow::Result<Request> {
    let names = args.tags.iter().map(|name| crate::image::reference(name)).collect::<Result<_, _>>()?;
    let context = Context::parse(&args.context)?;
    let texts = args.platforms.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    let mut platforms: Vec<Platform> = texts.map(platform_of).collect::<Result<_, _>>()?;
    let given = platforms.first().cloned();
    let platform = given.clone().unwrap_or_else(Platform::host);
    if platforms.is_empty() {
        platforms.push(platform.clone());
    }
    let mut seen = std::collections::BTreeSet::new();
    platforms.retain(|platform| seen.insert(platform.clone()));
    let mut options = lap_frontend::Options::new(platform.clone());
    options.platform_given = given.is_some();
    options.build_platform = Platform::host();
    options.build_args = args.build_args.iter().filter_map(with_value).collect();
    if let Some(epoch) = &app.settings.source_date_epoch {
        options.build_args.entry("SOURCE_DATE_EPOCH".to_owned()).or_insert_with(|| epoch.clone());
    }
    options.target.clone_from(&args.target);
    options.labels =
        args.labels.iter().map(|label| (label.key.clone(), label.value.clone().unwrap_or_default())).collect();
    options.no_cache = args.no_cache;
    options.no_cache_filter.clone_from(&args.no_cache_filter);
    options.timeout = args.timeout;
    options.network = match args.network.as_str() {
        "none" => Network::None,
        "host" => Network::Host,
        _ => Network::Default,
    };
    let opener = Opener {
        app,
        mirrors: &args.registry_mirrors,
        secrets: &args.secrets,
        ssh: &args.ssh,
        platforms: &platforms,
        tells: !matches!(mode(&app.settings, args.quiet, args.progress)?, Mode::Quiet | Mode::Rawjson),
        inline: args.inline.as_deref(),
    };
    let opened = opener.open(&context, args.file.as_deref(), keeps_git_dir(&options.build_args))?;
    options.ignore = Some(opened.ignore.clone());
    let mut directories = vec![("context".to_owned(), opened.directory, opened.ignore)];
    for named in &args.build_contexts {
        opener.named(named, &mut options.contexts, &mut directories)?;
    }

    Ok(Request {
        file_name: opened.file_name,
        text: opened.text,
        origin: opened.origin,
        options,
        directories,
        _lease: opened.lease,
        names,
        outputs: args.outputs.clone(),
        push: args.push,
        pull: args.pull,
        cache_from: args.cache_from.clone(),
        cache_to: args.cache_to.clone(),
        mirrors: args.registry_mirrors.clone(),
        secrets: args.secrets.clone(),
        ssh: args.ssh.clone(),
        allow: args.allow.clone(),
        // `--network=host` on the command line is the user's own word.
        host_network: args.network == "host",
        add_hosts: add_hosts_of_steps(&args.add_hosts)?,
        limits: limits(args)?,
        rlimits: args
            .ulimits
            .iter()
            .map(|limit| Rlimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard })
            .collect(),
        shm_size: args.shm_size.map(|size| size.0),
        cgroup_parent: args.cgroup_parent.clone(),
        platforms,
        annotations: {
            let annotations = args.annotations.iter().map(|text| Annotation::of_flag(text).map_err(anyhow::Error::msg));
            annotations.collect::<Result<Vec<_>, _>>().context("--annotation")?.concat()
        },
        reproducible: args.reproducible,
        epoch: None,
        attestations: Attestations::read(&args.attest, args.provenance.as_deref(), args.sbom.as_deref())
            .map_err(anyhow::Error::msg)?,
        started: std::time::SystemTime::now(),
    })
}

/// One of `--platform`; `local` is this machine's.
fn platform_of(text: &str) -> anyhow::Result<Platform> {
    if text == "local" {
        return Ok(Platform::host());
    }
    let told = || format!("--platform {text}");
    let platform = Platform::parse(text, &Platform::host()).with_context(told)?;
    platform.check().with_context(told)?;
    Ok(platform)
}

/// What each RUN step may take.
fn limits(args: &Build) -> anyhow::Result<Limits> {
    let limits = Limits {
        memory: args.memory.map(|size| size.0).filter(|size| *size != 0),
        nano_cpus: args.cpus.map(|cpus| cpus.0),
        pids: args.pids_limit.map(|pids| u64::try_from(pids).unwrap_or(0)),
        ..Limits::default()
    };
    args.old_limits.with(&args.resources, limits).map_err(anyhow::Error::msg)
}

/// `NAME=VALUE`, or the environment's value where only a name was given; nothing where it has none.
pub(super) fn with_value(pair: &KeyValue) -> Option<(String, String)> {
    let value = pair.value.clone().or_else(|| variable(&pair.key))?;
    Some((pair.key.clone(), value))
}

/// `HOST:IP` or `HOST=IP`.
pub(super) fn add_hosts(lines: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |line: &String| {
        let split = line.split_once('=').or_else(|| line.split_once(':')).filter(|(host, _)| !host.is_empty());
        let bare = |text: &str| {
            let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
            inside.unwrap_or(text).parse::<std::net::IpAddr>()
        };
        match split.map(|(host, address)| (host, bare(address))) {
            Some((host, Ok(address))) => Ok((host.to_owned(), address.to_string())),
            _ => bail!("--add-host {line}: write HOST:IP"),
        }
    };
    lines.iter().map(pair).collect()
}

/// The same, where the address may be `host-gateway` too: this machine, as a step's network has it.
fn add_hosts_of_steps(lines: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let mut hosts = Vec::new();
    for line in lines {
        match line.split_once(['=', ':']) {
            Some((host, HOST_GATEWAY)) if !host.is_empty() => hosts.push((host.to_owned(), HOST_GATEWAY.to_owned())),
            _ => hosts.extend(add_hosts(std::slice::from_ref(line))?),
        }
    }
    Ok(hosts)
}

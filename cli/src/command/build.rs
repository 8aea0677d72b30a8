//! `lap build`: flags to a request, the pipeline, and what is said at the end.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use lap_executor::sandbox::{Limits, Rlimit};
use lap_frontend::NamedContext;
use lap_solver::graph::{Network, Source};
use lap_solver::platform::Platform;
use serde_json::json;

use crate::args::{Annotation, Attestations, Build, Call, KeyValue};
use crate::command::App;
use crate::pipeline::{self, Built, Request};
use crate::settings::{Settings, variable};
use crate::ui::error::Hint as _;
use crate::ui::{Mode, Screen};

/// Largest Dockerfile that is read.
const DOCKERFILE_LIMIT: u64 = 16 << 20;

pub(super) fn run(app: &App, args: Build) -> anyhow::Result<i32> {
    let mut request = request(&app.settings, &args)?;
    let called = args.call.and_then(|called| called.0);
    if let Some(call) = called.or(args.check.then_some(Call::Check { json: false })) {
        return super::call::answer(app, request, &call);
    }
    let mode = mode(&app.settings, &args)?;
    let screen = Screen::start(mode, app.settings.color);
    if let Some(form) = &args.print {
        let graph = pipeline::graph(app, &request, &screen)?;
        screen.finish();
        let printed = match form.as_str() {
            "dot" => graph.to_dot(),
            "svg" => graph.to_svg(),
            _ => serde_json::to_string_pretty(&graph)?,
        };
        outln!("{}", printed.trim_end())?;
        return Ok(0);
    }
    pipeline::settle_epoch(&mut request)?;
    let built = pipeline::build(app, &request, &screen);
    screen.finish();
    report(&args, mode, &built?)?;
    Ok(0)
}

/// The last words: IDs into files, and the ID on standard output, which scripts read.
fn report(args: &Build, mode: Mode, built: &Built) -> anyhow::Result<()> {
    let Built { image, artifact, names } = built;
    if let Some(path) = &args.iidfile {
        std::fs::write(path, image.id().to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.metadata_file {
        let mut metadata = json!({
            "containerimage.config.digest": image.id().to_string(),
            "containerimage.digest": artifact.digest().to_string(),
            "containerimage.descriptor": artifact.descriptor(),
        });
        if !names.is_empty() {
            metadata["image.name"] = json!(names.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
        }
        let text = serde_json::to_string_pretty(&metadata)?;
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

fn mode(settings: &Settings, args: &Build) -> anyhow::Result<Mode> {
    if args.quiet {
        return Ok(Mode::Quiet);
    }
    match (args.progress, &settings.progress) {
        (Some(mode), _) => Ok(mode),
        (None, Some(text)) => {
            clap::ValueEnum::from_str(text, true).map_err(|_| anyhow::anyhow!("BUILDKIT_PROGRESS={text}: no such mode"))
        }
        (None, None) => Ok(Mode::Auto),
    }
}

/// What the flags mean.
pub(super) fn request(settings: &Settings, args: &Build) -> anyhow::Result<Request> {
    let names = args.tags.iter().map(|name| crate::image::reference(name)).collect::<Result<_, _>>()?;
    let context = &args.context;
    let is_directory = std::fs::metadata(context)
        .with_context(|| format!("cannot read the build context {}", context.display()))?
        .is_dir();
    if !is_directory {
        bail!("the build context {} is no directory", context.display());
    }
    let (path, text) = dockerfile(context, args.file.as_deref())?;
    let platform = match &args.platform {
        Some(text) if text.contains(',') => {
            bail!("--platform {text}: several platforms in one build are not supported yet; build them one by one")
        }
        Some(text) => Platform::parse(text, &Platform::host())?,
        None => Platform::host(),
    };
    let ignore = ignore_patterns(context, path.as_deref())?;
    let mut options = lap_frontend::Options::new(platform);
    options.platform_given = args.platform.is_some();
    options.build_platform = Platform::host();
    options.build_args = args.build_args.iter().filter_map(with_value).collect();
    if let Some(epoch) = &settings.source_date_epoch {
        options.build_args.entry("SOURCE_DATE_EPOCH".to_owned()).or_insert_with(|| epoch.clone());
    }
    options.target.clone_from(&args.target);
    options.labels =
        args.labels.iter().map(|label| (label.key.clone(), label.value.clone().unwrap_or_default())).collect();
    options.no_cache = args.no_cache;
    options.no_cache_filter.clone_from(&args.no_cache_filter);
    options.network = match args.network.as_str() {
        "none" => Network::None,
        "host" => Network::Host,
        _ => Network::Default,
    };
    options.ignore = Some(ignore.clone());

    let mut directories = vec![("context".to_owned(), context.clone(), ignore)];
    for named in &args.build_contexts {
        let Some(place) = &named.value else { bail!("--build-context {}: write NAME=DIR", named.key) };
        let value = match place.strip_prefix("docker-image://") {
            Some(reference) => NamedContext::Image(reference.to_owned()),
            None if place.contains("://") => {
                bail!("--build-context {}={place}: only directories and docker-image:// are supported yet", named.key)
            }
            None => {
                let directory = PathBuf::from(place);
                std::fs::metadata(&directory).with_context(|| format!("cannot read the build context {place}"))?;
                // A name of a stage or image never has a blank, so it cannot be mistaken for the main context.
                let name = format!("named {}", named.key);
                let ignore = ignore_patterns(&directory, None)?;
                directories.push((name.clone(), directory, ignore));
                NamedContext::Files(Source::Local { name })
            }
        };
        options.contexts.insert(named.key.clone(), value);
    }

    Ok(Request {
        file_name: path.as_deref().map_or_else(|| "Dockerfile".to_owned(), |path| shown(context, path)),
        text,
        options,
        directories,
        names,
        outputs: args.outputs.clone(),
        push: args.push,
        pull: args.pull,
        mirrors: args.registry_mirrors.clone(),
        secrets: args.secrets.clone(),
        ssh: args.ssh.clone(),
        allow: args.allow.clone(),
        // `--network=host` on the command line is the user's own word.
        host_network: args.network == "host",
        add_hosts: add_hosts(&args.add_hosts)?,
        limits: Limits {
            memory: args.memory.map(|size| size.0),
            nano_cpus: args.cpus.map(|cpus| cpus.0),
            pids: args.pids_limit.map(|pids| u64::try_from(pids).unwrap_or(0)),
            ..Limits::default()
        },
        rlimits: args
            .ulimits
            .iter()
            .map(|limit| Rlimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard })
            .collect(),
        shm_size: args.shm_size.map(|size| size.0),
        cgroup_parent: args.cgroup_parent.clone(),
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

/// `NAME=VALUE`, or the environment's value where only a name was given; nothing where it has none.
pub(super) fn with_value(pair: &KeyValue) -> Option<(String, String)> {
    let value = pair.value.clone().or_else(|| variable(&pair.key))?;
    Some((pair.key.clone(), value))
}

/// `HOST:IP` or `HOST=IP`.
pub(super) fn add_hosts(lines: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |line: &String| {
        let split = line.split_once('=').or_else(|| line.split_once(':'));
        match split {
            Some((host, address)) if !host.is_empty() && address.parse::<std::net::IpAddr>().is_ok() => {
                Ok((host.to_owned(), address.to_owned()))
            }
            _ => bail!("--add-host {line}: write HOST:IP"),
        }
    };
    lines.iter().map(pair).collect()
}

/// The Dockerfile's path (none for standard input) and bytes.
fn dockerfile(context: &Path, named: Option<&Path>) -> anyhow::Result<(Option<PathBuf>, Vec<u8>)> {
    if named == Some(Path::new("-")) {
        return Ok((None, read_bounded(std::io::stdin().lock(), "the Dockerfile on standard input")?));
    }
    let path = match named {
        Some(path) => path.to_path_buf(),
        None => {
            let path = context.join("Dockerfile");
            let lower = context.join("dockerfile");
            if !path.exists() && lower.exists() { lower } else { path }
        }
    };
    let file = std::fs::File::open(&path)
        .with_context(|| format!("cannot read the Dockerfile {}", path.display()))
        .hint("name the file with -f, or the directory that has a Dockerfile")?;
    let text = read_bounded(file, &path.display().to_string())?;
    Ok((Some(path), text))
}

fn read_bounded(reader: impl std::io::Read, what: &str) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    reader.take(DOCKERFILE_LIMIT + 1).read_to_end(&mut text).with_context(|| format!("cannot read {what}"))?;
    if text.len() as u64 > DOCKERFILE_LIMIT {
        bail!("{what} is larger than {DOCKERFILE_LIMIT} bytes: no Dockerfile");
    }
    Ok(text)
}

/// The Dockerfile's name as messages have it: relative to the context where it lies there.
fn shown(context: &Path, path: &Path) -> String {
    path.strip_prefix(context).unwrap_or(path).display().to_string()
}

/// Patterns of `<Dockerfile>.dockerignore`, or else of `.dockerignore` in the context.
fn ignore_patterns(context: &Path, dockerfile: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let beside = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in beside.into_iter().chain([context.join(".dockerignore")]) {
        match std::fs::read(&path) {
            Ok(text) => return Ok(lap_frontend::ignore::parse(&String::from_utf8_lossy(&text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
    Ok(Vec::new())
}

//! `lap import`

use std::fs::File;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use lap_cache::image::assemble::Blobs;
use lap_cache::image::{AssembleOptions, Image};
use lap_cache::import::{ImportOptions, import};
use lap_cache::registry::FileRequest;
use lap_executor::source::http;
use lap_solver::event::Events;
use lap_solver::image::ContainerConfig;
use lap_solver::platform::Platform;

use crate::args::Import;
use crate::command::App;
use crate::ui::error::Hint as _;
use crate::ui::table::rfc3339;

/// Largest archive that is fetched, in bytes.
const LARGEST: u64 = 64 << 30;

pub(super) fn run(app: &App, args: Import) -> anyhow::Result<i32> {
    let store = app.store()?;
    let _lease = store.lease()?;
    let platform = match &args.platform {
        Some(text) => Platform::parse(text, &Platform::host())?,
        None => Platform::host(),
    };
    let name = args.name.as_deref().map(crate::image::reference).transpose()?;
    let stdin = args.file == Path::new("-");
    let shown = match url(&args.file) {
        _ if stdin => "standard input".to_owned(),
        // The rest of an address may be a secret.
        Some(url) => http::shown(url),
        None => args.file.display().to_string(),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let options = ImportOptions {
        platform,
        config: config(&args.change)?,
        // As with Docker, where a file lay on this machine is nobody's business.
        comment: Some(args.message.unwrap_or_else(|| {
            format!("Imported from {}", url(&args.file).map_or_else(|| "-".to_owned(), http::shown))
        })),
        created: Some(rfc3339(std::time::Duration::from_secs(now.as_secs()))),
        assemble: AssembleOptions { blobs: Blobs::Deferred, ..AssembleOptions::default() },
    };
    let failed = || format!("cannot import {shown}");
    let image: Image = match url(&args.file) {
        _ if stdin => import(store, std::io::stdin(), &options, &Events::none()),
        Some(url) => import(store, fetch(app, url).with_context(failed)?, &options, &Events::none()),
        None => import(store, File::open(&args.file).with_context(failed)?, &options, &Events::none()),
    }
    .with_context(failed)?;
    if let Some(name) = &name {
        store.name_set(name, &image)?;
    }
    store.sync()?;
    outln!("{}", image.id())?;
    Ok(0)
}

/// An address of a web server.
fn url(file: &Path) -> Option<&str> {
    file.to_str().filter(|text| text.starts_with("http://") || text.starts_with("https://"))
}

/// A file of a web server, in a place that is gone with it.
fn fetch(app: &App, url: &str) -> anyhow::Result<File> {
    let place = app.store()?.workspace()?;
    let path = place.upper().join("archive");
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    let request = FileRequest { url: url.to_owned(), limit: LARGEST, ..FileRequest::default() };
    let client = crate::registry::client(&app.settings, &[])?;
    let into = file.try_clone()?;
    crate::registry::block_on(async { Ok(client.fetch_file(&request, into, &Events::none()).await?) })?;
    let mut file = file;
    std::io::Seek::rewind(&mut file)?;
    Ok(file)
}

/// Instructions that Docker takes as changes, too.
const CHANGES: [&str; 11] = [
    "cmd",
    "entrypoint",
    "env",
    "expose",
    "healthcheck",
    "label",
    "onbuild",
    "stopsignal",
    "user",
    "volume",
    "workdir",
];

/// What `--change` instructions make of an empty config: the lines of a Dockerfile that only change the config.
fn config(changes: &[String]) -> anyhow::Result<ContainerConfig> {
    if changes.is_empty() {
        return Ok(ContainerConfig::default());
    }
    const NAME: &str = "--change";
    let text = format!("FROM scratch\n{}\n", changes.join("\n"));
    let options = lap_frontend::Options::new(Platform::host());
    let parsed = lap_frontend::parse(NAME, text.as_bytes());
    let refuse = |findings: &[lap_frontend::Diagnostic]| {
        let first = findings.iter().find(|finding| finding.severity == lap_frontend::Severity::Error);
        first.map(|finding| anyhow::anyhow!("{NAME} {}: {}", changes.join(" "), finding.message))
    };
    if let Some(error) = refuse(&parsed.diagnostics) {
        return Err(error);
    }
    for instruction in parsed.dockerfile.instructions.iter().skip(1) {
        let name = instruction.name();
        if !CHANGES.contains(&name.as_str()) {
            return Err(anyhow::anyhow!("{name} is not a valid change command")).hint(format!(
                "only instructions that change the config are: {}",
                CHANGES.map(str::to_uppercase).join(", ")
            ));
        }
    }
    let lowered = lap_frontend::stages(&parsed.dockerfile, &options)
        .and_then(|stages| lap_frontend::lower(&stages, &lap_frontend::Facts::new(), &options));
    match lowered {
        Ok(lowered) => {
            let mut config = lowered.image.config.config;
            // The defaults that every build gets are not part of a change.
            config.other.remove("ArgsEscaped");
            if !changes.iter().any(|change| change.trim_start().to_ascii_uppercase().starts_with("WORKDIR")) {
                config.working_dir.clear();
            }
            if !changes.iter().any(|change| change.contains("PATH")) {
                config.env.retain(|entry| !entry.starts_with("PATH="));
            }
            Ok(config)
        }
        Err(findings) => Err(refuse(&findings).unwrap_or_else(|| anyhow::anyhow!("{NAME} cannot be read"))),
    }
}

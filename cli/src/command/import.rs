//! `lap import`

use std::fs::File;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use lap_cache::image::assemble::Blobs;
use lap_cache::image::{AssembleOptions, Image};
use lap_cache::import::{ImportOptions, import};
use lap_solver::event::Events;
use lap_solver::image::ContainerConfig;
use lap_solver::platform::Platform;

use crate::args::Import;
use crate::command::App;
use crate::ui::table::rfc3339;

pub(super) fn run(app: &App, args: Import) -> anyhow::Result<i32> {
    let store = app.store()?;
    let _lease = store.lease()?;
    let platform = match &args.platform {
        Some(text) => Platform::parse(text, &Platform::host())?,
        None => Platform::host(),
    };
    let name = args.name.as_deref().map(crate::image::reference).transpose()?;
    let stdin = args.file == Path::new("-");
    let shown = if stdin { "standard input".to_owned() } else { args.file.display().to_string() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let options = ImportOptions {
        platform,
        config: config(&args.change)?,
        comment: Some(args.message.unwrap_or_else(|| format!("Imported from {}", if stdin { "-" } else { &shown }))),
        created: Some(rfc3339(std::time::Duration::from_secs(now.as_secs()))),
        assemble: AssembleOptions { blobs: Blobs::Deferred, ..AssembleOptions::default() },
    };
    let failed = || format!("cannot import {shown}");
    let image: Image = if stdin {
        import(store, std::io::stdin(), &options, &Events::none())
    } else {
        import(store, File::open(&args.file).with_context(failed)?, &options, &Events::none())
    }
    .with_context(failed)?;
    if let Some(name) = &name {
        store.name_set(name, &image)?;
    }
    store.sync()?;
    outln!("{}", image.id())?;
    Ok(0)
}

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
    let lowered = lap_frontend::stages(&parsed.dockerfile, &options)
        .and_then(|stages| lap_frontend::lower(&stages, &lap_frontend::Facts::new(), &options));
    match lowered {
        Ok(lowered) if lowered.image.root.is_some() => {
            bail!("{NAME} takes only instructions that change the config, such as CMD, ENV and WORKDIR")
        }
        Ok(lowered) => {
            let mut config = lowered.image.config.config;
            // The default that every build gets is not part of a change.
            if !changes.iter().any(|change| change.contains("PATH")) {
                config.env.retain(|entry| !entry.starts_with("PATH="));
            }
            Ok(config)
        }
        Err(findings) => Err(refuse(&findings).unwrap_or_else(|| anyhow::anyhow!("{NAME} cannot be read"))),
    }
}

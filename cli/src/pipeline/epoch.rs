//! The time that a build pretends it is: `SOURCE_DATE_EPOCH`, or what `--reproducible` finds.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use lap_cache::digest::Digest;
use lap_cache::fs;
use lap_cache::layer::{Span, Times};
use lap_cache::remote::Imports;
use lap_cache::store::Store;
use lap_cache::tarball::newest_entry;
use lap_executor::source::{directory, git, http};
use lap_executor::tree::{Owners, Tree};
use lap_executor::worker::Output as StepOutput;
use lap_frontend::{Epoch, NamedContext};
use lap_solver::drive::Solution;
use lap_solver::graph::Source;
use lap_solver::pattern::Matcher;

use super::Request;
use super::bases::Resolver;
use super::context::{open_inside, remote};
use crate::command::App;
use crate::ui::error::Hint as _;

const VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// Finds the epoch of a request. Steps that ask for `ARG SOURCE_DATE_EPOCH` see the number.
///
/// # Errors
/// Where it is that of a context whose time cannot be told.
pub(crate) fn settle(app: &App, request: &mut Request) -> anyhow::Result<()> {
    let parsed = lap_frontend::parse(&request.file_name, &request.text);
    // What is wrong with the Dockerfile is told when it is built.
    let stages = lap_frontend::stages(&parsed.dockerfile, &request.options).ok();
    let asked = stages.as_ref().and_then(|stages| stages.source_date_epoch());
    let seconds = match asked {
        Some(Epoch::Seconds(seconds)) => Some(*seconds),
        Some(Epoch::Context) => of_main(app, request)?,
        Some(Epoch::Named(NamedContext::Files(Source::Local { name }))) => of_directory(app, request, name)?,
        Some(Epoch::Named(NamedContext::Files(source)) | Epoch::Source(source)) => of_source(app, request, source)?,
        // As BuildKit has it: an image's time says nothing of what is in it.
        Some(Epoch::Named(NamedContext::Image(_) | NamedContext::Target(_))) => None,
        None if request.reproducible
            || request.outputs.iter().any(|output| output.rewrite_timestamp && output.epoch.is_none()) =>
        {
            match of_main(app, request)? {
                Some(seconds) => Some(seconds),
                // Without any input there is no better time than none.
                None => newest(request, |_| true)?.or(Some(0)),
            }
        }
        None => None,
    };
    if let Some(seconds) = seconds {
        let since = u64::try_from(seconds).with_context(|| format!("{VARIABLE}={seconds} is before 1970"))?;
        request.epoch = Some(Duration::from_secs(since));
    }
    if seconds.is_some() || asked.is_some() {
        // A name that turned out to have no time is nothing that a step could use.
        let text = seconds.map_or_else(String::new, |seconds| seconds.to_string());
        request.options.build_args.insert(VARIABLE.to_owned(), text);
    }
    // Of an output: its steps do not see it. One image config serves all outputs, and so one time does.
    for asked in request.outputs.iter().filter_map(|output| output.epoch).map(Duration::from_secs) {
        if *request.epoch.get_or_insert(asked) != asked {
            bail!(
                "source-date-epoch={} of an output differs from that of the build or of another output",
                asked.as_secs()
            );
        }
    }
    Ok(())
}

/// The time of the main context.
fn of_main(app: &App, request: &Request) -> anyhow::Result<Option<i64>> {
    match &request.origin {
        Some(origin) => of_source(app, request, origin),
        None => of_directory(app, request, "context"),
    }
}

/// The time of what comes from elsewhere: a commit's, what the server says of a file, or that of the newest file in an
/// archive; nothing where none of them is known.
fn of_source(app: &App, request: &Request, source: &Source) -> anyhow::Result<Option<i64>> {
    let remote = remote(app, &request.mirrors, &request.secrets, &request.ssh)?;
    let failed = "cannot tell the time that SOURCE_DATE_EPOCH stands for";
    match source {
        Source::Git { url, reference, subdir, keep_git_dir, checksum, skip_submodules } => {
            // A commit that is known already need not be looked for by its branch, which may have moved on.
            let commit = checksum.clone().filter(|checksum| checksum.len() >= 40);
            let wanted = git::Wanted {
                url: url.clone(),
                reference: commit.or_else(|| reference.clone()),
                subdir: subdir.clone(),
                keep_git_dir: *keep_git_dir,
                checksum: checksum.clone(),
                submodules: !skip_submodules,
            };
            let fetched = crate::registry::block_on(async { Ok(git::fetch(&remote, &wanted).await?) });
            Ok(Some(fetched.context(failed)?.time.cast_signed()))
        }
        Source::Http { url, checksum, filename } => {
            let fetched = crate::registry::block_on(async {
                Ok(http::fetch(&remote, url, checksum.as_deref(), filename).await?)
            });
            let dir =
                directory(app.store()?, &fetched.context(failed)?).context("internal error: a file without a layer")?;
            let file = File::from(open_inside(&fs::open_dir(&dir)?, Path::new(filename))?);
            let modified = file.metadata()?.mtime();
            if modified > 0 { Ok(Some(modified)) } else { Ok(newest_entry(file)) }
        }
        Source::Local { .. } | Source::Image { .. } => Ok(None),
    }
}

/// The time of a directory: that of the commit of the repository that it lies in, else of its newest file; what was
/// unpacked into the store is in no repository.
fn of_directory(app: &App, request: &Request, name: &str) -> anyhow::Result<Option<i64>> {
    let Some((_, dir, _)) = request.directories.iter().find(|(own, _, _)| own == name) else { return Ok(None) };
    let commit = if dir.starts_with(&app.settings.root) { None } else { commit_time(dir)? };
    match commit {
        Some(seconds) => Ok(Some(seconds)),
        None => newest(request, |own| own == name),
    }
}

fn newest(request: &Request, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Option<i64>> {
    let mut newest = None;
    for (_, dir, patterns) in request.directories.iter().filter(|(name, _, _)| wanted(name)) {
        let tree = Tree::open(dir, Some(Matcher::new(patterns)?), Owners::Root)?;
        newest = newest.max(tree.newest()?);
    }
    Ok(newest)
}

/// When the commit was made that a work tree is of; nothing outside of any repository.
fn commit_time(dir: &Path) -> anyhow::Result<Option<i64>> {
    let dir = std::path::absolute(dir)?;
    if !dir.ancestors().any(|dir| dir.join(".git").exists()) {
        return Ok(None);
    }
    // Plumbing: no setting of the repository makes it run another program.
    let output = Command::new("git").arg("-C").arg(&dir).args(["cat-file", "commit", "HEAD"]).output();
    let way_out = "set SOURCE_DATE_EPOCH, for example to the output of git log -1 --format=%ct";
    let output = output.with_context(|| format!("cannot start git to ask for the commit of {}", dir.display()));
    let output = output.hint(way_out)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().next().unwrap_or_default().to_owned();
        let error = anyhow::anyhow!("cannot tell the commit of {}: {first}", dir.display());
        return Err(error).hint(way_out);
    }
    let commit = String::from_utf8_lossy(&output.stdout);
    let committer = commit.lines().take_while(|line| !line.is_empty()).find(|line| line.starts_with("committer "));
    let seconds = committer.and_then(|line| line.rsplit(' ').nth(1)).and_then(|seconds| seconds.parse().ok());
    Ok(Some(seconds.with_context(|| format!("the commit of {} has no time", dir.display()))?))
}

/// The layers with the times that a reproducible image has; those of base images as they are.
///
/// # Errors
/// Where a layer cannot be read or its twin not be written.
pub(super) fn retimed(
    store: &Store,
    layers: &[Digest],
    epoch: Duration,
    solution: &Solution<StepOutput>,
    resolver: &Resolver<'_>,
    imports: &Imports,
) -> anyhow::Result<Vec<Digest>> {
    let base = resolver.layers();
    let mut ran: Vec<Span> = Vec::new();
    for snapshot in solution.outputs.values().filter_map(StepOutput::snapshot) {
        for layer in snapshot.diff_ids().iter().filter(|layer| !base.contains(layer)) {
            ran.extend(store.layer_ran(layer)?.or_else(|| imports.ran(layer)));
        }
    }
    let times = Times::new(epoch.as_secs().cast_signed(), ran);
    let twin = |layer: &Digest| match base.contains(layer) {
        true => Ok(*layer),
        false => Ok(store.retimed(layer, &times)?.diff_id),
    };
    layers.iter().map(twin).collect()
}

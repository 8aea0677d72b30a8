//! Where results go besides the store, and what the user grants to steps.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use lap_cache::digest::Digest;
use lap_cache::export::{Named, Paths, docker_archive, local_dir_with, oci_dir, oci_tar, paths, rootfs_tar_with};
use lap_cache::image::assemble::{AssembleOptions, Blobs, assemble};
use lap_cache::image::compress::Compression;
use lap_cache::image::index::{Entry, Role};
use lap_cache::image::manifest::annotated;
use lap_cache::image::{Artifact, Image, Index, Reference};
use lap_cache::layer::Owner;
use lap_cache::snapshot::Snapshot;
use lap_executor::grant::Secret;
use lap_executor::worker::BuildWorker;
use lap_solver::event::Events;
use lap_solver::image::ImageConfig;
use lap_solver::platform::Platform;

use super::Request;
use super::attest::Attester;
use super::bases::Resolver;
use crate::args::{Level, Output, OutputKind, fields};
use crate::command::App;
use crate::settings::variable;

/// Whether an output takes standard output for itself.
pub(crate) fn to_stdout(output: &Output) -> bool {
    match &output.dest {
        Some(dest) => dest == Path::new("-"),
        None => matches!(output.kind, OutputKind::Oci | OutputKind::Docker | OutputKind::Tar),
    }
}

/// The result for one platform.
pub(super) struct Part<'a> {
    pub(super) snapshot: Snapshot,
    pub(super) layers: Vec<Digest>,
    /// The same with times rewritten, for outputs that ask for it.
    pub(super) rewritten: Vec<Digest>,
    pub(super) config: ImageConfig,
    pub(super) platform: &'a Platform,
    pub(super) attester: Attester<'a>,
}

impl Part<'_> {
    fn layers_for(&self, output: &Output) -> &[Digest] {
        if output.rewrite_timestamp { &self.rewritten } else { &self.layers }
    }
}

/// Writes outputs.
pub(super) struct Outputs<'a> {
    pub(super) app: &'a App,
    pub(super) request: &'a Request,
    /// At least one.
    pub(super) parts: &'a [Part<'a>],
    pub(super) worker: &'a Arc<BuildWorker>,
    pub(super) resolver: &'a Resolver<'a>,
    pub(super) events: &'a Events,
}

impl Outputs<'_> {
    /// Writes all that was asked for. Returns the image, or the index of several, as it was last put together with
    /// blobs, if any was, with its attestations; and what the store is to call it besides the names of the request.
    pub(super) async fn write(&self) -> anyhow::Result<(Option<Artifact>, Vec<Reference>)> {
        let (mut last, mut called) = (None, Vec::new());
        // `--push` pushes the images that outputs ask for, and one of its own where there are none.
        let mut push = self.request.push;
        for output in &self.request.outputs {
            if output.kind.is_tree() {
                self.trees(output).await?;
            } else if output.kind != OutputKind::CacheOnly {
                let own = output.names.iter().map(|name| crate::image::reference(name));
                let own = own.collect::<anyhow::Result<Vec<_>>>()?;
                let names: Vec<Reference> = self.request.names.iter().chain(&own).cloned().collect();
                let built = self.artifact(output, &names).await?;
                if output.kind.is_archive() {
                    self.archive(output, &built, names)?;
                } else {
                    if output.push || push {
                        push = false;
                        self.push(output, &built, &names).await?;
                    }
                    if output.store {
                        called.extend(names_in_store(output, &built, own, &names)?);
                    }
                }
                last = Some(built);
            }
        }
        if push {
            let built = self.whole().await?;
            self.push(&Output::registry(), &built, &self.request.names).await?;
            last = Some(built);
        }
        Ok((last, called))
    }

    /// The image, or the index of several, as registries take it, with attestations.
    pub(super) async fn whole(&self) -> anyhow::Result<Artifact> {
        self.artifact(&Output::registry(), &self.request.names).await
    }

    async fn ensure_layers(&self, part: &Part<'_>) -> anyhow::Result<()> {
        let fetched = self.worker.ensure_layers(&part.snapshot).await;
        fetched.context("cannot fetch the layers of the base image")
    }

    /// The image of each platform with blobs as an output wants them, all of them in the store; several in an index.
    async fn artifact(&self, output: &Output, names: &[Reference]) -> anyhow::Result<Artifact> {
        if let [part] = self.parts {
            let built = part.attester.artifact(
                self.image(output, part).await?,
                part.layers_for(output),
                names,
                output,
                true,
            )?;
            if matches!(built, Artifact::Image(_)) && self.request.index_annotations(Some(output)) {
                bail!("annotations of an index need several platforms or attestations: this image has no index");
            }
            return Ok(built);
        }
        if output.kind == OutputKind::Docker {
            bail!("type=docker holds one platform; write several with type=oci");
        }
        let mut entries = Vec::new();
        for part in self.parts {
            match part.attester.artifact(
                self.image(output, part).await?,
                part.layers_for(output),
                names,
                output,
                false,
            )? {
                Artifact::Image(image) => entries.push(Entry { image: *image, role: Role::Runnable }),
                Artifact::Index(index) => entries.extend(index.entries),
            }
        }
        let Some(first) = self.parts.first() else { bail!("internal error: a build without a result") };
        let annotations = |level| self.request.annotations(Some(output), level, first.platform);
        let index = Index::assemble(self.app.store()?, entries, &annotations(Level::Index));
        let mut index = index.context("cannot put the index together")?;
        index.descriptor = annotated(index.descriptor, &annotations(Level::IndexDescriptor));
        Ok(index.into())
    }

    /// The image of a platform with blobs as an output wants them, all of them in the store.
    async fn image(&self, output: &Output, part: &Part<'_>) -> anyhow::Result<Image> {
        self.ensure_layers(part).await?;
        let compression = output.compression.unwrap_or_default();
        // Of Docker's media types none says what an eStargz has to say.
        let docker = output.kind == OutputKind::Docker && !matches!(compression, Compression::Estargz(_));
        let annotations = |level| self.request.annotations(Some(output), level, part.platform);
        let mut options = AssembleOptions {
            compression,
            force: false,
            docker_media_types: output.docker_types.unwrap_or(docker),
            annotations: annotations(Level::Manifest),
            blobs: Blobs::Written,
        };
        let mut image = self.assembled(output, part, &options).await?;
        if output.force_compression {
            // What is compressed anew must be here, which it is now.
            options.force = true;
            image = self.assembled(output, part, &options).await?;
        }
        image.descriptor = annotated(image.descriptor, &annotations(Level::ManifestDescriptor));
        Ok(image)
    }

    async fn assembled(&self, output: &Output, part: &Part<'_>, options: &AssembleOptions) -> anyhow::Result<Image> {
        let store = self.app.store()?;
        let (layers, config, events) = (part.layers_for(output).to_vec(), part.config.clone(), self.events.clone());
        let work = {
            let (store, options) = (store.clone(), options.clone());
            move || assemble(&store, &layers, config, &options, &events)
        };
        let image = tokio::task::spawn_blocking(work).await?.context("cannot put the image together")?;
        self.resolver.client().ensure_blobs(&image, store, self.events).await.context("cannot fetch layer blobs")?;
        Ok(image)
    }

    fn archive(&self, output: &Output, artifact: &Artifact, names: Vec<Reference>) -> anyhow::Result<()> {
        let store = self.app.store()?;
        let images = [Named { content: artifact.clone(), names }];
        let events = self.events;
        if !output.tar {
            let Some(dest) = &output.dest else { bail!("-o type=oci,tar=false needs dest=DIRECTORY") };
            return oci_dir(store, &images, dest, events).with_context(|| format!("cannot write {}", dest.display()));
        }
        to_file(output.dest.as_deref(), |writer| {
            match output.kind {
                OutputKind::Docker => docker_archive(store, &images, &Platform::host(), writer, events)?,
                _ => oci_tar(store, &images, writer, events)?,
            }
            Ok(())
        })
    }

    /// The files of the result of each platform.
    async fn trees(&self, output: &Output) -> anyhow::Result<()> {
        let several = self.parts.len() > 1;
        if output.kind == OutputKind::Tar && several {
            bail!("type=tar holds one platform; write several with type=local or type=oci");
        }
        let store = self.app.store()?;
        let mut result = Paths::default();
        for part in self.parts {
            self.ensure_layers(part).await?;
            let layers = part.layers_for(output);
            let created = part.config.created.as_deref().unwrap_or_default();
            let files = part.attester.files(output, layers, created)?;
            if output.kind == OutputKind::Tar {
                to_file(output.dest.as_deref(), |writer| Ok(rootfs_tar_with(store, layers, &files, writer)?))?;
                continue;
            }
            let mut dest = output.dest.clone().unwrap_or_default();
            let mut above = String::new();
            if output.platform_split.unwrap_or(several) {
                // As BuildKit names them.
                above = part.platform.to_string().replace('/', "_");
                dest = dest.join(&above);
            }
            // Reading all names is only worth it where they are needed.
            if output.delete || (several && above.is_empty()) {
                let before = result.add(above.as_bytes(), paths(store, layers, &files)?);
                if let Some(path) = before {
                    bail!(
                        "platform-split=false: {} is in the results of several platforms",
                        String::from_utf8_lossy(&path)
                    );
                }
            }
            local_dir_with(store, layers, &files, &dest, Owner::Archive)
                .with_context(|| format!("cannot write {}", dest.display()))?;
        }
        if output.delete
            && let Some(dest) = &output.dest
        {
            // Only when all of the result is there.
            result.remove_others(dest).with_context(|| format!("cannot tidy {}", dest.display()))?;
        }
        Ok(())
    }

    async fn push(&self, output: &Output, artifact: &Artifact, names: &[Reference]) -> anyhow::Result<()> {
        if names.is_empty() {
            bail!("nothing says where to push: name the image with -t REGISTRY/NAME");
        }
        let hosts = names.iter().map(|name| name.registry().to_owned());
        let insecure = match output.insecure {
            true => {
                let hosts = hosts.collect();
                Some(crate::registry::insecure(&self.app.settings, &self.request.mirrors, hosts)?)
            }
            false => None,
        };
        let client = insecure.as_ref().unwrap_or_else(|| self.resolver.client());
        for name in names {
            let name = if output.by_digest { by_digest(&name.name(), artifact)? } else { name.clone() };
            let pushed = client.push_artifact(self.app.store()?, artifact, &name, self.events).await;
            pushed.with_context(|| format!("cannot push {}", name.familiar()))?;
        }
        Ok(())
    }
}

/// `NAME@DIGEST`
fn by_digest(name: &str, artifact: &Artifact) -> anyhow::Result<Reference> {
    crate::image::reference(&format!("{name}@{}", artifact.digest()))
}

/// What the store calls the result of an output; `own` are the output's names, `all` those of the request too.
fn names_in_store(
    output: &Output,
    artifact: &Artifact,
    own: Vec<Reference>,
    all: &[Reference],
) -> anyhow::Result<Vec<Reference>> {
    let mut called = Vec::new();
    if output.canonical || output.by_digest {
        for name in all {
            called.push(by_digest(&name.name(), artifact)?);
        }
    }
    if let Some(prefix) = output.dangling_prefix.as_ref().filter(|_| all.is_empty() || !output.dangling_only) {
        called.push(by_digest(prefix, artifact).context("dangling-name-prefix")?);
    }
    if !output.by_digest {
        called.extend(own);
    }
    Ok(called)
}

/// Refuses outputs that would write archives to a terminal, or several of them into one stream, before anything is
/// built.
pub(super) fn check_streams(outputs: &[Output]) -> anyhow::Result<()> {
    let streams = outputs.iter().filter(|output| to_stdout(output)).count();
    if streams > 1 {
        bail!("{streams} outputs want standard output: name a file for all but one with dest=");
    }
    if streams == 1 {
        no_terminal()?;
    }
    Ok(())
}

/// Refuses to empty directories where nobody would expect it: as with buildx, those outside of the working one need a
/// word of the user's.
pub(super) fn check_deletes(request: &Request) -> anyhow::Result<()> {
    if request.allow.iter().any(|word| word == "buildx.local.delete") {
        return Ok(());
    }
    let here = std::fs::canonicalize(".").context("cannot tell where the working directory is")?;
    for dest in request.outputs.iter().filter(|output| output.delete).filter_map(|output| output.dest.as_ref()) {
        if !real(dest).is_ok_and(|real| real != here && real.starts_with(&here)) {
            bail!(
                "mode=delete would remove what is in {} besides the result, and it does not lie below the working \
                 directory: allow it with --allow buildx.local.delete",
                dest.display()
            );
        }
    }
    Ok(())
}

/// Where a directory really lies. One that is not there yet cannot be a link to elsewhere: the nearest directory that
/// is there decides.
fn real(path: &Path) -> std::io::Result<PathBuf> {
    let mut there = std::path::absolute(path)?;
    let mut rest = Vec::new();
    while std::fs::symlink_metadata(&there).is_err() {
        // None for `..` too, which leads nowhere here.
        let Some(name) = there.file_name() else { break };
        rest.push(name.to_owned());
        there.pop();
    }
    let mut real = std::fs::canonicalize(&there)?;
    real.extend(rest.iter().rev());
    Ok(real)
}

pub(crate) fn no_terminal() -> anyhow::Result<()> {
    if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        bail!("a terminal cannot take an archive: redirect the output or name a file");
    }
    Ok(())
}

/// Writes standard output, or a file that appears only when it is whole.
pub(crate) fn to_file(
    dest: Option<&Path>,
    write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Some(dest) = dest.filter(|dest| *dest != Path::new("-")) else {
        no_terminal()?;
        let stdout = std::io::stdout();
        let mut writer = BufWriter::with_capacity(1 << 20, stdout.lock());
        write(&mut writer)?;
        return writer.flush().context("cannot write standard output");
    };
    let failed = || format!("cannot write {}", dest.display());
    // What is no plain file (a pipe, a device) is written as it is.
    if std::fs::metadata(dest).is_ok_and(|metadata| !metadata.is_file()) {
        let mut writer = BufWriter::new(std::fs::File::options().write(true).open(dest).with_context(failed)?);
        write(&mut writer).with_context(failed)?;
        return writer.flush().with_context(failed);
    }
    let mut name = dest.file_name().unwrap_or_default().to_owned();
    name.push(format!(".part-{}", std::process::id()));
    let part = dest.with_file_name(name);
    let result = (|| {
        let file = std::fs::File::create(&part)?;
        let mut writer = BufWriter::with_capacity(1 << 20, file);
        write(&mut writer)?;
        let file = writer.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        lap_cache::fs::durable::publish(&file, &part, dest)?;
        Ok::<(), anyhow::Error>(())
    })();
    if result.is_err() {
        // The half-written file is of no use; where it cannot be removed the first error counts.
        drop(std::fs::remove_file(&part));
    }
    result.with_context(failed)
}

/// `id=NAME[,src=FILE|,env=VARIABLE]`; without a source the variable of that name, or else the file.
pub(crate) fn secrets(texts: &[String]) -> anyhow::Result<BTreeMap<String, Secret>> {
    let mut secrets = BTreeMap::new();
    for text in texts {
        let fields = fields(text).map_err(|error| anyhow::anyhow!("--secret: {error}"))?;
        let value = |names: &[&str]| {
            fields.iter().find(|(key, _)| names.contains(&key.as_str())).and_then(|(_, value)| value.clone())
        };
        for (key, _) in &fields {
            if !["type", "id", "src", "source", "env"].contains(&key.as_str()) {
                bail!("--secret {text}: unknown option {key:?}: known are id, src, env and type");
            }
        }
        let kind = value(&["type"]);
        let (file, variable_name) = (value(&["src", "source"]), value(&["env"]));
        let Some(id) = value(&["id"]).or_else(|| file.clone()) else { bail!("--secret {text}: id= is missing") };
        let from_variable = |name: &str| variable(name).map(|value| Secret::Value(value.into_bytes()));
        let secret = match (file, variable_name, kind.as_deref()) {
            (Some(name), None, Some("env")) | (None, Some(name), _) => {
                from_variable(&name).with_context(|| format!("--secret {text}: the variable {name} is not set"))?
            }
            (Some(file), _, _) => Secret::File(PathBuf::from(file)),
            (None, None, Some("file")) => Secret::File(PathBuf::from(&id)),
            (None, None, _) => from_variable(&id).unwrap_or_else(|| Secret::File(PathBuf::from(&id))),
        };
        if let Secret::File(path) = &secret {
            std::fs::metadata(path).with_context(|| format!("--secret {text}: cannot read {}", path.display()))?;
        }
        secrets.insert(id, secret);
    }
    Ok(secrets)
}

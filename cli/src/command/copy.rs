//! `lap copy`

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use lap_cache::copy::{ArchiveName, Destination, Format, Location, Options, Plan, Recompress, Select, Source, Stop};
use lap_cache::digest::Digest;
use lap_cache::image::{Artifact, Compression, Reference};
use lap_cache::registry::{Client, Login};
use lap_solver::event::Events;
use lap_solver::platform::Platform;
use tokio::runtime::Handle;

use crate::args::{Copy, End, Kind, MultiArch};
use crate::command::App;
use crate::complete::complete;
use crate::exit::WithCode;
use crate::image::{find, reference};
use crate::pipeline::to_file;
use crate::registry;
use crate::signal::{self, Interrupt};
use crate::ui::{Mode, Screen};

pub(super) fn run(app: &App, args: Copy) -> anyhow::Result<i32> {
    let Copy { from, to, source, destination, digestfile, quiet, .. } = &args;
    let (from, to) = (End::from(from.clone()), End::from(to.clone()));
    let options = options(&args)?;
    let names = names(destination, &args.additional_tag)?;
    let to_stdout = is_stdout(destination);
    if let Location::DockerArchive { path, .. } = destination
        && std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0)
    {
        bail!("{} is there already: a Docker archive is not added to; remove it or name another", path.display());
    }
    let needs_store = |place: &Location| {
        matches!(place, Location::Store(_) | Location::LayoutArchive { .. } | Location::DockerArchive { .. })
    };
    let uses_store =
        needs_store(source) || matches!(destination, Location::Store(_)) || options.recompress != Recompress::Keep;
    let _lease = if uses_store { Some(app.store()?.lease()?) } else { None };
    let store = if uses_store { Some(app.store()?) } else { None };
    let mode = if *quiet { Mode::Quiet } else { args.progress.unwrap_or(Mode::Auto) };
    let screen = Screen::start(mode, app.settings.color);
    let events = screen.events();
    let stop = Stop::default();
    let result = interruptible(&stop, |runtime| {
        let client = |place: &Location, end: &End| match place {
            Location::Registry(name) => client(app, &args, name, end).map(Some),
            _ => Ok(None),
        };
        let (client_from, client_to) = (client(source, &from)?, client(destination, &to)?);
        let source = Arc::new(open(app, source, client_from, &runtime, &stop, &events)?.heeding(stop.clone()));
        let plan = Arc::new(Plan::new(&source, &options, store)?);
        write(app, (&source, &plan), destination, client_to.as_ref(), &names, &runtime, &events)
    });
    drop(screen.finish());
    let digest = result.with_context(|| format!("cannot copy {source} to {destination}"))?;
    if matches!(destination, Location::Store(_)) {
        app.store()?.sync()?;
    }
    if let Some(path) = digestfile {
        std::fs::write(path, digest.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if !quiet && !to_stdout {
        outln!("{digest}")?;
    }
    Ok(0)
}

/// Works on a thread of its own, since reading and writing block, while a runtime carries transfers. Ctrl-C asks it to
/// stop and waits until it has taken back what it began.
fn interruptible<T: Send>(stop: &Stop, work: impl FnOnce(Handle) -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let handle = runtime.handle().clone();
    std::thread::scope(|scope| {
        let (done, mut over) = tokio::sync::oneshot::channel();
        // Nobody waits for it where listening has failed.
        scope.spawn(move || drop(done.send(work(handle))));
        runtime.block_on(async {
            let interrupt = Interrupt::listen()?;
            tokio::select! {
                result = &mut over => return result.context("the copy ended early")?,
                () = interrupt.asked() => stop.ask(),
            }
            drop(over.await);
            Err(WithCode::wrap(signal::exit_code(), anyhow::anyhow!("interrupted")))
        })
    })
}

fn options(args: &Copy) -> anyhow::Result<Options> {
    let host = Platform::host();
    let platform = match (&args.override_os, &args.override_arch, &args.override_variant) {
        (None, None, None) => host,
        (os, architecture, variant) => {
            let os = os.as_deref().unwrap_or(&host.os);
            let architecture = architecture.as_deref().unwrap_or(&host.architecture);
            let variant = variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
            Platform::parse(&format!("{os}/{architecture}{variant}"), &host)?
        }
    };
    let select = match (args.all, args.multi_arch) {
        (true, _) | (false, Some(MultiArch::All)) => Select::All,
        (false, Some(MultiArch::IndexOnly)) => Select::IndexOnly,
        (false, None | Some(MultiArch::System)) => Select::Platform(platform),
    };
    let level = |compression: Compression| match args.dest_compress_level {
        Some(level) => compression.at_level(level),
        None => Ok(compression),
    };
    // The layers of Docker's own archives are plain: where they go on, they are compressed as skopeo does.
    let is_plain = matches!(args.source, Location::DockerArchive { .. })
        && matches!(args.destination, Location::Registry(_) | Location::Layout { .. } | Location::LayoutArchive { .. });
    let recompress = match args.dest_compress_format {
        _ if args.dest_decompress => Recompress::All(Compression::Uncompressed),
        Some(compression) => Recompress::All(level(compression)?),
        None if args.dest_compress || args.dest_compress_level.is_some() || (is_plain && !args.preserve_digests) => {
            Recompress::Plain(level(Compression::GZIP)?)
        }
        None => Recompress::Keep,
    };
    let format = args.format.map(|kind| match kind {
        Kind::Oci => Format::Oci,
        Kind::V2s2 => Format::Docker,
    });
    Ok(Options { select, format, recompress, preserve_digests: args.preserve_digests })
}

/// What the image is called at the destination.
fn names(destination: &Location, additional: &[Reference]) -> anyhow::Result<Vec<Reference>> {
    let own = match destination {
        Location::Store(name) => Some(reference(name)?),
        Location::DockerArchive { name: Some(name), .. } => Some(reference(name)?),
        Location::DockerArchive { name: None, .. } => None,
        other if !additional.is_empty() => {
            bail!("--additional-tag is for docker-archive: and store:, not for {other}")
        }
        _ => None,
    };
    let names: Vec<Reference> = own.into_iter().chain(additional.iter().cloned()).collect();
    if let Some(name) = names.iter().find(|name| name.digest().is_some()) {
        bail!("{name}: a name at the destination has a tag, not a digest");
    }
    Ok(names)
}

/// Whether the image itself goes to standard output.
fn is_stdout(destination: &Location) -> bool {
    match destination {
        Location::LayoutArchive { path, .. } | Location::DockerArchive { path, .. } => {
            path == Path::new("-") || path == Path::new("/dev/stdout")
        }
        _ => false,
    }
}

/// A client for one end.
fn client(app: &App, args: &Copy, name: &Reference, end: &End) -> anyhow::Result<Client> {
    let login = match (&end.creds, &end.registry_token) {
        (Some(text), _) => {
            let (username, password) = text.split_once(':').unwrap_or((text, ""));
            if username.is_empty() {
                bail!("a login begins with the name of the user: USER:PASSWORD");
            }
            Some(Login::Password { username: username.to_owned(), password: password.to_owned() })
        }
        (None, Some(token)) => Some(Login::RegistryToken(token.clone())),
        (None, None) => None,
    };
    let reach = registry::Reach {
        registry: name.registry(),
        login,
        anonymous: end.no_creds,
        auth_file: end.authfile.as_ref().or(args.authfile.as_ref()),
        tls_verify: end.tls_verify,
        certificates: end.cert_dir.as_ref(),
        retries: args.retry_times,
    };
    registry::client_for(&app.settings, &reach)
}

fn open(
    app: &App,
    place: &Location,
    client: Option<Client>,
    runtime: &Handle,
    stop: &Stop,
    events: &Events,
) -> anyhow::Result<Source> {
    Ok(match (place, client) {
        (Location::Registry(name), Some(client)) => {
            Source::registry(client, name.clone(), runtime.clone(), events.clone())
        }
        (Location::Registry(_), None) => bail!("no client"),
        (Location::Layout { path, name }, _) => Source::layout(path, name.clone())?,
        (Location::Directory(path), _) => Source::directory(path)?,
        (Location::LayoutArchive { path, name } | Location::DockerArchive { path, name }, _) => {
            let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            Source::archive(app.store()?, stop.heed(file), name.clone())?
        }
        (Location::Store(text), _) => {
            let store = app.store()?;
            let Some(found) = find(store, text)? else {
                bail!("no such image: {text}");
            };
            let root = match store.artifact(&found.entry.digest)? {
                Artifact::Image(image) => complete(app, *image, events)?.descriptor,
                index @ Artifact::Index(_) => index.descriptor().clone(),
            };
            Source::store(store, root)
        }
    })
}

fn write(
    app: &App,
    (source, plan): (&Arc<Source>, &Arc<Plan>),
    place: &Location,
    client: Option<&Client>,
    names: &[Reference],
    runtime: &Handle,
    events: &Events,
) -> anyhow::Result<Digest> {
    let host = Platform::host();
    let destination = match (place, client) {
        (Location::LayoutArchive { path, name }, _) => {
            return archive(path, (source, plan), &ArchiveName::Oci(name.as_deref()), events);
        }
        (Location::DockerArchive { path, .. }, _) => {
            return archive(path, (source, plan), &ArchiveName::Docker(names), events);
        }
        (Location::Registry(name), Some(client)) => Destination::Registry { client, name, runtime },
        (Location::Registry(_), None) => bail!("no client"),
        (Location::Layout { path, name }, _) => Destination::Layout { path, name: name.as_deref() },
        (Location::Directory(path), _) => Destination::Directory(path),
        (Location::Store(_), _) => Destination::Store { store: app.store()?, names, platform: &host },
    };
    Ok(lap_cache::copy::copy(source, plan, &destination, events)?)
}

fn archive(
    path: &Path,
    (source, plan): (&Arc<Source>, &Arc<Plan>),
    name: &ArchiveName<'_>,
    events: &Events,
) -> anyhow::Result<Digest> {
    let mut digest = plan.digest();
    // To open it by name may be refused where to write to it is not.
    let path = Some(path).filter(|path| *path != Path::new("/dev/stdout"));
    to_file(path, |writer| {
        digest = lap_cache::copy::write_archive(source, plan, name, writer, events)?;
        Ok(())
    })?;
    Ok(digest)
}

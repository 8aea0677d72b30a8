//! `lap run`

use anyhow::{Context as _, bail};
use lap_cache::digest::Digest;
use lap_cache::image::{Image, ImageError};
use lap_executor::container::{Containers, CreateOptions, Emulated, NetworkMode, Notice};
use lap_executor::sandbox::{Limits, Rlimit};
use lap_solver::event::Events;
use lap_solver::platform::Platform;

use crate::args::{KeyValue, Run};
use crate::command::{App, build, containers, pull};
use crate::exit::{NOT_STARTED, WithCode};
use crate::image::{find, no_such_image, reference};
use crate::session::{Receiver, connect, forward, hold_signals};
use crate::terminal;
use crate::ui::Mode;

/// Any failure of ours is 125, so that the command's own codes stay its own.
pub(super) fn run(app: &App, args: Run) -> anyhow::Result<i32> {
    start(app, args).map_err(|error| if error.is::<WithCode>() { error } else { WithCode::wrap(NOT_STARTED, error) })
}

fn start(app: &App, args: Run) -> anyhow::Result<i32> {
    if args.tty && args.interactive && !args.detach && !terminal::is_input_terminal() {
        bail!("the input device is not a terminal: leave -t out");
    }
    let store = app.store()?;
    let _lease = store.lease()?;
    let image = image(app, &args)?;
    ensure_layers(app, &image)?;
    let containers = Containers::new(store.clone(), &app.settings.run_dir);
    let (detach, interactive, cidfile) = (args.detach, args.interactive, args.cidfile.clone());
    let options = options(app, args, &image)?;
    let container = containers.create(options).map_err(containers::failure)?;
    let id = container.id().to_owned();
    if let Some(path) = cidfile {
        std::fs::write(&path, &id).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if detach {
        containers.start_detached(&container).map_err(containers::failure)?;
        outln!("{id}")?;
        return Ok(0);
    }
    let signals = hold_signals();
    let mut attached = containers.start(container, terminal::size()).map_err(containers::failure)?;
    for notice in &attached.notices {
        match notice {
            Notice::SharesHostNetwork => {
                eprintln!("lap: the container shares the machine's network: a user cannot make a bridge");
            }
        }
    }
    let pidfd = attached.running.pidfd.try_clone()?;
    let terminal = attached.running.terminal.as_ref().map(std::os::fd::OwnedFd::try_clone).transpose()?;
    forward(signals, Receiver::Container(pidfd), terminal);
    let raw = connect(&mut attached.running, interactive);
    let pumped = attached.pump(&mut std::io::stdout(), &mut std::io::stderr());
    drop(raw);
    let exit = attached.finish().map_err(containers::failure)?;
    if exit.oom_killed {
        eprintln!("lap: killed: out of memory");
    }
    pumped.context("cannot pass on the output")?;
    Ok(exit.code)
}

/// The image, fetched where that is wanted.
fn image(app: &App, args: &Run) -> anyhow::Result<Image> {
    let store = app.store()?;
    let platform = args.platform.as_ref().or(app.settings.default_platform.as_ref());
    let platform = platform.map(|text| Platform::parse(text, &Platform::host())).transpose()?;
    if args.pull != "always"
        && let Some(found) = find(store, &args.image)?
    {
        let Some(platform) = &platform else { return Ok(found.image) };
        match store.image_for(&found.entry.digest, platform) {
            Ok(image) if image.platform() == *platform => return Ok(image),
            Ok(_) | Err(ImageError::NoPlatform { .. }) if args.pull != "never" => {}
            Ok(image) => bail!("the image {} is for {}, not for {platform}", args.image, image.platform()),
            Err(error) => return Err(error.into()),
        }
    }
    if args.pull == "never" {
        bail!(no_such_image(&args.image));
    }
    let name = reference(&args.image)?;
    eprintln!("Unable to find image '{}' locally", name.familiar());
    pull::fetch(app, &name, &platform.unwrap_or_else(Platform::host), &[], Mode::Auto)
}

/// A base image that was only built on may not be here yet.
pub(super) fn ensure_layers(app: &App, image: &Image) -> anyhow::Result<()> {
    let store = app.store()?;
    if store.missing_layers(image)?.is_empty() {
        return Ok(());
    }
    let chain: Vec<Digest> = image.diff_ids().collect();
    let client = crate::registry::client(&app.settings, &[])?;
    crate::registry::block_on(async {
        let fetched = client.ensure_layers(&chain, store, &Events::none()).await;
        fetched.context("cannot fetch the layers of the image")
    })
}

fn options(app: &App, args: Run, image: &Image) -> anyhow::Result<CreateOptions> {
    let mut no_new_privileges = None;
    for option in &args.security_opt {
        no_new_privileges = Some(match option.replacen(':', "=", 1).as_str() {
            "no-new-privileges" | "no-new-privileges=true" => true,
            "no-new-privileges=false" => false,
            _ => bail!("--security-opt {option}: only no-new-privileges[=true|false] is supported yet"),
        });
    }
    Ok(CreateOptions {
        name: args.name,
        image: args.image,
        image_digest: Some(image.digest()),
        layers: image.diff_ids().collect(),
        image_config: image.config.config.clone(),
        entrypoint: args.entrypoint,
        command: args.command,
        env: environment(&args.env),
        working_dir: args.workdir,
        user: args.user,
        hostname: args.hostname,
        labels: args.labels.into_iter().map(|label| (label.key, label.value.unwrap_or_default())).collect(),
        volumes: args.volume,
        network: match args.network.as_str() {
            "none" => NetworkMode::None,
            "host" => NetworkMode::Host,
            _ => NetworkMode::Default,
        },
        extra_hosts: build::add_hosts(&args.add_hosts)?,
        tty: args.tty,
        interactive: args.interactive,
        auto_remove: args.rm,
        init: args.init,
        read_only: args.read_only,
        privileged: args.privileged,
        no_new_privileges,
        cap_add: args.cap_add,
        cap_drop: args.cap_drop,
        rlimits: args
            .ulimits
            .into_iter()
            .map(|limit| Rlimit { name: limit.name, soft: limit.soft, hard: limit.hard })
            .collect(),
        limits: Limits {
            memory: args.memory.map(|size| size.0),
            nano_cpus: args.cpus.map(|cpus| cpus.0),
            // Docker's words for unlimited are -1 and 0.
            pids: args.pids_limit.map(|pids| u64::try_from(pids).unwrap_or(0)),
            ..Limits::default()
        },
        shm_size: args.shm_size.map(|size| size.0),
        stop_signal: args.stop_signal,
        log_limit: app.settings.log_limit,
        emulated: emulated(app, image),
        ..CreateOptions::default()
    })
}

/// What an image of another platform needs; one that does not say what it is for is for this machine.
fn emulated(app: &App, image: &Image) -> Option<Emulated> {
    let platform = image.platform();
    let foreign = !image.config.architecture.is_empty() && platform != Platform::host();
    foreign.then(|| Emulated { platform, emulators: app.settings.programs.clone() })
}

/// `NAME=VALUE`; a lone name takes its value from here, and is left out where it has none.
pub(super) fn environment(pairs: &[KeyValue]) -> Vec<String> {
    pairs.iter().filter_map(build::with_value).map(|(name, value)| format!("{name}={value}")).collect()
}

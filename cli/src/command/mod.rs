//! One command, one file: flags in, a result and an exit code out.

mod bake;
mod build;
mod builds;
mod call;
mod collect;
mod completion;
mod container_filter;
mod containers;
mod copy;
mod debug;
mod diff;
pub(crate) mod dockerfile;
mod exec;
mod fsck;
mod history;
mod image_filter;
mod images;
mod import;
mod info;
mod inspect;
mod load;
mod login;
mod logs;
mod prune;
mod ps;
mod pull;
mod push;
mod rmi;
mod run;
mod save;
mod stop;
mod tag;
mod tree;
mod version;
mod why;

use std::sync::OnceLock;

use anyhow::Context as _;
use lap_cache::store::{Mode, Store};

use crate::args::Command;
use crate::exit;
use crate::pipeline::agents::Agents;
use crate::settings::Settings;

/// What every command is given.
pub(crate) struct App {
    pub(crate) settings: Settings,
    /// SSH agents that were started for builds.
    pub(crate) agents: Agents,
    store: OnceLock<Store>,
}

impl App {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, agents: Agents::default(), store: OnceLock::new() }
    }

    /// The store, opened when it is first needed.
    pub(crate) fn store(&self) -> anyhow::Result<&Store> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let mode = if self.settings.rootless { Mode::User } else { Mode::Root };
        let store = Store::open(&self.settings.root, mode)
            .with_context(|| format!("cannot open the store {}", self.settings.root.display()))?;
        Ok(self.store.get_or_init(|| store))
    }
}

/// Runs a command; the exit code is its answer.
pub(crate) fn run(app: &App, command: Command) -> anyhow::Result<i32> {
    match command {
        Command::Build(args) => build::run(app, *args),
        Command::Bake(args) => bake::run(app, &args),
        Command::Check(args) => call::run(app, &args),
        Command::Run(args) => run::run(app, *args),
        Command::Exec(args) => exec::run(app, args),
        Command::Ps(args) => ps::run(app, &args),
        Command::Stop(args) => stop::stop(app, &args),
        Command::Kill(args) => stop::kill(app, &args),
        Command::Rm(args) => stop::remove(app, &args),
        Command::Logs(args) => logs::run(app, &args),
        Command::Images(args) => images::run(app, &args),
        Command::Rmi(args) => rmi::run(app, &args),
        Command::Inspect(args) => inspect::run(app, &args),
        Command::History(args) => history::run(app, &args),
        Command::Diff(args) => diff::run(app, &args),
        Command::Tree(args) => tree::run(app, &args),
        Command::Tag(args) => tag::run(app, &args),
        Command::Pull(args) => pull::run(app, args),
        Command::Push(args) => push::run(app, args),
        Command::Copy(args) => copy::run(app, *args),
        Command::Login(args) => login::login(app, &args),
        Command::Logout(args) => login::logout(app, &args),
        Command::Save(args) => save::run(app, &args),
        Command::Load(args) => load::run(app, &args),
        Command::Import(args) => import::run(app, args),
        Command::Why(args) => why::run(app, &args),
        Command::Debug(args) => debug::run(app, &args),
        Command::Prune(args) => prune::prune(app, &args, false),
        Command::Du(args) => prune::du(app, &args),
        Command::Info(args) => info::run(app, &args.format),
        Command::Fsck(args) => fsck::run(app, &args),
        Command::Builder(command) => prune::builder(app, &command),
        Command::System(command) => prune::system(app, &command),
        Command::PruneImages(args) => prune::prune_images(app, &args),
        Command::PruneContainers(args) => prune::prune_containers(app, &args),
        Command::Dockerfile { args } => dockerfile::run(&args),
        Command::Completion { shell } => completion::run(shell),
        Command::Version { format } => version::run(&format),
        // These have become one of the others.
        Command::Image { .. } | Command::Container { .. } => Ok(exit::USAGE),
    }
}

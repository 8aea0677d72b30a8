//! Words in: what was typed, one file a group of commands. The doc comments are the help texts; what is said over a
//! struct of flags is a plain comment, because it would take the place of what its command does.

mod annotation;
mod attest;
mod bake;
mod build;
mod cache;
mod container;
mod copy;
mod debug;
mod fsck;
mod ignored;
mod image;
mod inside;
mod login;
mod output;
mod prune;
mod record;
mod resource;
mod values;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) use annotation::{Annotation, Level};
pub(crate) use attest::Attestations;
pub(crate) use bake::{Bake, Listed, Listing};
pub(crate) use build::{Build, Check, FindingsForm};
pub(crate) use cache::{Bucket, CacheFrom, CacheTo, Place};
pub(crate) use container::{ContainerCommand, Exec, Kill, Logs, Ps, Remove, Run, Stop};
pub(crate) use copy::{Copy, End, Kind, MultiArch};
pub(crate) use debug::Debug;
pub(crate) use fsck::Fsck;
pub(crate) use ignored::Ignored;
pub(crate) use image::{
    History, ImageCommand, Images, Import, Inspect, InspectThese, Load, Pull, Push, RemoveImages, Save, Tag,
};
pub(crate) use inside::{Diff, InsideFormat, Tree};
pub(crate) use login::{Login, LoginPlace, Logout};
pub(crate) use output::{Output, OutputKind};
pub(crate) use prune::{
    Builder, DiskUsage, Form, Info, PruneCache, PruneContainers, PruneImages, PruneSystem, System, SystemUsage,
    duration,
};
pub(crate) use record::{Builds, HistoryCommand, ListBuilds, OneBuild, OpenBuild, RemoveBuilds, Replay, Why};
pub(crate) use resource::{OldLimits, Resource};
pub(crate) use values::{ByteSize, Call, Called, Cpus, KeyValue, Ulimit, entitlement, fields, volume};

/// Builds container images from Dockerfiles and runs them, without a daemon
#[derive(Debug, Parser)]
#[command(
    name = "lap",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    args_override_self = true,
    max_term_width = 100
)]
pub(crate) struct Lap {
    /// Directory of the store [env: LAP_ROOT]
    ///
    /// Otherwise it is /var/lib/lapstrake, or $XDG_DATA_HOME/lapstrake for users.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const COMPLETION_EXAMPLES: &str = "\
Examples:
  lap completion bash > /etc/bash_completion.d/lap
  lap completion zsh > \"${fpath[1]}/_lap\"
  lap completion fish > ~/.config/fish/completions/lap.fish";

// What to do. The flags of a command are made when it is the one: all of them cost a millisecond.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    #[command(visible_alias = "b")]
    Build(Box<Build>),
    /// Build the targets of a bake file, or the services of a compose file, together
    Bake(Box<Bake>),
    /// Check a Dockerfile without building it
    Check(Box<Check>),
    /// Run a command in a new container
    Run(Box<Run>),
    /// Run a command in a running container
    Exec(Exec),
    /// List containers
    #[command(visible_alias = "ls")]
    Ps(Ps),
    /// Stop containers: ask, wait, then kill
    Stop(Stop),
    /// Send a signal to containers
    Kill(Kill),
    /// Remove containers
    Rm(Remove),
    /// Show what a container has put out
    Logs(Logs),
    /// List images
    Images(Images),
    /// Remove images
    Rmi(RemoveImages),
    /// Show everything known about images and containers, as JSON
    Inspect(Inspect),
    /// Show the history of an image, or builds that were
    History(History),
    /// Show what differs between two images, or what a container has changed
    Diff(Diff),
    /// Show what makes an image large
    #[command(skip)]
    Tree(Tree),
    /// Give an image another name
    Tag(Tag),
    /// Fetch an image from a registry
    Pull(Pull),
    /// Send an image to a registry
    Push(Push),
    /// Copy an image between registries, layouts, archives, directories and the store
    Copy(Box<Copy>),
    /// Prove to a registry who you are, and keep the proof
    Login(Login),
    /// Forget a login
    Logout(Logout),
    /// Write images to a tar archive
    Save(Save),
    /// Read images from a tar archive
    Load(Load),
    /// Make an image of a root file system tar
    Import(Import),
    /// Say why steps of a build ran, or did not
    Why(Why),
    /// Open a shell where a step of a build has failed
    Debug(Debug),
    /// Remove build cache
    Prune(PruneCache),
    /// Show what the build cache holds
    Du(DiskUsage),
    /// Check the store for damage, and mend it
    Fsck(Fsck),
    /// Look after the build cache
    #[command(subcommand, alias = "buildx")]
    Builder(Builder),
    /// Look after the store
    #[command(subcommand)]
    System(System),
    /// Remove images without a name, or all that no container uses
    #[command(skip)]
    PruneImages(PruneImages),
    /// Remove containers that do not run
    #[command(skip)]
    PruneContainers(PruneContainers),
    /// Look into a Dockerfile without building it
    #[command(disable_help_flag = true)]
    Dockerfile {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        args: Vec<String>,
    },
    /// Commands about images
    Image {
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// Commands about containers
    Container {
        #[command(subcommand)]
        command: ContainerCommand,
    },
    /// Show what there is and how it is set up
    Info(Info),
    /// Print what makes a shell complete commands and flags
    #[command(after_help = COMPLETION_EXAMPLES)]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Show the version
    Version {
        /// Show with a Go template; `json` is an object
        #[arg(short, long, value_name = "TEMPLATE", default_value = "", hide_default_value = true)]
        format: String,
    },
}

impl Command {
    /// The command by its short name: `image ls` is `images`.
    pub(crate) fn plain(self) -> Self {
        let inspect = |kind: &str, these| Self::Inspect(Inspect { kind: Some(kind.to_owned()), these });
        match self {
            Self::Image { command } => match command {
                ImageCommand::Ls(args) => Self::Images(args),
                ImageCommand::Inspect(these) => inspect("image", these),
                ImageCommand::History(args) => Self::History(args),
                ImageCommand::Tag(args) => Self::Tag(args),
                ImageCommand::Tree(args) => Self::Tree(args),
                ImageCommand::Diff(args) => Self::Diff(args),
                ImageCommand::Rm(args) => Self::Rmi(args),
                ImageCommand::Pull(args) => Self::Pull(args),
                ImageCommand::Push(args) => Self::Push(args),
                ImageCommand::Save(args) => Self::Save(args),
                ImageCommand::Load(args) => Self::Load(args),
                ImageCommand::Import(args) => Self::Import(args),
                ImageCommand::Build(args) => Self::Build(args),
                ImageCommand::Prune(args) => Self::PruneImages(args),
            },
            Self::Container { command } => match command {
                ContainerCommand::Ls(args) => Self::Ps(args),
                ContainerCommand::Inspect(these) => inspect("container", these),
                ContainerCommand::Run(args) => Self::Run(args),
                ContainerCommand::Exec(args) => Self::Exec(args),
                ContainerCommand::Stop(args) => Self::Stop(args),
                ContainerCommand::Kill(args) => Self::Kill(args),
                ContainerCommand::Rm(args) => Self::Rm(args),
                ContainerCommand::Logs(args) => Self::Logs(args),
                ContainerCommand::Diff(args) => Self::Diff(args),
                ContainerCommand::Prune(args) => Self::PruneContainers(args),
            },
            other => other,
        }
    }

    /// Whether the command needs the store, and with it the rights of a user namespace.
    pub(crate) const fn uses_store(&self) -> bool {
        !matches!(
            self,
            Self::Dockerfile { .. } | Self::Version { .. } | Self::Completion { .. } | Self::Login(_) | Self::Logout(_)
        )
    }

    /// Whether files of images come into the store, with their owners.
    pub(crate) const fn unpacks(&self) -> bool {
        matches!(self, Self::Build(_) | Self::Pull(_) | Self::Load(_) | Self::Import(_) | Self::Copy(_))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Every command says what it does, and not how its flags are called in here.
    #[test]
    fn help_tells_what_commands_do() {
        fn check(command: &clap::Command) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let name = command.get_name();
            assert!(!about.is_empty() && !about.contains("Flags of") && !about.contains("`lap"), "{name}: {about:?}");
            command.get_subcommands().filter(|command| command.get_name() != "help").for_each(check);
        }
        let mut whole = Lap::command();
        whole.build();
        check(&whole);
    }

    /// Each flag of the commands about images stands beside its command in the table of docs/features.md, and each
    /// that stands there is one.
    #[test]
    fn the_table_has_every_flag_of_the_commands_about_images() {
        let text = include_str!("../../../docs/features.md");
        let (_, table) = text.split_once("\n## 2.0 Commands and flags").expect("the table");
        let rows = table.lines().filter(|line| line.starts_with("| `lap "));
        let mut whole = Lap::command();
        whole.build();
        let mut seen = 0;
        for row in rows.take_while(|row| row.starts_with("| `lap ")) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let words = cells[1].split('`').nth(1).unwrap_or_default().split(' ').skip(1);
            let command = words.fold(&whole, |command, word| {
                command.find_subcommand(word).unwrap_or_else(|| panic!("{row}: no command {word}"))
            });
            let own = command.get_arguments().filter(|flag| !flag.is_global_set() && !flag.is_hide_set());
            let mut own: Vec<String> = own.filter_map(|flag| Some(format!("--{}", flag.get_long()?))).collect();
            own.retain(|flag| !matches!(flag.as_str(), "--help" | "--version" | "--root"));
            own.sort_unstable();
            let listed: Vec<&str> = cells[2].split([' ', '`']).filter(|word| word.starts_with("--")).collect();
            assert_eq!(listed, own, "{}", cells[1]);
            seen += 1;
        }
        assert!(seen >= 15, "{seen}");
    }
}

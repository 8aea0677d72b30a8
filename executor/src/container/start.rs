//! Starting a container: from its config to a sandbox that is watched.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use lap_cache::store::Mode;

use super::config::{Config, NetworkMode, VolumeSource};
use super::directory::{Container, private_dir};
use super::error::ContainerError;
use super::logs::LogWriter;
use super::state::{Ended, Live, ProcessId, State};
use super::{Containers, time};
use crate::emulation::Emulators;
use crate::network::{self, Attachment, Network};
use crate::sandbox::{
    self, EtcFiles, Exit, Init, MountSource, NetworkSetup, Rootfs, Running, SandboxMount, Security, Spec, Stdio,
};

/// Something the user should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Unprivileged: the container shares the machine's network.
    SharesHostNetwork,
}

/// A container that runs under the eyes of the caller.
///
/// Pump its output ([`Attached::pump`]), then [`Attached::finish`]. If it is dropped before, the container is killed.
#[derive(Debug)]
pub struct Attached {
    /// The container.
    pub container: Container,
    /// Its sandbox: input, terminal, signals.
    pub running: Running,
    /// What the user should know.
    pub notices: Vec<Notice>,
    network: Option<(Attachment, Network)>,
    /// Held as long as it runs.
    _emulators: Option<Emulators>,
    log: Option<LogWriter>,
    containers: Containers,
}

/// A sandbox that runs, its network, its emulators, and what the user should know.
type Launched = (Running, Option<(Attachment, Network)>, Option<Emulators>, Vec<Notice>);

impl Containers {
    /// Starts a container and stays with it; `size` is that of the caller's terminal.
    ///
    /// # Errors
    /// Where it runs already or cannot be started; with `--rm` it is then removed.
    pub fn start(&self, container: Container, size: Option<(u16, u16)>) -> Result<Attached, ContainerError> {
        // Nobody would read its output or note its end if it outlived this process.
        self.begin(container, size, Init::Attached)
    }

    /// The same; `init` is process 1 where the container does not want one that reaps.
    pub(super) fn begin(
        &self,
        mut container: Container,
        size: Option<(u16, u16)>,
        init: Init,
    ) -> Result<Attached, ContainerError> {
        if matches!(container.state, State::Running(_)) {
            return Err(ContainerError::State { id: container.config.id, problem: "is running already" });
        }
        self.tidy(&mut container)?;
        match self.launch(&container, size, init) {
            Ok((running, network, emulators, notices)) => {
                let started = self.watch(&mut container, &running, network.as_ref());
                let keeps_log = !container.config.auto_remove;
                let log = keeps_log.then(|| LogWriter::open(&container)).transpose();
                // An error from here on drops `running`, which kills it.
                started?;
                let (log, containers) = (log?, self.clone());
                Ok(Attached { log, container, running, notices, network, _emulators: emulators, containers })
            }
            Err(error) => {
                self.record_failure(&mut container, &error);
                Err(error)
            }
        }
    }

    fn launch(&self, container: &Container, size: Option<(u16, u16)>, init: Init) -> Result<Launched, ContainerError> {
        let config = &container.config;
        let mut notices = Vec::new();
        let mut network = None;
        let setup = match config.network {
            NetworkMode::None => NetworkSetup::None,
            NetworkMode::Host => NetworkSetup::Host,
            NetworkMode::Default if self.store.mode() == Mode::User => {
                notices.push(Notice::SharesHostNetwork);
                NetworkSetup::Host
            }
            NetworkMode::Default => {
                let bridge = Network::open(&self.run_dir)?;
                let attachment = bridge.attach()?;
                let namespace = attachment.namespace().try_clone_to_owned();
                let namespace = namespace.map_err(ContainerError::file("duplicate", "network namespace"))?;
                network = Some((attachment, bridge));
                NetworkSetup::Namespace(namespace)
            }
        };
        let address = network.as_ref().map(|(attachment, _)| attachment.address());
        let (mut emulators, mut user_namespace) = (None, None);
        if let Some(emulated) = &config.emulated {
            let own = Emulators::new(emulated.emulators.clone());
            user_namespace = own.prepare(&emulated.platform)?;
            emulators = Some(own);
        }
        let init = if config.init { Init::Reaper } else { init };
        let spec = Spec { user_namespace, init, ..self.spec(container, setup, address, size)? };
        Ok((sandbox::spawn(spec)?, network, emulators, notices))
    }

    fn spec(
        &self,
        container: &Container,
        network: NetworkSetup,
        address: Option<Ipv4Addr>,
        size: Option<(u16, u16)>,
    ) -> Result<Spec, ContainerError> {
        let config = &container.config;
        let overlay = self.store.overlay(&config.layers, None)?;
        // What an earlier run left here must not stop this one.
        if !container.is_fresh() {
            empty_work(container)?;
        }
        Ok(Spec {
            rootfs: Rootfs {
                lowers: overlay.lowers,
                upper: Some(container.upper()),
                work: Some(container.work()),
                volatile: config.auto_remove,
                readonly: config.read_only,
            },
            args: config.args(),
            env: config.env.clone(),
            cwd: config.working_dir.clone(),
            user: config.user.clone(),
            groups: config.groups.clone(),
            hostname: config.hostname.clone(),
            mounts: self.mounts(config)?,
            etc: etc_files(container, &network, address)?,
            network,
            security: if config.privileged { Security::Insecure } else { Security::Sandbox },
            cap_add: config.cap_add.clone(),
            cap_drop: config.cap_drop.clone(),
            no_new_privileges: self.gains_nothing(container)?,
            rlimits: config.rlimits.clone(),
            limits: config.limits.clone(),
            cgroup_parent: config.cgroup_parent.clone(),
            stdio: match config.tty {
                true => Stdio::Pty { size },
                false => Stdio::Pipes { stdin: config.interactive },
            },
            shm_size: config.shm_size,
            ..Spec::default()
        })
    }

    /// Whether the processes of a container can be kept from gaining privileges: on request, or where neither its
    /// layers nor what it wrote hold a file that gives any. What volumes hold is not known.
    pub(super) fn gains_nothing(&self, container: &Container) -> Result<bool, ContainerError> {
        let config = &container.config;
        if let Some(asked) = config.no_new_privileges {
            return Ok(asked);
        }
        if config.privileged || !config.volumes.is_empty() || self.store.may_give_privileges(&config.layers)? {
            return Ok(false);
        }
        if container.is_fresh() {
            return Ok(true);
        }
        let upper = container.upper();
        let directory = fs::File::open(&upper).map_err(ContainerError::file("open", &upper))?;
        Ok(!self.store.directory_gives_privileges(directory)?)
    }

    fn mounts(&self, config: &Config) -> Result<Vec<SandboxMount>, ContainerError> {
        let mut mounts = Vec::new();
        for target in &config.tmpfs {
            let source = MountSource::Tmpfs { size: None, mode: 0o1777 };
            mounts.push(SandboxMount { target: target.clone(), readonly: false, source });
        }
        for volume in &config.volumes {
            let source = match &volume.source {
                VolumeSource::Path(path) => {
                    if !path.exists() {
                        fs::create_dir_all(path).map_err(ContainerError::file("create", path))?;
                    }
                    path.clone()
                }
                VolumeSource::Named(name) => {
                    let dir = self.volume_dir(name).join("_data");
                    if let Some(parent) = dir.parent() {
                        private_dir(parent)?;
                    }
                    fs::create_dir_all(&dir).map_err(ContainerError::file("create", &dir))?;
                    dir
                }
            };
            mounts.push(SandboxMount {
                target: volume.target.clone(),
                readonly: volume.readonly,
                source: MountSource::Bind { source, below: None, recursive: true },
            });
        }
        // A mount below another one comes after it.
        mounts.sort_by_key(|mount| mount.target.split('/').filter(|part| !part.is_empty()).count());
        Ok(mounts)
    }

    fn watch(
        &self,
        container: &mut Container,
        running: &Running,
        network: Option<&(Attachment, Network)>,
    ) -> Result<(), ContainerError> {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let gone = || ProcessId { pid: 0, start: 0, boot: String::new() };
        let live = Live {
            process: ProcessId::of(running.pid).unwrap_or_else(gone),
            supervisor: ProcessId::of(own).unwrap_or_else(gone),
            started: time::now(),
            address: network.map(|(attachment, _)| attachment.address()),
            control_groups: running.control_groups().to_vec(),
        };
        container.set_state(State::Running(live))
    }

    /// Notes why a container did not start, or removes it if it goes by itself.
    fn record_failure(&self, container: &mut Container, error: &ContainerError) {
        if container.config.auto_remove {
            drop(self.remove_dir(container));
            return;
        }
        let now = time::now();
        let ended = Ended {
            code: error.exit_code(),
            oom_killed: false,
            error: Some(error.to_string()),
            started: 0,
            finished: now,
        };
        drop(container.set_state(State::Exited(ended)));
    }
}

impl Attached {
    /// Carries output to the log and to the caller, until the container has ended.
    ///
    /// # Errors
    /// Where `out` or `err` cannot be written.
    pub fn pump(&mut self, out: &mut dyn Write, err: &mut dyn Write) -> std::io::Result<()> {
        match &self.log {
            None => self.running.pump(out, err),
            Some(log) => {
                let (mut out, mut err) = log.tee(out, err);
                self.running.pump(&mut out, &mut err)
            }
        }
    }

    /// Waits for the end, notes it, gives the network back, and removes the container if it goes by itself.
    ///
    /// # Errors
    /// Where the state cannot be written.
    pub fn finish(mut self) -> Result<Exit, ContainerError> {
        let exit = self.running.wait()?;
        // Removing the network takes the kernel a while, which the files need not wait for: the drop does.
        let _leaving = self.network.take().map(|(attachment, network)| {
            drop(attachment);
            network.let_go();
            network
        });
        if self.container.config.auto_remove {
            self.containers.remove_dir(&self.container)?;
            return Ok(exit);
        }
        let started = match &self.container.state {
            State::Running(live) => live.started,
            _ => 0,
        };
        let (code, oom_killed) = (exit.code, exit.oom_killed);
        let ended = Ended { code, oom_killed, error: None, started, finished: time::now() };
        // Somebody may have removed it by force meanwhile.
        match self.container.set_state(State::Exited(ended)) {
            Err(error) if self.container.dir.exists() => Err(error),
            _ => Ok(exit),
        }
    }
}

/// The work directory must be empty of what a volatile or killed run left.
fn empty_work(container: &Container) -> Result<(), ContainerError> {
    let dir = lap_cache::fs::open_dir(&container.dir)
        .map_err(|error| ContainerError::file("open", &container.dir)(std::io::Error::other(error.to_string())))?;
    drop(lap_cache::fs::remove_tree(dir.as_fd(), b"work"));
    private_dir(&container.work())
}

/// The files of the container's network, in its directory: it may change them.
fn etc_files(
    container: &Container,
    network: &NetworkSetup,
    address: Option<Ipv4Addr>,
) -> Result<EtcFiles, ContainerError> {
    let config = &container.config;
    let mut hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    match address {
        Some(address) => hosts.push_str(&format!("{address}\t{}\n", config.hostname)),
        None => hosts.push_str(&format!("127.0.1.1\t{}\n", config.hostname)),
    }
    for (host, address) in &config.extra_hosts {
        hosts.push_str(&format!("{address}\t{host}\n"));
    }
    let resolv_conf = match network {
        NetworkSetup::Namespace(_) => network::host_resolv_conf()?.text.into_bytes(),
        NetworkSetup::Host => fs::read(network::dns::HOST_FILE).unwrap_or_default(),
        NetworkSetup::None => Vec::new(),
    };
    let files = EtcFiles {
        hosts: Some(hosts.into_bytes()),
        resolv_conf: Some(resolv_conf),
        hostname: Some(format!("{}\n", config.hostname).into_bytes()),
        dir: Some(container.etc()),
    };
    let all = [("hosts", &files.hosts), ("resolv.conf", &files.resolv_conf), ("hostname", &files.hostname)];
    for (name, data) in all {
        let path = container.etc().join(name);
        fs::write(&path, data.as_deref().unwrap_or_default()).map_err(ContainerError::file("write", &path))?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .map_err(ContainerError::file("chmod", &path))?;
    }
    Ok(files)
}

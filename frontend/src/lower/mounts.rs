//! The mounts of a `RUN`.

use lap_solver::graph::{MountKind, SecretEnv, SecretFile, VertexId};
use lap_solver::{graph, path};

use super::Lowering;
use super::state::State;
use crate::diagnostic::Fault;
use crate::go;
use crate::syntax::{self, Instruction, Mount, MountFlag, MountType};
use crate::word::Lookup;

/// Mounts so far, with the inputs they use; the root file system is the first one.
pub(super) struct Mounts {
    pub(super) mounts: Vec<graph::Mount>,
    pub(super) secret_env: Vec<SecretEnv>,
    pub(super) inputs: Vec<VertexId>,
    /// The first agent's socket.
    pub(super) ssh_socket: Option<String>,
    sockets: u32,
}

impl Mounts {
    pub(super) fn new(root: Option<VertexId>) -> Self {
        let inputs = root.into_iter().collect();
        Self { mounts: Vec::new(), secret_env: Vec::new(), inputs, ssh_socket: None, sockets: 0 }
    }

    fn input(&mut self, vertex: Option<VertexId>) -> Option<u32> {
        vertex.map(|vertex| super::copy::input(&mut self.inputs, vertex))
    }

    fn push(&mut self, target: String, readonly: bool, kind: MountKind) {
        self.mounts.push(graph::Mount { target, readonly, kind });
    }
}

impl Lowering<'_> {
    pub(super) fn mount(
        &mut self,
        state: &State,
        at: &Instruction,
        flag: &MountFlag,
        source: Option<usize>,
        mounts: &mut Mounts,
    ) -> Result<(), Fault> {
        let mount = syntax::read_mount(&flag.text.text, |value| self.word(state, at, value))?;
        match mount.kind {
            MountType::Secret => {
                self.outline.secret(&secret_id(&mount), mount.required, at);
                secret(state, &mount, mounts);
                Ok(())
            }
            MountType::Ssh => {
                let id = if mount.id.is_empty() { "default" } else { &mount.id };
                self.outline.ssh(id, mount.required, at);
                ssh(state, &mount, id, mounts);
                Ok(())
            }
            MountType::Bind | MountType::Cache | MountType::Tmpfs => {
                let target = state.resolve(&mount.target);
                if target == "/" {
                    return Err(Fault::new(format!("invalid mount target {}", go::quote(&target))));
                }
                let kind = self.mounted(&mount, source, mounts)?;
                mounts.push(target, mount.readonly, kind);
                Ok(())
            }
        }
    }

    fn mounted(&mut self, mount: &Mount, source: Option<usize>, mounts: &mut Mounts) -> Result<MountKind, Fault> {
        if mount.kind == MountType::Tmpfs {
            return Ok(MountKind::Tmpfs { size: mount.size.filter(|size| *size > 0) });
        }
        let from = match source {
            Some(node) => {
                let state = self.states.get(node).and_then(Option::as_ref).ok_or_else(|| {
                    Fault::new(format!(
                        "cannot mount from stage {} to {}, stage needs to be defined before current command",
                        go::quote(&mount.from),
                        go::quote(&mount.target)
                    ))
                })?;
                state.root
            }
            None if mount.kind == MountType::Cache => None,
            None => Some(self.context()),
        };
        let input = mounts.input(from);
        let source = path::clean(&format!("/{}", mount.source));
        if mount.kind == MountType::Bind {
            return Ok(MountKind::Bind { input, source });
        }
        let namespace = self.globals().get("BUILDKIT_CACHE_MOUNT_NS");
        let namespace = self.options.build_args.get("BUILDKIT_CACHE_MOUNT_NS").map_or(namespace, |own| Some(own));
        let mut id = if mount.id.is_empty() { path::clean(&mount.target) } else { mount.id.clone() };
        if source == "/" && (mount.mode, mount.uid, mount.gid) != (None, None, None) {
            // Caches that begin with another owner or mode are other caches, as in BuildKit.
            let (uid, gid, mode) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0), mount.mode.unwrap_or(0o755));
            id.push_str(&format!("@{uid}:{gid}:{mode:o}"));
        }
        Ok(MountKind::Cache {
            id: format!("{}/{id}", namespace.unwrap_or("")),
            sharing: mount.sharing.unwrap_or_default(),
            input,
            source,
            mode: mount.mode.unwrap_or(0o755),
            uid: mount.uid.unwrap_or(0),
            gid: mount.gid.unwrap_or(0),
        })
    }
}

/// The name the user gave the secret.
fn secret_id(mount: &Mount) -> String {
    match (mount.source.as_str(), mount.id.as_str()) {
        ("", "") => path::base(&mount.target).to_owned(),
        ("", id) => id.to_owned(),
        (source, _) => source.to_owned(),
    }
}

fn secret(state: &State, mount: &Mount, mounts: &mut Mounts) {
    let id = secret_id(mount);
    let target = match (mount.target.as_str(), &mount.env) {
        ("", Some(_)) => None,
        ("", None) => Some(format!("/run/secrets/{}", path::base(&id))),
        (target, _) => Some(state.resolve(target)),
    };
    if let Some(env) = &mount.env {
        let name = if env.is_empty() { id.clone() } else { env.clone() };
        mounts.secret_env.push(SecretEnv { id: id.clone(), name, required: mount.required, keyed: mount.keyed });
    }
    if let Some(target) = target {
        mounts.push(target, true, MountKind::Secret(file(mount, id, 0o400)));
    }
}

fn ssh(state: &State, mount: &Mount, id: &str, mounts: &mut Mounts) {
    let target = match mount.target.as_str() {
        "" => format!("/run/buildkit/ssh_agent.{}", mounts.sockets),
        target => state.resolve(target),
    };
    mounts.sockets += 1;
    mounts.ssh_socket.get_or_insert_with(|| target.clone());
    mounts.push(target, true, MountKind::Ssh(file(mount, id.to_owned(), 0o600)));
}

fn file(mount: &Mount, id: String, mode: u32) -> SecretFile {
    SecretFile {
        id,
        required: mount.required,
        mode: mount.mode.unwrap_or(mode),
        uid: mount.uid.unwrap_or(0),
        gid: mount.gid.unwrap_or(0),
        keyed: mount.keyed,
    }
}

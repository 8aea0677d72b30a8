//! What commands that were killed left of containers: half-made or half-removed directories, and containers of `--rm`
//! that nobody will remove any more.

use super::directory::Container;
use super::state::State;
use super::{Containers, directory};

impl Containers {
    /// Removes it, as far as that can be done: what fails is tried again by the next command. Must be called with the
    /// lock that making a container takes, or one that is being made would look half-made.
    pub(super) fn sweep(&self, containers: &[Container]) {
        for container in containers.iter().filter(|one| one.is_abandoned()) {
            let mut container = container.clone();
            if self.tidy(&mut container).is_ok() {
                // The next command will find it again.
                drop(self.remove_dir(&container));
            }
        }
        let Ok(root) = lap_cache::fs::open_dir(&self.root()) else { return };
        for id in self.ids().unwrap_or_default() {
            if !self.root().join(&id).join(directory::CONFIG).exists() {
                drop(lap_cache::fs::remove_tree(&root, id.as_bytes()));
            }
        }
    }
}

impl Container {
    /// Whether it was to go by itself and whoever was to remove it is dead.
    fn is_abandoned(&self) -> bool {
        let by_itself = self.config.auto_remove;
        match &self.state {
            State::Created => by_itself && self.config.creator.as_ref().is_some_and(|creator| !creator.is_alive()),
            State::Exited(_) => by_itself,
            State::Running(_) => false,
        }
    }
}

//! What control groups of this machine can limit, for who asks.

use std::collections::BTreeSet;

use super::hierarchy::hierarchies;

/// The control groups of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlGroups {
    /// 1 (also where both are mounted, because limits are set there then) or 2.
    pub version: u8,
    /// `memory`, `cpu`, `cpuset`, `pids`, `io`, ...
    pub controllers: BTreeSet<String>,
}

impl ControlGroups {
    /// Of this machine.
    #[must_use]
    pub fn of_machine() -> Self {
        let found = hierarchies();
        if !found.v1.is_empty() {
            let controllers = found.v1.iter().flat_map(|one| one.controllers.iter().cloned()).collect();
            return Self { version: 1, controllers };
        }
        let listed = |root| std::fs::read_to_string(std::path::Path::join(root, "cgroup.controllers"));
        // Without the list, nothing is known to be there.
        let text = found.v2.as_deref().and_then(|root| listed(root).ok()).unwrap_or_default();
        Self { version: 2, controllers: text.split_whitespace().map(str::to_owned).collect() }
    }
}

//! Files to targets: groups are opened, inheritance and `--set` applied, links between targets found.

use std::collections::{BTreeMap, BTreeSet};

use lap_solver::pattern::match_name;
use serde::Serialize;

use super::definitions::{Definitions, Kind};
use super::model::{Entry, Group, Target};
use super::overrides::Overrides;
use super::source::Fault;
use super::world::{Listed, World, nearest};
use super::{compose, decode};

/// Everything that the files define, evaluated.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// In order of the files.
    pub(crate) groups: Vec<(String, Group)>,
    pub(crate) targets: Vec<(String, Target)>,
    pub(crate) variables: Vec<Listed>,
}

/// What was asked for, in buildx's form of `--print`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Resolved {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) group: BTreeMap<String, Group>,
    pub(crate) target: BTreeMap<String, Target>,
    /// Targets that are there only because others use their results.
    #[serde(skip)]
    pub(crate) linked: BTreeSet<String>,
}

impl Config {
    /// Evaluates what HCL and JSON files define, over what the compose files do.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(super) fn new(compose: compose::Services, definitions: &Definitions, world: &World<'_>) -> Result<Self, Fault> {
        let mut config = Self { variables: world.check()?, ..Self::default() };
        if !compose.targets.is_empty() {
            let targets = compose.targets.iter().map(|(name, _)| name.clone()).collect();
            config.groups.push(("default".to_owned(), Group { description: None, targets }));
        }
        config.targets = compose.targets;
        let instances = world.instances()?;
        for instance in instances {
            match instance.block.kind {
                Kind::Group => {
                    let group = decode::group(world, instance)?;
                    match config.groups.iter_mut().find(|(name, _)| *name == instance.name) {
                        Some((_, known)) => *known = group,
                        None => config.groups.push((instance.name.clone(), group)),
                    }
                }
                Kind::Target => {
                    let target = decode::target(world, instance)?;
                    match config.targets.iter_mut().find(|(name, _)| *name == instance.name) {
                        Some((_, known)) => known.merge(&target),
                        None => config.targets.push((instance.name.clone(), target)),
                    }
                }
            }
        }
        // The name of a target with a matrix means all that the matrix made.
        for block in definitions.blocks.iter().filter(|block| block.attributes.contains_key("matrix")) {
            let of_block = instances.iter().filter(|instance| std::ptr::eq(instance.block, block));
            let names: Vec<String> = of_block.map(|instance| instance.name.clone()).collect();
            if names != [block.label.clone()] {
                config.groups.push((block.label.clone(), Group { description: None, targets: names }));
            }
        }
        for (_, group) in &mut config.groups {
            group.targets = distinct(std::mem::take(&mut group.targets));
        }
        Ok(config)
    }

    fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|(own, _)| own == name).map(|(_, group)| group)
    }

    fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|(own, _)| own == name).map(|(_, target)| target)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let groups = self.groups.iter().map(|(name, _)| name.as_str());
        groups.chain(self.targets.iter().map(|(name, _)| name.as_str()))
    }

    /// The targets that a pattern of `--set` means.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) fn matching(&self, pattern: &str) -> Result<Vec<String>, Fault> {
        if self.target(pattern).is_some() {
            return Ok(vec![pattern.to_owned()]);
        }
        let mut names = Vec::new();
        for (name, _) in &self.targets {
            if match_name(pattern, name).map_err(|_| Fault::new(format!("{pattern:?} is no pattern")))? {
                names.push(name.clone());
            }
        }
        if names.is_empty() { Err(self.missing(pattern)) } else { Ok(names) }
    }

    fn missing(&self, name: &str) -> Fault {
        let near = nearest(name, self.names());
        let near = near.map(|near| format!(": did you mean {near}?")).unwrap_or_default();
        Fault::new(format!("there is no target {name:?}{near}"))
    }

    /// What `names` (targets, groups or patterns) stand for, with `overrides` applied.
    ///
    /// # Errors
    /// Where one does not exist, or targets need themselves.
    pub(crate) fn resolve(&self, names: &[String], overrides: &[String]) -> Result<Resolved, Fault> {
        let overrides = Overrides::parse(overrides, self)?;
        let mut asked = Vec::new();
        for name in names {
            let name = name.replace('.', "_");
            if !name.contains(['*', '?', '[', ']']) {
                asked.push(name);
                continue;
            }
            let before = asked.len();
            asked.extend(self.names().filter(|own| match_name(&name, own).unwrap_or(false)).map(str::to_owned));
            if asked.len() == before {
                return Err(self.missing(&name));
            }
        }
        let asked = distinct(asked);
        let mut resolved = Resolved::default();
        for name in &asked {
            let (mut targets, mut groups) = (Vec::new(), Vec::new());
            self.open(name, &mut targets, &mut groups);
            for target in distinct(targets) {
                resolved.target.insert(target.clone(), self.finished(&target, &overrides)?);
            }
            for group in groups {
                if let Some(found) = self.group(&group) {
                    resolved.group.insert(group, found.clone());
                }
            }
        }
        for name in &asked {
            if name != "default" || !resolved.group.contains_key("default") {
                resolved.group.entry("default".to_owned()).or_default().targets.push(name.clone());
            }
        }
        if let Some(group) = resolved.group.get_mut("default") {
            group.targets = distinct(std::mem::take(&mut group.targets));
            group.targets.sort();
        }
        for name in resolved.target.keys().cloned().collect::<Vec<_>>() {
            self.link(&name, &overrides, &mut resolved, &mut Vec::new())?;
        }
        Ok(resolved)
    }

    /// The targets below a name, groups opened.
    fn open(&self, name: &str, targets: &mut Vec<String>, groups: &mut Vec<String>) {
        if groups.iter().any(|group| group == name) {
            // A group may hold a target of its own name.
            if self.target(name).is_some() {
                targets.push(name.to_owned());
            }
            return;
        }
        match self.group(name) {
            None => targets.push(name.to_owned()),
            Some(group) => {
                groups.push(name.to_owned());
                for member in &group.targets {
                    self.open(member, targets, groups);
                }
            }
        }
    }

    fn finished(&self, name: &str, overrides: &Overrides) -> Result<Target, Fault> {
        let mut target = self.inherit(name, overrides, &mut Vec::new())?;
        target.inherits.clear();
        target.context.get_or_insert_with(|| ".".to_owned());
        if target.dockerfile.as_deref().is_none_or(str::is_empty) {
            target.dockerfile = Some("Dockerfile".to_owned());
        }
        Ok(target)
    }

    fn inherit(&self, name: &str, overrides: &Overrides, path: &mut Vec<String>) -> Result<Target, Fault> {
        let own = self.target(name).ok_or_else(|| self.missing(name))?;
        if path.iter().any(|other| other == name) {
            path.push(name.to_owned());
            return Err(Fault::new(format!("targets inherit from each other in a circle: {}", path.join(" → "))));
        }
        path.push(name.to_owned());
        let mut target = Target::default();
        for parent in &own.inherits {
            let parent = self.inherit(parent, overrides, path).map_err(|fault| {
                if self.target(parent).is_some() {
                    fault
                } else {
                    Fault::new(format!("target {name} inherits: {fault}"))
                }
            })?;
            target.merge(&parent);
        }
        path.pop();
        target.merge(own);
        overrides.apply(name, &mut target)?;
        target.normalize();
        Ok(target)
    }

    /// Takes in the targets whose results a target uses.
    fn link(
        &self,
        name: &str,
        overrides: &Overrides,
        resolved: &mut Resolved,
        path: &mut Vec<String>,
    ) -> Result<(), Fault> {
        path.push(name.to_owned());
        let contexts = resolved.target.get(name).map(|target| target.contexts.clone()).unwrap_or_default();
        for other in contexts.values().filter_map(|context| context.strip_prefix("target:")) {
            if path.iter().any(|before| before == other) {
                let circle = format!("{} → {other}", path.join(" → "));
                return Err(Fault::new(format!("targets use each other's results in a circle: {circle}")));
            }
            if !resolved.target.contains_key(other) {
                let mut target = self
                    .finished(other, overrides)
                    .map_err(|fault| Fault::new(format!("target {name} uses the result of {other}: {fault}")))?;
                target.output = Some(vec![Entry::from([("type".to_owned(), "cacheonly".to_owned())])]);
                resolved.target.insert(other.to_owned(), target);
                resolved.linked.insert(other.to_owned());
            }
            self.link(other, overrides, resolved, path)?;
            let platforms = |name: &str| {
                let all = resolved.target.get(name).and_then(|target| target.platforms.clone());
                all.filter(|all| all.len() > 1)
            };
            if let (Some(own), Some(theirs)) = (platforms(name), platforms(other))
                && own.iter().any(|platform| !theirs.contains(platform))
            {
                let (own, theirs) = (own.join(", "), theirs.join(", "));
                return Err(Fault::new(format!(
                    "target {name} is for {own}: {other}, which it uses, for {theirs} only"
                )));
            }
            let inherited = resolved.target.get(other).and_then(|target| target.entitlements.clone());
            if let (Some(inherited), Some(target)) = (inherited, resolved.target.get_mut(name)) {
                let own = target.entitlements.get_or_insert_default();
                own.extend(inherited);
                *own = distinct(std::mem::take(own));
            }
        }
        path.pop();
        Ok(())
    }
}

fn distinct(names: Vec<String>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

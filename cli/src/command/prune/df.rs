//! `lap system df`

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lap_cache::digest::Digest;
use lap_cache::gc::Usage;
use lap_cache::image::Image;
use lap_cache::store::Store;
use lap_executor::container::{Container, State, VolumeSource};
use serde_json::{Value, json};

use super::cache::since;
use crate::args::{Form, SystemUsage};
use crate::command::images::created_since;
use crate::command::{App, containers};
use crate::image::{image_of, short};
use crate::ui::table::{bytes, human_duration, table};

/// Everything that takes space.
struct Space {
    /// Name and tag, the image, whether a container is of it.
    images: Vec<(String, String, Image, usize)>,
    layer_sizes: BTreeMap<Digest, u64>,
    containers: Vec<(Container, u64)>,
    /// Name, users, bytes.
    volumes: Vec<(String, usize, u64)>,
    cache: Vec<Usage>,
}

/// A line of the summary.
struct Line {
    kind: &'static str,
    total: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
    percent: bool,
}

impl Line {
    fn reclaimable(&self) -> String {
        match self.reclaimable.saturating_mul(100).checked_div(self.size) {
            Some(percent) if self.percent => format!("{} ({percent}%)", bytes(self.reclaimable)),
            _ => bytes(self.reclaimable),
        }
    }
}

pub(super) fn run(app: &App, args: &SystemUsage) -> anyhow::Result<i32> {
    let space = Space::of(app)?;
    match (args.verbose, args.format) {
        (true, Some(Form::Json)) => outln!("{}", crate::ui::tame_json(&space.all_as_json().to_string()))?,
        (true, _) => space.verbose()?,
        (false, Some(Form::Json)) => {
            for line in space.lines() {
                let value = json!({
                    "Type": line.kind, "TotalCount": line.total.to_string(), "Active": line.active.to_string(),
                    "Size": bytes(line.size), "Reclaimable": line.reclaimable(),
                });
                outln!("{value}")?;
            }
        }
        (false, _) => {
            let row = |line: Line| {
                let (total, active) = (line.total.to_string(), line.active.to_string());
                vec![line.kind.to_owned(), total, active, bytes(line.size), line.reclaimable()]
            };
            let rows: Vec<Vec<String>> = space.lines().into_iter().map(row).collect();
            out!("{}", table(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"], &rows))?;
        }
    }
    Ok(0)
}

impl Space {
    fn of(app: &App) -> anyhow::Result<Self> {
        let store = app.store()?;
        let containers: Vec<Container> = containers::all(app)?.list()?;
        let (mut images, mut layer_sizes) = (Vec::new(), BTreeMap::new());
        for entry in store.names()? {
            // One that cannot be read takes no space that is known.
            let Ok(image) = image_of(store, &entry) else { continue };
            for diff_id in image.diff_ids() {
                layer_sizes.entry(diff_id).or_insert_with(|| store.layer_space(&diff_id));
            }
            let (name, tag) = match &entry.name {
                Some(name) => (name.familiar_name(), name.tag().unwrap_or("<none>").to_owned()),
                None => ("<none>".to_owned(), "<none>".to_owned()),
            };
            let digests = [entry.digest, image.digest()];
            let users =
                containers.iter().filter(|one| one.config.image_digest.is_some_and(|own| digests.contains(&own)));
            let users = users.count();
            images.push((name, tag, image, users));
        }
        let mut volumes = Vec::new();
        for entry in std::fs::read_dir(store.root().join("volumes")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_it = |source: &VolumeSource| matches!(source, VolumeSource::Named(other) if *other == name);
            let users = containers.iter().filter(|one| one.config.volumes.iter().any(|volume| is_it(&volume.source)));
            let (users, path): (usize, PathBuf) = (users.count(), entry.path());
            volumes.push((name, users, Store::space_of(&path)));
        }
        volumes.sort();
        let with_size = |container: Container| {
            let size = Store::space_of(&container.upper());
            (container, size)
        };
        let containers = containers.into_iter().map(with_size).collect();
        Ok(Self { images, layer_sizes, containers, volumes, cache: store.usage()? })
    }

    /// Bytes of the layers of some images, each layer once.
    fn layers_of<'a>(&self, images: impl Iterator<Item = &'a Image>) -> u64 {
        let layers: BTreeSet<Digest> = images.flat_map(Image::diff_ids).collect();
        layers.iter().filter_map(|layer| self.layer_sizes.get(layer)).sum()
    }

    fn lines(&self) -> Vec<Line> {
        let digests = |used: bool| -> BTreeSet<Digest> {
            self.images.iter().filter(|one| !used || one.3 > 0).map(|one| one.2.digest()).collect()
        };
        let size = self.layers_of(self.images.iter().map(|one| &one.2));
        let active = self.layers_of(self.images.iter().filter(|one| one.3 > 0).map(|one| &one.2));
        let running = |one: &&(Container, u64)| matches!(one.0.state, State::Running(_));
        let of_containers: u64 = self.containers.iter().map(|one| one.1).sum();
        let of_running: u64 = self.containers.iter().filter(running).map(|one| one.1).sum();
        let of_volumes: u64 = self.volumes.iter().map(|one| one.2).sum();
        let unused_volumes: u64 = self.volumes.iter().filter(|one| one.1 == 0).map(|one| one.2).sum();
        vec![
            Line {
                kind: "Images",
                total: digests(false).len(),
                active: digests(true).len(),
                size,
                reclaimable: size - active,
                percent: true,
            },
            Line {
                kind: "Containers",
                total: self.containers.len(),
                active: self.containers.iter().filter(running).count(),
                size: of_containers,
                reclaimable: of_containers - of_running,
                percent: true,
            },
            Line {
                kind: "Local Volumes",
                total: self.volumes.len(),
                active: self.volumes.iter().filter(|one| one.1 > 0).count(),
                size: of_volumes,
                reclaimable: unused_volumes,
                percent: true,
            },
            Line {
                kind: "Build Cache",
                total: self.cache.len(),
                active: self.cache.iter().filter(|part| part.in_use).count(),
                size: self.cache.iter().filter(|part| !part.shared).map(|part| part.size).sum(),
                reclaimable: self.cache.iter().filter(|part| part.is_reclaimable()).map(|part| part.size).sum(),
                percent: false,
            },
        ]
    }

    /// Bytes that an image has alone, and all of its bytes.
    fn unique(&self, image: &Image) -> (u64, u64) {
        let all = self.layers_of(std::iter::once(image));
        let others = self.images.iter().map(|one| &one.2).filter(|other| other.digest() != image.digest());
        let of_others: BTreeSet<Digest> = others.flat_map(Image::diff_ids).collect();
        let own: BTreeSet<Digest> = image.diff_ids().filter(|layer| !of_others.contains(layer)).collect();
        (own.iter().filter_map(|layer| self.layer_sizes.get(layer)).sum(), all)
    }

    fn verbose(&self) -> anyhow::Result<()> {
        let image = |(name, tag, image, users): &(String, String, Image, usize)| {
            let (own, all) = self.unique(image);
            let created = created_since(image.config.created.as_deref());
            let id = short(&image.id());
            vec![name.clone(), tag.clone(), id, created, bytes(all), bytes(all - own), bytes(own), users.to_string()]
        };
        let header = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"];
        let rows: Vec<_> = self.images.iter().map(image).collect();
        outln!("Images space usage:\n\n{}", table(&header, &rows))?;
        let container = |(container, size): &(Container, u64)| {
            let volumes = container.config.volumes.iter();
            let volumes = volumes.filter(|volume| matches!(volume.source, VolumeSource::Named(_))).count();
            vec![
                container.id().chars().take(12).collect(),
                container.config.image.clone(),
                format!("{:?}", container.config.args().join(" ")),
                volumes.to_string(),
                bytes(*size),
                format!("{} ago", human_duration(since(container.config.created / 1_000_000_000))),
                container.state.name().to_owned(),
                container.config.name.clone(),
            ]
        };
        let header = ["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"];
        let rows: Vec<_> = self.containers.iter().map(container).collect();
        outln!("Containers space usage:\n\n{}", table(&header, &rows))?;
        let volume = |(name, users, size): &(String, usize, u64)| vec![name.clone(), users.to_string(), bytes(*size)];
        let rows: Vec<_> = self.volumes.iter().map(volume).collect();
        outln!("Local Volumes space usage:\n\n{}", table(&["VOLUME NAME", "LINKS", "SIZE"], &rows))?;
        let total: u64 = self.cache.iter().filter(|part| !part.shared).map(|part| part.size).sum();
        let part = |part: &Usage| {
            vec![
                part.id.chars().take(12).collect(),
                part.kind.name().to_owned(),
                bytes(part.size),
                format!("{} ago", human_duration(since(part.created))),
                format!("{} ago", human_duration(since(part.last_used))),
                part.shared.to_string(),
            ]
        };
        let rows: Vec<_> = self.cache.iter().map(part).collect();
        let header = ["CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "SHARED"];
        out!("Build cache usage: {}\n\n{}", bytes(total), table(&header, &rows))?;
        Ok(())
    }

    fn all_as_json(&self) -> Value {
        let image = |(name, tag, image, users): &(String, String, Image, usize)| {
            let (own, all) = self.unique(image);
            json!({
                "Repository": name, "Tag": tag, "ID": image.id().to_string(), "Size": bytes(all),
                "SharedSize": bytes(all - own), "UniqueSize": bytes(own), "Containers": users.to_string(),
            })
        };
        let container = |(container, size): &(Container, u64)| {
            json!({
                "ID": container.id(), "Image": container.config.image, "Names": container.config.name,
                "State": container.state.name(), "Size": bytes(*size),
            })
        };
        let volume = |(name, users, size): &(String, usize, u64)| json!({"Name": name, "Links": users.to_string(), "Size": bytes(*size)});
        json!({
            "Images": self.images.iter().map(image).collect::<Vec<_>>(),
            "Containers": self.containers.iter().map(container).collect::<Vec<_>>(),
            "Volumes": self.volumes.iter().map(volume).collect::<Vec<_>>(),
            "BuildCache": self.cache,
        })
    }
}

//! What differs between two images: layers, files, config.

use std::collections::BTreeMap;
use std::fs::File;

use rustix::fs::OFlags;
use serde_json::Value;

use super::{Image, ImageError};
use crate::fs::{self, Kind, Metadata};
use crate::layer::{LayerError, Stack, Top, open_layer, same_data};
use crate::store::Store;

/// What differs.
#[derive(Debug)]
pub struct Comparison {
    /// Layers that both begin with.
    pub shared_layers: usize,
    /// Files, in order of path.
    pub files: Vec<FileDifference>,
    /// Fields of the config, in order of name.
    pub config: Vec<ConfigDifference>,
}

impl Comparison {
    /// Whether nothing differs but perhaps how it is laid out in layers.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.files.is_empty() && self.config.is_empty()
    }
}

/// A path that differs.
#[derive(Debug)]
pub struct FileDifference {
    /// Without a slash before it.
    pub path: Vec<u8>,
    /// In the first image.
    pub before: Option<Top>,
    /// In the second image.
    pub after: Option<Top>,
    /// In what they differ; nothing where one of them is not there.
    pub aspects: Vec<Aspect>,
}

/// In what two entries can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// File, directory, link and so on.
    Type,
    /// Permission bits.
    Mode,
    /// User and group.
    Owner,
    /// Bytes.
    Size,
    /// Data.
    Content,
    /// Target of a link.
    Target,
    /// Numbers of a device.
    Device,
    /// Extended attributes, capabilities of files among them.
    Xattrs,
    /// Time of the last change.
    Mtime,
}

/// A field of the config that differs.
#[derive(Debug, PartialEq)]
pub struct ConfigDifference {
    /// `config.Env.PATH`
    pub field: String,
    /// In the first image; nothing where it is not there.
    pub before: Option<Value>,
    /// In the second image.
    pub after: Option<Value>,
}

/// Compares two images whose layers are unpacked in the store. `ignored` are aspects that do not count.
///
/// # Errors
/// Where a layer is missing or cannot be read.
pub fn compare(store: &Store, before: &Image, after: &Image, ignored: &[Aspect]) -> Result<Comparison, ImageError> {
    let pairs = before.layers.iter().zip(&after.layers);
    let shared_layers = pairs.take_while(|(one, two)| one.diff_id == two.diff_id).count();
    let chains: [Vec<_>; 2] = [before.diff_ids().collect(), after.diff_ids().collect()];
    let stacks = [Stack::of(store, &chains[0])?, Stack::of(store, &chains[1])?];
    let mut files = Vec::new();
    let mut paths: Vec<&Vec<u8>> = stacks[0].tops().keys().chain(stacks[1].tops().keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        let (one, two) = (stacks[0].tops().get(path), stacks[1].tops().get(path));
        let aspects = match (one, two) {
            // The same layer has the same files.
            (Some(one), Some(two)) if chains[0][one.layer] == chains[1][two.layer] => continue,
            (Some(one), Some(two)) => {
                let roots = || -> Result<bool, LayerError> {
                    let open = |chain: &[crate::digest::Digest], top: &Top| -> Result<File, LayerError> {
                        let root = open_layer(store, &chain[top.layer])?;
                        Ok(fs::open_beneath(&root, &top.node.path, OFlags::RDONLY | OFlags::NOFOLLOW)?.into())
                    };
                    let same = same_data(open(&chains[0], one)?, open(&chains[1], two)?);
                    same.map_err(LayerError::Read)
                };
                let mut aspects = aspects(&one.node.metadata, &two.node.metadata);
                let is_file = |top: &Top| matches!(top.node.metadata.kind, Kind::File { .. });
                if is_file(one) && is_file(two) && (aspects.contains(&Aspect::Size) || !roots()?) {
                    aspects.push(Aspect::Content);
                    aspects.sort_unstable();
                }
                aspects.retain(|aspect| !ignored.contains(aspect));
                if aspects.is_empty() {
                    continue;
                }
                aspects
            }
            _ => Vec::new(),
        };
        files.push(FileDifference { path: path.clone(), before: one.cloned(), after: two.cloned(), aspects });
    }
    Ok(Comparison { shared_layers, files, config: config_differences(before, after)? })
}

/// What differs between two entries, their data left out.
fn aspects(one: &Metadata, two: &Metadata) -> Vec<Aspect> {
    let mut aspects = Vec::new();
    match (&one.kind, &two.kind) {
        (Kind::File { size: one }, Kind::File { size: two }) if one != two => aspects.push(Aspect::Size),
        (Kind::Symlink { target: one }, Kind::Symlink { target: two }) if one != two => aspects.push(Aspect::Target),
        (Kind::CharDevice { .. }, Kind::CharDevice { .. }) | (Kind::BlockDevice { .. }, Kind::BlockDevice { .. })
            if one.kind != two.kind =>
        {
            aspects.push(Aspect::Device);
        }
        (one, two) if std::mem::discriminant(one) != std::mem::discriminant(two) => aspects.push(Aspect::Type),
        _ => {}
    }
    let differs = [
        (one.mode != two.mode, Aspect::Mode),
        ((one.uid, one.gid) != (two.uid, two.gid), Aspect::Owner),
        (one.xattrs != two.xattrs, Aspect::Xattrs),
        (one.mtime != two.mtime, Aspect::Mtime),
    ];
    aspects.extend(differs.into_iter().filter_map(|(differs, aspect)| differs.then_some(aspect)));
    aspects.sort_unstable();
    aspects
}

/// Fields that differ but for the lists of layers and steps, which are compared as layers.
fn config_differences(before: &Image, after: &Image) -> Result<Vec<ConfigDifference>, ImageError> {
    let fields = |image: &Image| -> Result<BTreeMap<String, Value>, ImageError> {
        let value =
            serde_json::to_value(&image.config).map_err(|source| ImageError::Write { what: "config", source })?;
        let mut fields = BTreeMap::new();
        flatten(String::new(), value, &mut fields);
        fields.retain(|name, _| !name.starts_with("rootfs.") && name != "history");
        Ok(fields)
    };
    let (one, two) = (fields(before)?, fields(after)?);
    let mut names: Vec<&String> = one.keys().chain(two.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let differing = names.into_iter().filter(|name| one.get(*name) != two.get(*name));
    let of = |field: &String| ConfigDifference {
        field: field.clone(),
        before: one.get(field).cloned(),
        after: two.get(field).cloned(),
    };
    Ok(differing.map(of).collect())
}

/// Each field by its path; variables of the environment each by its name.
fn flatten(path: String, value: Value, fields: &mut BTreeMap<String, Value>) {
    let inner = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(map) if path.matches('.').count() < 8 => {
            map.into_iter().for_each(|(name, value)| flatten(inner(&name), value, fields));
        }
        Value::Array(list) if path == "config.Env" => {
            for variable in list {
                let text = variable.as_str().unwrap_or_default();
                let (name, value) = text.split_once('=').unwrap_or((text, ""));
                fields.insert(inner(name), value.into());
            }
        }
        value => drop(fields.insert(path, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Timestamp, Xattrs};

    #[test]
    fn every_aspect_is_noticed() {
        let plain = Metadata {
            kind: Kind::File { size: 1 },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timestamp::EPOCH,
            xattrs: Xattrs::new(),
        };
        let link = |target: &str| Metadata { kind: Kind::Symlink { target: target.into() }, ..plain.clone() };
        let device = |minor| Metadata { kind: Kind::CharDevice { major: 1, minor }, ..plain.clone() };
        let other = Metadata {
            kind: Kind::File { size: 2 },
            mode: 0o600,
            gid: 5,
            mtime: Timestamp { seconds: 1, nanoseconds: 0 },
            xattrs: Xattrs::from([(b"user.x".to_vec(), b"y".to_vec())]),
            ..plain.clone()
        };
        assert_eq!(aspects(&plain, &plain), []);
        let all = [Aspect::Mode, Aspect::Owner, Aspect::Size, Aspect::Xattrs, Aspect::Mtime];
        assert_eq!(aspects(&plain, &other), all);
        assert_eq!(aspects(&plain, &link("a")), [Aspect::Type]);
        assert_eq!(aspects(&link("a"), &link("b")), [Aspect::Target]);
        assert_eq!(aspects(&device(1), &device(2)), [Aspect::Device]);
    }
}

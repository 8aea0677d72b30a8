//! What the layers of an image weigh, and what of it is wasted.

use std::collections::BTreeMap;

use lap_cache::image::Image;
use lap_cache::layer::{Hidden, Stack, StoredFile};

use crate::ui::visible;

/// An image by weight. Sizes are bytes of data in regular files.
#[derive(Debug)]
pub(super) struct Weight {
    pub(super) layers: Vec<Layer>,
    /// All that the layers hold.
    pub(super) total: u64,
    /// What of it the image does not show, by path, the heaviest first.
    pub(super) wasted: Vec<Wasted>,
    /// Every file of every layer.
    pub(super) files: Vec<StoredFile>,
}

/// A layer, the lowest first.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) diff_id: String,
    pub(super) digest: String,
    pub(super) command: String,
    pub(super) size: u64,
    /// What of it later layers hide.
    pub(super) wasted: u64,
    /// Its files in the list of all, the largest first.
    pub(super) files: Vec<usize>,
}

/// A path whose data lie in layers and are not seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wasted {
    pub(super) path: Vec<u8>,
    pub(super) size: u64,
    /// How often it is there in vain.
    pub(super) count: usize,
    /// What hides the last of them.
    pub(super) hidden: Hidden,
}

impl Weight {
    pub(super) fn new(image: &Image, stack: &Stack) -> Self {
        let commands = image.commands();
        let mut layers: Vec<Layer> = image
            .layers
            .iter()
            .zip(commands)
            .map(|(layer, command)| Layer {
                diff_id: layer.diff_id.to_string(),
                digest: layer.digest.to_string(),
                command: one_line(command.unwrap_or_default()),
                size: 0,
                wasted: 0,
                files: Vec::new(),
            })
            .collect();
        let files = stack.files().to_vec();
        let mut wasted: BTreeMap<&[u8], Wasted> = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            let Some(layer) = layers.get_mut(file.layer) else { continue };
            layer.size += file.size;
            layer.files.push(number);
            if let Some(hidden) = file.hidden {
                layer.wasted += file.size;
                let path = file.path.clone();
                let one = wasted.entry(&file.path).or_insert(Wasted { path, size: 0, count: 0, hidden });
                one.size += file.size;
                one.count += 1;
                one.hidden = hidden;
            }
        }
        let mut wasted: Vec<Wasted> = wasted.into_values().filter(|one| one.size > 0).collect();
        wasted.sort_by(|one, two| two.size.cmp(&one.size).then_with(|| one.path.cmp(&two.path)));
        for layer in &mut layers {
            layer.files.sort_by_key(|number| (std::cmp::Reverse(files[*number].size), *number));
        }
        let total = layers.iter().map(|layer| layer.size).sum();
        Self { layers, total, wasted, files }
    }

    /// Bytes that the image does not show.
    pub(super) fn wasted_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.wasted).sum()
    }

    /// The part of the bytes that the image shows, 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a share of bytes")]
    pub(super) fn efficiency(&self) -> f64 {
        if self.total == 0 { 1.0 } else { 1.0 - self.wasted_bytes() as f64 / self.total as f64 }
    }
}

/// A path as people read it: absolute, nothing in it acts.
pub(crate) fn shown_path(path: &[u8]) -> String {
    format!("/{}", shown_name(path))
}

/// A part of one.
pub(super) fn shown_name(name: &[u8]) -> String {
    visible(&String::from_utf8_lossy(name)).replace('\n', "\u{240a}").replace('\t', "\u{2409}")
}

/// A command on one line, without what every one begins with.
pub(crate) fn one_line(command: &str) -> String {
    let text = command.strip_prefix("/bin/sh -c #(nop) ").unwrap_or(command);
    visible(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

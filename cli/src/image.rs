//! Finding images by what people call them.

use anyhow::{Context as _, bail};
use lap_cache::image::{Image, Reference};
use lap_cache::names::Entry;
use lap_cache::store::Store;

/// An image of the store and the name it was asked for by.
pub(crate) struct Found {
    /// None where it was asked for by ID.
    pub(crate) name: Option<Reference>,
    pub(crate) image: Image,
}

/// The image that `text` names: a name, an ID or the beginning of one (config or manifest digest).
///
/// # Errors
/// Where the store cannot be read or an ID's beginning fits several images.
pub(crate) fn find(store: &Store, text: &str) -> anyhow::Result<Option<Found>> {
    if let Ok(name) = text.parse::<Reference>()
        && let Some(digest) = store.name_get(&name)?
    {
        return Ok(Some(Found { name: Some(name), image: store.image(&digest)? }));
    }
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.len() < 2 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut found: Option<Image> = None;
    for Entry { digest, .. } in store.names()? {
        let image = store.image(&digest)?;
        if image.id().hex().starts_with(hex) || digest.hex().starts_with(hex) {
            if found.as_ref().is_some_and(|other| other.digest() != digest) {
                bail!("{text} is the beginning of several image IDs: give more digits");
            }
            found = Some(image);
        }
    }
    Ok(found.map(|image| Found { name: None, image }))
}

/// As [`find`], for commands that need the image to be there.
///
/// # Errors
/// Also where there is none.
pub(crate) fn need(store: &Store, text: &str) -> anyhow::Result<Found> {
    if let Some(found) = find(store, text)? {
        return Ok(found);
    }
    bail!("no such image: {text}")
}

/// A reference as the user typed it, or an error that says what is wrong with it.
///
/// # Errors
/// Where it is none.
pub(crate) fn reference(text: &str) -> anyhow::Result<Reference> {
    text.parse().with_context(|| format!("{text:?} is no image name"))
}

/// The first twelve digits, as tables show them.
pub(crate) fn short(digest: &lap_cache::digest::Digest) -> String {
    digest.hex()[..12].to_owned()
}

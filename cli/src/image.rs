//! Finding images by what people call them.

use anyhow::{Context as _, bail};
use lap_cache::image::{Image, ImageError, Reference};
use lap_cache::names::Entry;
use lap_cache::store::Store;
use lap_solver::platform::Platform;

/// An image of the store and the name it was asked for by.
pub(crate) struct Found {
    /// None where it was asked for by ID.
    pub(crate) name: Option<Reference>,
    /// What the name or the ID stands for: the image's own digest, or that of an index.
    pub(crate) entry: Entry,
    pub(crate) image: Image,
}

/// The image that `text` names: a name, an ID or the beginning of one (config or manifest digest). Of an index, the
/// one for this machine.
///
/// # Errors
/// Where the store cannot be read or an ID's beginning fits several images.
pub(crate) fn find(store: &Store, text: &str) -> anyhow::Result<Option<Found>> {
    let entries = store.names()?;
    if let Ok(name) = text.parse::<Reference>()
        && let Some(named) = entries.iter().find(|entry| entry.stands_for(&name))
        // Another name of it may come first.
        && let Some(entry) = entries.iter().find(|entry| entry.digest == named.digest)
    {
        let image = image_of(store, entry)?;
        return Ok(Some(Found { name: Some(name), entry: entry.clone(), image }));
    }
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.len() < 2 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut found: Option<Found> = None;
    for entry in entries {
        let image = image_of(store, &entry)?;
        let mut ids = [image.id(), image.digest(), entry.digest].into_iter();
        if ids.any(|id| id.hex().starts_with(hex)) {
            if found.as_ref().is_some_and(|other| other.entry.digest != entry.digest) {
                bail!("{text} is the beginning of several image IDs: give more digits");
            }
            found = Some(Found { name: None, entry, image });
        }
    }
    Ok(found)
}

/// The image that an entry of the store stands for: of an index, the one for this machine, or else the first.
///
/// # Errors
/// Where its documents cannot be read.
pub(crate) fn image_of(store: &Store, entry: &Entry) -> anyhow::Result<Image> {
    match store.image_for(&entry.digest, &Platform::host()) {
        Err(ImageError::NoPlatform { .. }) => {
            let artifact = store.artifact(&entry.digest)?;
            let first = artifact.runnable().first().map(|image| (*image).clone());
            first.with_context(|| format!("{} is an index without images", entry.digest))
        }
        image => Ok(image?),
    }
}

/// As [`find`], for commands that need the image to be there.
///
/// # Errors
/// Also where there is none.
pub(crate) fn need(store: &Store, text: &str) -> anyhow::Result<Found> {
    find(store, text)?.with_context(|| no_such_image(text))
}

/// What Docker says of an image that is not there; scripts look for it.
pub(crate) fn no_such_image(text: &str) -> String {
    let familiar = text.parse::<Reference>().map(|name| name.familiar());
    format!("No such image: {}", familiar.as_deref().unwrap_or(text))
}

/// Of what was found, the image for another platform than this machine's, where that is asked for.
///
/// # Errors
/// Where the platform is none, or there is no image for it.
pub(crate) fn for_platform(store: &Store, mut found: Found, platform: Option<&str>) -> anyhow::Result<Found> {
    let Some(text) = platform else { return Ok(found) };
    let platform = Platform::parse(text, &Platform::host())?;
    found.image = store.image_for(&found.entry.digest, &platform)?;
    // A single image is given whatever it is for.
    if !found.image.suits(&platform) {
        bail!("the image is for {}, not for {platform}", found.image.platform());
    }
    Ok(found)
}

/// A reference as the user typed it, or an error that says what is wrong with it.
///
/// # Errors
/// Where it is none.
pub(crate) fn reference(text: &str) -> anyhow::Result<Reference> {
    text.parse().with_context(|| format!("{text:?} is no image name"))
}

/// A repository, for every tag of it.
///
/// # Errors
/// Where it is no image name, or has a tag or a digest.
pub(crate) fn repository(text: &str) -> anyhow::Result<Reference> {
    let found = reference(text)?;
    if text.rsplit('/').next().is_some_and(|last| last.contains([':', '@'])) {
        bail!("tag can't be used with --all-tags/-a: {text}");
    }
    Ok(found)
}

/// The first twelve digits, as tables show them.
pub(crate) fn short(digest: &lap_cache::digest::Digest) -> String {
    digest.hex()[..12].to_owned()
}

//! Named contexts: what `--build-context NAME=PLACE` means.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use lap_cache::load::load_layout;
use lap_executor::source::http;
use lap_frontend::{NamedContext, remote_source};
use lap_solver::event::Events;
use lap_solver::graph::Source;
use lap_solver::platform::Platform;

use super::bases::LAYOUTS;
use super::context::{Opener, ignore_patterns};
use crate::args::KeyValue;
use crate::ui::error::Hint as _;

impl Opener<'_> {
    /// Gives a named context its meaning, in `contexts`; a directory is added to `directories`.
    ///
    /// # Errors
    /// Where it has none.
    pub(crate) fn named(
        &self,
        named: &KeyValue,
        contexts: &mut BTreeMap<String, NamedContext>,
        directories: &mut Vec<(String, PathBuf, Vec<String>)>,
    ) -> anyhow::Result<()> {
        let Some(place) = &named.value else { bail!("--build-context {}: write NAME=PLACE", named.key) };
        let told = || format!("--build-context {}={}", named.key, http::shown(place));
        let platform = match named.key.split_once("::") {
            Some((_, platform)) => Some(Platform::parse(platform, &Platform::host()).with_context(told)?),
            None => None,
        };
        if let Some(layout) = place.strip_prefix("oci-layout://") {
            for (key, reference) in self.layouts(&named.key, layout, platform).with_context(told)? {
                contexts.insert(key, NamedContext::Image(reference));
            }
            return Ok(());
        }
        let context = self.single(&named.key, place, told, directories)?;
        contexts.insert(named.key.clone(), context);
        Ok(())
    }

    fn single(
        &self,
        name: &str,
        place: &str,
        told: impl Fn() -> String,
        directories: &mut Vec<(String, PathBuf, Vec<String>)>,
    ) -> anyhow::Result<NamedContext> {
        if let Some(reference) = place.strip_prefix("docker-image://") {
            return Ok(NamedContext::Image(reference.to_owned()));
        }
        let is_directory = std::fs::metadata(place).is_ok_and(|found| found.is_dir());
        if !is_directory {
            let address = if place.starts_with("github.com/") { format!("https://{place}") } else { place.to_owned() };
            match remote_source(&address, address != *place).with_context(&told)? {
                // Whatever the address ends in, the file has this name.
                Some(Source::Http { url, checksum, .. }) => {
                    let filename = "context".to_owned();
                    return Ok(NamedContext::Files(Source::Http { url, checksum, filename }));
                }
                Some(source) => return Ok(NamedContext::Files(source)),
                None => {}
            }
        }
        if place.contains("://") {
            let kinds = "a directory, docker-image://, oci-layout://, a git or an http(s) URL";
            return Err(anyhow::anyhow!("{}: unknown kind of context", told())).hint(format!("give {kinds}"));
        }
        let directory = PathBuf::from(place);
        std::fs::metadata(&directory).with_context(|| format!("cannot read the build context {place}"))?;
        // A name of a stage or image never has a blank, so it cannot be mistaken for the main context.
        let name = format!("named {name}");
        let ignore = ignore_patterns(&directory, None)?;
        directories.push((name.clone(), directory, ignore));
        Ok(NamedContext::Files(Source::Local { name }))
    }

    /// `PATH[:TAG|@DIGEST]`: an image in an OCI layout, by the names of contexts that stand for it on each platform, as
    /// the resolver knows it.
    fn layouts(&self, key: &str, text: &str, only: Option<Platform>) -> anyhow::Result<Vec<(String, String)>> {
        let (path, which) = match (text.split_once('@'), text.rsplit_once(':')) {
            (Some((path, digest)), _) => (path.rsplit_once(':').map_or(path, |(path, _)| path), Some(digest)),
            (None, Some((path, tag))) if !tag.contains('/') => (path, Some(tag)),
            _ => (text, None),
        };
        let store = self.store()?;
        let load = |platform: &Platform| {
            let image = load_layout(store, Path::new(path), which, platform, &Events::none());
            let image = image.with_context(|| format!("cannot take an image from the OCI layout {path}"))?;
            Ok::<_, anyhow::Error>(format!("{LAYOUTS}/layout@{}", image.digest()))
        };
        if let Some(platform) = only {
            return Ok(vec![(key.to_owned(), load(&platform)?)]);
        }
        let mut found = Vec::new();
        for platform in self.platforms {
            let reference = load(platform)?;
            if found.is_empty() {
                found.push((key.to_owned(), reference.clone()));
            }
            found.push((format!("{key}::{platform}"), reference));
        }
        let host = Platform::host();
        // Stages that run here may be of it too; where it has nothing for this machine, they say so.
        if !self.platforms.contains(&host)
            && let Ok(reference) = load(&host)
        {
            found.push((format!("{key}::{host}"), reference));
        }
        if found.len() == 2 {
            found.truncate(1);
        }
        Ok(found)
    }
}

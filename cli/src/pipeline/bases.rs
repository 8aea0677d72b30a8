//! Base images: from the store where it has them, from a registry else; layers only when a step needs them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use lap_cache::digest::Digest;
use lap_cache::image::{Image, ImageError, Reference};
use lap_cache::registry::Client;
use lap_cache::store::Store;
use lap_executor::source::image::Bases;
use lap_frontend::{BaseImage, Facts};
use lap_solver::event::{Action, Event, Events};
use lap_solver::graph::{Graph, Op, Source};

use super::Request;
use crate::command::App;

/// Host of the names that images out of OCI layouts have in a graph; no registry has it.
pub(super) const LAYOUTS: &str = "oci-layout.invalid";

/// Finds images by name and remembers what it found.
pub(super) struct Resolver<'a> {
    store: &'a Store,
    client: Client,
    events: Events,
    pull: bool,
    facts: Facts,
    images: BTreeMap<BaseImage, Image>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(app: &'a App, request: &Request, events: Events) -> anyhow::Result<Self> {
        let client = crate::registry::client(&app.settings, &request.mirrors)?;
        Ok(Self {
            store: app.store()?,
            client,
            events,
            pull: request.pull,
            facts: Facts::new(),
            images: BTreeMap::new(),
        })
    }

    /// Whether registries are asked from now on for images that the store has.
    pub(super) const fn set_pull(&mut self, pull: bool) {
        self.pull = pull;
    }

    /// The configs found so far.
    pub(super) const fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// The images found so far, as the worker takes them.
    pub(super) fn bases(&self) -> Bases {
        let mut bases = Bases::default();
        for (name, image) in &self.images {
            bases.insert(name.reference.clone(), name.platform.clone(), image);
        }
        bases
    }

    /// The layers of the images found so far.
    pub(super) fn layers(&self) -> BTreeSet<Digest> {
        self.images.values().flat_map(Image::diff_ids).collect()
    }

    /// The digests of the images found so far, by reference and platform.
    pub(super) fn digests(&self) -> BTreeMap<(String, String), String> {
        let digest = |(name, image): (&BaseImage, &Image)| {
            ((name.reference.clone(), name.platform.to_string()), image.digest().to_string())
        };
        self.images.iter().map(digest).collect()
    }

    /// Finds those that are not known yet, all at once.
    ///
    /// # Errors
    /// The first that cannot be found, and why.
    pub(super) async fn resolve(&mut self, wanted: &[BaseImage]) -> Result<(), (BaseImage, anyhow::Error)> {
        let mut tasks = tokio::task::JoinSet::new();
        for name in wanted.iter().filter(|name| !self.images.contains_key(*name)).cloned() {
            let (client, store, events, pull) =
                (self.client.clone(), self.store.clone(), self.events.clone(), self.pull);
            tasks.spawn(async move {
                let found = find(&client, &store, &events, pull, &name).await;
                (name, found)
            });
        }
        while let Some(found) = tasks.join_next().await {
            // A task that panicked has said so; the build cannot go on without its answer.
            let Ok((name, found)) = found else { continue };
            match found {
                Ok(image) => {
                    self.facts.insert(name.clone(), image.config.clone());
                    self.images.insert(name, image);
                }
                Err(error) => return Err((name, error)),
            }
        }
        Ok(())
    }
}

/// Every image that a graph names.
pub(super) fn images_of(graph: &Graph) -> Vec<BaseImage> {
    let of = |op: &Op| match op {
        Op::Source(Source::Image { reference, platform }) => {
            Some(BaseImage { reference: reference.clone(), platform: platform.clone() })
        }
        _ => None,
    };
    graph.vertices().iter().filter_map(|vertex| of(&vertex.op)).collect()
}

async fn find(client: &Client, store: &Store, events: &Events, pull: bool, name: &BaseImage) -> anyhow::Result<Image> {
    let reference: Reference =
        name.reference.parse().with_context(|| format!("{:?} is no image name", name.reference))?;
    if reference.registry() == LAYOUTS
        && let Some(digest) = reference.digest()
    {
        return fitting(store.image(&digest)?, name, "the image of the OCI layout");
    }
    if !pull && let Some(digest) = store.name_get(&reference)? {
        match store.image_for(&digest, &name.platform) {
            // An image that does not say what it is for, such as an imported one, is for this machine.
            Ok(image) if image.config.architecture.is_empty() || image.platform() == name.platform => return Ok(image),
            // One for another platform: a registry may have more.
            Ok(_) | Err(ImageError::NoPlatform { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let progress = |done| Event::Progress {
        id: reference.familiar(),
        action: Action::Resolve,
        vertex: None,
        current: 0,
        total: None,
        done,
    };
    events.send(progress(false));
    let remote = client.resolve(&reference, &name.platform, store, events).await?;
    events.send(progress(true));
    let image = fitting(remote.image, name, &reference.familiar())?;
    store.name_set(&reference, &image)?;
    Ok(image)
}

/// An image for the platform that is wanted, or one that does not say what it is for.
fn fitting(image: Image, name: &BaseImage, shown: &str) -> anyhow::Result<Image> {
    if !image.config.architecture.is_empty() && image.platform() != name.platform {
        bail!("{shown} is for {}, not for {}", image.platform(), name.platform);
    }
    Ok(image)
}

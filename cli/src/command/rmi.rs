//! `lap rmi`

use std::time::Duration;

use anyhow::bail;
use lap_cache::image::Reference;
use lap_cache::names::Removed;
use lap_cache::store::Store;
use lap_executor::container::{Container, State};

use crate::args::RemoveImages;
use crate::command::{App, containers};
use crate::exit::FAILED;
use crate::image::{Found, find, no_such_image, short};

/// Age below which nothing is pruned.
const GRACE: Duration = Duration::from_secs(600);

pub(super) fn run(app: &App, args: &RemoveImages) -> anyhow::Result<i32> {
    let store = app.store()?;
    let containers = containers::all(app)?.list()?;
    let mut code = 0;
    for text in &args.images {
        let removed = match find(store, text)? {
            Some(found) => remove(store, &containers, text, &found, args.force),
            None if args.force => Ok(Removed::default()),
            None => Err(anyhow::anyhow!(no_such_image(text))),
        };
        // One that cannot go does not keep the others.
        let removed = removed.unwrap_or_else(|error| {
            eprint!("{}", crate::ui::error::render(&error, app.settings.color));
            code = FAILED;
            Removed::default()
        });
        for name in &removed.untagged {
            outln!("Untagged: {}", Reference::familiar(name))?;
        }
        for digest in &removed.deleted {
            outln!("Deleted: {digest}")?;
        }
    }
    if !args.no_prune {
        // What a build made a moment ago may be wanted by the next one.
        store.prune_unreferenced(GRACE)?;
    }
    Ok(code)
}

/// By Docker's rules: a name goes unless it is the last one of an image that a container needs; an ID goes where it has
/// one repository and no container. What runs keeps its image, nameless, whatever is forced.
fn remove(store: &Store, all: &[Container], text: &str, found: &Found, force: bool) -> anyhow::Result<Removed> {
    let digest = found.entry.digest;
    let id = short(&found.image.id());
    let names: Vec<Reference> =
        store.names()?.into_iter().filter(|entry| entry.digest == digest).filter_map(|entry| entry.name).collect();
    let is_of = |container: &&Container| {
        container.config.image_digest.is_some_and(|of| of == digest || of == found.image.digest())
    };
    let users = || all.iter().filter(is_of);
    let running = users().find(|container| matches!(container.state, State::Running(_)));
    let user = running.or_else(|| users().next());
    if let Some(name) = &found.name {
        // A digest in the name stands for whatever tag of the repository has it.
        let Some(name) = names.iter().find(|own| *own == name || own.name() == name.name() && name.digest().is_some())
        else {
            bail!(no_such_image(text));
        };
        let is_last = names.len() == 1;
        if let Some(container) = user.filter(|_| is_last && !force) {
            bail!(
                "conflict: unable to remove repository reference \"{text}\" (must force) - container {} is using its \
                 referenced image {id}",
                &container.id()[..12]
            );
        }
        let mut removed = store.name_remove(name)?;
        if is_last && running.is_some() {
            store.keep(&found.entry.descriptor)?;
            removed.deleted.clear();
        }
        return Ok(removed);
    }
    if let Some(container) = running {
        bail!(
            "conflict: unable to delete {id} (cannot be forced) - image is being used by running container {}",
            &container.id()[..12]
        );
    }
    if names.iter().any(|name| name.name() != names[0].name()) && !force {
        bail!("conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories");
    }
    if let Some(container) = user.filter(|_| !force) {
        bail!(
            "conflict: unable to delete {id} (must be forced) - image is being used by stopped container {}",
            &container.id()[..12]
        );
    }
    Ok(store.image_remove(&digest)?)
}

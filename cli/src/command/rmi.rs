//! `lap rmi`

use std::time::Duration;

use lap_cache::image::Reference;
use lap_cache::names::Removed;

use crate::args::RemoveImages;
use crate::command::App;
use crate::exit::FAILED;
use crate::image::find;

/// Age below which nothing is pruned.
const GRACE: Duration = Duration::from_secs(600);

pub(super) fn run(app: &App, args: &RemoveImages) -> anyhow::Result<i32> {
    let store = app.store()?;
    let mut code = 0;
    for text in &args.images {
        let removed: Removed = match find(store, text)? {
            Some(found) => match &found.name {
                Some(name) => store.name_remove(name)?,
                None => store.image_remove(&found.entry.digest)?,
            },
            None if args.force => Removed::default(),
            None => {
                eprintln!("lap: no such image: {text}");
                code = FAILED;
                Removed::default()
            }
        };
        for name in &removed.untagged {
            outln!("Untagged: {}", Reference::familiar(name))?;
        }
        for digest in &removed.deleted {
            outln!("Deleted: {digest}")?;
        }
    }
    // What a build made a moment ago may be wanted by the next one.
    store.prune_unreferenced(GRACE)?;
    Ok(code)
}

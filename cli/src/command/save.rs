//! `lap save`

use anyhow::Context as _;
use lap_cache::export::{Named, docker_archive};

use crate::args::Save;
use crate::command::App;
use crate::complete::complete;
use crate::image::need;
use crate::pipeline::to_file;
use crate::ui::{Mode, Screen};

pub(super) fn run(app: &App, args: &Save) -> anyhow::Result<i32> {
    let store = app.store()?;
    let _lease = store.lease()?;
    let screen = Screen::start(Mode::Auto, app.settings.color);
    let events = screen.events();
    let mut images: Vec<Named> = Vec::new();
    for text in &args.images {
        let found = need(store, text)?;
        let image = complete(app, found.image, &events).with_context(|| format!("cannot save {text}"))?;
        match images.iter_mut().find(|other| other.content.digest() == image.digest()) {
            Some(other) => other.names.extend(found.name),
            None => images.push(Named { content: image.into(), names: found.name.into_iter().collect() }),
        }
    }
    let result = to_file(args.output.as_deref(), |writer| Ok(docker_archive(store, &images, writer, &events)?));
    drop(screen.finish());
    result?;
    Ok(0)
}

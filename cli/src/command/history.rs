//! `lap history`

use crate::args::History;
use crate::command::App;
use crate::command::images::created_since;
use crate::image::{need, short};
use crate::ui::table::{bytes, table};

/// Width of the command column unless all of it is wanted.
const COMMAND_WIDTH: usize = 45;

pub(super) fn run(app: &App, args: &History) -> anyhow::Result<i32> {
    let store = app.store()?;
    let image = need(store, &args.image)?.image;
    let mut layers = image.layers.iter();
    let mut rows = Vec::new();
    for entry in &image.config.history {
        let size = if entry.empty_layer {
            0
        } else {
            match layers.next() {
                Some(layer) => store.layer(&layer.diff_id)?.map_or_else(|| layer.descriptor.size(), |info| info.bytes),
                None => 0,
            }
        };
        let mut command = entry.created_by.clone().unwrap_or_default();
        if !args.no_trunc && command.chars().count() > COMMAND_WIDTH {
            command = command.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect();
        }
        rows.push(vec![
            "<missing>".to_owned(),
            created_since(entry.created.as_deref()),
            command,
            bytes(size),
            entry.comment.clone().unwrap_or_default(),
        ]);
    }
    rows.reverse();
    if let Some(first) = rows.first_mut() {
        first[0] = if args.no_trunc { image.id().to_string() } else { short(&image.id()) };
    }
    out!("{}", table(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"], &rows))?;
    Ok(0)
}

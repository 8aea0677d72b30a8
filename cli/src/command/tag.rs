//! `lap tag`

use crate::args::Tag;
use crate::command::App;
use crate::image::{need, reference};

pub(super) fn run(app: &App, args: &Tag) -> anyhow::Result<i32> {
    let store = app.store()?;
    let found = need(store, &args.source)?;
    store.name_point(&reference(&args.target)?, &found.entry.descriptor)?;
    Ok(0)
}

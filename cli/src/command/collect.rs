//! Keeping the build cache within its limits after a build.

use lap_cache::gc::Limits;

use crate::command::App;

/// Does what is due. The build has succeeded: a fault here is told and no more.
pub(super) fn collect(app: &App) {
    let settings = &app.settings.collection;
    if settings.off {
        return;
    }
    let done = app.store().and_then(|store| {
        let default = Limits::of_disk(store.disk()?.0);
        let limits = Limits {
            reserved_space: settings.reserved_space.unwrap_or_else(|| {
                // A cap of one's own is not meant to be outdone by a share of the disk.
                settings.max_used_space.map_or(default.reserved_space, |cap| cap.min(default.reserved_space))
            }),
            max_used_space: settings.max_used_space.unwrap_or(default.max_used_space),
            min_free_space: settings.min_free_space.unwrap_or(default.min_free_space),
        };
        Ok(store.collect(&limits)?)
    });
    if let Err(error) = done {
        eprintln!("lap: the build cache could not be kept within its limits: {error:#}");
    }
}

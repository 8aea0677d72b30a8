//! `lap images`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::args::Images;
use crate::command::App;
use crate::image::{image_of, short};
use crate::ui::table::{bytes, human_duration, seconds_of_rfc3339, table};

pub(super) fn run(app: &App, args: &Images) -> anyhow::Result<i32> {
    let store = app.store()?;
    let wanted = args.name.as_deref().map(crate::image::reference).transpose()?;
    let with_tag = args.name.as_deref().is_some_and(|name| name.rsplit('/').next().unwrap_or(name).contains(':'));
    let mut rows = Vec::new();
    // Newest first, as Docker lists them.
    for entry in store.names()?.iter().rev() {
        let fits = wanted.as_ref().is_none_or(|wanted| {
            entry
                .name
                .as_ref()
                .is_some_and(|name| name.name() == wanted.name() && (!with_tag || name.tag() == wanted.tag()))
        });
        if !fits {
            continue;
        }
        let image = image_of(store, entry)?;
        let id = if args.no_trunc { image.id().to_string() } else { short(&image.id()) };
        if args.quiet {
            outln!("{id}")?;
            continue;
        }
        let (repository, tag) = match &entry.name {
            Some(name) => (name.familiar_name(), name.tag().unwrap_or("<none>").to_owned()),
            None => ("<none>".to_owned(), "<none>".to_owned()),
        };
        let mut size = 0u64;
        for diff_id in image.diff_ids() {
            size = size.saturating_add(store.layer(&diff_id)?.map_or(0, |layer| layer.bytes));
        }
        let mut row = vec![repository, tag];
        if args.digests {
            row.push(entry.digest.to_string());
        }
        row.extend([id, created_since(image.config.created.as_deref()), bytes(size)]);
        rows.push(row);
    }
    if !args.quiet {
        let header: &[&str] = if args.digests {
            &["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"]
        } else {
            &["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
        };
        out!("{}", table(header, &rows))?;
    }
    Ok(0)
}

/// `3 hours ago`; `N/A` where it is not known.
pub(super) fn created_since(created: Option<&str>) -> String {
    let Some(then) = created.and_then(seconds_of_rfc3339).and_then(|seconds| u64::try_from(seconds).ok()) else {
        return "N/A".to_owned();
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{} ago", human_duration(now.saturating_sub(Duration::from_secs(then))))
}

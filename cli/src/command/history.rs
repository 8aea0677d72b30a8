//! `lap history`

use anyhow::Context as _;

use crate::args::{History, HistoryCommand};
use crate::command::App;
use crate::command::images::created_since;
use crate::command::inspect::show;
use crate::image::{for_platform, need, short};
use crate::template::{Listing, Row};
use crate::ui::table::{bytes, rfc3339, seconds_of_rfc3339};

/// Width of the command column unless all of it is wanted.
const COMMAND_WIDTH: usize = 45;

const TABLE: &str = "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

/// For programs: the time itself.
const PLAIN_TABLE: &str = "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

pub(super) fn run(app: &App, args: &History) -> anyhow::Result<i32> {
    if let Some(HistoryCommand::Build { command: Some(command) }) = &args.command {
        return super::builds::run(app, command);
    }
    // An image may be called build.
    let name = args.image.as_deref().unwrap_or("build");
    let store = app.store()?;
    let format = if args.quiet { "{{.ID}}" } else { args.format.as_str() };
    let list = Listing::new(format, if args.human { TABLE } else { PLAIN_TABLE }).context("template parsing error")?;
    let image = for_platform(store, need(store, name)?, args.platform.as_deref())?.image;
    let mut layers = image.layers.iter();
    let mut rows = Vec::new();
    let last = image.config.history.len().saturating_sub(1);
    for (index, entry) in image.config.history.iter().enumerate() {
        let size = if entry.empty_layer {
            0
        } else {
            match layers.next() {
                Some(layer) => store.layer(&layer.diff_id)?.map_or_else(|| layer.descriptor.size(), |info| info.bytes),
                None => 0,
            }
        };
        let mut command = entry.created_by.clone().unwrap_or_default().replace('\t', " ");
        if !args.no_trunc && command.chars().count() > COMMAND_WIDTH {
            command = command.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect();
        }
        let id = match index == last {
            true if args.no_trunc => image.id().to_string(),
            true => short(&image.id()),
            false => "<missing>".to_owned(),
        };
        let created = entry.created.as_deref();
        let at = created_at(created);
        let row = Row::new("*formatter.historyContext")
            .field("ID", id)
            .field("CreatedSince", if args.human { created_since(created) } else { at.clone() })
            .field("CreatedAt", at)
            .field("CreatedBy", command)
            .field("Size", if args.human { bytes(size) } else { size.to_string() })
            .field("Comment", entry.comment.clone().unwrap_or_default());
        rows.push(row);
    }
    rows.reverse();
    out!("{}", show(list.render(HEADINGS, rows).context("template parsing error")?))?;
    Ok(0)
}

/// To the second, in UTC.
fn created_at(created: Option<&str>) -> String {
    let seconds = created.and_then(seconds_of_rfc3339).and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or_else(|| "N/A".to_owned(), |seconds| rfc3339(std::time::Duration::from_secs(seconds)))
}

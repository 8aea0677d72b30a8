//! `lap ps`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use lap_cache::store::Store;
use lap_executor::container::{Container, Containers, State};
use lap_frontend::go;
use serde_json::Value as Json;

use crate::args::{KeyValue, Ps};
use crate::command::images::go_time;
use crate::command::inspect::{bytes_below, layer_bytes, show};
use crate::command::{App, containers};
use crate::template::{Listing, Row};
use crate::ui::table::{bytes, human_duration};

/// Width of the command column unless all of it is wanted.
const COMMAND_WIDTH: usize = 20;
/// Width of a mount's name, too.
const MOUNT_WIDTH: usize = 15;

const TABLE: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

pub(super) fn run(app: &App, args: &Ps) -> anyhow::Result<i32> {
    let default = if args.size { format!("{TABLE}\t{{{{.Size}}}}") } else { TABLE.to_owned() };
    let format = if args.quiet { "{{.ID}}" } else { args.format.as_str() };
    let list = Listing::new(format, &default).context("template parsing error")?;
    let containers = containers::all(app)?;
    let mut found = containers.list()?;
    found.sort_by_key(|container| std::cmp::Reverse(container.config.created));
    let last = if args.latest { Some(1) } else { args.last };
    let by_state = args.filters.iter().any(|filter| matches!(filter.key.as_str(), "status" | "exited"));
    let all = args.all || last.is_some() || by_state;
    found.retain(|container| all || matches!(container.state, State::Running(_)));
    filter(&mut found, &args.filters)?;
    found.truncate(last.unwrap_or(usize::MAX));
    // A walk through files is made only for who wants to see its result.
    let sized = args.size || format.contains(".Size");
    let row = |container| row(app.store()?, &containers, container, args.no_trunc, sized);
    let rows = found.iter().map(row).collect::<anyhow::Result<Vec<_>>>()?;
    out!("{}", show(list.render(HEADINGS, rows).context("template parsing error")?))?;
    Ok(0)
}

/// Several values for one name: any will do; of labels, all must be there.
fn filter(list: &mut Vec<Container>, filters: &[KeyValue]) -> anyhow::Result<()> {
    let value_of =
        |filter: &KeyValue| filter.value.clone().with_context(|| format!("--filter {}: write {0}=VALUE", filter.key));
    let every = list.clone();
    for key in ["id", "name", "ancestor", "status", "exited"] {
        let values =
            filters.iter().filter(|filter| filter.key == key).map(value_of).collect::<anyhow::Result<Vec<_>>>()?;
        if values.is_empty() {
            continue;
        }
        list.retain(|container| {
            let config = &container.config;
            values.iter().any(|value| match key {
                "id" => container.id().starts_with(value.as_str()),
                "name" => config.name.contains(value.trim_start_matches('/')),
                "ancestor" => {
                    config.image == *value || config.image.split_once(':').is_some_and(|(name, _)| name == value)
                }
                "status" => container.state.name() == value,
                _ => matches!(&container.state, State::Exited(ended) if ended.code.to_string() == *value),
            })
        });
    }
    for filter in filters {
        let value = value_of(filter)?;
        match filter.key.as_str() {
            "id" | "name" | "ancestor" | "status" | "exited" => {}
            "label" => {
                let (name, wanted) = value.split_once('=').map_or((value.as_str(), None), |(name, v)| (name, Some(v)));
                list.retain(|container| {
                    container.config.labels.get(name).is_some_and(|value| wanted.is_none_or(|wanted| wanted == value))
                });
            }
            key @ ("before" | "since") => {
                let other = every.iter().find(|other| other.config.name == value || other.id().starts_with(&value));
                let other = other.with_context(|| format!("no such container: {value}"))?.config.created;
                list.retain(|container| {
                    let created = container.config.created;
                    if key == "before" { created < other } else { created > other }
                });
            }
            key => bail!(
                "no filter {key:?} for containers: there are id, name, label, ancestor, status, exited, before and since"
            ),
        }
    }
    Ok(())
}

fn row(store: &Store, all: &Containers, container: &Container, whole: bool, sized: bool) -> anyhow::Result<Row> {
    let config = &container.config;
    let cut = |text: &str, width: usize| {
        let long = !whole && text.chars().count() > width;
        if long { text.chars().take(width - 1).chain(['…']).collect() } else { text.to_owned() }
    };
    let inspected = all.inspect(container);
    let mounts = inspected["Mounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mount_name = |mount: &Json| {
        let name = mount["Name"].as_str().or_else(|| mount["Source"].as_str()).unwrap_or_default();
        cut(name, MOUNT_WIDTH)
    };
    let names: Vec<String> = mounts.iter().map(mount_name).collect();
    let volumes = mounts.iter().filter(|mount| mount["Type"] == "volume").count();
    let network = match inspected["HostConfig"]["NetworkMode"].as_str().unwrap_or_default() {
        "default" | "" => "bridge",
        mode => mode,
    };
    let size = if sized {
        let own = bytes_below(&container.upper());
        let whole = own.saturating_add(layer_bytes(store, &config.layers)?);
        format!("{} (virtual {})", bytes(own), bytes(whole))
    } else {
        bytes(0)
    };
    let labels = config.labels.clone();
    let listed: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let id = if whole { container.id().to_owned() } else { container.id().chars().take(12).collect() };
    Ok(Row::new("*formatter.ContainerContext")
        .field("ID", id)
        .field("Names", config.name.clone())
        .field("Image", config.image.clone())
        .field("Command", go::quote(&cut(&config.args().join(" "), COMMAND_WIDTH)))
        .field("CreatedAt", go_time(Duration::from_secs(config.created / 1_000_000_000)))
        .field("RunningFor", format!("{} ago", since(config.created)))
        .field("Ports", String::new())
        .field("State", container.state.name())
        .field("Status", status(&container.state))
        .field("Size", size)
        .field("Labels", listed.join(","))
        .method("Label", move |name| labels.get(name).cloned().unwrap_or_default())
        .field("Mounts", names.join(","))
        .field("LocalVolumes", volumes.to_string())
        .field("Networks", network)
        .field("Platform", "linux"))
}

fn status(state: &State) -> String {
    match state {
        State::Created => "Created".to_owned(),
        State::Running(live) => format!("Up {}", since(live.started)),
        State::Exited(ended) => format!("Exited ({}) {} ago", ended.code, since(ended.finished)),
    }
}

/// How long ago a time in nanoseconds since 1970 was.
fn since(nanos: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    human_duration(now.saturating_sub(Duration::from_nanos(nanos)))
}

//! `lap ps`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use lap_cache::store::Store;
use lap_executor::container::{Container, Containers, State};
use lap_frontend::go;
use serde_json::Value as Json;

use crate::args::Ps;
use crate::command::images::go_time;
use crate::command::inspect::{bytes_below, layer_bytes, show};
use crate::command::{App, container_filter, containers};
use crate::docker_config::DockerConfig;
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
    let format = match args.format.as_str() {
        _ if args.quiet => "{{.ID}}".to_owned(),
        "" => DockerConfig::read(&app.settings).ps_format,
        given => given.to_owned(),
    };
    let list = Listing::new(&format, &default).context("template parsing error")?;
    let containers = containers::all(app)?;
    let mut found = containers.list()?;
    found.sort_by_key(|container| std::cmp::Reverse(container.config.created));
    let last = if args.latest { Some(1) } else { args.last };
    let by_state = args.filters.iter().any(|filter| matches!(filter.key.as_str(), "status" | "exited"));
    let all = args.all || last.is_some() || by_state;
    found.retain(|container| all || matches!(container.state, State::Running(_)));
    container_filter::filter(app.store()?, &mut found, &args.filters)?;
    found.truncate(last.unwrap_or(usize::MAX));
    // A walk through files is made only for who wants to see its result.
    let sized = args.size || format.contains(".Size") || format.contains("json");
    let row = |container| row(app.store()?, &containers, container, args.no_trunc, sized);
    let rows = found.iter().map(row).collect::<anyhow::Result<Vec<_>>>()?;
    out!("{}", show(list.render(HEADINGS, rows).context("template parsing error")?))?;
    Ok(0)
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
        .field("Ports", ports(container))
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

/// `80-81/tcp, 53/udp`: the ports of a running container's image, neighbours together.
fn ports(container: &Container) -> String {
    if !matches!(container.state, State::Running(_)) {
        return String::new();
    }
    let mut open: Vec<(u16, &str)> =
        container.config.exposed_ports.iter().filter_map(|port| parse_port(port)).collect();
    open.sort_unstable();
    // As Docker: groups that are closed come first, then the last one of each protocol.
    let mut closed: Vec<(u16, u16, &str)> = Vec::new();
    let mut last: Vec<(u16, u16, &str)> = Vec::new();
    for (port, protocol) in open {
        match last.iter_mut().find(|(.., other)| *other == protocol) {
            Some((_, end, _)) if end.checked_add(1) == Some(port) => *end = port,
            Some(group) => closed.push(std::mem::replace(group, (port, port, protocol))),
            None => last.push((port, port, protocol)),
        }
    }
    let shown = closed.iter().chain(&last).map(|(first, end, protocol)| match first == end {
        true => format!("{first}/{protocol}"),
        false => format!("{first}-{end}/{protocol}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Number and protocol of `80/tcp`.
pub(super) fn parse_port(text: &str) -> Option<(u16, &str)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    Some((port.parse().ok()?, protocol))
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

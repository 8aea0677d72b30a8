//! `lap ps`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lap_executor::container::{Container, State};

use crate::args::Ps;
use crate::command::{App, containers};
use crate::ui::table::{human_duration, table};

/// Width of the command column unless all of it is wanted.
const COMMAND_WIDTH: usize = 20;

pub(super) fn run(app: &App, args: &Ps) -> anyhow::Result<i32> {
    let mut list = containers::all(app)?.list()?;
    list.sort_by_key(|container| std::cmp::Reverse(container.config.created));
    list.retain(|container| args.all || matches!(container.state, State::Running(_)));
    let id = |container: &Container| {
        let id = container.id();
        if args.no_trunc { id.to_owned() } else { id.chars().take(12).collect() }
    };
    if args.quiet {
        for container in &list {
            outln!("{}", id(container))?;
        }
        return Ok(0);
    }
    let row = |container: &Container| {
        let mut command = container.config.args().join(" ");
        if !args.no_trunc && command.chars().count() > COMMAND_WIDTH {
            command = command.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect();
        }
        vec![
            id(container),
            container.config.image.clone(),
            format!("\"{command}\""),
            format!("{} ago", since(container.config.created)),
            status(&container.state),
            String::new(),
            container.config.name.clone(),
        ]
    };
    let rows: Vec<_> = list.iter().map(row).collect();
    out!("{}", table(&["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"], &rows))?;
    Ok(0)
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

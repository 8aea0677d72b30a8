//! `lap debug`: a shell where a step has failed.

use anyhow::{Context as _, bail};
use lap_cache::failed::Failed;
use lap_executor::grant::Grants;
use lap_executor::network::Network as Bridge;
use lap_executor::op::exec::{Entry, FailedStep};
use lap_executor::sandbox::Stdio;
use lap_executor::worker::{BuildWorker, Options, Uplink};
use lap_solver::graph::Network;

use crate::args::Debug;
use crate::command::App;
use crate::command::builds::ago;
use crate::pipeline;
use crate::registry::block_on;
use crate::session::{Receiver, connect, forward, hold_signals};
use crate::terminal;
use crate::ui::table::table;
use crate::ui::visible;

pub(super) fn run(app: &App, args: &Debug) -> anyhow::Result<i32> {
    let steps = kept(app)?;
    if args.list {
        let rows = (1..).zip(&steps).map(|(number, (failed, step))| {
            let key = failed.key.to_hex()[..12].to_owned();
            vec![number.to_string(), key, ago(step.at * 1000), visible(&step.error), visible(&step.name)]
        });
        out!("{}", table(&["NUMBER", "KEY", "FAILED", "WHY", "STEP"], &rows.collect::<Vec<_>>()))?;
        return Ok(0);
    }
    let (failed, step) = choose(steps, args.step.as_deref())?;
    let given = Given { secrets: &args.secrets, ssh: &args.ssh, keep: args.keep, command: &args.command };
    enter(app, &failed, &step, &given)
}

/// The step that failed last, with the secrets and agents of its build: `build --on-error shell`.
pub(super) fn last(app: &App, secrets: &[String], ssh: &[String]) -> anyhow::Result<()> {
    let (failed, step) = choose(kept(app)?, None)?;
    enter(app, &failed, &step, &Given { secrets, ssh, keep: false, command: &[] }).map(drop)
}

/// What a step is entered with.
struct Given<'a> {
    secrets: &'a [String],
    ssh: &'a [String],
    keep: bool,
    command: &'a [String],
}

/// The failed steps that are kept, newest first.
fn kept(app: &App) -> anyhow::Result<Vec<(Failed, FailedStep)>> {
    let store = app.store()?;
    let mut steps = Vec::new();
    for key in store.failed()? {
        if let Some(failed) = store.open_failed(&key)?
            && let Some(step) = FailedStep::read(&failed)
        {
            steps.push((failed, step));
        }
    }
    Ok(steps)
}

fn choose(mut steps: Vec<(Failed, FailedStep)>, wanted: Option<&str>) -> anyhow::Result<(Failed, FailedStep)> {
    if steps.is_empty() {
        bail!("no failed step is kept: the newest ten of the last two days are");
    }
    let Some(wanted) = wanted else { return Ok(steps.swap_remove(0)) };
    if let Some(at) = wanted.parse::<usize>().ok().filter(|number| (1..=steps.len()).contains(number)) {
        return Ok(steps.swap_remove(at - 1));
    }
    let fits =
        |(failed, step): &(Failed, FailedStep)| failed.key.to_hex().starts_with(wanted) || step.name.contains(wanted);
    let at = steps.iter().position(fits);
    let at = at.with_context(|| format!("no failed step {wanted:?} is kept; lap debug --list shows those that are"))?;
    Ok(steps.swap_remove(at))
}

fn enter(app: &App, failed: &Failed, step: &FailedStep, given: &Given<'_>) -> anyhow::Result<i32> {
    let store = app.store()?;
    let _lease = store.lease()?;
    let mut options = Options::new(store.clone());
    BuildWorker::resume(&mut options, step);
    options.grants = Grants {
        secrets: pipeline::outputs::secrets(given.secrets)?,
        ssh: app.agents.sockets(&app.settings, given.ssh)?,
        known_hosts: app.settings.known_hosts.clone(),
        ..Grants::default()
    };
    options.uplink = match (step.exec.network, app.settings.rootless) {
        (Network::Default, true) => Uplink::Host,
        (Network::Default, false) => {
            Uplink::Bridge(Bridge::open(&app.settings.run_dir).context("cannot prepare the network of the step")?)
        }
        _ => Uplink::None,
    };
    let interactive = terminal::is_interactive();
    eprintln!("{}: {}", visible(&step.name), visible(&step.error));
    eprintln!("the command was: {}", visible(&step.exec.args.join(" ")));
    if interactive && !given.keep {
        eprintln!("what you change here is thrown away; lap debug --keep keeps it");
    }
    let stdio = if interactive { Stdio::Pty { size: terminal::size() } } else { Stdio::Pipes { stdin: true } };
    let args = if given.command.is_empty() { step.shell() } else { given.command.to_vec() };
    let worker = BuildWorker::new(options);
    let signals = hold_signals();
    let mut entered = block_on(async {
        let entry = Entry { args, stdio, keep: given.keep };
        worker.enter(step, failed, entry).await.context("cannot enter the step")
    })?;
    let running = &mut entered.running;
    let terminal = running.terminal.as_ref().map(std::os::fd::OwnedFd::try_clone).transpose()?;
    forward(signals, Receiver::Command(running.killer()?), terminal);
    let raw = connect(running, true);
    let pumped = running.pump(&mut std::io::stdout(), &mut std::io::stderr());
    drop(raw);
    let exit = running.wait()?;
    pumped.context("cannot pass on the output")?;
    Ok(exit.code)
}

//! `RUN`: shell form, exec form, heredocs, and where the command runs.

use lap_solver::graph::{Exec, InlineFile, Network, Op, Security};

use super::Lowering;
use super::mounts::Mounts;
use super::state::State;
use crate::args::{self, Masked};
use crate::diagnostic::Fault;
use crate::plan::Step;
use crate::syntax::{Instruction, Run, RunNetwork, RunSecurity};
use crate::word::{Lexer, Lookup};

/// Where a heredoc that is a script is mounted.
const SCRIPTS: &str = "/dev/pipes/";

/// How many MiB of environment Linux refuses whatever the limits are.
const ENVIRONMENT: usize = 6;

/// The words of a command, and its script if it is one.
struct CommandWords {
    arguments: Vec<String>,
    files: Vec<InlineFile>,
    /// First line of a lone heredoc.
    summary: Option<String>,
}

impl Lowering<'_> {
    pub(super) fn run_command(&mut self, state: &mut State, step: &Step, run: &Run) -> Result<(), Fault> {
        let at = &step.instruction;
        if let Some(device) = run.devices.first() {
            let message = format!("RUN --device={} cannot be carried out: devices are not supported", device.name);
            return Err(Fault::new(message).at(device.span));
        }
        let words = words(at, run)?;
        let arguments = if run.line.shell { state.with_shell(&words.arguments) } else { words.arguments };
        if arguments.is_empty() {
            return Err(Fault::new("RUN requires at least one argument"));
        }
        let mut mounts = Mounts::new(state.root);
        for (flag, source) in run.mounts.iter().zip(&step.sources) {
            self.mount(state, at, flag, *source, &mut mounts).map_err(|fault| fault.at(flag.text.span))?;
        }
        let mut variables = state.variables.clone();
        if let Some(socket) = mounts.ssh_socket.as_ref().filter(|_| variables.get("SSH_AUTH_SOCK").is_none()) {
            variables.set("SSH_AUTH_SOCK", socket);
        }
        let env = variables.entries();
        let size = env.iter().map(String::len).sum::<usize>() >> 20;
        if size >= ENVIRONMENT {
            let message = format!("the environment of this command takes {size} MiB, no kernel takes {ENVIRONMENT}");
            return Err(Fault::new(message));
        }
        let name = self.run_name(state, at, &mounts, words.summary);
        let mut metadata = self.metadata(state, step, name);
        metadata.proxy_env = args::proxies(&self.options.build_args);
        metadata.timeout = run.timeout.or(self.options.timeout).filter(|limit| *limit > 0);
        let exec = Exec {
            root: state.root.map(|_| 0),
            args: arguments.clone(),
            env,
            cwd: state.resolve(""),
            user: state.config.config.user.clone(),
            network: match run.network {
                None => self.options.network,
                Some(RunNetwork::Default) => Network::Default,
                Some(RunNetwork::None) => Network::None,
                Some(RunNetwork::Host) => Network::Host,
            },
            security: match run.security {
                None | Some(RunSecurity::Sandbox) => Security::Sandbox,
                Some(RunSecurity::Insecure) => Security::Insecure,
            },
            mounts: mounts.mounts,
            secret_env: mounts.secret_env,
            files: words.files,
            platform: state.platform.clone(),
        };
        let vertex = self.builder.add(Op::Exec(exec), mounts.inputs, metadata);
        state.root = Some(vertex);
        state.commit_step(format!("RUN {} # buildkit", state.command_text(&arguments)), vertex);
        Ok(())
    }

    /// The command as people see it; values of secrets are no part of it.
    fn run_name(&self, state: &State, at: &Instruction, mounts: &Mounts, summary: Option<String>) -> String {
        let lexer = Lexer { raw_quotes: true, keep_unset: true, ..self.stages.lexer };
        let masked: Vec<String> = mounts.secret_env.iter().map(|secret| secret.name.clone()).collect();
        let name = self.shown(at, lexer, &Masked { under: &state.variables, masked: &masked });
        summary.map_or_else(|| name.clone(), |summary| format!("{name} ({summary})"))
    }
}

/// Puts heredocs where the command expects them.
fn words(at: &Instruction, run: &Run) -> Result<CommandWords, Fault> {
    let plain = |arguments: Vec<String>| CommandWords { arguments, files: Vec::new(), summary: None };
    let Some(first) = at.heredocs.first() else { return Ok(plain(run.line.arguments.clone())) };
    let [line] = run.line.arguments.as_slice() else {
        return Err(Fault::new("a RUN with a heredoc takes one command in shell form"));
    };
    if crate::syntax::opens_heredoc(line).is_none() {
        // Anything around the heredoc is the shell's business: it gets the text back.
        let mut full = line.clone();
        for heredoc in &at.heredocs {
            full.push('\n');
            full.push_str(&heredoc.content);
            full.push_str(&heredoc.name);
        }
        return Ok(plain(vec![full]));
    }
    let body = first.body();
    let summary = Some(summary(&first.content));
    if !first.content.starts_with("#!") {
        return Ok(CommandWords { summary, ..plain(vec![body]) });
    }
    let name = &first.name;
    if name.contains('/') || matches!(name.as_str(), "." | "..") {
        return Err(Fault::new(format!("a script cannot be called {name:?}"))
            .hint(Some("choose a delimiter without slashes".to_owned())));
    }
    let path = format!("{SCRIPTS}{name}");
    let files = vec![InlineFile { path: path.clone(), data: body, mode: 0o755 }];
    Ok(CommandWords { arguments: vec![path], files, summary })
}

fn summary(text: &str) -> String {
    let mut lines = text.trim().lines();
    let first = lines.next().unwrap_or_default();
    if lines.next().is_some() { format!("{first}...") } else { first.to_owned() }
}

//! Instructions that change the config and the variables: `ARG`, `ENV`, `LABEL`, `CMD`, `ENTRYPOINT`, `HEALTHCHECK`,
//! `USER`, `VOLUME`, `STOPSIGNAL`; and `WORKDIR`, which makes a directory too.

use lap_solver::graph::{File, FileAction, Op};
use lap_solver::image;
use serde_json::Value;

use super::state::State;
use super::{Lowering, NOT_IN_ENVIRONMENT};
use crate::diagnostic::Fault;
use crate::plan::Step;
use crate::syntax::{ArgDefinition, Argument, CommandLine, Healthcheck, Instruction, Pair};
use crate::word::Lookup;
use crate::{go, lint};

/// Words that mark a name as that of a secret, and words that take the mark away.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
const NO_SECRET: [&str; 3] = ["public", "file", "version"];

/// Whether a variable of this name is likely to hold a secret: BuildKit's words.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let words: Vec<String> = name.split('_').map(str::to_lowercase).collect();
    let holds = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    holds(&SECRET) && !holds(&NO_SECRET)
}

impl Lowering<'_> {
    pub(super) fn arg(
        &mut self,
        state: &mut State,
        at: &Instruction,
        definitions: &[ArgDefinition],
    ) -> Result<(), Fault> {
        let mut shown = Vec::new();
        for definition in definitions {
            let name = &definition.name;
            self.check_secret("ARG", name, at);
            let given = self.options.build_args.get(name).cloned();
            let inherited = given.is_none() && definition.value.is_none();
            let value = match (given, &definition.value) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => {
                    Some(self.word(state, at, default).map_err(|fault| fault.at(definition.span))?)
                }
                (None, None) => self.globals().get(name).map(str::to_owned),
            };
            if let Some(value) = value.as_ref().filter(|_| !NOT_IN_ENVIRONMENT.contains(&name.as_str())) {
                state.variables.set(name, value);
            }
            self.outline.argument(definition, value.as_deref(), inherited, at);
            shown.push(value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}")));
            state.arguments.declare(name, value);
        }
        state.commit(format!("ARG {}", shown.join(" ")));
        Ok(())
    }

    /// Expands names and values with the variables as they were before the instruction.
    fn pairs(&mut self, state: &State, at: &Instruction, pairs: &[Pair]) -> Result<Vec<(String, String)>, Fault> {
        let mut out = Vec::new();
        for pair in pairs {
            let mut expand = |text: &str| self.word(state, at, text).map_err(|fault| fault.at(pair.span));
            out.push((expand(&pair.name)?, expand(&pair.value)?));
            if pair.legacy {
                let keyword = at.keyword.text.as_str();
                let message =
                    format!("\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format");
                self.report(&lint::LEGACY_KEY_VALUE_FORMAT, at, message);
            }
        }
        Ok(out)
    }

    pub(super) fn env(&mut self, state: &mut State, at: &Instruction, pairs: &[Pair]) -> Result<(), Fault> {
        let mut text = "ENV".to_owned();
        for (name, value) in self.pairs(state, at, pairs)? {
            self.check_secret("ENV", &name, at);
            text.push_str(&format!(" {name}={value}"));
            state.set_environment(&name, &value);
        }
        state.commit(text);
        Ok(())
    }

    pub(super) fn label(&mut self, state: &mut State, at: &Instruction, pairs: &[Pair]) -> Result<(), Fault> {
        let mut text = "LABEL".to_owned();
        for (name, value) in self.pairs(state, at, pairs)? {
            text.push_str(&format!(" {name}={value}"));
            state.config.config.labels.insert(name, value);
        }
        state.commit(text);
        Ok(())
    }

    /// Names such as `API_KEY` or `token` should not be given in the clear.
    fn check_secret(&mut self, instruction: &str, name: &str, at: &Instruction) {
        if is_secret_name(name) {
            let name = go::quote(name);
            let message = format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {name})");
            self.report(&lint::SECRETS_USED_IN_ARG_OR_ENV, at, message);
        }
    }

    /// Only the last one of a stage counts.
    fn check_once(&mut self, earlier: Option<crate::source::Span>, at: &Instruction) {
        if let Some(span) = earlier {
            let message = format!(
                "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                at.keyword.text
            );
            let rule = &lint::MULTIPLE_INSTRUCTIONS_DISALLOWED;
            self.linter.report(rule, &self.stages.source, (span, &at.comments), message);
        }
    }

    fn line(&mut self, state: &State, at: &Instruction, line: &CommandLine) -> Vec<String> {
        if !line.shell {
            return line.arguments.clone();
        }
        if state.config.config.shell.as_ref().is_none_or(Vec::is_empty) {
            let message = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                at.keyword.text
            );
            self.report(&lint::JSON_ARGS_RECOMMENDED, at, message);
        }
        state.with_shell(&line.arguments)
    }

    pub(super) fn cmd(&mut self, state: &mut State, at: &Instruction, line: &CommandLine) {
        self.check_once(state.cmd.replace(at.span), at);
        let arguments = self.line(state, at, line);
        state.commit(format!("CMD {}", go::quote_list(&arguments)));
        state.config.config.cmd = Some(arguments);
        state.config.config.other.insert("ArgsEscaped".to_owned(), Value::Bool(true));
    }

    pub(super) fn entrypoint(&mut self, state: &mut State, at: &Instruction, line: &CommandLine) {
        self.check_once(state.entrypoint.replace(at.span), at);
        let arguments = self.line(state, at, line);
        state.commit(format!("ENTRYPOINT {}", go::quote_list(&arguments)));
        state.config.config.entrypoint = (!arguments.is_empty()).then_some(arguments);
        if state.cmd.is_none() {
            // A command that was meant for the base's entrypoint means nothing to this one.
            state.config.config.cmd = None;
        }
    }

    pub(super) fn healthcheck(&mut self, state: &mut State, at: &Instruction, check: &Healthcheck) {
        self.check_once(state.healthcheck.replace(at.span), at);
        let durations = [check.interval, check.timeout, check.start_period, check.start_interval];
        let durations = durations.map(|value| format!("\"{}\"", go::duration(value))).join(" ");
        let retries = match u32::try_from(check.retries).ok().and_then(char::from_u32) {
            Some(letter @ ' '..='~') => format!("'{letter}'"),
            _ => format!("'\\x{:02x}'", check.retries),
        };
        state.commit(format!("HEALTHCHECK &{{{} {durations} {retries}}}", go::quote_list(&check.test)));
        state.config.config.healthcheck = Some(image::Healthcheck {
            interval: check.interval,
            retries: check.retries,
            start_interval: check.start_interval,
            start_period: check.start_period,
            test: check.test.clone(),
            timeout: check.timeout,
        });
    }

    pub(super) fn user(&mut self, state: &mut State, at: &Instruction, user: &Argument) -> Result<(), Fault> {
        let user = self.word(state, at, &user.text).map_err(|fault| fault.at(user.span))?;
        state.commit(format!("USER {user}"));
        state.config.config.user = user;
        Ok(())
    }

    pub(super) fn volume(&mut self, state: &mut State, at: &Instruction, paths: &[Argument]) -> Result<(), Fault> {
        let mut expanded = Vec::new();
        for path in paths {
            let text = self.word(state, at, &path.text).map_err(|fault| fault.at(path.span))?;
            if text.is_empty() {
                return Err(Fault::new("VOLUME specified can not be an empty string").at(path.span));
            }
            expanded.push(text);
        }
        state.commit(format!("VOLUME [{}]", expanded.join(" ")));
        state.config.config.volumes.extend(expanded);
        Ok(())
    }

    pub(super) fn stop_signal(&mut self, state: &mut State, at: &Instruction, signal: &Argument) -> Result<(), Fault> {
        let text = self.word(state, at, &signal.text).map_err(|fault| fault.at(signal.span))?;
        if !is_signal(&text) {
            let hint = "write a number, or a name such as SIGTERM".to_owned();
            return Err(Fault::new(format!("invalid signal: {text}")).at(signal.span).hint(Some(hint)));
        }
        state.commit(format!("STOPSIGNAL {text}"));
        state.config.config.stop_signal = Some(text);
        Ok(())
    }

    pub(super) fn workdir(&mut self, state: &mut State, step: &Step, path: &Argument) -> Result<(), Fault> {
        let at = &step.instruction;
        let text = self.word(state, at, &path.text).map_err(|fault| fault.at(path.span))?;
        if !state.workdir_set && !text.starts_with('/') {
            let path = go::quote(&text);
            let message = format!("Relative workdir {path} can have unexpected results if the base image changes");
            self.report(&lint::WORKDIR_RELATIVE_PATH, at, message);
        }
        state.workdir_set = true;
        let directory = state.resolve(&text);
        // A slash at the end of an absolute path stays in the config, as in BuildKit's.
        let slash = if text.starts_with('/') && text.ends_with('/') && directory != "/" { "/" } else { "" };
        state.config.config.working_dir = format!("{directory}{slash}");
        if directory == "/" {
            state.commit("WORKDIR /".to_owned());
            return Ok(());
        }
        let name = self.shown(at, self.stages.lexer, &state.variables);
        let metadata = self.metadata(state, step, name);
        let owner = Some(state.config.config.user.clone()).filter(|user| !user.is_empty());
        let actions = vec![FileAction::Mkdir { path: directory.clone(), mode: 0o755, owner }];
        let op = Op::File(File { root: state.root.map(|_| 0), actions });
        let vertex = self.builder.add(op, state.root.into_iter().collect(), metadata);
        state.root = Some(vertex);
        state.commit_step(format!("WORKDIR {directory}{slash}"), vertex);
        Ok(())
    }
}

/// A number other than 0, or a name with or without `SIG`.
fn is_signal(text: &str) -> bool {
    const NAMES: &str = " ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT \
        STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX ";
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let name = text.to_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time = |prefix: &str, most: u8| {
        name.strip_prefix(prefix)
            .and_then(|rest| rest.parse().ok())
            .is_some_and(|number: u8| (1..=most).contains(&number))
    };
    real_time("RTMIN+", 15)
        || real_time("RTMAX-", 14)
        || name.bytes().all(|byte| byte.is_ascii_alphanumeric()) && NAMES.contains(&format!(" {name} "))
}

#[cfg(test)]
mod tests {
    use super::is_signal;

    #[test]
    fn signals_are_numbers_or_names() {
        for text in ["9", "SIGTERM", "term", "SIGRTMIN+3", "RTMAX"] {
            assert!(is_signal(text), "{text}");
        }
        for text in ["0", "", "SIG", "TERM KILL", "SIGX", "RTMIN+16"] {
            assert!(!is_signal(text), "{text}");
        }
    }
}

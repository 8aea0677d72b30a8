//! What an instruction means: one function a keyword.

use super::flag::{Flags, Takes};
use super::instruction::{
    ArgDefinition, Argument, Command, CommandLine, Device, From, Healthcheck, Instruction, MountFlag, Onbuild, Pair,
    Run, RunNetwork, RunSecurity, Transfer,
};
use super::{KEYWORDS, heredoc, mount};
use crate::diagnostic::Fault;
use crate::{go, suggest};

/// Reads an instruction's flags and arguments.
pub(super) fn read(instruction: &Instruction) -> Result<Command, Fault> {
    let name = instruction.name();
    match name.as_str() {
        "add" | "copy" => transfer(instruction, name == "add"),
        "arg" => arg(instruction),
        "cmd" => Ok(Command::Cmd(plain(instruction).map(|()| command_line(&instruction.arguments, instruction.json))?)),
        "entrypoint" => {
            plain(instruction)?;
            Ok(Command::Entrypoint(command_line(&instruction.arguments, instruction.json)))
        }
        "env" => Ok(Command::Env(pairs(instruction, "ENV")?)),
        "label" => Ok(Command::Label(pairs(instruction, "LABEL")?)),
        "expose" => expose(instruction),
        "from" => from(instruction),
        "healthcheck" => healthcheck(instruction),
        "maintainer" => Ok(Command::Maintainer(exactly_one(instruction, "MAINTAINER")?.text)),
        "onbuild" => onbuild(instruction),
        "run" => run(instruction),
        "shell" => shell(instruction),
        "stopsignal" => Ok(Command::StopSignal(exactly_one(instruction, "STOPSIGNAL")?)),
        "user" => Ok(Command::User(exactly_one(instruction, "USER")?)),
        "volume" => volume(instruction),
        "workdir" => Ok(Command::Workdir(exactly_one(instruction, "WORKDIR")?)),
        _ => Err(unknown(&instruction.keyword)),
    }
}

fn unknown(keyword: &Argument) -> Fault {
    let near = suggest::nearest_in_any_case(&keyword.text, &KEYWORDS);
    Fault::new(format!("unknown instruction: {}", keyword.text))
        .at(keyword.span)
        .hint(near.map(|near| format!("did you mean {near}?")))
}

/// An instruction without flags.
fn plain(instruction: &Instruction) -> Result<(), Fault> {
    Flags::read(&instruction.flags, &[]).map(drop)
}

fn at_least_one(instruction: &Instruction, name: &str) -> Result<(), Fault> {
    if instruction.arguments.is_empty() {
        return Err(Fault::new(format!("{name} requires at least one argument")));
    }
    Ok(())
}

fn exactly_one(instruction: &Instruction, name: &str) -> Result<Argument, Fault> {
    let [argument] = instruction.arguments.as_slice() else {
        return Err(Fault::new(format!("{name} requires exactly one argument")));
    };
    plain(instruction)?;
    Ok(argument.clone())
}

fn command_line(arguments: &[Argument], json: bool) -> CommandLine {
    CommandLine { arguments: arguments.iter().map(|argument| argument.text.clone()).collect(), shell: !json }
}

/// What the comment right before says of `name`.
fn description(instruction: &Instruction, name: &str) -> Option<String> {
    let of_name = |comment: &String| comment.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    instruction.comments.iter().find_map(of_name)
}

fn arg(instruction: &Instruction) -> Result<Command, Fault> {
    at_least_one(instruction, "ARG")?;
    plain(instruction)?;
    let definition = |argument: &Argument| {
        let (name, value) = argument.text.split_once('=').map_or((argument.text.as_str(), None), |(n, v)| (n, Some(v)));
        if name.is_empty() {
            return Err(Fault::new("ARG names can not be blank").at(argument.span));
        }
        let description = description(instruction, name);
        Ok(ArgDefinition { name: name.to_owned(), value: value.map(str::to_owned), description, span: argument.span })
    };
    Ok(Command::Arg(instruction.arguments.iter().map(definition).collect::<Result<_, _>>()?))
}

fn pairs(instruction: &Instruction, name: &str) -> Result<Vec<Pair>, Fault> {
    plain(instruction)?;
    at_least_one(instruction, name)?;
    let pair = |triple: &[Argument]| match triple {
        [key, value, separator] if !key.text.is_empty() => Ok(Pair {
            name: key.text.clone(),
            value: value.text.clone(),
            legacy: separator.text.is_empty(),
            span: key.span,
        }),
        _ => Err(Fault::new(format!("{name} names can not be blank"))),
    };
    instruction.arguments.chunks(3).map(pair).collect()
}

fn expose(instruction: &Instruction) -> Result<Command, Fault> {
    at_least_one(instruction, "EXPOSE")?;
    plain(instruction)?;
    let mut ports = instruction.arguments.clone();
    ports.sort_by(|a, b| a.text.cmp(&b.text));
    Ok(Command::Expose(ports))
}

fn from(instruction: &Instruction) -> Result<Command, Fault> {
    let (base, name) = match instruction.arguments.as_slice() {
        [base] => (base, None),
        [base, word, name] if word.text.eq_ignore_ascii_case("as") => (base, Some(stage_name(name)?)),
        _ => {
            let fault = Fault::new("FROM requires either one or three arguments");
            return Err(fault.hint(Some("write FROM BASE, or FROM BASE AS NAME".to_owned())));
        }
    };
    let platform = Flags::read(&instruction.flags, &[("platform", Takes::Text)])?.text("platform");
    Ok(Command::From(From { base: base.clone(), name, platform }))
}

fn stage_name(argument: &Argument) -> Result<String, Fault> {
    let name = argument.text.to_lowercase();
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    if name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(inner) {
        return Ok(name);
    }
    let text = go::quote(&argument.text);
    let message = format!("invalid name for build stage: {text}, name can't start with a number or contain symbols");
    Err(Fault::new(message).at(argument.span))
}

fn onbuild(instruction: &Instruction) -> Result<Command, Fault> {
    at_least_one(instruction, "ONBUILD")?;
    plain(instruction)?;
    let text = instruction.arguments.first().map_or("", |argument| argument.text.as_str());
    let keyword = text.split_whitespace().next().unwrap_or("").to_uppercase();
    match keyword.as_str() {
        "ONBUILD" => return Err(Fault::new("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        "MAINTAINER" | "FROM" => return Err(Fault::new(format!("{keyword} isn't allowed as an ONBUILD trigger"))),
        _ => {}
    }
    let mut expression = text.to_owned();
    for heredoc in &instruction.heredocs {
        expression.push('\n');
        expression.push_str(&heredoc.content);
        expression.push_str(&heredoc.name);
    }
    Ok(Command::Onbuild(Onbuild { expression }))
}

fn shell(instruction: &Instruction) -> Result<Command, Fault> {
    plain(instruction)?;
    at_least_one(instruction, "SHELL")?;
    if !instruction.json {
        let message = format!("SHELL requires the arguments to be in JSON form, not: {}", instruction.original);
        return Err(Fault::new(message).hint(Some("write SHELL [\"/bin/bash\", \"-c\"]".to_owned())));
    }
    Ok(Command::Shell(instruction.arguments.iter().map(|argument| argument.text.clone()).collect()))
}

fn volume(instruction: &Instruction) -> Result<Command, Fault> {
    at_least_one(instruction, "VOLUME")?;
    plain(instruction)?;
    let trimmed = |argument: &Argument| match argument.text.trim() {
        "" => Err(Fault::new("VOLUME specified can not be an empty string").at(argument.span)),
        path => Ok(Argument { text: path.to_owned(), span: argument.span }),
    };
    Ok(Command::Volume(instruction.arguments.iter().map(trimmed).collect::<Result<_, _>>()?))
}

fn healthcheck(instruction: &Instruction) -> Result<Command, Fault> {
    at_least_one(instruction, "HEALTHCHECK")?;
    const DURATIONS: [&str; 4] = ["interval", "timeout", "start-period", "start-interval"];
    let known: Vec<_> = DURATIONS.into_iter().chain(["retries"]).map(|name| (name, Takes::Text)).collect();
    let mut flags = Flags::read(&instruction.flags, &known)?;
    let (kind, command) = instruction.arguments.split_at(1);
    let kind = kind.first().map_or_else(String::new, |kind| kind.text.to_uppercase());
    let mut line = command_line(command, instruction.json).arguments;
    match kind.as_str() {
        "NONE" if line.is_empty() => {
            return Ok(Command::Healthcheck(Healthcheck { test: vec![kind], ..Healthcheck::default() }));
        }
        "NONE" => return Err(Fault::new("HEALTHCHECK NONE takes no arguments")),
        "CMD" if line.is_empty() => return Err(Fault::new("Missing command after HEALTHCHECK CMD")),
        "CMD" => line.insert(0, if instruction.json { "CMD" } else { "CMD-SHELL" }.to_owned()),
        other => return Err(Fault::new(format!("Unknown type {} in HEALTHCHECK (try CMD)", go::quote(other)))),
    }
    let mut durations = [0; 4];
    for (value, name) in durations.iter_mut().zip(DURATIONS) {
        *value = flags.text(name).map_or(Ok(0), |text| interval(name, &text))?;
    }
    let [interval, timeout, start_period, start_interval] = durations;
    let retries = flags.text("retries").map_or(Ok(0), |text| retries(&text))?;
    Ok(Command::Healthcheck(Healthcheck { test: line, interval, timeout, start_period, start_interval, retries }))
}

fn interval(name: &str, text: &Argument) -> Result<u64, Fault> {
    match duration(name, text)? {
        1..1_000_000 => Err(Fault::new(format!("Interval {} cannot be less than 1ms", go::quote(name))).at(text.span)),
        value => Ok(value),
    }
}

/// Nanoseconds.
fn duration(name: &str, text: &Argument) -> Result<u64, Fault> {
    go::parse_duration(&text.text).ok_or_else(|| {
        Fault::new(format!("time: invalid duration {} in flag --{name}", go::quote(&text.text)))
            .hint(Some("write a number with a unit, such as 30s or 1m30s".to_owned()))
            .at(text.span)
    })
}

fn retries(text: &Argument) -> Result<u64, Fault> {
    match text.text.parse::<i32>() {
        Ok(number) => u64::try_from(number)
            .map_err(|_| Fault::new(format!("--retries cannot be negative ({number})")).at(text.span)),
        Err(_) => Err(Fault::new(format!("--retries takes a number, not {}", go::quote(&text.text))).at(text.span)),
    }
}

fn run(instruction: &Instruction) -> Result<Command, Fault> {
    const KNOWN: [(&str, Takes); 5] = [
        ("device", Takes::Texts),
        ("mount", Takes::Texts),
        ("network", Takes::Text),
        ("security", Takes::Text),
        ("timeout", Takes::Text),
    ];
    let mut flags = Flags::read(&instruction.flags, &KNOWN)?;
    let mounts = flags.all("mount").into_iter().map(mount_flag).collect::<Result<_, _>>()?;
    let devices = flags.all("device").iter().map(device).collect::<Result<_, _>>()?;
    let network = flags.text("network").map(|text| match text.text.as_str() {
        "default" => Ok(RunNetwork::Default),
        "none" => Ok(RunNetwork::None),
        "host" => Ok(RunNetwork::Host),
        other => Err(Fault::new(format!("invalid network mode {}", go::quote(other)))
            .at(text.span)
            .suggest(other, ["default", "host", "none"])),
    });
    let security = flags.text("security").map(|text| match text.text.as_str() {
        "sandbox" => Ok(RunSecurity::Sandbox),
        "insecure" => Ok(RunSecurity::Insecure),
        other => Err(Fault::new(format!("security {} is not valid", go::quote(other)))
            .at(text.span)
            .suggest(other, ["insecure", "sandbox"])),
    });
    let timeout = flags.text("timeout").map(|text| duration("timeout", &text)).transpose()?;
    let line = command_line(&instruction.arguments, instruction.json);
    let (network, security) = (network.transpose()?, security.transpose()?);
    Ok(Command::Run(Run { line, mounts, network, security, devices, timeout }))
}

fn mount_flag(text: Argument) -> Result<MountFlag, Fault> {
    let from = mount::from(&text.text).map_err(|fault| fault.at(text.span))?;
    Ok(MountFlag { text, from })
}

fn device(text: &Argument) -> Result<Device, Fault> {
    let mut device = Device { name: String::new(), required: false, span: text.span };
    let fault = |message: String| Fault::new(message).at(text.span);
    for field in mount::fields(&text.text).map_err(|reason| fault(format!("failed to parse csv devices: {reason}")))? {
        // The name of a device may hold `=` itself.
        let is_key = |key: &str| matches!(key.to_lowercase().as_str(), "name" | "required");
        match field.split_once('=').filter(|(key, _)| is_key(key) || !device.name.is_empty()) {
            Some((key, value)) => match key.to_lowercase().as_str() {
                "name" => device.name = value.to_owned(),
                "required" => {
                    device.required =
                        go::parse_bool(value).ok_or_else(|| fault(format!("invalid value for required: {value}")))?;
                }
                other => {
                    let message = format!("unexpected key '{other}' in '{field}'");
                    return Err(fault(message).suggest(other, ["name", "required"]));
                }
            },
            None if field == "required" => device.required = true,
            None if device.name.is_empty() && !field.starts_with('[') => device.name = field,
            None => return Err(fault(format!("invalid field '{field}' must be a key=value pair"))),
        }
    }
    Ok(device)
}

fn transfer(instruction: &Instruction, is_add: bool) -> Result<Command, Fault> {
    let name = if is_add { "ADD" } else { "COPY" };
    let [sources @ .., dest] = instruction.arguments.as_slice() else { return Err(no_destination(name)) };
    if sources.is_empty() {
        return Err(no_destination(name));
    }
    const ADD: &[(&str, Takes)] = &[
        ("checksum", Takes::Text),
        ("chmod", Takes::Text),
        ("chown", Takes::Text),
        ("exclude", Takes::Texts),
        ("keep-git-dir", Takes::Bool),
        ("link", Takes::Bool),
        ("unpack", Takes::Bool),
    ];
    const COPY: &[(&str, Takes)] = &[
        ("chmod", Takes::Text),
        ("chown", Takes::Text),
        ("exclude", Takes::Texts),
        ("from", Takes::Text),
        ("link", Takes::Bool),
        ("parents", Takes::Bool),
    ];
    let mut flags = Flags::read(&instruction.flags, if is_add { ADD } else { COPY })?;
    if heredoc::opener(&dest.text).is_some() {
        return Err(Fault::new(format!("{name} cannot accept a heredoc as a destination")).at(dest.span));
    }
    let mut transfer = Transfer {
        dest: dest.clone(),
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.bool("link").unwrap_or(false),
        parents: flags.bool("parents").unwrap_or(false),
        exclude: flags.all("exclude"),
        keep_git_dir: flags.bool("keep-git-dir"),
        checksum: flags.text("checksum"),
        unpack: flags.bool("unpack"),
        ..Transfer::default()
    };
    for source in sources {
        let opened = heredoc::opener(&source.text).filter(|_| !instruction.json);
        let known = |name: &str| instruction.heredocs.iter().position(|heredoc| heredoc.name == name);
        match opened.and_then(|opened| known(&opened.name)) {
            Some(index) => transfer.documents.push(index),
            None => transfer.sources.push(source.clone()),
        }
    }
    Ok(if is_add { Command::Add(transfer) } else { Command::Copy(transfer) })
}

fn no_destination(name: &str) -> Fault {
    Fault::new(format!(
        "{name} requires at least two arguments, but only one was provided. Destination could not be determined"
    ))
    .hint(Some(format!("write {name} SOURCE... DESTINATION")))
}

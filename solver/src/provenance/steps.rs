//! The steps of a build as BuildKit lists them: each op in the JSON form of LLB's `pb.Op`.

use serde_json::{Map, Value, json};

use super::redact::Redactor;
use super::{Facts, local, pinned};
use crate::graph::{
    CacheSharing, Copy, Exec, File, FileAction, Mode, Mount, MountKind, Network, Op, Security, Source, VertexId,
};
use crate::platform::Platform;

/// `buildConfig`: the steps in order, with what they use.
pub(super) fn build_config(facts: &Facts<'_>, steps: &[VertexId], redactor: &Redactor) -> Value {
    let name = |id: VertexId| steps.binary_search(&id).map_or_else(|_| String::new(), |at| format!("step{at}"));
    let mut definition = Vec::new();
    let mut mapping = Map::new();
    for (number, id) in steps.iter().enumerate() {
        let vertex = facts.graph.vertex(*id);
        let inputs: Vec<String> = vertex.inputs.iter().map(|input| format!("{}:0", name(*input))).collect();
        let mut step = json!({"id": format!("step{number}"), "op": op(facts, &vertex.op, redactor)});
        if !inputs.is_empty() {
            step["inputs"] = json!(inputs);
        }
        definition.push(step);
        mapping.insert(format!("blake3:{}", vertex.definition.to_hex()), format!("step{number}").into());
    }
    json!({"llbDefinition": definition, "digestMapping": mapping})
}

/// `source`: the Dockerfile, and the lines of each step.
pub(super) fn source(facts: &Facts<'_>, steps: &[VertexId], redactor: &Redactor) -> Value {
    let mut locations = Map::new();
    for (number, id) in steps.iter().enumerate() {
        let Some(location) = &facts.graph.vertex(*id).metadata.location else { continue };
        if location.file == facts.file_name {
            let range = json!({"start": {"line": location.first}, "end": {"line": location.last}});
            locations.insert(format!("step{number}"), json!({"locations": [{"ranges": [range]}]}));
        }
    }
    let text = redactor.text(facts.text);
    let info = json!({"filename": facts.file_name, "language": "Dockerfile", "data": base64(text.as_bytes())});
    json!({"locations": locations, "infos": [info]})
}

fn op(facts: &Facts<'_>, op: &Op, redactor: &Redactor) -> Value {
    match op {
        Op::Source(Source::Image { reference, platform: of }) => json!({
            "Op": {"source": {"identifier": format!("docker-image://{}", pinned(facts, reference, of))}},
            "platform": platform(of),
        }),
        Op::Source(source) => json!({"Op": {"source": outside(facts, source, redactor)}}),
        Op::Exec(command) => json!({"Op": {"exec": exec(command, redactor)}, "platform": platform(&command.platform)}),
        Op::File(changes) => json!({"Op": {"file": {"actions": file(changes, redactor)}}}),
        Op::Merge => json!({"Op": {"merge": {}}}),
    }
}

/// What comes from outside and is no image.
fn outside(facts: &Facts<'_>, source: &Source, redactor: &Redactor) -> Value {
    let mut attrs = Map::new();
    let identifier = match source {
        Source::Image { reference, .. } => format!("docker-image://{reference}"),
        Source::Local { name } => format!("local://{}", local(facts, name)),
        Source::Http { url, checksum, filename } => {
            if let Some(checksum) = checksum {
                attrs.insert("http.checksum".to_owned(), checksum.as_str().into());
            }
            attrs.insert("http.filename".to_owned(), filename.as_str().into());
            redactor.text(url)
        }
        Source::Git { url, reference, subdir, keep_git_dir, checksum, .. } => {
            let url = redactor.text(url);
            attrs.insert("git.fullurl".to_owned(), url.as_str().into());
            if *keep_git_dir {
                attrs.insert("git.keepgitdir".to_owned(), "true".into());
            }
            if let Some(checksum) = checksum {
                attrs.insert("git.checksum".to_owned(), checksum.as_str().into());
            }
            let bare = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
            let subdir = subdir.as_ref().map(|subdir| format!(":{subdir}")).unwrap_or_default();
            match (reference, subdir.as_str()) {
                (None, "") => format!("git://{bare}"),
                (reference, _) => format!("git://{bare}#{}{subdir}", reference.as_deref().unwrap_or_default()),
            }
        }
    };
    match attrs.is_empty() {
        true => json!({"identifier": identifier}),
        false => json!({"identifier": identifier, "attrs": attrs}),
    }
}

fn exec(exec: &Exec, redactor: &Redactor) -> Value {
    let args: Vec<String> = exec.args.iter().map(|arg| redactor.text(arg)).collect();
    let env: Vec<String> = exec.env.iter().map(|entry| redactor.variable(entry)).collect();
    let mut meta = json!({"args": args, "env": env, "cwd": exec.cwd});
    if !exec.user.is_empty() {
        meta["user"] = exec.user.as_str().into();
    }
    let root = json!({"input": index(exec.root), "dest": "/", "output": 0});
    let mounts: Vec<Value> =
        std::iter::once(root).chain(exec.mounts.iter().map(|entry| mount(entry, redactor))).collect();
    let mut value = json!({"meta": meta, "mounts": mounts});
    match exec.network {
        Network::Default => {}
        Network::Host => value["network"] = 1.into(),
        Network::None => value["network"] = 2.into(),
    }
    if exec.security == Security::Insecure {
        value["security"] = 1.into();
    }
    if !exec.secret_env.is_empty() {
        let of = |secret: &crate::graph::SecretEnv| json!({"ID": secret.id, "name": secret.name, "optional": !secret.required});
        value["secretenv"] = exec.secret_env.iter().map(of).collect();
    }
    value
}

/// A mount; the numbers of its kinds are those of `pb.MountType`.
fn mount(mount: &Mount, redactor: &Redactor) -> Value {
    let mut value = json!({"dest": mount.target, "output": -1});
    if mount.readonly {
        value["readonly"] = true.into();
    }
    let from = |value: &mut Value, input: Option<u32>, source: &str| {
        value["input"] = index(input);
        if !matches!(source, "" | "/") {
            value["selector"] = redactor.text(source).into();
        }
    };
    match &mount.kind {
        MountKind::Bind { input, source } => from(&mut value, *input, source),
        MountKind::Cache { id, sharing, input, source, .. } => {
            from(&mut value, *input, source);
            let sharing = match sharing {
                CacheSharing::Shared => 0,
                CacheSharing::Private => 1,
                CacheSharing::Locked => 2,
            };
            value["mountType"] = 3.into();
            value["cacheOpt"] = json!({"ID": id, "sharing": sharing});
        }
        MountKind::Tmpfs { size } => {
            value["mountType"] = 4.into();
            value["TmpfsOpt"] = json!({"size": size.unwrap_or(0)});
        }
        MountKind::Secret(secret) => {
            value["mountType"] = 1.into();
            value["secretOpt"] = json!({
                "ID": secret.id, "uid": secret.uid, "gid": secret.gid, "mode": secret.mode, "optional": !secret.required,
            });
        }
        MountKind::Ssh(agent) => {
            value["mountType"] = 2.into();
            value["SSHOpt"] = json!({
                "ID": agent.id, "uid": agent.uid, "gid": agent.gid, "mode": agent.mode, "optional": !agent.required,
            });
        }
    }
    value
}

fn file(file: &File, redactor: &Redactor) -> Vec<Value> {
    let mut actions = Vec::new();
    for (number, action) in (0i64..).zip(&file.actions) {
        // An action goes on where the one before it ended: BuildKit counts those after the inputs.
        let input = if number == 0 { index(file.root) } else { json!({"action": number - 1}) };
        let mut value = match action {
            FileAction::Mkdir { path, mode, owner } => {
                json!({"Action": {"mkdir": {"path": path, "mode": mode, "makeParents": true, "owner": owner}}})
            }
            FileAction::Mkfile { path, mode, data, owner, .. } => {
                let data = base64(redactor.text(data).as_bytes());
                json!({"Action": {"mkfile": {"path": path, "mode": bits(mode.as_ref()), "data": data, "owner": owner}}})
            }
            FileAction::Copy(action) => copy(action, redactor),
        };
        value["input"] = input;
        value["output"] = if number as usize + 1 == file.actions.len() { 0 } else { -1 }.into();
        without_nulls(&mut value);
        actions.push(value);
    }
    actions
}

fn copy(copy: &Copy, redactor: &Redactor) -> Value {
    let mut action = json!({
        "src": redactor.text(&copy.source), "dest": copy.dest, "mode": bits(copy.mode.as_ref()), "owner": copy.owner,
        "followSymlink": true, "createDestPath": true, "dirCopyContents": true,
    });
    if copy.wildcard {
        action["allowWildcard"] = true.into();
    }
    if copy.unpack != crate::graph::Unpack::No {
        action["attemptUnpackDockerCompatibility"] = true.into();
    }
    if let Some(Mode::Symbolic(text)) = &copy.mode {
        action["modeStr"] = text.as_str().into();
    }
    for (key, patterns) in [("includePatterns", &copy.include), ("excludePatterns", &copy.exclude)] {
        if !patterns.is_empty() {
            action[key] = json!(patterns);
        }
    }
    json!({"Action": {"copy": action}, "secondaryInput": index(copy.from)})
}

fn bits(mode: Option<&Mode>) -> i64 {
    match mode {
        Some(Mode::Bits(bits)) => i64::from(*bits),
        Some(Mode::Symbolic(_)) | None => -1,
    }
}

/// Position of an input; -1 is an empty file system.
fn index(input: Option<u32>) -> Value {
    input.map_or(-1, i64::from).into()
}

fn platform(platform: &Platform) -> Value {
    let mut value = json!({"Architecture": platform.architecture, "OS": platform.os});
    if let Some(variant) = &platform.variant {
        value["Variant"] = variant.as_str().into();
    }
    value
}

fn without_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(without_nulls);
    }
}

/// Base64 with padding (RFC 4648, section 4), which is what JSON of Go has for bytes.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |position: usize| u32::from(chunk.get(position).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for position in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * position) & 63) as usize];
            out.push(if position <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_of_the_rfc() {
        for (text, want) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
        {
            assert_eq!(base64(text.as_bytes()), want);
        }
    }
}

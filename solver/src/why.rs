//! Why a step has another key than it had before: what its key was made of, compared piece by piece. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::graph::{Exec, Op};
use crate::key::KeyInputs;

/// One thing in which a step differs from an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "changed")]
pub enum Difference {
    /// What it sees of its input of this number. Who knows the input can say more.
    Input {
        /// Position among the inputs.
        input: u32,
    },
    /// The text of its command, or what it does to files.
    Command {
        /// As it was.
        before: String,
        /// As it is.
        after: String,
    },
    /// A variable of its environment: an `ARG` or an `ENV`.
    Variable {
        /// Its name.
        name: String,
        /// Its value; none where it was not set.
        before: Option<String>,
        /// The same now.
        after: Option<String>,
    },
    /// The value of a secret that counts, or whether there is one.
    Secret {
        /// Its name.
        name: String,
    },
    /// Something else that is part of the key: `user`, `working directory`, `platform`, `network`, `security`,
    /// `mounts`, `files`.
    Setting {
        /// Which.
        what: String,
        /// As it was.
        before: String,
        /// As it is.
        after: String,
    },
}

/// Everything in which `after` differs from `before`; empty where the keys are equal.
#[must_use]
pub fn compare(before: &KeyInputs, after: &KeyInputs) -> Vec<Difference> {
    let mut found = match (&before.op, &after.op) {
        (Op::Exec(one), Op::Exec(two)) => commands(one, two),
        (one, two) if one != two => vec![Difference::Command { before: text(one), after: text(two) }],
        _ => Vec::new(),
    };
    if before.inputs.len() == after.inputs.len() {
        let pairs = (0..).zip(before.inputs.iter().zip(&after.inputs));
        found.extend(pairs.filter(|(_, (one, two))| one != two).map(|(input, _)| Difference::Input { input }));
    } else {
        let (before, after) = (before.inputs.len().to_string(), after.inputs.len().to_string());
        found.push(Difference::Setting { what: "number of inputs".to_owned(), before, after });
    }
    let names: BTreeSet<&String> = before.secrets.keys().chain(after.secrets.keys()).collect();
    let changed = names.into_iter().filter(|name| before.secrets.get(*name) != after.secrets.get(*name));
    found.extend(changed.map(|name| Difference::Secret { name: name.clone() }));
    found
}

fn commands(one: &Exec, two: &Exec) -> Vec<Difference> {
    let mut found = Vec::new();
    if one.args != two.args {
        found.push(Difference::Command { before: command(&one.args), after: command(&two.args) });
    }
    let (before, after) = (variables(&one.env), variables(&two.env));
    let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    for name in names {
        let (before, after) = (before.get(name), after.get(name));
        if before != after {
            let value = |value: Option<&&str>| value.map(|value| (*value).to_owned());
            found.push(Difference::Variable { name: name.to_owned(), before: value(before), after: value(after) });
        }
    }
    let mut setting = |what: &str, before: String, after: String| {
        if before != after {
            found.push(Difference::Setting { what: what.to_owned(), before, after });
        }
    };
    setting("user", one.user.clone(), two.user.clone());
    setting("working directory", one.cwd.clone(), two.cwd.clone());
    setting("platform", one.platform.to_string(), two.platform.to_string());
    setting("network", text(&one.network), text(&two.network));
    setting("security", text(&one.security), text(&two.security));
    setting("mounts", text(&(&one.mounts, &one.secret_env)), text(&(&two.mounts, &two.secret_env)));
    setting("files", text(&one.files), text(&two.files));
    setting("root", text(&one.root), text(&two.root));
    if found.is_empty() && one.env != two.env {
        let (before, after) = (one.env.join(" "), two.env.join(" "));
        found.push(Difference::Setting { what: "order of variables".to_owned(), before, after });
    }
    found
}

/// A command as it stands in the Dockerfile, where a shell runs it.
fn command(args: &[String]) -> String {
    match args {
        [shell, flag, script] if flag == "-c" && shell.ends_with("sh") => script.clone(),
        _ => args.join(" "),
    }
}

/// The last value of each name counts.
fn variables(env: &[String]) -> BTreeMap<&str, &str> {
    env.iter().filter_map(|variable| variable.split_once('=')).collect()
}

fn text<T: Serialize>(value: &T) -> String {
    // Our types serialise without an error of their own.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Key;
    use crate::graph::{Network, Security};
    use crate::platform::Platform;

    fn exec(script: &str, env: &[&str]) -> KeyInputs {
        let op = Op::Exec(Exec {
            root: Some(0),
            args: vec!["/bin/sh".into(), "-c".into(), script.into()],
            env: env.iter().map(|text| (*text).to_owned()).collect(),
            cwd: "/".into(),
            user: String::new(),
            network: Network::Default,
            security: Security::Sandbox,
            mounts: vec![],
            secret_env: vec![],
            files: vec![],
            platform: Platform::host(),
        });
        KeyInputs { op, inputs: vec![Key::of("t", "root")], secrets: BTreeMap::new() }
    }

    #[test]
    fn each_difference_is_named_and_equal_keys_have_none() {
        let one = exec("make", &["A=1", "B=2"]);
        assert_eq!(compare(&one, &one), []);
        let mut two = exec("make all", &["B=2", "A=3", "C=4"]);
        two.inputs = vec![Key::of("t", "other")];
        let variable = |name: &str, before: Option<&str>, after: &str| Difference::Variable {
            name: name.into(),
            before: before.map(str::to_owned),
            after: Some(after.into()),
        };
        assert_eq!(
            compare(&one, &two),
            [
                Difference::Command { before: "make".into(), after: "make all".into() },
                variable("A", Some("1"), "3"),
                variable("C", None, "4"),
                Difference::Input { input: 0 },
            ]
        );
        let mut three = one.clone();
        three.secrets.insert("token".into(), Key::of("t", "mac"));
        assert_ne!(one.key(), three.key());
        assert_eq!(compare(&one, &three), [Difference::Secret { name: "token".into() }]);
        let order = compare(&one, &exec("make", &["B=2", "A=1"]));
        assert!(matches!(&order[..], [Difference::Setting { what, .. }] if what == "order of variables"), "{order:?}");
    }
}

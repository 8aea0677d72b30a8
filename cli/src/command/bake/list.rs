//! `lap bake --list`: what the files define.

use serde_json::{Map, Value, json};

use crate::args::{Listed as Kind, Listing};
use crate::bake::{Config, Listed};
use crate::ui::table::table;

pub(super) fn list(config: &Config, listing: Listing) -> anyhow::Result<i32> {
    match listing.kind {
        Kind::Targets => targets(config, listing.json),
        Kind::Variables => variables(&config.variables, listing.json),
    }
}

/// A target or a group.
struct Row<'a> {
    name: &'a str,
    description: Option<String>,
    group: bool,
}

fn targets(config: &Config, as_json: bool) -> anyhow::Result<i32> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (name, target) in &config.targets {
        rows.push(Row { name, description: target.description.clone(), group: false });
    }
    for (name, group) in &config.groups {
        let mut members: Vec<&str> = group.targets.iter().map(String::as_str).collect();
        members.sort_unstable();
        let members = Some(members.join(", ")).filter(|members| !members.is_empty());
        let description = match (&group.description, members) {
            (Some(text), Some(members)) => Some(format!("{text} ({members})")),
            (text, members) => text.clone().or(members),
        };
        rows.push(Row { name, description, group: true });
    }
    // Names that begin so are only inherited from.
    rows.retain(|row| !row.name.starts_with('_'));
    rows.sort_by_key(|row| row.name);
    if as_json {
        let entry = |row: &Row<'_>| {
            let mut entry = Map::from_iter([("name".to_owned(), json!(row.name))]);
            entry.extend(row.description.as_ref().map(|text| ("description".to_owned(), json!(text))));
            entry.extend(row.group.then(|| ("group".to_owned(), json!(true))));
            Value::Object(entry)
        };
        outln!("{:#}", Value::Array(rows.iter().map(entry).collect()))?;
        return Ok(0);
    }
    let row = |row: Row<'_>| vec![row.name.to_owned(), row.description.unwrap_or_default()];
    let rows: Vec<Vec<String>> = rows.into_iter().map(row).collect();
    outln!("{}", table(&["TARGET", "DESCRIPTION"], &rows).trim_end())?;
    Ok(0)
}

fn variables(variables: &[Listed], as_json: bool) -> anyhow::Result<i32> {
    let value = |variable: &Listed| {
        let text = || variable.value.to_text().unwrap_or_else(|_| variable.value.to_json().to_string());
        (!variable.value.is_null()).then(text)
    };
    if as_json {
        let entry = |variable: &Listed| {
            let fields = [
                ("name", Some(variable.name.clone())),
                ("description", variable.description.clone()),
                ("type", variable.kind.clone()),
                ("value", value(variable)),
            ];
            let fields = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value?))));
            Value::Object(fields.collect())
        };
        outln!("{:#}", Value::Array(variables.iter().map(entry).collect()))?;
        return Ok(0);
    }
    let row = |variable: &Listed| {
        let (kind, description) = (variable.kind.clone(), variable.description.clone());
        let value = value(variable).unwrap_or_else(|| "<null>".to_owned());
        vec![variable.name.clone(), kind.unwrap_or_default(), value, description.unwrap_or_default()]
    };
    let rows: Vec<Vec<String>> = variables.iter().map(row).collect();
    outln!("{}", table(&["VARIABLE", "TYPE", "VALUE", "DESCRIPTION"], &rows).trim_end())?;
    Ok(0)
}

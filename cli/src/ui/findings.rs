//! What checks found: as text in BuildKit's words, as its JSON, and as SARIF 2.1.0 for code hosts.

use lap_frontend::lint::RULES;
use lap_frontend::source::Source;
use lap_frontend::{Code, Diagnostic, Severity};
use serde_json::{Value, json};

use super::error::excerpt;

/// As `docker build --check` tells them.
pub(crate) fn text(findings: &[Diagnostic], source: &Source) -> String {
    let mut out = match findings.len() {
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    for finding in findings {
        let rule = rule(finding);
        let url = url(rule).map(|url| format!(" - {url}")).unwrap_or_default();
        out.push_str(&format!("\nWARNING: {rule}{url}\n{}\n", finding.message));
        if finding.position.line > 0 {
            out.push_str(&excerpt(&finding.file, source.text(), finding.position.line, last_line(finding, source)));
        }
    }
    out
}

/// As `docker build --call=check,format=json` tells them (`frontend.lint`); errors are in `buildError`.
pub(crate) fn json(findings: &[Diagnostic], source: &Source) -> Value {
    let location = |finding: &Diagnostic| {
        let (first, last) = (finding.position.line, last_line(finding, source));
        json!({"ranges": [{"start": {"line": first}, "end": {"line": last}}]})
    };
    let is_error = |finding: &&Diagnostic| finding.severity == Severity::Error && !is_of_rule(finding);
    let warnings: Vec<Value> = findings
        .iter()
        .filter(|finding| !is_error(finding))
        .map(|finding| {
            let rule = rule(finding);
            let description = RULES.iter().find(|known| known.name == rule).map_or("", |known| known.description);
            json!({
                "ruleName": rule,
                "description": description,
                "url": url(rule).unwrap_or_default(),
                "detail": finding.message,
                "location": location(finding),
            })
        })
        .collect();
    let mut answer = json!({
        "warnings": warnings,
        "sources": [{"filename": source.name(), "language": "Dockerfile"}],
    });
    if let Some(error) = findings.iter().find(is_error) {
        answer["buildError"] = json!({"message": error.text(), "location": location(error)});
    }
    answer
}

/// As SARIF, with every rule.
pub(crate) fn sarif(findings: &[Diagnostic], source: &Source) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            json!({
                "id": rule.name,
                "shortDescription": {"text": rule.description},
                "helpUri": rule.url(),
                "defaultConfiguration": {"level": "warning", "enabled": !rule.experimental},
            })
        })
        .collect();
    let results: Vec<Value> = findings.iter().map(|finding| result(finding, source)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "lap",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn result(finding: &Diagnostic, source: &Source) -> Value {
    let mut region = json!({});
    if finding.position.line > 0 {
        let end = source.position(finding.span.end);
        region = json!({"startLine": finding.position.line, "startColumn": finding.position.column.max(1)});
        // The end is behind the last letter, as ours is.
        if end > finding.position {
            region["endLine"] = end.line.into();
            region["endColumn"] = end.column.max(1).into();
        }
    }
    let rule = rule(finding);
    let mut result = json!({
        "ruleId": rule,
        "level": if finding.severity == Severity::Error { "error" } else { "warning" },
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri(&finding.file)}, "region": region}}],
    });
    if let Some(index) = RULES.iter().position(|known| known.name == rule) {
        result["ruleIndex"] = index.into();
    }
    result
}

/// A relative path as a URI reference.
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Whether a check found it.
pub(crate) fn is_of_rule(finding: &Diagnostic) -> bool {
    matches!(finding.code, Code::Rule(_))
}

fn rule(finding: &Diagnostic) -> &str {
    match &finding.code {
        Code::Rule(name) => name,
        Code::Syntax => "Syntax",
        Code::Meaning => "Meaning",
    }
}

fn url(rule: &str) -> Option<String> {
    RULES.iter().find(|known| known.name == rule).map(lap_frontend::lint::Rule::url)
}

fn last_line(finding: &Diagnostic, source: &Source) -> u32 {
    let end = finding.span.end.saturating_sub(1).max(finding.span.start);
    source.position(end).line.max(finding.position.line)
}

#[cfg(test)]
mod tests {
    use lap_frontend::{Facts, Options, check, parse, stages};
    use lap_solver::platform::Platform;

    use super::*;

    fn findings(text: &str) -> (Vec<Diagnostic>, Source) {
        let parsed = parse("my Dockerfile", text.as_bytes());
        let options = Options::new(Platform::host());
        let stages = stages(&parsed.dockerfile, &options).unwrap();
        (check(&stages, &Facts::new(), &options).unwrap(), Source::new("my Dockerfile", text.as_bytes()))
    }

    #[test]
    fn one_finding_in_three_forms() {
        let (found, source) = findings("FROM scratch as a\nCOPY x /\n");
        assert_eq!(
            text(&found, &source),
            "Check complete, 1 warning has been found!\n\nWARNING: FromAsCasing - https://docs.docker.com/go/dockerfile/rule/from-as-casing/\n'as' and 'FROM' keywords' casing do not match\nmy Dockerfile:1\n--------------------\n   1 | >>> FROM scratch as a\n   2 |     COPY x /\n--------------------\n"
        );
        let json = json(&found, &source);
        assert_eq!(json["warnings"][0]["ruleName"], "FromAsCasing");
        assert_eq!(json["warnings"][0]["location"]["ranges"][0]["end"]["line"], 1);
        let sarif = sarif(&found, &source);
        let run = &sarif["runs"][0];
        let result = &run["results"][0];
        let index = result["ruleIndex"].as_u64().unwrap() as usize;
        assert_eq!(run["tool"]["driver"]["rules"][index]["id"], "FromAsCasing");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "my%20Dockerfile");
        assert_eq!((&place["region"]["startLine"], &place["region"]["startColumn"]), (&1.into(), &1.into()));
        assert_eq!(text(&[], &source), "Check complete, no warnings found.\n");
    }
}

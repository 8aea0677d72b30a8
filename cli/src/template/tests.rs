//! Templates as Go 1.19 itself answers them: `testdata/templates/go.json` was written by a program of Go's
//! `text/template` with Docker's functions, over the value below.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Case {
    template: String,
    out: String,
    error: Option<String>,
}

fn map(of: &'static str, entries: Vec<(&str, Value)>) -> Value {
    Value::map(of, entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>())
}

fn ints(numbers: &[i64]) -> Value {
    Value::list("int", numbers.iter().copied().map(Value::Int).collect())
}

fn mount(kind: &str, name: &str, source: &str, writable: bool) -> Value {
    let mount = Struct::new("main.Mount").field("Type", kind).optional("Name", name);
    mount.field("Source", source).field("RW", writable).into()
}

fn data() -> Value {
    let state = Struct::new("main.State").field("Status", "running").field("Running", true).field("Pid", 42i64);
    let config = Struct::new("main.Config")
        .field("Env", Value::strings(Some(&["PATH=/bin:/usr/bin", "A=b c", "E="])))
        .field("Cmd", Value::strings(Some(&["sh", "-c", "echo \"hi\""])))
        .field(
            "Labels",
            map("string", vec![("a", "one".into()), ("b", "two".into()), ("com.example.x", "dotted".into())]),
        )
        .optional("Shell", Value::nil_list("string"));
    let network = |address: &str| map("string", vec![("IPAddress", address.into())]);
    let any = vec![
        ("s", "text".into()),
        ("n", Value::Int(7)),
        ("f", Value::Float(2.5)),
        ("nil", Value::Nil),
        ("l", Value::list("interface {}", vec!["x".into(), Value::Int(1), Value::Bool(true), Value::Nil])),
        ("m", map("interface {}", vec![("k", "v".into())])),
    ];
    Struct::new("main.Data")
        .renamed("ID", "Id", "sha256:0123456789abcdef")
        .field("Name", "/web <1> & \"co\" it's")
        .field("Size", Value::Float(1_234_567.5))
        .field("Tiny", Value::Float(1e-9))
        .field("State", state.optional("Health", Value::NilPointer("*main.Health")))
        .field("Config", config)
        .field(
            "Mounts",
            Value::list("main.Mount", vec![mount("bind", "", "/src", true), mount("volume", "data", "/var", false)]),
        )
        .field(
            "Networks",
            map("map[string]string", vec![("bridge", network("10.0.0.2")), ("apps", network("10.1.0.7"))]),
        )
        .field("Any", map("interface {}", any))
        .field("Matrix", Value::list("[]int", vec![ints(&[1, 2]), ints(&[]), ints(&[3])]))
        .field("None", Value::nil_map("string"))
        .into()
}

fn answer(template: &str) -> Result<String, String> {
    let template = Template::parse(template).map_err(|error| error.to_string())?;
    template.execute(&data(), MissingKey::NoValue).map_err(|error| error.to_string())
}

#[test]
fn answers_are_gos() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/templates/go.json");
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let theirs = case.error.clone().map_or_else(|| Ok(case.out.clone()), Err);
        let ours = answer(&case.template);
        if ours != theirs {
            wrong.push(format!("{:?}\n  Go:   {theirs:?}\n  ours: {ours:?}", case.template));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn newer_gos_loops_count_and_with_has_else_with() {
    assert_eq!(answer("{{range 3}}{{.}}{{end}}").unwrap(), "012");
    assert_eq!(answer("{{with .None}}a{{else with .State}}{{.Pid}}{{else}}c{{end}}").unwrap(), "42");
}

#[test]
fn json_read_without_a_type_knows_no_structs() {
    let template = |text: &str| Template::parse(text).unwrap();
    let raw = data().raw();
    assert_eq!(template("{{.Id}} {{.State}}").execute(&raw, MissingKey::Error).unwrap(), {
        "sha256:0123456789abcdef map[Pid:42 Running:true Status:running]"
    });
    let error = template("{{.Id}} {{.State.Health}}").execute(&raw, MissingKey::Error).unwrap_err();
    assert_eq!(
        error.to_string(),
        "template: :1:16: executing \"\" at <.State.Health>: map has no entry for key \"Health\""
    );
}

#[test]
fn what_never_ends_is_an_error() {
    let calls = answer(r#"{{define "a"}}{{template "a"}}{{end}}{{template "a"}}"#).unwrap_err();
    assert!(calls.contains("exceeded maximum template depth"), "{calls}");
    let deep = answer(&format!("{{{{{}1{}}}}}", "(".repeat(100_000), ")".repeat(100_000))).unwrap_err();
    assert!(deep.contains("nested too deeply"), "{deep}");
    let nested = answer(&"{{if 1}}".repeat(100_000)).unwrap_err();
    assert!(nested.contains("nested too deeply"), "{nested}");
    assert!(answer("{{printf \"%999999999d\" 1}}").unwrap().len() < 2_000_000);
}

#[test]
fn json_on_many_lines_is_dockers() {
    let value = Struct::new("").field("A", Value::strings(Some(&["x"]))).field("B", Value::strings::<&str>(Some(&[])));
    assert_eq!(Value::from(value).json_lines(), "{\n    \"A\": [\n        \"x\"\n    ],\n    \"B\": []\n}");
}

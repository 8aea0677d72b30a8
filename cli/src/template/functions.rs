//! The functions of Go's templates and those that Docker adds.

use std::cmp::Ordering;

use super::format;
use super::value::{List, Struct, Value};

/// What an argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    /// Go's `interface {}`.
    Any,
    /// Anything, nothing too: the functions of Go's own take these.
    Value,
    String,
    Int,
    Strings,
}

impl Parameter {
    pub(super) const fn can_be_nil(self) -> bool {
        matches!(self, Self::Any | Self::Value | Self::Strings)
    }

    pub(super) const fn type_name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Value => "reflect.Value",
            Self::String => "string",
            Self::Int => "int",
            Self::Strings => "[]string",
        }
    }
}

/// A function and what it takes.
pub(super) struct Function {
    name: &'static str,
    pub(super) parameters: &'static [Parameter],
    /// Type of any further arguments.
    pub(super) more: Option<Parameter>,
    run: fn(&[Value]) -> Result<Value, String>,
}

/// Whether the functions that Docker adds do their work: they leave the headings of tables alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    Values,
    Headings,
}

impl Set {
    pub(super) fn call(self, function: &Function, arguments: &[Value]) -> Result<Value, String> {
        if self == Self::Headings && matches!(function.name, "json" | "title" | "lower" | "upper" | "truncate") {
            return Ok(arguments.first().cloned().unwrap_or(Value::Missing));
        }
        (function.run)(arguments)
    }
}

/// `and` and `or` look at no more arguments than they need, so they are not in the table.
pub(super) fn is_known(name: &str) -> bool {
    matches!(name, "and" | "or") || find(name).is_some()
}

pub(super) fn find(name: &str) -> Option<&'static Function> {
    TABLE.iter().find(|function| function.name == name)
}

const fn function(
    name: &'static str,
    parameters: &'static [Parameter],
    more: Option<Parameter>,
    run: fn(&[Value]) -> Result<Value, String>,
) -> Function {
    Function { name, parameters, more, run }
}

const ANY: Option<Parameter> = Some(Parameter::Any);
const VALUE: Parameter = Parameter::Value;
const STRING: Parameter = Parameter::String;

static TABLE: [Function; 25] = [
    function("print", &[], ANY, |args| Ok(format::print(args).into())),
    function("println", &[], ANY, |args| Ok(format::println(args).into())),
    function("printf", &[STRING], ANY, |args| Ok(format::printf(text(args, 0), &args[1..]).into())),
    function("html", &[], ANY, |args| Ok(html(&shown(args)).into())),
    function("js", &[], ANY, |args| Ok(js(&shown(args)).into())),
    function("urlquery", &[], ANY, |args| Ok(url_query(&shown(args)).into())),
    function("len", &[VALUE], None, |args| len(&args[0])),
    function("index", &[VALUE], Some(VALUE), index),
    function("slice", &[VALUE], Some(VALUE), slice),
    function("not", &[VALUE], None, |args| Ok((!args[0].truth()).into())),
    function("eq", &[VALUE], Some(VALUE), |args| equal(args).map(Value::from)),
    function("ne", &[VALUE, VALUE], None, |args| equal(args).map(|equal| (!equal).into())),
    function("lt", &[VALUE, VALUE], None, |args| Ok(order(args)?.is_lt().into())),
    function("le", &[VALUE, VALUE], None, |args| Ok(order(args)?.is_le().into())),
    function("gt", &[VALUE, VALUE], None, |args| Ok(order(args)?.is_gt().into())),
    function("ge", &[VALUE, VALUE], None, |args| Ok(order(args)?.is_ge().into())),
    function("json", &[Parameter::Any], None, |args| Ok(args[0].json().into())),
    function("split", &[STRING, STRING], None, |args| Ok(split(text(args, 0), text(args, 1)))),
    function("join", &[Parameter::Strings, STRING], None, |args| Ok(join(&args[0], text(args, 1)).into())),
    function("title", &[STRING], None, |args| Ok(title(text(args, 0)).into())),
    function("lower", &[STRING], None, |args| Ok(text(args, 0).to_lowercase().into())),
    function("upper", &[STRING], None, |args| Ok(text(args, 0).to_uppercase().into())),
    function("pad", &[STRING, Parameter::Int, Parameter::Int], None, pad),
    function("truncate", &[STRING, Parameter::Int], None, truncate),
    function("call", &[VALUE], Some(VALUE), |args| Err(format!("non-function of type {}", args[0].type_name()))),
];

/// An argument that was checked to be text.
fn text(args: &[Value], index: usize) -> &str {
    match args.get(index) {
        Some(Value::String(text)) => text,
        _ => "",
    }
}

fn int(args: &[Value], index: usize) -> i64 {
    match args.get(index) {
        Some(Value::Int(value)) => *value,
        _ => 0,
    }
}

/// What the escaping functions are given: one text as it is, all else as `print` shows it.
fn shown(args: &[Value]) -> String {
    match args {
        [Value::String(text)] => text.to_string(),
        [Value::Nil | Value::Missing] => "<no value>".to_owned(),
        args => format::print(args),
    }
}

fn len(value: &Value) -> Result<Value, String> {
    let len = match value {
        Value::String(text) => text.len(),
        Value::List(list) => list.items.len(),
        Value::Map(map) => map.entries.len(),
        Value::NilPointer(_) | Value::Nil => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(i64::try_from(len).unwrap_or(i64::MAX)))
}

/// A number that may stand in brackets, up to `limit`.
fn position(index: &Value, limit: usize) -> Result<usize, String> {
    match index {
        Value::Int(value) => usize::try_from(*value)
            .ok()
            .filter(|value| *value <= limit)
            .ok_or_else(|| format!("index out of range: {value}")),
        Value::Missing | Value::Nil => Err("cannot index slice/array with nil".to_owned()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

fn index(args: &[Value]) -> Result<Value, String> {
    let mut item = args[0].clone();
    if matches!(item, Value::Missing | Value::Nil) {
        return Err("index of untyped nil".to_owned());
    }
    for index in &args[1..] {
        item = match &item {
            Value::Nil | Value::NilPointer(_) | Value::Missing => return Err("index of nil pointer".to_owned()),
            Value::String(text) => {
                let at = position(index, text.len())?;
                match text.as_bytes().get(at) {
                    Some(byte) => Value::Int(i64::from(*byte)),
                    None => return Err("reflect: string index out of range".to_owned()),
                }
            }
            Value::List(list) => {
                let at = position(index, list.items.len())?;
                list.items.get(at).cloned().ok_or("reflect: slice index out of range")?
            }
            Value::Map(map) => match index {
                Value::String(key) => map.entries.get(&**key).cloned().unwrap_or_else(|| Value::zero(map.of)),
                Value::Missing | Value::Nil => return Err("value is nil; should be of type string".to_owned()),
                other => return Err(format!("value has type {}; should be string", other.type_name())),
            },
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(item)
}

fn slice(args: &[Value]) -> Result<Value, String> {
    let (item, indexes) = (&args[0], &args[1..]);
    let len = match item {
        Value::Missing | Value::Nil => return Err("slice of untyped nil".to_owned()),
        _ if indexes.len() > 3 => return Err(format!("too many slice indexes: {}", indexes.len())),
        Value::String(_) if indexes.len() == 3 => return Err("cannot 3-index slice a string".to_owned()),
        Value::String(text) => text.len(),
        Value::List(list) => list.items.len(),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let mut ends = [0, len, len];
    for (end, index) in ends.iter_mut().zip(indexes) {
        *end = position(index, len)?;
    }
    for pair in ends.windows(2) {
        if pair[0] > pair[1] {
            return Err(format!("invalid slice index: {} > {}", pair[0], pair[1]));
        }
    }
    let range = ends[0]..ends[1];
    Ok(match item {
        Value::String(text) => String::from_utf8_lossy(&text.as_bytes()[range]).into_owned().into(),
        Value::List(list) => Value::List(List { items: list.items[range].into(), ..list.clone() }),
        other => other.clone(),
    })
}

/// What comparisons call a kind; lists and structs have none.
fn basic(value: &Value) -> u8 {
    match value {
        Value::Bool(_) => 1,
        Value::Int(_) => 2,
        Value::Float(_) => 3,
        Value::String(_) => 4,
        _ => 0,
    }
}

const INCOMPATIBLE: &str = "incompatible types for comparison";

/// Whether the first is any of the others.
fn equal(args: &[Value]) -> Result<bool, String> {
    let (first, others) = (&args[0], &args[1..]);
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        let same = match (first, other) {
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::String(a), Value::String(b)) => a == b,
            (Value::Missing | Value::Nil, _) | (_, Value::Missing | Value::Nil) => is_nil(first) && is_nil(other),
            (a, b) if basic(a) != basic(b) => return Err(INCOMPATIBLE.to_owned()),
            (a, b) if is_nil(a) || is_nil(b) => is_nil(a) && is_nil(b),
            (Value::Struct(a), Value::Struct(b)) if is_comparable(other) => a.name == b.name && same(a, b),
            (_, b) => return Err(format!("non-comparable type {}: {}", format::plain(b), b.type_name())),
        };
        if same {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Structs can be compared where nothing in them is a list or a map.
fn is_comparable(value: &Value) -> bool {
    match value {
        Value::Struct(fields) => fields.fields.iter().all(|field| is_comparable(&field.value)),
        Value::List(_) | Value::Map(_) | Value::Method(_) => false,
        _ => true,
    }
}

fn same(a: &Struct, b: &Struct) -> bool {
    let same_field = |(a, b): (&Value, &Value)| match (a, b) {
        (Value::Struct(a), Value::Struct(b)) => same(a, b),
        (a, b) => equal(&[a.clone(), b.clone()]).unwrap_or(false),
    };
    let values = |fields: &Struct| fields.fields.iter().map(|field| field.value.clone()).collect::<Vec<_>>();
    let (a, b) = (values(a), values(b));
    a.len() == b.len() && a.iter().zip(&b).all(same_field)
}

fn is_nil(value: &Value) -> bool {
    match value {
        Value::Missing | Value::Nil | Value::NilPointer(_) => true,
        Value::List(list) => list.nil,
        Value::Map(map) => map.nil,
        _ => false,
    }
}

fn order(args: &[Value]) -> Result<Ordering, String> {
    const INVALID: &str = "invalid type for comparison";
    match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Ok(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b).ok_or_else(|| INVALID.to_owned()),
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (a, b) if basic(a) == 0 || basic(b) == 0 || basic(a) == basic(b) => Err(INVALID.to_owned()),
        _ => Err(INCOMPATIBLE.to_owned()),
    }
}

fn split(text: &str, separator: &str) -> Value {
    let parts: Vec<String> = if separator.is_empty() {
        text.chars().map(String::from).collect()
    } else {
        text.split(separator).map(str::to_owned).collect()
    };
    Value::strings(Some(&parts))
}

fn join(list: &Value, separator: &str) -> String {
    let Value::List(list) = list else { return String::new() };
    let texts: Vec<&str> = list.items.iter().map(|item| text(std::slice::from_ref(item), 0)).collect();
    texts.join(separator)
}

/// The first letter of each word large.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for letter in text.chars() {
        if in_word {
            out.push(letter);
        } else {
            out.extend(letter.to_uppercase());
        }
        in_word = letter.is_alphanumeric() || letter == '_' || !(letter.is_ascii() || letter.is_whitespace());
    }
    out
}

/// Blanks before and after a text that is there.
fn pad(args: &[Value]) -> Result<Value, String> {
    /// More blanks than any line has.
    const MOST: i64 = 1 << 20;
    let (source, before, after) = (text(args, 0), int(args, 1), int(args, 2));
    if source.is_empty() {
        return Ok("".into());
    }
    if before < 0 || after < 0 {
        return Err("strings: negative Repeat count".to_owned());
    }
    if before > MOST || after > MOST {
        return Err(format!("more than {MOST} blanks"));
    }
    let blanks = |count: i64| " ".repeat(usize::try_from(count).unwrap_or(0));
    Ok(format!("{}{source}{}", blanks(before), blanks(after)).into())
}

fn truncate(args: &[Value]) -> Result<Value, String> {
    let (source, length) = (text(args, 0), int(args, 1));
    let Ok(length) = usize::try_from(length) else {
        return Err(format!("runtime error: slice bounds out of range [:{length}]"));
    };
    let kept = &source.as_bytes()[..length.min(source.len())];
    Ok(String::from_utf8_lossy(kept).into_owned().into())
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            letter => out.push(letter),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' | '\'' | '"' => out.extend(['\\', letter]),
            '<' | '>' | '&' | '=' | '\0'..' ' => out.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter if letter.is_ascii() || format::is_printable(letter) => out.push(letter),
            letter => out.push_str(&format!("\\u{:04X}", u32::from(letter))),
        }
    }
    out
}

fn url_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

//! What templates look into: JSON that also knows structs from maps and nil from empty, as Go does.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

/// A value of Go's.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// No value at all, such as a key that a map does not have.
    Missing,
    /// An interface that holds nothing: JSON's null.
    Nil,
    /// A pointer to nothing, and its type.
    NilPointer(&'static str),
    Bool(bool),
    Int(i64),
    Float(f64),
    String(Rc<str>),
    List(List),
    Map(Map),
    Struct(Rc<Struct>),
    /// Something of a struct or a map that needs one argument, a text.
    Method(Method),
}

/// A list and the type of what it holds.
#[derive(Debug, Clone)]
pub(crate) struct List {
    pub(super) items: Rc<[Value]>,
    pub(super) of: &'static str,
    /// JSON's null rather than `[]`.
    pub(super) nil: bool,
}

/// A map with names for keys, and the type of what it holds.
#[derive(Debug, Clone)]
pub(crate) struct Map {
    pub(super) entries: Rc<BTreeMap<String, Value>>,
    pub(super) of: &'static str,
    pub(super) nil: bool,
}

/// Named fields in the order in which they print.
#[derive(Debug)]
pub(crate) struct Struct {
    /// Type, as messages call it.
    pub(super) name: &'static str,
    pub(super) fields: Vec<Field>,
}

/// One of a struct.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Name,
    pub(super) value: Value,
    json: Json,
}

/// Of a field; most are known when this is compiled.
pub(super) type Name = Cow<'static, str>;

/// How a field is written as JSON.
#[derive(Debug)]
enum Json {
    Named(Name),
    /// Left out where it is empty.
    Optional(Name),
    Hidden,
}

/// A function of one text.
#[derive(Clone)]
pub(crate) struct Method(pub(super) Rc<dyn Fn(&str) -> String>);

impl std::fmt::Debug for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Method")
    }
}

impl Struct {
    /// One without fields.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, fields: Vec::new() }
    }

    /// Adds a field.
    pub(crate) fn field(self, name: impl Into<Name>, value: impl Into<Value>) -> Self {
        let name = name.into();
        self.push(name.clone(), value.into(), Json::Named(name))
    }

    /// Adds a field that JSON knows by another name.
    pub(crate) fn renamed(self, name: impl Into<Name>, json: impl Into<Name>, value: impl Into<Value>) -> Self {
        self.push(name.into(), value.into(), Json::Named(json.into()))
    }

    /// Adds a field that JSON leaves out where it is empty.
    pub(crate) fn optional(self, name: impl Into<Name>, value: impl Into<Value>) -> Self {
        let name = name.into();
        self.push(name.clone(), value.into(), Json::Optional(name))
    }

    /// Adds a function of one text.
    pub(crate) fn method(self, name: &'static str, method: impl Fn(&str) -> String + 'static) -> Self {
        self.push(name.into(), Value::Method(Method(Rc::new(method))), Json::Hidden)
    }

    fn push(mut self, name: Name, value: Value, json: Json) -> Self {
        self.fields.push(Field { name, value, json });
        self
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|field| field.name == name).map(|field| &field.value)
    }

    /// Fields as JSON has them.
    fn json(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().filter_map(|field| match &field.json {
            Json::Named(name) => Some((&**name, &field.value)),
            Json::Optional(name) => (!field.value.is_empty()).then_some((&**name, &field.value)),
            Json::Hidden => None,
        })
    }
}

impl Value {
    /// A list of texts; null in JSON where there is none.
    pub(crate) fn strings<S: AsRef<str>>(items: Option<&[S]>) -> Self {
        let list = items.unwrap_or_default().iter().map(|text| Self::from(text.as_ref())).collect();
        Self::List(List { items: list, of: "string", nil: items.is_none() })
    }

    /// A list, and the type of what it holds.
    pub(crate) fn list(of: &'static str, items: Vec<Self>) -> Self {
        Self::List(List { items: items.into(), of, nil: false })
    }

    /// A list that is null in JSON.
    pub(crate) fn nil_list(of: &'static str) -> Self {
        Self::List(List { items: Rc::new([]), of, nil: true })
    }

    /// A map, and the type of what it holds.
    pub(crate) fn map(of: &'static str, entries: BTreeMap<String, Self>) -> Self {
        Self::Map(Map { entries: Rc::new(entries), of, nil: false })
    }

    /// A map that is null in JSON.
    pub(crate) fn nil_map(of: &'static str) -> Self {
        Self::Map(Map { entries: Rc::default(), of, nil: true })
    }

    /// What `omitempty` leaves out.
    fn is_empty(&self) -> bool {
        match self {
            Self::Missing | Self::Nil | Self::NilPointer(_) => true,
            Self::Struct(_) | Self::Method(_) => false,
            other => !other.truth(),
        }
    }

    /// Whether `if` takes it for true.
    pub(super) fn truth(&self) -> bool {
        match self {
            Self::Missing | Self::Nil | Self::NilPointer(_) => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::String(text) => !text.is_empty(),
            Self::List(list) => !list.items.is_empty(),
            Self::Map(map) => !map.entries.is_empty(),
            Self::Struct(_) | Self::Method(_) => true,
        }
    }

    /// Its type in Go's words.
    pub(super) fn type_name(&self) -> String {
        match self {
            Self::Missing | Self::Nil => "interface {}".to_owned(),
            Self::NilPointer(name) => (*name).to_owned(),
            Self::Bool(_) => "bool".to_owned(),
            Self::Int(_) => "int".to_owned(),
            Self::Float(_) => "float64".to_owned(),
            Self::String(_) => "string".to_owned(),
            Self::List(list) => format!("[]{}", list.of),
            Self::Map(map) => format!("map[string]{}", map.of),
            Self::Struct(fields) => fields.name.to_owned(),
            Self::Method(_) => "func(string) string".to_owned(),
        }
    }

    /// The empty value of a type.
    pub(super) fn zero(of: &str) -> Self {
        match of {
            "string" => "".into(),
            "bool" => false.into(),
            "int" => Self::Int(0),
            "float64" => Self::Float(0.0),
            _ => Self::Nil,
        }
    }

    /// The same as JSON would have it read again: structs are maps, and what JSON leaves out is not there.
    pub(crate) fn raw(&self) -> Self {
        match self {
            Self::Struct(fields) => {
                Self::map("interface {}", fields.json().map(|(name, value)| (name.to_owned(), value.raw())).collect())
            }
            Self::List(list) if !list.nil => Self::list("interface {}", list.items.iter().map(Self::raw).collect()),
            Self::Map(map) if !map.nil => {
                Self::map("interface {}", map.entries.iter().map(|(key, value)| (key.clone(), value.raw())).collect())
            }
            Self::List(_) | Self::Map(_) | Self::Missing | Self::NilPointer(_) | Self::Method(_) => Self::Nil,
            other => other.clone(),
        }
    }

    /// As JSON on one line, as Go's encoder writes it with HTML left as it is.
    pub(crate) fn json(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, None, 0);
        out
    }

    /// As JSON on many lines, four blanks deeper each level.
    pub(crate) fn json_lines(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, Some("    "), 0);
        out
    }

    fn write(&self, out: &mut String, indent: Option<&str>, depth: usize) {
        match self {
            Self::Missing | Self::Nil | Self::NilPointer(_) | Self::Method(_) => out.push_str("null"),
            Self::Bool(value) => drop(write!(out, "{value}")),
            Self::Int(value) => drop(write!(out, "{value}")),
            Self::Float(value) => out.push_str(&super::format::json_float(*value)),
            Self::String(text) => write_string(out, text),
            Self::List(list) if list.nil => out.push_str("null"),
            Self::List(list) => {
                write_all(out, ('[', ']'), list.items.iter(), indent, depth, |out, item| {
                    item.write(out, indent, depth + 1);
                });
            }
            Self::Map(map) if map.nil => out.push_str("null"),
            Self::Map(map) => {
                // Methods are no entries.
                let entries = map.entries.iter().filter(|(_, value)| !matches!(value, Self::Method(_)));
                let entries = entries.map(|(key, value)| (key.as_str(), value));
                write_all(out, ('{', '}'), entries, indent, depth, |out, entry| {
                    write_entry(out, entry, indent, depth);
                });
            }
            Self::Struct(fields) => {
                write_all(out, ('{', '}'), fields.json(), indent, depth, |out, entry| {
                    write_entry(out, entry, indent, depth);
                });
            }
        }
    }
}

fn write_entry(out: &mut String, (key, value): (&str, &Value), indent: Option<&str>, depth: usize) {
    write_string(out, key);
    out.push_str(if indent.is_some() { ": " } else { ":" });
    value.write(out, indent, depth + 1);
}

fn write_all<T>(
    out: &mut String,
    (open, close): (char, char),
    items: impl Iterator<Item = T>,
    indent: Option<&str>,
    depth: usize,
    mut write: impl FnMut(&mut String, T),
) {
    let line = |out: &mut String, depth| {
        if let Some(indent) = indent {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    };
    out.push(open);
    let mut empty = true;
    for item in items {
        if !empty {
            out.push(',');
        }
        empty = false;
        line(out, depth + 1);
        write(out, item);
    }
    if !empty {
        line(out, depth);
    }
    out.push(close);
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            letter if letter < ' ' || matches!(letter, '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
}

impl From<Struct> for Value {
    fn from(fields: Struct) -> Self {
        Self::Struct(Rc::new(fields))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

/// JSON that was read without a type: objects are maps.
impl From<&serde_json::Value> for Value {
    fn from(value: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match value {
            Json::Null => Self::Nil,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => {
                number.as_i64().map_or_else(|| Self::Float(number.as_f64().unwrap_or_default()), Self::Int)
            }
            Json::String(text) => text.as_str().into(),
            Json::Array(items) => Self::list("interface {}", items.iter().map(Self::from).collect()),
            Json::Object(entries) => {
                Self::map("interface {}", entries.iter().map(|(key, value)| (key.clone(), Self::from(value))).collect())
            }
        }
    }
}

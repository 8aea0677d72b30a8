//! Types of variables: `string`, `list(number)`, `object({ a = string })`.

use std::collections::BTreeMap;
use std::fmt;

use hcl_edit::expr::Expression;

use super::source::Fault;
use super::value::{Value, parse_number};

/// A type as a bake file writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Any,
    String,
    Number,
    Bool,
    /// The second says whether equal elements are one (`set`).
    List(Box<Self>, bool),
    Map(Box<Self>),
    Tuple(Vec<Self>),
    /// Name, type, and whether it may be absent.
    Object(BTreeMap<String, (Self, bool)>),
}

impl Type {
    /// Reads a type.
    ///
    /// # Errors
    /// What is no type.
    pub(crate) fn parse(expression: &Expression) -> Result<Self, Fault> {
        match expression {
            Expression::Variable(name) => Self::simple(name.as_str()),
            // JSON files.
            Expression::String(text) => match hcl_edit::parser::parse_expr(text.value()) {
                Ok(inner @ (Expression::Variable(_) | Expression::FuncCall(_))) => Self::parse(&inner),
                _ => Err(Fault::new(format!("{:?} is no type", text.value()))),
            },
            Expression::FuncCall(call) => {
                let name = call.name.name.as_str();
                let [argument] = call.args.iter().collect::<Vec<_>>()[..] else {
                    return Err(Fault::new(format!("the type {name} takes one type in parentheses")));
                };
                match (name, argument) {
                    ("list", inner) => Ok(Self::List(Box::new(Self::parse(inner)?), false)),
                    ("set", inner) => Ok(Self::List(Box::new(Self::parse(inner)?), true)),
                    ("map", inner) => Ok(Self::Map(Box::new(Self::parse(inner)?))),
                    ("tuple", Expression::Array(items)) => {
                        items.iter().map(Self::parse).collect::<Result<_, _>>().map(Self::Tuple)
                    }
                    ("object", Expression::Object(items)) => {
                        let mut fields = BTreeMap::new();
                        for (key, item) in items.iter() {
                            let key = key.as_ident().map(|name| name.as_str().to_owned()).or_else(|| {
                                key.as_expr().and_then(|key| match key {
                                    Expression::Variable(name) => Some(name.as_str().to_owned()),
                                    other => other.as_str().map(str::to_owned),
                                })
                            });
                            let key = key.ok_or_else(|| Fault::new("a field of an object type needs a plain name"))?;
                            let (inner, optional) = match item.expr() {
                                Expression::FuncCall(call) if call.name.name.as_str() == "optional" => {
                                    let inner =
                                        call.args.get(0).ok_or_else(|| Fault::new("optional() needs a type"))?;
                                    (inner, true)
                                }
                                inner => (inner, false),
                            };
                            fields.insert(key, (Self::parse(inner)?, optional));
                        }
                        Ok(Self::Object(fields))
                    }
                    _ => Err(Fault::new(format!("{name} is no type"))),
                }
            }
            _ => Err(Fault::new(
                "this is no type: write string, number, bool, list(…), set(…), map(…), tuple([…]), object({…}) or any",
            )),
        }
    }

    fn simple(name: &str) -> Result<Self, Fault> {
        Ok(match name {
            "any" => Self::Any,
            "string" => Self::String,
            "number" => Self::Number,
            "bool" => Self::Bool,
            "list" => Self::List(Box::new(Self::Any), false),
            "set" => Self::List(Box::new(Self::Any), true),
            "map" => Self::Map(Box::new(Self::Any)),
            other => return Err(Fault::new(format!("{other} is no type"))),
        })
    }

    /// The value as one of this type.
    ///
    /// # Errors
    /// Where it cannot be one.
    pub(crate) fn convert(&self, value: Value) -> Result<Value, Fault> {
        if value.is_null() {
            return Ok(value);
        }
        match self {
            Self::Any => Ok(value),
            Self::String => value.to_text().map(Value::String),
            Self::Number => value.to_number().map(Value::Number),
            Self::Bool => value.to_bool().map(Value::Bool),
            Self::List(inner, distinct) => {
                let mut items: Vec<Value> = Vec::new();
                for item in value.to_list()? {
                    let item = inner.convert(item)?;
                    if !(*distinct && items.contains(&item)) {
                        items.push(item);
                    }
                }
                Ok(Value::List(items))
            }
            Self::Map(inner) => {
                let convert = |(key, item)| Ok((key, inner.convert(item)?));
                value.to_map()?.into_iter().map(convert).collect::<Result<_, _>>().map(Value::Map)
            }
            Self::Tuple(types) => {
                let items = value.to_list()?;
                if items.len() != types.len() {
                    return Err(Fault::new(format!("{} elements where {} are needed", items.len(), types.len())));
                }
                types
                    .iter()
                    .zip(items)
                    .map(|(inner, item)| inner.convert(item))
                    .collect::<Result<_, _>>()
                    .map(Value::List)
            }
            Self::Object(fields) => {
                let mut given = value.to_map()?;
                let mut map = BTreeMap::new();
                for (name, (inner, optional)) in fields {
                    match given.remove(name) {
                        Some(item) => map.insert(name.clone(), inner.convert(item)?),
                        None if *optional => map.insert(name.clone(), Value::Null),
                        None => return Err(Fault::new(format!("the field {name:?} is missing"))),
                    };
                }
                Ok(Value::Map(map))
            }
        }
    }

    /// A variable of the environment as a value of this type: lists have commas between their elements.
    ///
    /// # Errors
    /// Where the text is no such value.
    pub(crate) fn read_text(&self, text: &str) -> Result<Value, Fault> {
        match self {
            Self::Any | Self::String => Ok(text.into()),
            Self::Number => {
                parse_number(text).map(Value::Number).ok_or_else(|| Fault::new(format!("{text:?} is no number")))
            }
            Self::Bool => parse_bool(text).map(Value::Bool),
            Self::List(inner, _) => {
                let items = if text.is_empty() { Vec::new() } else { csv(text)? };
                let items = items.iter().map(|item| inner.read_text(item)).collect::<Result<_, _>>()?;
                self.convert(Value::List(items))
            }
            Self::Tuple(types) => {
                let items = csv(text)?;
                if items.len() != types.len() {
                    return Err(Fault::new(format!("{} elements where {} are needed", items.len(), types.len())));
                }
                types
                    .iter()
                    .zip(&items)
                    .map(|(inner, item)| inner.read_text(item))
                    .collect::<Result<_, _>>()
                    .map(Value::List)
            }
            Self::Map(_) | Self::Object(_) => self.read_json(text),
        }
    }

    /// JSON as a value of this type.
    ///
    /// # Errors
    /// Where the text is no such value.
    pub(crate) fn read_json(&self, text: &str) -> Result<Value, Fault> {
        let json: serde_json::Value =
            serde_json::from_str(text).map_err(|error| Fault::new(format!("the value is no JSON: {error}")))?;
        self.convert(Value::from_json(&json))
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::String => f.write_str("string"),
            Self::Number => f.write_str("number"),
            Self::Bool => f.write_str("bool"),
            Self::List(inner, distinct) => write!(f, "{}({inner})", if *distinct { "set" } else { "list" }),
            Self::Map(inner) => write!(f, "map({inner})"),
            Self::Tuple(_) => f.write_str("tuple"),
            Self::Object(_) => f.write_str("object"),
        }
    }
}

/// What Go's `ParseBool` takes.
pub(crate) fn parse_bool(text: &str) -> Result<bool, Fault> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(Fault::new(format!("{other:?} is neither true nor false"))),
    }
}

/// The fields of one CSV record.
pub(crate) fn csv(text: &str) -> Result<Vec<String>, Fault> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    if quoted {
        return Err(Fault::new(format!("a quote is not closed in {text:?}")));
    }
    fields.push(field);
    Ok(fields)
}

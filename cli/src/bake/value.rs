//! What expressions of bake files yield.

use std::collections::BTreeMap;
use std::fmt;

use super::source::Fault;

/// A value. Tuples and sets are lists, objects are maps: bake files cannot tell them apart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// Whole numbers are exact up to 2^53.
    Number(f64),
    String(String),
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
}

impl Value {
    pub(crate) const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// What messages call its type.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::List(_) => "list",
            Self::Map(_) => "map",
        }
    }

    /// As a string; numbers and truth values have a form of their own.
    pub(crate) fn to_text(&self) -> Result<String, Fault> {
        match self {
            Self::String(text) => Ok(text.clone()),
            Self::Number(number) => Ok(Number(*number).to_string()),
            Self::Bool(value) => Ok(value.to_string()),
            Self::Null => Err(Fault::new("null where a string is needed")),
            other => Err(Fault::new(format!("a {} where a string is needed", other.kind()))),
        }
    }

    /// As a number; strings that spell one are one.
    pub(crate) fn to_number(&self) -> Result<f64, Fault> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::String(text) => {
                parse_number(text).ok_or_else(|| Fault::new(format!("the string {text:?} is no number")))
            }
            other => Err(Fault::new(format!("a {} where a number is needed", other.kind()))),
        }
    }

    /// As a whole number.
    pub(crate) fn to_integer(&self) -> Result<i64, Fault> {
        let number = self.to_number()?;
        if number.fract() != 0.0 || number.abs() > 9_007_199_254_740_992.0 {
            return Err(Fault::new(format!("{} where a whole number is needed", Number(number))));
        }
        #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
        Ok(number as i64)
    }

    /// As a truth value; `"true"` and `"false"` are one.
    pub(crate) fn to_bool(&self) -> Result<bool, Fault> {
        match self {
            Self::Bool(value) => Ok(*value),
            Self::String(text) if text == "true" || text == "1" => Ok(true),
            Self::String(text) if text == "false" || text == "0" => Ok(false),
            other => Err(Fault::new(format!("a {} where true or false is needed", other.kind()))),
        }
    }

    pub(crate) fn to_list(&self) -> Result<Vec<Self>, Fault> {
        match self {
            Self::List(items) => Ok(items.clone()),
            other => Err(Fault::new(format!("a {} where a list is needed", other.kind()))),
        }
    }

    pub(crate) fn to_map(&self) -> Result<BTreeMap<String, Self>, Fault> {
        match self {
            Self::Map(items) => Ok(items.clone()),
            other => Err(Fault::new(format!("a {} where a map is needed", other.kind()))),
        }
    }

    /// What stands at a key or position.
    pub(crate) fn index(&self, key: &Self) -> Result<Self, Fault> {
        match self {
            Self::List(items) => {
                let position = key.to_integer()?;
                let found = usize::try_from(position).ok().and_then(|position| items.get(position));
                found.cloned().ok_or_else(|| Fault::new(format!("no element {position} in a list of {}", items.len())))
            }
            Self::Map(items) => {
                let key = key.to_text()?;
                items.get(&key).cloned().ok_or_else(|| Fault::new(format!("the map has no element {key:?}")))
            }
            other => Err(Fault::new(format!("a {} has no elements", other.kind()))),
        }
    }

    /// Keys and values, as `for` goes through them.
    pub(crate) fn entries(&self) -> Result<Vec<(Self, Self)>, Fault> {
        match self {
            Self::List(items) => {
                let count = |index: usize| Self::Number(u32::try_from(index).map_or(f64::MAX, f64::from));
                Ok(items.iter().enumerate().map(|(index, item)| (count(index), item.clone())).collect())
            }
            Self::Map(items) => Ok(items.iter().map(|(key, item)| (Self::String(key.clone()), item.clone())).collect()),
            other => Err(Fault::new(format!("a {} cannot be gone through", other.kind()))),
        }
    }

    pub(crate) fn from_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => Self::Number(number.as_f64().unwrap_or_default()),
            serde_json::Value::String(text) => Self::String(text.clone()),
            serde_json::Value::Array(items) => Self::List(items.iter().map(Self::from_json).collect()),
            serde_json::Value::Object(items) => {
                Self::Map(items.iter().map(|(key, item)| (key.clone(), Self::from_json(item))).collect())
            }
        }
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Number(_) => match self.to_integer() {
                Ok(whole) => whole.into(),
                Err(_) => self.to_number().map(Into::into).unwrap_or_default(),
            },
            Self::String(text) => text.clone().into(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(items) => items.iter().map(|(key, item)| (key.clone(), item.to_json())).collect(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

/// A length or position.
#[expect(clippy::cast_precision_loss, reason = "nothing here has 2^53 elements")]
pub(crate) const fn count(number: usize) -> Value {
    Value::Number(number as f64)
}

/// Decimal, with an optional exponent; no `inf` and no `nan`.
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    text.parse().ok().filter(|number: &f64| plain && number.is_finite())
}

/// A number as HCL writes it: whole ones without a point or an exponent.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never "-0".
        if self.0 == 0.0 { f.write_str("0") } else { write!(f, "{}", self.0) }
    }
}

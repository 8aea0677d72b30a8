//! What the HCL and JSON files define, before anything is evaluated.
//!
//! JSON is read as the HCL expression that it also is, so that its strings are templates and places are known.

use std::collections::BTreeMap;
use std::ops::Range;

use hcl_edit::Span as _;
use hcl_edit::expr::{Expression, Object, ObjectKey};
use hcl_edit::structure::{Block as HclBlock, Body, Structure};

use super::source::{Fault, Source};

/// Every definition of all files; of two variables, functions or attributes with one name the later one counts.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    pub(crate) variables: BTreeMap<String, Variable>,
    pub(crate) functions: BTreeMap<String, Function>,
    /// Attributes of the file itself: variables that the environment cannot set.
    pub(crate) attributes: BTreeMap<String, Attribute>,
    /// Targets and groups in order; several may have one name.
    pub(crate) blocks: Vec<Block>,
}

/// An expression and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Attribute {
    pub(crate) source: Source,
    pub(crate) value: Expression,
}

impl Attribute {
    /// Something is wrong with it.
    pub(crate) fn fault(&self, message: impl Into<String>) -> Fault {
        self.source.fault(self.value.span(), message)
    }
}

/// `variable "NAME" { … }`
#[derive(Debug)]
pub(crate) struct Variable {
    pub(crate) default: Option<Attribute>,
    pub(crate) kind: Option<Attribute>,
    pub(crate) description: Option<Attribute>,
    /// Conditions and what is said where they do not hold.
    pub(crate) validations: Vec<(Attribute, Option<Attribute>)>,
    pub(crate) source: Source,
    pub(crate) span: Option<Range<usize>>,
}

/// `function "NAME" { … }`
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) parameters: Vec<String>,
    pub(crate) variadic: Option<String>,
    pub(crate) result: Attribute,
}

/// `target "NAME" { … }` or `group "NAME" { … }`
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) kind: Kind,
    pub(crate) label: String,
    pub(crate) attributes: BTreeMap<String, Attribute>,
    pub(crate) source: Source,
    pub(crate) span: Option<Range<usize>>,
}

/// Which kind of block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Group,
    Target,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Target => "target",
        }
    }
}

/// What stands in a block, whichever way it was written.
struct Content {
    attributes: BTreeMap<String, Attribute>,
    /// Nested blocks by type.
    blocks: Vec<(String, Self)>,
    source: Source,
    span: Option<Range<usize>>,
}

impl Definitions {
    /// Adds what an HCL file defines.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn add_hcl(&mut self, source: &Source) -> Result<(), Fault> {
        let body = hcl_edit::parser::parse_body(source.text()).map_err(|error| syntax(source, &error))?;
        for structure in body.iter() {
            match structure {
                Structure::Attribute(attribute) => {
                    let value = Attribute { source: source.clone(), value: attribute.value.clone() };
                    self.attributes.insert(attribute.key.as_str().to_owned(), value);
                }
                Structure::Block(block) => {
                    let kind = block.ident.as_str();
                    if !matches!(kind, "variable" | "function" | "target" | "group") {
                        let message = format!("unknown block {kind:?}: known are group, target, variable and function");
                        return Err(source.fault(block.ident.span(), message));
                    }
                    let [label] = block.labels.as_slice() else {
                        return Err(source
                            .fault(block.ident.span(), format!("{kind} needs exactly one name: {kind} \"NAME\" {{")));
                    };
                    let content = content(source, &block.body, block)?;
                    self.define(kind, label.as_str(), content)?;
                }
            }
        }
        Ok(())
    }

    /// Adds what a JSON file defines.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn add_json(&mut self, source: &Source) -> Result<(), Fault> {
        let text = source.text();
        if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
            let start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
            let at = start + error.column().saturating_sub(1);
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            return Err(source.fault(Some(at..at), format!("no JSON: {message}")));
        }
        // Blanks before it keep places what they are.
        let blank = " ".repeat(text.len() - text.trim_start().len());
        let parsed = hcl_edit::parser::parse_expr(&format!("{blank}{}", json_as_hcl(text.trim())));
        let parsed = parsed.map_err(|error| syntax(source, &error))?;
        let Expression::Object(root) = &parsed else {
            return Err(source.fault(parsed.span(), "a bake file is an object"));
        };
        for (name, value) in fields(source, root)? {
            match name.as_str() {
                "variable" | "function" | "target" | "group" => {
                    for (label, body) in labelled(source, value)? {
                        for body in one_or_many(body) {
                            self.define(&name, &label, json_content(source, body)?)?;
                        }
                    }
                }
                _ => {
                    self.attributes.insert(name, Attribute { source: source.clone(), value: value.clone() });
                }
            }
        }
        Ok(())
    }

    fn define(&mut self, kind: &str, label: &str, content: Content) -> Result<(), Fault> {
        match kind {
            "variable" => {
                self.variables.insert(label.to_owned(), variable(content)?);
            }
            "function" => {
                self.functions.insert(label.to_owned(), function(label, content)?);
            }
            kind => {
                let kind = if kind == "group" { Kind::Group } else { Kind::Target };
                if let Some((name, block)) = content.blocks.first() {
                    let message = format!("{name:?} is an attribute of a {}: write {name} = {{", kind.name());
                    return Err(block.source.fault(block.span.clone(), message));
                }
                let Content { attributes, source, span, .. } = content;
                self.blocks.push(Block { kind, label: label.to_owned(), attributes, source, span });
            }
        }
        Ok(())
    }
}

fn syntax(source: &Source, error: &hcl_edit::parser::Error) -> Fault {
    let at = error.location().offset();
    source.fault(Some(at..at), error.message().to_owned())
}

fn content(source: &Source, body: &Body, block: &HclBlock) -> Result<Content, Fault> {
    let mut content =
        Content { attributes: BTreeMap::new(), blocks: Vec::new(), source: source.clone(), span: block.ident.span() };
    for structure in body.iter() {
        match structure {
            Structure::Attribute(attribute) => {
                let value = Attribute { source: source.clone(), value: attribute.value.clone() };
                content.attributes.insert(attribute.key.as_str().to_owned(), value);
            }
            Structure::Block(inner) => {
                let nested = self::content(source, &inner.body, inner)?;
                content.blocks.push((inner.ident.as_str().to_owned(), nested));
            }
        }
    }
    Ok(content)
}

/// JSON with the escapes inside of `${…}` taken back, so that each string reads as a template.
///
/// As many bytes as before, blanks making up for what falls away, so that places stay what they are.
fn json_as_hcl(text: &str) -> String {
    enum In {
        /// A string of JSON.
        Outer,
        /// `${…}`, with the braces that are open in it.
        Expression(usize),
        /// A string in an expression.
        Inner,
    }
    let mut out = String::with_capacity(text.len());
    let (mut stack, mut missing, mut rest) = (Vec::<In>::new(), 0, text);
    while let Some(c) = rest.chars().next() {
        let depth = stack.len();
        // How a character of an expression is written in JSON.
        let (c, length) = match (c, rest.as_bytes().get(1)) {
            ('\\', Some(b'/')) if depth > 0 => ('/', 2),
            ('\\', Some(b'"')) if depth > 1 => ('"', 2),
            ('\\', Some(b'\\')) if depth > 1 => ('\\', 2),
            ('\\', Some(b'n' | b't' | b'r')) if depth > 1 && matches!(stack.last(), Some(In::Expression(_))) => {
                (' ', 2)
            }
            ('\\', Some(next)) if depth == 1 => {
                out.push('\\');
                out.push(char::from(*next));
                rest = &rest[2..];
                continue;
            }
            (c, _) => (c, c.len_utf8()),
        };
        missing += length - c.len_utf8();
        let opens = rest.starts_with("${") || rest.starts_with("%{");
        let escaped = rest.starts_with("$${") || rest.starts_with("%%{");
        match stack.last_mut() {
            None if c == '"' => stack.push(In::Outer),
            None => {}
            Some(In::Outer | In::Inner) if escaped => {
                out.push_str(&rest[..2]);
                rest = &rest[2..];
                continue;
            }
            Some(In::Outer | In::Inner) if opens => {
                out.push_str(&rest[..2]);
                rest = &rest[2..];
                stack.push(In::Expression(0));
                continue;
            }
            Some(In::Outer | In::Inner) if c == '"' => {
                stack.pop();
                out.push('"');
                out.push_str(&" ".repeat(std::mem::take(&mut missing)));
                rest = &rest[length..];
                continue;
            }
            Some(In::Inner) if c == '\\' => {
                // The expression's own escape: whatever follows belongs to it.
                out.push('\\');
                rest = &rest[length..];
                let next = rest.strip_prefix('\\').unwrap_or(rest);
                missing += rest.len() - next.len();
                if let Some(c) = next.chars().next() {
                    out.push(c);
                    rest = &next[c.len_utf8()..];
                }
                continue;
            }
            Some(In::Outer | In::Inner) => {}
            Some(In::Expression(_)) if c == '"' => {
                out.push_str(&" ".repeat(std::mem::take(&mut missing)));
                stack.push(In::Inner);
            }
            Some(In::Expression(open)) if c == '{' => *open += 1,
            Some(In::Expression(0)) if c == '}' => {
                stack.pop();
            }
            Some(In::Expression(open)) if c == '}' => *open -= 1,
            Some(In::Expression(_)) => {}
        }
        out.push(c);
        rest = &rest[length..];
    }
    out
}

fn json_content(source: &Source, body: &Expression) -> Result<Content, Fault> {
    let Expression::Object(object) = body else {
        return Err(source.fault(body.span(), "an object is needed here"));
    };
    let mut content =
        Content { attributes: BTreeMap::new(), blocks: Vec::new(), source: source.clone(), span: body.span() };
    for (name, value) in fields(source, object)? {
        if name == "validation" {
            for value in one_or_many(value) {
                content.blocks.push((name.clone(), json_content(source, value)?));
            }
        } else {
            content.attributes.insert(name, Attribute { source: source.clone(), value: value.clone() });
        }
    }
    Ok(content)
}

fn one_or_many(value: &Expression) -> Vec<&Expression> {
    match value {
        Expression::Array(items) => items.iter().collect(),
        single => vec![single],
    }
}

fn labelled<'a>(source: &Source, value: &'a Expression) -> Result<Vec<(String, &'a Expression)>, Fault> {
    let mut all = Vec::new();
    for item in one_or_many(value) {
        let Expression::Object(object) = item else {
            return Err(source.fault(item.span(), "an object with names as keys is needed here"));
        };
        all.extend(fields(source, object)?);
    }
    Ok(all)
}

fn fields<'a>(source: &Source, object: &'a Object) -> Result<Vec<(String, &'a Expression)>, Fault> {
    let name = |key: &ObjectKey| match key {
        ObjectKey::Ident(name) => Ok(name.as_str().to_owned()),
        ObjectKey::Expression(Expression::String(name)) => Ok(name.value().clone()),
        ObjectKey::Expression(other) => Err(source.fault(other.span(), "a plain name is needed here")),
    };
    object.iter().map(|(key, value)| Ok((name(key)?, value.expr()))).collect()
}

fn variable(mut content: Content) -> Result<Variable, Fault> {
    let mut validations = Vec::new();
    for (name, mut block) in std::mem::take(&mut content.blocks) {
        if name != "validation" {
            return Err(block.source.fault(block.span, format!("unknown block {name:?} in a variable")));
        }
        let Some(condition) = block.attributes.remove("condition") else {
            return Err(block.source.fault(block.span, "a validation needs a condition"));
        };
        validations.push((condition, block.attributes.remove("error_message")));
    }
    let mut take = |name: &str| content.attributes.remove(name);
    let (default, kind, description) = (take("default"), take("type"), take("description"));
    if let Some((name, attribute)) = content.attributes.first_key_value() {
        let message = format!("unknown attribute {name:?} of a variable: known are default, type and description");
        return Err(attribute.fault(message));
    }
    Ok(Variable { default, kind, description, validations, source: content.source, span: content.span })
}

fn function(name: &str, mut content: Content) -> Result<Function, Fault> {
    let missing = |what: &str| content.source.fault(content.span.clone(), format!("the function {name} has no {what}"));
    let parameters = content.attributes.get("params").ok_or_else(|| missing("params"))?;
    let Expression::Array(items) = &parameters.value else {
        return Err(parameters.fault("params is a list of names"));
    };
    let parameters = items.iter().map(|item| parameter(parameters, item)).collect::<Result<_, _>>()?;
    let variadic = content.attributes.get("variadic_params");
    let variadic = variadic.map(|attribute| parameter(attribute, &attribute.value)).transpose()?;
    let result = content.attributes.remove("result");
    let result = result
        .ok_or_else(|| content.source.fault(content.span.clone(), format!("the function {name} has no result")))?;
    Ok(Function { parameters, variadic, result })
}

fn parameter(attribute: &Attribute, item: &Expression) -> Result<String, Fault> {
    match item {
        Expression::Variable(name) => Ok(name.as_str().to_owned()),
        Expression::String(name) => Ok(name.value().clone()),
        other => Err(attribute.source.fault(other.span(), "a parameter is a plain name")),
    }
}

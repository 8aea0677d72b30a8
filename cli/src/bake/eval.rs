//! Expressions and templates to values.
//!
//! The parser bounds nesting, so recursion over an expression is bounded; that of functions is by the world.

use std::collections::BTreeMap;
use std::ops::Range;

use hcl_edit::Span as _;
use hcl_edit::expr::{
    BinaryOperator, Expression, ForExpr, FuncCall, ObjectKey, Traversal, TraversalOperator, UnaryOperator,
};
use hcl_edit::template::{Directive, Element, Strip, Template};

use super::source::{Fault, Source};
use super::value::Value;
use super::world::World;

/// Where names are looked up.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a, 'w> {
    pub(crate) world: &'a World<'w>,
    pub(crate) source: &'a Source,
    pub(crate) locals: Option<&'a Locals<'a>>,
}

/// Variables of a `for`, of a function's parameters, or of one combination of a matrix.
pub(crate) struct Locals<'a> {
    pub(crate) values: BTreeMap<String, Value>,
    pub(crate) outer: Option<&'a Self>,
}

impl Locals<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).or_else(|| self.outer.and_then(|outer| outer.get(name)))
    }
}

type Yields = Result<Value, Fault>;

impl<'w> Scope<'_, 'w> {
    /// The same place with further variables.
    fn with(self, values: BTreeMap<String, Value>, body: impl FnOnce(Scope<'_, 'w>) -> Yields) -> Yields {
        let locals = Locals { values, outer: self.locals };
        body(Scope { world: self.world, source: self.source, locals: Some(&locals) })
    }

    fn locate<T>(self, result: Result<T, Fault>, span: Option<Range<usize>>) -> Result<T, Fault> {
        result.map_err(|fault| fault.at(self.source, span))
    }

    /// What an expression yields.
    ///
    /// # Errors
    /// What cannot be evaluated, with its place.
    pub(crate) fn value(self, expression: &Expression) -> Yields {
        let yields = match expression {
            Expression::Null(_) => Ok(Value::Null),
            Expression::Bool(value) => Ok(Value::Bool(*value.value())),
            Expression::Number(number) => Ok(number.value().as_f64().map_or(Value::Null, Value::Number)),
            Expression::String(text) => Ok(Value::String(text.value().clone())),
            Expression::Array(items) => {
                items.iter().map(|item| self.value(item)).collect::<Result<_, _>>().map(Value::List)
            }
            Expression::Object(items) => {
                let mut map = BTreeMap::new();
                for (key, item) in items.iter() {
                    let key = match key {
                        ObjectKey::Ident(name) => name.as_str().to_owned(),
                        ObjectKey::Expression(Expression::Variable(name)) => name.as_str().to_owned(),
                        ObjectKey::Expression(key) => self.locate(self.value(key)?.to_text(), key.span())?,
                    };
                    map.insert(key, self.value(item.expr())?);
                }
                Ok(Value::Map(map))
            }
            Expression::StringTemplate(template) => {
                let elements: Vec<&Element> = template.iter().collect();
                self.template(&elements)
            }
            Expression::HeredocTemplate(heredoc) => {
                let elements: Vec<&Element> = heredoc.template.iter().collect();
                self.elements(&elements).map(Value::String)
            }
            Expression::Parenthesis(inner) => self.value(inner.inner()),
            Expression::Variable(name) => self.variable(name.as_str()),
            Expression::Conditional(choice) => {
                let condition = self.value(&choice.cond_expr)?;
                let condition = self.locate(condition.to_bool(), choice.cond_expr.span())?;
                self.value(if condition { &choice.true_expr } else { &choice.false_expr })
            }
            Expression::FuncCall(call) => self.call(call),
            Expression::Traversal(traversal) => self.traverse(traversal),
            Expression::UnaryOp(operation) => {
                let value = self.value(&operation.expr)?;
                match operation.operator.value() {
                    UnaryOperator::Neg => value.to_number().map(|number| Value::Number(-number)),
                    UnaryOperator::Not => value.to_bool().map(|value| Value::Bool(!value)),
                }
            }
            Expression::BinaryOp(operation) => {
                self.binary(&operation.lhs_expr, *operation.operator.value(), &operation.rhs_expr)
            }
            Expression::ForExpr(each) => self.each(each),
        };
        self.locate(yields, expression.span())
    }

    fn variable(self, name: &str) -> Yields {
        match self.locals.and_then(|locals| locals.get(name)) {
            Some(value) => Ok(value.clone()),
            None => self.world.variable(name),
        }
    }

    fn binary(self, left: &Expression, operator: BinaryOperator, right: &Expression) -> Yields {
        let left = self.value(left)?;
        match operator {
            BinaryOperator::And if !left.to_bool()? => return Ok(Value::Bool(false)),
            BinaryOperator::Or if left.to_bool()? => return Ok(Value::Bool(true)),
            _ => {}
        }
        let right = self.value(right)?;
        let numbers = || Ok::<_, Fault>((left.to_number()?, right.to_number()?));
        Ok(match operator {
            BinaryOperator::Eq => Value::Bool(left == right),
            BinaryOperator::NotEq => Value::Bool(left != right),
            BinaryOperator::And | BinaryOperator::Or => Value::Bool(right.to_bool()?),
            BinaryOperator::Less => numbers().map(|(a, b)| Value::Bool(a < b))?,
            BinaryOperator::LessEq => numbers().map(|(a, b)| Value::Bool(a <= b))?,
            BinaryOperator::Greater => numbers().map(|(a, b)| Value::Bool(a > b))?,
            BinaryOperator::GreaterEq => numbers().map(|(a, b)| Value::Bool(a >= b))?,
            BinaryOperator::Plus => numbers().map(|(a, b)| Value::Number(a + b))?,
            BinaryOperator::Minus => numbers().map(|(a, b)| Value::Number(a - b))?,
            BinaryOperator::Mul => numbers().map(|(a, b)| Value::Number(a * b))?,
            BinaryOperator::Div | BinaryOperator::Mod => {
                let (a, b) = numbers()?;
                if b == 0.0 {
                    return Err(Fault::new("division by zero"));
                }
                Value::Number(if operator == BinaryOperator::Div { a / b } else { a % b })
            }
        })
    }

    fn call(self, call: &FuncCall) -> Yields {
        let name = call.name.name.as_str();
        if call.name.is_namespaced() {
            return Err(Fault::new(format!("functions of bake files have no namespace: {name}")));
        }
        match name {
            // These two catch the faults of their arguments.
            "try" => {
                let mut last = Fault::new("try() needs an argument");
                for argument in call.args.iter() {
                    match self.value(argument) {
                        Ok(value) => return Ok(value),
                        Err(fault) => last = fault,
                    }
                }
                return Err(last);
            }
            "can" => {
                let argument = call.args.get(0).ok_or_else(|| Fault::new("can() needs an argument"))?;
                return Ok(Value::Bool(self.value(argument).is_ok()));
            }
            "convert" => {
                let (Some(value), Some(kind)) = (call.args.get(0), call.args.get(1)) else {
                    return Err(Fault::new("convert() needs a value and a type"));
                };
                let kind = super::types::Type::parse(kind).map_err(|fault| fault.at(self.source, kind.span()))?;
                return kind.convert(self.value(value)?);
            }
            _ => {}
        }
        let mut arguments = Vec::with_capacity(call.args.len());
        for argument in call.args.iter() {
            arguments.push(self.value(argument)?);
        }
        if call.args.expand_final()
            && let Some(last) = arguments.pop()
        {
            arguments.extend(last.to_list()?);
        }
        self.world.call(name, arguments)
    }

    fn traverse(self, traversal: &Traversal) -> Yields {
        let mut operators = traversal.operators.as_slice();
        let mut value = match (&traversal.expr, operators) {
            // A block of the file: only what is asked for is evaluated, so that blocks may name each other.
            (Expression::Variable(root), [first, rest @ ..])
                if matches!(root.as_str(), "target" | "group")
                    && self.locals.and_then(|locals| locals.get(root.as_str())).is_none() =>
            {
                let name = self.key(first.value())?.to_text()?;
                let attribute = match rest.first().map(|operator| operator.value()) {
                    Some(operator @ (TraversalOperator::GetAttr(_) | TraversalOperator::Index(_))) => {
                        Some(self.key(operator)?.to_text()?)
                    }
                    _ => None,
                };
                operators = if attribute.is_some() { &rest[1..] } else { rest };
                self.world.block(root.as_str(), &name, attribute.as_deref())?
            }
            (expression, _) => self.value(expression)?,
        };
        let mut position = 0;
        while let Some(operator) = operators.get(position) {
            position += 1;
            match operator.value() {
                TraversalOperator::AttrSplat(_) | TraversalOperator::FullSplat(_) => {
                    let rest = &operators[position..];
                    let items = match value {
                        Value::List(items) => items,
                        Value::Null => Vec::new(),
                        single => vec![single],
                    };
                    let follow = |item: Value| {
                        rest.iter().try_fold(item, |item, operator| item.index(&self.key(operator.value())?))
                    };
                    return items.into_iter().map(follow).collect::<Result<_, _>>().map(Value::List);
                }
                operator => value = value.index(&self.key(operator)?)?,
            }
        }
        Ok(value)
    }

    fn key(self, operator: &TraversalOperator) -> Yields {
        match operator {
            TraversalOperator::GetAttr(name) => Ok(name.as_str().into()),
            TraversalOperator::Index(expression) => self.value(expression),
            TraversalOperator::LegacyIndex(index) => {
                Ok(super::value::count(usize::try_from(*index.value()).unwrap_or(usize::MAX)))
            }
            TraversalOperator::AttrSplat(_) | TraversalOperator::FullSplat(_) => {
                Err(Fault::new("a splat cannot stand in a splat"))
            }
        }
    }

    fn each(self, each: &ForExpr) -> Yields {
        let intro = &each.intro;
        let collection = self.value(&intro.collection_expr)?;
        let entries = self.locate(collection.entries(), intro.collection_expr.span())?;
        let (mut list, mut map) = (Vec::new(), BTreeMap::<String, Value>::new());
        for (key, item) in entries {
            let mut values = BTreeMap::from([(intro.value_var.as_str().to_owned(), item)]);
            if let Some(name) = &intro.key_var {
                values.insert(name.as_str().to_owned(), key);
            }
            let locals = Locals { values, outer: self.locals };
            let inner = Scope { world: self.world, source: self.source, locals: Some(&locals) };
            if let Some(condition) = &each.cond
                && !self.locate(inner.value(&condition.expr)?.to_bool(), condition.expr.span())?
            {
                continue;
            }
            let value = inner.value(&each.value_expr)?;
            let Some(key) = &each.key_expr else {
                list.push(value);
                continue;
            };
            let name = self.locate(inner.value(key)?.to_text(), key.span())?;
            if each.grouping {
                match map.entry(name).or_insert_with(|| Value::List(Vec::new())) {
                    Value::List(items) => items.push(value),
                    other => *other = value,
                }
            } else if map.insert(name.clone(), value).is_some() {
                return Err(Fault::new(format!("two elements have the key {name:?}")).at(self.source, key.span()));
            }
        }
        Ok(if each.key_expr.is_some() { Value::Map(map) } else { Value::List(list) })
    }

    /// A quoted template; one that is a single interpolation yields what that yields.
    pub(crate) fn template(self, elements: &[&Element]) -> Yields {
        match elements {
            [Element::Interpolation(only)] => self.value(&only.expr),
            elements => self.elements(elements).map(Value::String),
        }
    }

    fn elements(self, elements: &[&Element]) -> Result<String, Fault> {
        let mut out = String::new();
        for (index, element) in elements.iter().enumerate() {
            match element {
                Element::Literal(text) => {
                    let mut text = text.value().as_str();
                    if index > 0 && trims(elements[index - 1]).1 {
                        text = text.trim_start();
                    }
                    if elements.get(index + 1).is_some_and(|next| trims(next).0) {
                        text = text.trim_end();
                    }
                    out.push_str(text);
                }
                Element::Interpolation(interpolation) => {
                    let value = self.value(&interpolation.expr)?;
                    out.push_str(&self.locate(value.to_text(), interpolation.expr.span())?);
                }
                Element::Directive(directive) => self.directive(directive, &mut out)?,
            }
        }
        Ok(out)
    }

    fn directive(self, directive: &Directive, out: &mut String) -> Result<(), Fault> {
        match directive {
            Directive::If(choice) => {
                let condition = self.value(&choice.if_expr.cond_expr)?;
                let condition = self.locate(condition.to_bool(), choice.if_expr.cond_expr.span())?;
                let end = choice.endif_expr.strip;
                match (&choice.else_expr, condition) {
                    (other, true) => {
                        let end = other.as_ref().map_or(end, |other| other.strip);
                        out.push_str(&self.inner(&choice.if_expr.template, choice.if_expr.strip, end)?);
                    }
                    (Some(other), false) => out.push_str(&self.inner(&other.template, other.strip, end)?),
                    (None, false) => {}
                }
            }
            Directive::For(each) => {
                let intro = &each.for_expr;
                let entries = self.value(&intro.collection_expr)?;
                for (key, item) in self.locate(entries.entries(), intro.collection_expr.span())? {
                    let mut values = BTreeMap::from([(intro.value_var.as_str().to_owned(), item)]);
                    if let Some(name) = &intro.key_var {
                        values.insert(name.as_str().to_owned(), key);
                    }
                    let text = self.with(values, |inner| {
                        inner.inner(&intro.template, intro.strip, each.endfor_expr.strip).map(Value::String)
                    })?;
                    out.push_str(&text.to_text()?);
                }
            }
        }
        Ok(())
    }

    /// The template between two directives, which may trim it.
    fn inner(self, template: &Template, before: Strip, after: Strip) -> Result<String, Fault> {
        let elements: Vec<&Element> = template.iter().collect();
        let text = self.elements(&elements)?;
        let text = if before.strip_end() { text.trim_start() } else { &text };
        Ok(if after.strip_start() { text.trim_end() } else { text }.to_owned())
    }
}

/// Whether an element trims the text before it, and the text after it.
fn trims(element: &Element) -> (bool, bool) {
    match element {
        Element::Literal(_) => (false, false),
        Element::Interpolation(interpolation) => (interpolation.strip.strip_start(), interpolation.strip.strip_end()),
        Element::Directive(directive) => match &**directive {
            Directive::If(choice) => (choice.if_expr.strip.strip_start(), choice.endif_expr.strip.strip_end()),
            Directive::For(each) => (each.for_expr.strip.strip_start(), each.endfor_expr.strip.strip_end()),
        },
    }
}

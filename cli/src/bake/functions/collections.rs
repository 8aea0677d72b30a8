//! Lists and maps. Sets are lists in order without equal elements.

use std::collections::BTreeMap;

use super::{Function, at_least, between, exactly};
use crate::bake::source::Fault;
use crate::bake::value::{Value, count};

/// Elements that a function may make.
const LIMIT: usize = 100_000;

pub(super) const FUNCTIONS: &[Function] = &[
    exactly("length", 1, |a| match &a[0] {
        Value::List(items) => Ok(count(items.len())),
        Value::Map(items) => Ok(count(items.len())),
        Value::String(text) => Ok(count(text.chars().count())),
        other => Err(Fault::new(format!("a {} has no length", other.kind()))),
    }),
    at_least("concat", 1, |a| {
        let mut all = Vec::new();
        for list in a {
            all.extend(list.to_list()?);
        }
        limited(all)
    }),
    exactly("contains", 2, |a| Ok(a[0].to_list()?.contains(&a[1]).into())),
    exactly("sethaselement", 2, |a| Ok(a[0].to_list()?.contains(&a[1]).into())),
    exactly("distinct", 1, |a| Ok(Value::List(distinct(a[0].to_list()?)))),
    exactly("compact", 1, |a| {
        let full = |item: &Value| !item.is_null() && *item != Value::from("");
        Ok(Value::List(a[0].to_list()?.into_iter().filter(full).collect()))
    }),
    at_least("coalescelist", 1, |a| {
        for list in a {
            if let Value::List(items) = list
                && !items.is_empty()
            {
                return Ok(list.clone());
            }
        }
        Err(Fault::new("every list is empty"))
    }),
    exactly("chunklist", 2, |a| {
        let items = a[0].to_list()?;
        let size = usize::try_from(a[1].to_integer()?).map_err(|_| Fault::new("the size is negative"))?;
        let size = if size == 0 { items.len().max(1) } else { size };
        Ok(Value::List(items.chunks(size).map(|chunk| Value::List(chunk.to_vec())).collect()))
    }),
    exactly("element", 2, |a| {
        let items = a[0].to_list()?;
        let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
        if length == 0 {
            return Err(Fault::new("the list is empty"));
        }
        let position = a[1].to_integer()?.rem_euclid(length);
        Ok(items[usize::try_from(position).unwrap_or_default()].clone())
    }),
    exactly("index", 2, |a| a[0].index(&a[1])),
    exactly("hasindex", 2, |a| Ok(a[0].index(&a[1]).is_ok().into())),
    exactly("indexof", 2, |a| {
        let found = a[0].to_list()?.iter().position(|item| *item == a[1]);
        found.map(count).ok_or_else(|| Fault::new("the list has no such element"))
    }),
    exactly("flatten", 1, |a| {
        let mut flat = Vec::new();
        flatten(&a[0], &mut flat)?;
        limited(flat)
    }),
    exactly("keys", 1, |a| Ok(a[0].to_map()?.into_keys().collect::<Vec<_>>().into())),
    exactly("values", 1, |a| Ok(Value::List(a[0].to_map()?.into_values().collect()))),
    between("lookup", 2, 3, |a| match (a[0].to_map()?.get(&a[1].to_text()?), a.get(2)) {
        (Some(value), _) => Ok(value.clone()),
        (None, Some(default)) => Ok(default.clone()),
        (None, None) => Err(Fault::new(format!("the map has no element {:?}", a[1].to_text()?))),
    }),
    at_least("merge", 0, |a| {
        let mut all = BTreeMap::new();
        for map in a.iter().filter(|map| !map.is_null()) {
            all.extend(map.to_map()?);
        }
        Ok(Value::Map(all))
    }),
    exactly("zipmap", 2, |a| {
        let (keys, values) = (a[0].to_list()?, a[1].to_list()?);
        if keys.len() != values.len() {
            return Err(Fault::new(format!("{} keys and {} values", keys.len(), values.len())));
        }
        let pair = |(key, value): (Value, Value)| Ok((key.to_text()?, value));
        keys.into_iter().zip(values).map(pair).collect::<Result<_, _>>().map(Value::Map)
    }),
    between("range", 1, 3, range),
    exactly("reverselist", 1, |a| Ok(Value::List(a[0].to_list()?.into_iter().rev().collect()))),
    exactly("slice", 3, |a| {
        let items = a[0].to_list()?;
        let (from, to) = (usize::try_from(a[1].to_integer()?), usize::try_from(a[2].to_integer()?));
        let part = from.ok().zip(to.ok()).and_then(|(from, to)| items.get(from..to));
        part.map(|part| Value::List(part.to_vec())).ok_or_else(|| Fault::new("the positions are not in the list"))
    }),
    exactly("sort", 1, |a| {
        let mut texts = a[0].to_list()?.iter().map(Value::to_text).collect::<Result<Vec<_>, _>>()?;
        texts.sort();
        Ok(texts.into())
    }),
    at_least("setproduct", 1, |a| {
        let mut all = vec![Vec::new()];
        for list in a {
            let items = list.to_list()?;
            if all.len().saturating_mul(items.len()) > LIMIT {
                return Err(Fault::new(format!("more than {LIMIT} elements")));
            }
            let longer = |part: &Vec<Value>, item: &Value| part.iter().chain([item]).cloned().collect::<Vec<_>>();
            all = all.iter().flat_map(|part| items.iter().map(move |item| longer(part, item))).collect();
        }
        Ok(Value::List(all.into_iter().map(Value::List).collect()))
    }),
    at_least("setunion", 1, |a| {
        let mut all = Vec::new();
        for list in a {
            all.extend(list.to_list()?);
        }
        Ok(as_set(all))
    }),
    at_least("setintersection", 1, |a| {
        let mut all = a[0].to_list()?;
        for list in &a[1..] {
            let other = list.to_list()?;
            all.retain(|item| other.contains(item));
        }
        Ok(as_set(all))
    }),
    exactly("setsubtract", 2, |a| {
        let (mut all, other) = (a[0].to_list()?, a[1].to_list()?);
        all.retain(|item| !other.contains(item));
        Ok(as_set(all))
    }),
    at_least("setsymmetricdifference", 1, |a| {
        let mut all = a[0].to_list()?;
        for list in &a[1..] {
            let other = list.to_list()?;
            let new: Vec<Value> = other.iter().filter(|item| !all.contains(item)).cloned().collect();
            all.retain(|item| !other.contains(item));
            all.extend(new);
        }
        Ok(as_set(all))
    }),
];

fn limited(items: Vec<Value>) -> Result<Value, Fault> {
    if items.len() > LIMIT { Err(Fault::new(format!("more than {LIMIT} elements"))) } else { Ok(Value::List(items)) }
}

fn distinct(items: Vec<Value>) -> Vec<Value> {
    let mut seen: Vec<Value> = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

/// In the order in which sets are gone through: strings and numbers by value.
fn as_set(items: Vec<Value>) -> Value {
    let mut items = distinct(items);
    items.sort_by(|one, two| match (one, two) {
        (Value::String(one), Value::String(two)) => one.cmp(two),
        (Value::Number(one), Value::Number(two)) => one.total_cmp(two),
        _ => std::cmp::Ordering::Equal,
    });
    Value::List(items)
}

fn flatten(value: &Value, flat: &mut Vec<Value>) -> Result<(), Fault> {
    for item in value.to_list()? {
        match item {
            Value::List(_) => flatten(&item, flat)?,
            item => flat.push(item),
        }
    }
    Ok(())
}

/// `range(end)`, `range(start, end)`, `range(start, end, step)`; the end is left out.
fn range(a: &[Value]) -> Result<Value, Fault> {
    let numbers = a.iter().map(Value::to_number).collect::<Result<Vec<_>, _>>()?;
    let (start, end) = if let [end] = numbers[..] { (0.0, end) } else { (numbers[0], numbers[1]) };
    let step = numbers.get(2).copied().unwrap_or(if end < start { -1.0 } else { 1.0 });
    if step == 0.0 || (start != end && (end > start) != (step > 0.0)) {
        return Err(Fault::new("the step does not lead from start to end"));
    }
    let mut items = Vec::new();
    let mut at = start;
    while (step > 0.0 && at < end) || (step < 0.0 && at > end) {
        if items.len() >= LIMIT {
            return Err(Fault::new(format!("more than {LIMIT} elements")));
        }
        items.push(Value::Number(at));
        at += step;
    }
    Ok(Value::List(items))
}

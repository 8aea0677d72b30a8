//! Numbers and truth values.

use super::{Function, at_least, exactly};
use crate::bake::source::Fault;
use crate::bake::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    exactly("absolute", 1, |a| Ok(a[0].to_number()?.abs().into())),
    exactly("add", 2, |a| Ok((a[0].to_number()? + a[1].to_number()?).into())),
    exactly("subtract", 2, |a| Ok((a[0].to_number()? - a[1].to_number()?).into())),
    exactly("multiply", 2, |a| Ok((a[0].to_number()? * a[1].to_number()?).into())),
    exactly("divide", 2, |a| divided(a, |x, y| x / y)),
    exactly("modulo", 2, |a| divided(a, |x, y| x % y)),
    exactly("negate", 1, |a| Ok((-a[0].to_number()?).into())),
    exactly("ceil", 1, |a| Ok(a[0].to_number()?.ceil().into())),
    exactly("floor", 1, |a| Ok(a[0].to_number()?.floor().into())),
    exactly("int", 1, |a| Ok(a[0].to_number()?.trunc().into())),
    exactly("signum", 1, |a| {
        let number = a[0].to_number()?;
        Ok(if number == 0.0 { 0.0 } else { number.signum() }.into())
    }),
    exactly("pow", 2, |a| finite(a[0].to_number()?.powf(a[1].to_number()?))),
    exactly("log", 2, |a| finite(a[0].to_number()?.ln() / a[1].to_number()?.ln())),
    at_least("max", 1, |a| extreme(a, f64::max)),
    at_least("min", 1, |a| extreme(a, f64::min)),
    exactly("parseint", 2, |a| {
        let base = u32::try_from(a[1].to_integer()?).ok().filter(|base| (2..=36).contains(base));
        let base = base.ok_or_else(|| Fault::new("the base must be from 2 to 36"))?;
        let text = a[0].to_text()?;
        let number = i64::from_str_radix(&text, base);
        let number = number.map_err(|_| Fault::new(format!("{text:?} is no whole number of base {base}")))?;
        #[expect(clippy::cast_precision_loss, reason = "numbers of bake files are exact up to 2^53")]
        Ok((number as f64).into())
    }),
    exactly("greaterthan", 2, |a| Ok((a[0].to_number()? > a[1].to_number()?).into())),
    exactly("greaterthanorequalto", 2, |a| Ok((a[0].to_number()? >= a[1].to_number()?).into())),
    exactly("lessthan", 2, |a| Ok((a[0].to_number()? < a[1].to_number()?).into())),
    exactly("lessthanorequalto", 2, |a| Ok((a[0].to_number()? <= a[1].to_number()?).into())),
    exactly("equal", 2, |a| Ok((a[0] == a[1]).into())),
    exactly("notequal", 2, |a| Ok((a[0] != a[1]).into())),
    exactly("and", 2, |a| Ok((a[0].to_bool()? && a[1].to_bool()?).into())),
    exactly("or", 2, |a| Ok((a[0].to_bool()? || a[1].to_bool()?).into())),
    exactly("not", 1, |a| Ok((!a[0].to_bool()?).into())),
];

fn divided(a: &[Value], run: fn(f64, f64) -> f64) -> Result<Value, Fault> {
    let (one, two) = (a[0].to_number()?, a[1].to_number()?);
    if two == 0.0 { Err(Fault::new("division by zero")) } else { Ok(run(one, two).into()) }
}

fn finite(number: f64) -> Result<Value, Fault> {
    if number.is_finite() { Ok(number.into()) } else { Err(Fault::new("the result is no number")) }
}

fn extreme(a: &[Value], choose: fn(f64, f64) -> f64) -> Result<Value, Fault> {
    let mut best = a[0].to_number()?;
    for value in a {
        best = choose(best, value.to_number()?);
    }
    Ok(best.into())
}

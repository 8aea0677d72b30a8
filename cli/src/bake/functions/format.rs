//! `format` and `formatlist`: Go's verbs.

use super::{Function, at_least};
use crate::bake::source::Fault;
use crate::bake::value::Value;

/// Widest field and longest fraction.
const WIDEST: usize = 1000;

pub(super) const FUNCTIONS: &[Function] = &[
    at_least("format", 1, |a| Ok(format(&a[0].to_text()?, &a[1..])?.into())),
    at_least("formatlist", 1, |a| {
        let lists =
            a[1..].iter().filter_map(|value| if let Value::List(items) = value { Some(items.len()) } else { None });
        let lengths: Vec<usize> = lists.collect();
        let length = lengths.first().copied().unwrap_or(1);
        if lengths.iter().any(|other| *other != length) {
            return Err(Fault::new("the lists differ in length"));
        }
        let form = a[0].to_text()?;
        let row = |at: usize| {
            let each = |value: &Value| if let Value::List(items) = value { items[at].clone() } else { value.clone() };
            format(&form, &a[1..].iter().map(each).collect::<Vec<_>>()).map(Value::String)
        };
        (0..length).map(row).collect::<Result<_, _>>().map(Value::List)
    }),
];

/// One `%…`.
#[derive(Default)]
struct Verb {
    zero: bool,
    left: bool,
    plus: bool,
    space: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
}

fn format(form: &str, arguments: &[Value]) -> Result<String, Fault> {
    let mut out = String::new();
    let mut rest = form.chars().peekable();
    let (mut next, mut used) = (0, 0);
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut verb = Verb::default();
        let number = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut value = 0;
            while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
                rest.next();
                value = (value * 10 + digit as usize).min(WIDEST + 1);
            }
            if value > WIDEST { Err(Fault::new(format!("a width above {WIDEST}"))) } else { Ok(value) }
        };
        while let Some(flag) = rest.next_if(|c| "0-+ #".contains(*c)) {
            match flag {
                '0' => verb.zero = true,
                '-' => verb.left = true,
                '+' => verb.plus = true,
                ' ' => verb.space = true,
                _ => verb.sharp = true,
            }
        }
        verb.width = number(&mut rest)?;
        if rest.next_if_eq(&'.').is_some() {
            verb.precision = Some(number(&mut rest)?);
        }
        if rest.next_if_eq(&'[').is_some() {
            next = number(&mut rest)?.checked_sub(1).ok_or_else(|| Fault::new("arguments are counted from 1"))?;
            rest.next_if_eq(&']').ok_or_else(|| Fault::new("a ] is missing"))?;
        }
        let letter = rest.next().ok_or_else(|| Fault::new("a % stands alone at the end"))?;
        if letter == '%' {
            out.push('%');
            continue;
        }
        let argument =
            arguments.get(next).ok_or_else(|| Fault::new(format!("no argument {} for %{letter}", next + 1)))?;
        next += 1;
        used = used.max(next);
        verb.write(letter, argument, &mut out)?;
    }
    if used < arguments.len() {
        return Err(Fault::new(format!("{} arguments, of which {used} are used", arguments.len())));
    }
    Ok(out)
}

impl Verb {
    fn write(&self, letter: char, value: &Value, out: &mut String) -> Result<(), Fault> {
        let (text, numeric) = match letter {
            'v' if self.sharp => (value.to_json().to_string(), false),
            'v' => match value {
                Value::Null => ("null".to_owned(), false),
                Value::List(_) | Value::Map(_) => (value.to_json().to_string(), false),
                Value::Number(number) => (self.signed(*number, &value.to_text()?), true),
                other => (other.to_text()?, false),
            },
            't' => (value.to_bool()?.to_string(), false),
            's' => (self.cut(value.to_text()?), false),
            'q' => (serde_json::Value::from(self.cut(value.to_text()?)).to_string(), false),
            'd' | 'b' | 'o' | 'x' | 'X' if letter == 'd' || matches!(value, Value::Number(_)) => {
                let number = value.to_integer()?;
                let size = number.unsigned_abs();
                let digits = match letter {
                    'd' => size.to_string(),
                    'b' => format!("{size:b}"),
                    'o' => format!("{size:o}"),
                    'x' => format!("{size:x}"),
                    _ => format!("{size:X}"),
                };
                (self.signed(if number < 0 { -1.0 } else { 1.0 }, &digits), true)
            }
            'x' => (value.to_text()?.bytes().map(|byte| format!("{byte:02x}")).collect(), false),
            'X' => (value.to_text()?.bytes().map(|byte| format!("{byte:02X}")).collect(), false),
            'f' | 'F' | 'e' | 'E' | 'g' | 'G' => {
                let number = value.to_number()?;
                let digits = self.precision.unwrap_or(6);
                let text = match letter {
                    'f' | 'F' => format!("{:.digits$}", number.abs()),
                    'e' | 'E' => exponent(number.abs(), digits),
                    _ => Value::Number(number.abs()).to_text()?,
                };
                let text = if letter.is_ascii_uppercase() { text.to_uppercase() } else { text };
                (self.signed(number, &text), true)
            }
            other => return Err(Fault::new(format!("%{other} is no verb"))),
        };
        let missing = self.width.saturating_sub(text.chars().count());
        if self.left {
            out.push_str(&text);
            out.push_str(&" ".repeat(missing));
        } else if self.zero && numeric {
            let sign = text.len() - text.trim_start_matches(['-', '+', ' ']).len();
            out.push_str(&text[..sign]);
            out.push_str(&"0".repeat(missing));
            out.push_str(&text[sign..]);
        } else {
            out.push_str(&" ".repeat(missing));
            out.push_str(&text);
        }
        Ok(())
    }

    fn signed(&self, number: f64, digits: &str) -> String {
        let digits = digits.trim_start_matches('-');
        let sign = if number < 0.0 {
            "-"
        } else if self.plus {
            "+"
        } else if self.space {
            " "
        } else {
            ""
        };
        format!("{sign}{digits}")
    }

    fn cut(&self, text: String) -> String {
        match self.precision {
            Some(length) => text.chars().take(length).collect(),
            None => text,
        }
    }
}

/// Go writes at least two digits and a sign.
fn exponent(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$e}");
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
    format!("{mantissa}e{sign}{power:0>2}")
}

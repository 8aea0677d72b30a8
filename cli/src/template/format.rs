//! Go's `fmt`: values as `print` and `printf` write them.

use lap_frontend::go;

use super::value::Value;

/// What an action prints.
pub(super) fn printed(value: &Value) -> String {
    match value {
        Value::Missing => "<no value>".to_owned(),
        value => plain(value),
    }
}

/// `%v`.
pub(super) fn plain(value: &Value) -> String {
    Spec::default().value(value, 'v')
}

/// Values with a blank between two that are no texts.
pub(super) fn print(args: &[Value]) -> String {
    let mut out = String::new();
    let mut after_text = true;
    for value in args {
        let is_text = matches!(value, Value::String(_));
        if !is_text && !after_text {
            out.push(' ');
        }
        out.push_str(&plain(value));
        after_text = is_text;
    }
    out
}

/// Values with a blank between each two, and a newline.
pub(super) fn println(args: &[Value]) -> String {
    let texts: Vec<String> = args.iter().map(plain).collect();
    texts.join(" ") + "\n"
}

/// Whether Go's `%q` leaves a letter as it is.
pub(super) fn is_printable(letter: char) -> bool {
    !go::quote(&letter.to_string()).contains('\\') || letter == '\\'
}

/// Flags of a verb.
#[derive(Debug, Clone, Copy, Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Wider than any line: a larger number is a mistake.
const WIDEST: usize = 1_000_000;

/// `printf`, its complaints about arguments included.
pub(super) fn printf(format: &str, args: &[Value]) -> String {
    let mut out = String::new();
    let mut letters = format.chars().peekable();
    let mut next = 0;
    // Arguments that are named by number need not all be used.
    let mut reordered = false;
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = letters.next_if(|letter| "+-# 0".contains(*letter)) {
            match flag {
                '+' => spec.plus = true,
                '-' => spec.minus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                _ => spec.zero = true,
            }
        }
        let mut take = |letters: &mut std::iter::Peekable<std::str::Chars<'_>>, next: &mut usize| {
            if letters.next_if_eq(&'[').is_some() {
                let digits: String = letters.by_ref().take_while(|letter| *letter != ']').collect();
                *next = digits.parse::<usize>().ok().and_then(|number| number.checked_sub(1)).unwrap_or(usize::MAX);
                reordered = true;
            }
        };
        let number = |letters: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut value = None;
            while let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(10)) {
                letters.next();
                value = Some((value.unwrap_or(0) * 10 + digit as usize).min(WIDEST));
            }
            value
        };
        take(&mut letters, &mut next);
        if letters.next_if_eq(&'*').is_some() {
            match args.get(next) {
                Some(Value::Int(width)) if width.unsigned_abs() <= WIDEST as u64 => {
                    spec.minus |= *width < 0;
                    spec.width = usize::try_from(width.unsigned_abs()).ok();
                }
                _ => out.push_str("%!(BADWIDTH)"),
            }
            next += 1;
        } else {
            spec.width = number(&mut letters);
        }
        if letters.next_if_eq(&'.').is_some() {
            take(&mut letters, &mut next);
            if letters.next_if_eq(&'*').is_some() {
                match args.get(next) {
                    Some(Value::Int(precision)) if (0..=WIDEST as i64).contains(precision) => {
                        spec.precision = usize::try_from(*precision).ok();
                    }
                    _ => out.push_str("%!(BADPREC)"),
                }
                next += 1;
            } else {
                spec.precision = Some(number(&mut letters).unwrap_or(0));
            }
        }
        take(&mut letters, &mut next);
        match letters.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => {
                match args.get(next) {
                    Some(value) => out.push_str(&spec.value(value, verb)),
                    None if reordered => out.push_str(&format!("%!{verb}(BADINDEX)")),
                    None => out.push_str(&format!("%!{verb}(MISSING)")),
                }
                next = next.saturating_add(1);
            }
        }
    }
    if !reordered && next < args.len() {
        let extra: Vec<String> = args[next..].iter().map(typed).collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

/// `type=value`, as complaints show an argument.
fn typed(value: &Value) -> String {
    match value {
        Value::Missing | Value::Nil => "<nil>".to_owned(),
        value => format!("{}={}", value.type_name(), plain(value)),
    }
}

impl Spec {
    fn value(self, value: &Value, verb: char) -> String {
        match (verb, value) {
            ('T', Value::Missing | Value::Nil) => self.padded("<nil>".to_owned()),
            ('T', value) => self.padded(value.type_name()),
            ('v', Value::NilPointer(name)) if self.sharp => format!("({name})(nil)"),
            ('v', Value::Missing | Value::Nil | Value::NilPointer(_)) => self.padded("<nil>".to_owned()),
            (_, Value::Missing | Value::Nil) => format!("%!{verb}(<nil>)"),
            (_, Value::NilPointer(name)) => format!("%!{verb}({name}=<nil>)"),
            (_, Value::Bool(value)) if "vt".contains(verb) => self.padded(value.to_string()),
            (_, Value::Int(number)) => self.int(*number, verb).unwrap_or_else(|| bad(verb, value)),
            (_, Value::Float(number)) => self.float(*number, verb).unwrap_or_else(|| bad(verb, value)),
            (_, Value::String(text)) => self.string(text, verb).unwrap_or_else(|| bad(verb, value)),
            (_, Value::List(list)) => {
                let items: Vec<String> = list.items.iter().map(|item| self.inner(item, verb)).collect();
                match (verb, self.sharp, list.nil) {
                    ('v', true, true) => format!("{}(nil)", value.type_name()),
                    ('v', true, _) => format!("{}{{{}}}", value.type_name(), items.join(", ")),
                    _ => format!("[{}]", items.join(" ")),
                }
            }
            (_, Value::Map(map)) => {
                let items = map.entries.iter().filter(|(_, value)| !matches!(value, Value::Method(_)));
                let items = items.map(|(key, item)| {
                    let key = self.string(key, verb).unwrap_or_else(|| bad(verb, &key.as_str().into()));
                    format!("{key}:{}", self.inner(item, verb))
                });
                let items: Vec<String> = items.collect();
                match (verb, self.sharp, map.nil) {
                    ('v', true, true) => format!("{}(nil)", value.type_name()),
                    ('v', true, _) => format!("{}{{{}}}", value.type_name(), items.join(", ")),
                    _ => format!("map[{}]", items.join(" ")),
                }
            }
            (_, Value::Struct(fields)) => {
                let fields_shown = fields.fields.iter().filter(|field| !matches!(field.value, Value::Method(_)));
                let texts = fields_shown.map(|field| {
                    let text = self.inner(&field.value, verb);
                    if verb == 'v' && (self.plus || self.sharp) { format!("{}:{text}", field.name) } else { text }
                });
                let texts: Vec<String> = texts.collect();
                if verb == 'v' && self.sharp {
                    format!("{}{{{}}}", fields.name, texts.join(", "))
                } else {
                    format!("{{{}}}", texts.join(" "))
                }
            }
            (_, value) => bad(verb, value),
        }
    }

    /// A value within another: there, nothing is `<nil>` for all verbs.
    fn inner(self, value: &Value, verb: char) -> String {
        match value {
            Value::Nil if self.sharp && verb == 'v' => "interface {}(nil)".to_owned(),
            Value::Nil => self.padded("<nil>".to_owned()),
            value => self.value(value, verb),
        }
    }

    fn int(self, number: i64, verb: char) -> Option<String> {
        let (negative, size) = (number < 0, number.unsigned_abs());
        let (prefix, digits) = match verb {
            'v' | 'd' => ("", size.to_string()),
            'b' => (if self.sharp { "0b" } else { "" }, format!("{size:b}")),
            'o' => (if self.sharp { "0" } else { "" }, format!("{size:o}")),
            'O' => ("0o", format!("{size:o}")),
            'x' => (if self.sharp { "0x" } else { "" }, format!("{size:x}")),
            'X' => (if self.sharp { "0X" } else { "" }, format!("{size:X}")),
            'c' | 'q' | 'U' => {
                let letter = u32::try_from(number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
                return Some(self.padded(match verb {
                    'c' => letter.to_string(),
                    'q' => quote_letter(letter),
                    _ if self.sharp => format!("U+{size:04X} '{letter}'"),
                    _ => format!("U+{size:04X}"),
                }));
            }
            _ => return None,
        };
        let sign = self.sign(negative, verb);
        let digits = match self.precision {
            Some(0) if number == 0 => String::new(),
            Some(precision) => format!("{digits:0>precision$}"),
            None => digits,
        };
        if self.zero && !self.minus && self.precision.is_none() {
            let width = self.width.unwrap_or(0).saturating_sub(sign.len());
            return Some(format!("{sign}{prefix}{digits:0>width$}"));
        }
        Some(self.padded(format!("{sign}{prefix}{digits}")))
    }

    /// `%+v` names the fields of structs and shows no signs.
    fn sign(self, negative: bool, verb: char) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (false, true, _) if verb != 'v' => "+",
            (false, false, true) => " ",
            _ => "",
        }
    }

    fn float(self, number: f64, verb: char) -> Option<String> {
        let size = number.abs();
        let text = match verb {
            _ if !number.is_finite() => if number.is_nan() { "NaN" } else { "Inf" }.to_owned(),
            'v' | 'g' | 'G' => general(size, self.precision),
            'f' | 'F' => format!("{size:.*}", self.precision.unwrap_or(6)),
            'e' | 'E' => exponent(&format!("{size:.*e}", self.precision.unwrap_or(6))),
            _ => return None,
        };
        let text = if verb.is_uppercase() { text.to_uppercase() } else { text };
        let sign = if number.is_infinite() && number > 0.0 { "+" } else { self.sign(number.is_sign_negative(), verb) };
        if self.zero && !self.minus && number.is_finite() {
            let width = self.width.unwrap_or(0).saturating_sub(sign.len());
            return Some(format!("{sign}{text:0>width$}"));
        }
        Some(self.padded(format!("{sign}{text}")))
    }

    fn string(self, text: &str, verb: char) -> Option<String> {
        let cut: String = self.precision.map_or_else(|| text.to_owned(), |most| text.chars().take(most).collect());
        let hex = |upper: bool| {
            let bytes = self.precision.map_or(text.as_bytes(), |most| &text.as_bytes()[..most.min(text.len())]);
            let digits = bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") });
            digits.collect::<Vec<_>>().join(if self.space { " " } else { "" })
        };
        Some(match verb {
            'v' if self.sharp => self.padded(go::quote(&cut)),
            'v' | 's' => self.padded(cut),
            'q' if self.sharp && !cut.contains('`') && cut.chars().all(|c| c == '\t' || is_printable(c)) => {
                self.padded(format!("`{cut}`"))
            }
            'q' => self.padded(go::quote(&cut)),
            'x' => self.padded(hex(false)),
            'X' => self.padded(hex(true)),
            _ => return None,
        })
    }

    fn padded(self, text: String) -> String {
        let width = self.width.unwrap_or(0);
        let missing = width.saturating_sub(text.chars().count());
        match (self.minus, self.zero) {
            _ if missing == 0 => text,
            (true, _) => text + &" ".repeat(missing),
            (false, true) => "0".repeat(missing) + &text,
            (false, false) => " ".repeat(missing) + &text,
        }
    }
}

fn bad(verb: char, value: &Value) -> String {
    format!("%!{verb}({})", typed(value))
}

fn quote_letter(letter: char) -> String {
    match letter {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        letter => {
            let quoted = go::quote(&letter.to_string());
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

/// `%g`: the fewest digits that mean this number, with an exponent where it is far from 1.
fn general(size: f64, precision: Option<usize>) -> String {
    let scientific = match precision {
        None => format!("{size:e}"),
        Some(precision) => format!("{size:.*e}", precision.max(1) - 1),
    };
    let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    let largest = precision.map_or(6, |precision| i32::try_from(precision.max(1)).unwrap_or(i32::MAX));
    let trimmed = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    if power < -4 || power >= largest {
        return exponent(&format!("{trimmed}e{power}"));
    }
    let decimals = trimmed.split_once('.').map_or(0, |(_, decimals)| i32::try_from(decimals.len()).unwrap_or(0));
    format!("{:.*}", usize::try_from(decimals - power).unwrap_or(0), size)
}

/// Rust's `1e-7` as Go's `1e-07`.
fn exponent(text: &str) -> String {
    let (digits, power) = text.split_once('e').unwrap_or((text, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}

/// A float as Go's JSON encoder writes it.
pub(super) fn json_float(number: f64) -> String {
    let size = number.abs();
    let sign = if number.is_sign_negative() { "-" } else { "" };
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = exponent(&format!("{size:e}"));
        return sign.to_owned() + &text.replace("e-0", "e-");
    }
    format!("{sign}{size}")
}

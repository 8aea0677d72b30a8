//! Go's ways of printing and reading values, where image configs, histories and error messages carry them.

/// `%q` of a string.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            letter if is_print(letter) => out.push(letter),
            letter => {
                let code = u32::from(letter);
                out.push_str(&match code {
                    0..0x80 => format!("\\x{code:02x}"),
                    0x80..0x1_0000 => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                });
            }
        }
    }
    out.push('"');
    out
}

/// Whether Go prints a letter as it is: everything but controls, spaces other than `U+0020`, and format letters.
fn is_print(letter: char) -> bool {
    let format = matches!(u32::from(letter),
        0xad | 0x600..=0x605 | 0x61c | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff
        | 0xfff9..=0xfffb | 0xe000..=0xf8ff | 0xe0001..=0xe007f | 0xf0000..=0x10_ffff);
    letter == ' ' || !(letter.is_control() || letter.is_whitespace() || format)
}

/// `%q` of a list of strings: `["a" "b"]`.
#[must_use]
pub fn quote_list<S: AsRef<str>>(list: &[S]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| quote(text.as_ref())).collect();
    format!("[{}]", quoted.join(" "))
}

/// Nanoseconds as `time.Duration` prints them: `1m30s`, `1.5s`, `0s`.
#[must_use]
pub fn duration(nanoseconds: u64) -> String {
    let with_fraction = |value: u64, unit: u64, name: &str| {
        let fraction = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        format!("{}{dot}{fraction}{name}", value / unit)
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => with_fraction(nanoseconds, 1_000, "µs"),
        1_000_000..1_000_000_000 => with_fraction(nanoseconds, 1_000_000, "ms"),
        _ => {
            const SECOND: u64 = 1_000_000_000;
            let (hours, rest) = (nanoseconds / (3600 * SECOND), nanoseconds % (3600 * SECOND));
            let (minutes, rest) = (rest / (60 * SECOND), rest % (60 * SECOND));
            let seconds = with_fraction(rest, SECOND, "s");
            match (hours, minutes) {
                (0, 0) => seconds,
                (0, _) => format!("{minutes}m{seconds}"),
                _ => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// Nanoseconds of `1h2m3.5s`, as `time.ParseDuration` reads them; none where it does not, or where it is negative.
#[must_use]
pub fn parse_duration(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || number.len() > 36 {
            return None;
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(scale)?)?;
        let fraction = &fraction[..fraction.len().min(18)];
        if !fraction.is_empty() {
            total = total.checked_add(
                fraction.parse::<u128>().ok()? * scale / 10u128.pow(u32::try_from(fraction.len()).ok()?),
            )?;
        }
        rest = tail;
    }
    if text.is_empty() { None } else { u64::try_from(total).ok().filter(|total| i64::try_from(*total).is_ok()) }
}

/// `strconv.ParseBool`.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Bytes of `64m`, `1.5g`, `1024`: powers of 1024, as go-units' `RAMInBytes` reads them.
#[must_use]
pub fn ram_in_bytes(text: &str) -> Option<u64> {
    let digits = text.rfind(|letter: char| letter.is_ascii_digit() || letter == '.')? + 1;
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.trim().parse().ok().filter(|number: &f64| *number >= 0.0 && number.is_finite())?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit)?;
    let bytes = number * 1024f64.powi(i32::try_from(power).ok()?);
    // A float too large for u64 saturates, which no machine has memory for.
    Some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_as_in_go() {
        assert_eq!(quote("a\"b\\\t\u{1b}é\u{a0}"), "\"a\\\"b\\\\\\t\\x1bé\\u00a0\"");
        assert_eq!(quote_list(&["a", "b c"]), "[\"a\" \"b c\"]");
    }

    #[test]
    fn durations_go_both_ways() {
        for (text, nanoseconds, printed) in [
            ("30s", 30_000_000_000, "30s"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("90s", 90_000_000_000, "1m30s"),
            ("1m30.25s", 90_250_000_000, "1m30.25s"),
            ("100ms", 100_000_000, "100ms"),
            ("1500us", 1_500_000, "1.5ms"),
            ("0", 0, "0s"),
        ] {
            assert_eq!(parse_duration(text), Some(nanoseconds), "{text}");
            assert_eq!(duration(nanoseconds), printed);
        }
        for text in ["", "3", "-1s", "1x", ".s", "1..5s", "99999999999999h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [("1", 1), ("64m", 64 << 20), ("1.5k", 1536), ("2GiB", 2 << 30), ("1 kb", 1024)] {
            assert_eq!(ram_in_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "m", "1x", "-1"] {
            assert_eq!(ram_in_bytes(text), None, "{text}");
        }
    }
}

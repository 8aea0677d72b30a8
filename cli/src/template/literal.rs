//! Go's literals: strings, characters and numbers.

use std::str::Chars;

use super::node::Number;

/// What a quoted string, a raw string or a character constant means; nothing where it is malformed.
pub(super) fn unquote(quoted: &str) -> Option<String> {
    let quote = quoted.chars().next()?;
    let inner = quoted.get(1..quoted.len().checked_sub(1)?)?;
    if quote == '`' {
        return Some(inner.replace('\r', ""));
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        if letter == '\\' {
            bytes.extend(escape(&mut letters, quote)?);
        } else {
            bytes.extend(letter.encode_utf8(&mut [0; 4]).bytes());
        }
    }
    // Bytes that are no text are shown as Go shows them in most places.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The bytes that stand behind a backslash.
fn escape(letters: &mut Chars<'_>, quote: char) -> Option<Vec<u8>> {
    let before = letters.as_str();
    let letter = letters.next()?;
    let mut code = |from: usize, digits: usize, radix| {
        let text = before.get(from..from + digits)?;
        *letters = before[from + digits..].chars();
        u32::from_str_radix(text, radix).ok()
    };
    let byte = |code: u32| u8::try_from(code).ok().map(|byte| vec![byte]);
    let text = |code| char::from_u32(code).map(|letter| letter.to_string().into_bytes());
    match letter {
        'a' => byte(7),
        'b' => byte(8),
        'f' => byte(12),
        'n' => byte(10),
        'r' => byte(13),
        't' => byte(9),
        'v' => byte(11),
        '\\' => byte(92),
        'x' => byte(code(1, 2, 16)?),
        'u' => text(code(1, 4, 16)?),
        'U' => text(code(1, 8, 16)?),
        '0'..='7' => byte(code(0, 3, 8)?),
        letter if letter == quote => byte(u32::from(letter)),
        _ => None,
    }
}

/// A number or a character's number, as Go reads constants without a type.
pub(super) fn number(text: &str) -> Option<Number> {
    if text.starts_with('\'') {
        let letter = unquote(text)?;
        let mut letters = letter.chars();
        let code = letters.next().map(|letter| Number::Int(i64::from(u32::from(letter))));
        return code.filter(|_| letters.next().is_none());
    }
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|byte| byte.is_ascii_digit()) => {
            (8, &lower[1..])
        }
        _ => (10, lower.as_str()),
    };
    if digits.ends_with('_') || digits.contains("__") || (radix == 10 && digits.starts_with('_')) {
        return None;
    }
    let digits = digits.replace('_', "");
    if radix == 10 && digits.contains(['.', 'e']) {
        let value: f64 = digits.parse().ok()?;
        return value.is_finite().then_some(Number::Float(if negative { -value } else { value }));
    }
    let value = u64::from_str_radix(&digits, radix).ok()?;
    let signed = i128::from(value) * if negative { -1 } else { 1 };
    Some(i64::try_from(signed).map_or(Number::TooLarge, Number::Int))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_gos() {
        for (quoted, text) in [
            (r#""a\tb\"c\\""#, "a\tb\"c\\"),
            (r#""\x41\u00e9\U0001F600\101""#, "Aé😀A"),
            ("`a\\n`", "a\\n"),
            (r"'\''", "'"),
        ] {
            assert_eq!(unquote(quoted).as_deref(), Some(text), "{quoted}");
        }
        for bad in [r#""\q""#, r#""\x4""#, r#""\400""#, r#""\ud800""#, r#""\'""#] {
            assert_eq!(unquote(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_are_gos() {
        let int = |text| match number(text) {
            Some(Number::Int(value)) => Some(value),
            _ => None,
        };
        for (text, value) in [("7", 7), ("-7", -7), ("0x1F", 31), ("0b11", 3), ("0o17", 15), ("017", 15), ("'a'", 97)] {
            assert_eq!(int(text), Some(value), "{text}");
        }
        assert_eq!(int("1_000"), Some(1000));
        assert!(matches!(number("1.5e3"), Some(Number::Float(value)) if value == 1500.0));
        assert!(matches!(number("18446744073709551615"), Some(Number::TooLarge)));
        for bad in ["08", "1__0", "_1", "0x", "'ab'", "1e", "1e999"] {
            assert!(number(bad).is_none(), "{bad}");
        }
    }
}

//! Text of others on our terminal: names, commands and messages of images, registries and Dockerfiles may hold control
//! characters, which would act on the terminal of who reads an error.

/// The text with control characters replaced by something to see; line feeds and tabs stay.
///
/// C0 become Unicode's control pictures, C1 and the marks that turn the direction of writing become `\u{9b}`.
pub(crate) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            '\x7f' => out.push('\u{2421}'),
            c if c.is_ascii_control() => out.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('?')),
            c if c.is_control() || turns(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// [`visible`] for a text that positions point into: every character keeps its length in bytes.
pub(crate) fn visible_in_place(text: &str) -> String {
    let show = |c: char| match c {
        '\n' | '\t' | '\r' => c,
        c if c.is_ascii_control() => '?',
        c if c.is_control() => '\u{bf}',
        c if turns(c) => '\u{fffd}',
        c => c,
    };
    text.chars().map(show).collect()
}

/// A JSON text that means the same and has no control characters: JSON itself escapes only those below U+0020.
pub(crate) fn tame_json(json: &str) -> std::borrow::Cow<'_, str> {
    let acts = |c: char| (c.is_control() && !c.is_ascii_control()) || c == '\x7f' || turns(c);
    if !json.contains(acts) {
        return json.into();
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if acts(c) { out.push_str(&format!("\\u{:04x}", u32::from(c))) } else { out.push(c) }
    }
    out.into()
}

/// Whether a character turns the direction of what follows (Unicode 9, explicit directional formatting).
const fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_the_terminal() {
        assert_eq!(visible("a\x1b]0;x\x07\r\x7fb\tc\nd"), "a␛]0;x␇␍␡b\tc\nd");
        assert_eq!(visible("\u{9b}2J \u{202e}é"), "\\u{9b}2J \\u{202e}é");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({"a": "\u{9b}2J\x7f\u{202e}é\x1b", "b": 1});
        let text = tame_json(&value.to_string()).into_owned();
        assert!(!text.contains(|c: char| c.is_control() || turns(c)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn positions_stay() {
        let text = "a\x1b\u{9b}\u{202e}\r\nz";
        let shown = visible_in_place(text);
        assert_eq!(shown, "a?\u{bf}\u{fffd}\r\nz");
        assert_eq!(shown.len(), text.len());
    }
}

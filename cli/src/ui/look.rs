//! How progress looks on a terminal: colours and how much of the output is shown.

use crate::settings::Settings;

/// Lines of output below a running step.
const LINES: usize = 6;

/// What the user wants it to look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// Control sequences of colours; none where there are none.
    colors: Option<Colors>,
    /// Lines of output shown below a running step.
    pub(super) lines: usize,
}

/// As parameters of SGR (ECMA-48, 8.3.117).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Colors {
    run: String,
    cancel: String,
    warning: String,
    error: String,
}

/// What a line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Run,
    Cancel,
    Warning,
    Error,
    /// Output of a command.
    Faint,
}

impl From<bool> for Look {
    fn from(color: bool) -> Self {
        Self { colors: color.then(Colors::default), lines: LINES }
    }
}

impl From<&Settings> for Look {
    fn from(settings: &Settings) -> Self {
        let mut colors = Colors::default();
        colors.read(settings.colors.as_deref().unwrap_or_default());
        Self { colors: settings.color.then_some(colors), lines: settings.log_lines.unwrap_or(LINES) }
    }
}

impl Look {
    pub(super) fn paint(&self, tone: Tone, text: &str) -> String {
        let Some(colors) = &self.colors else { return text.to_owned() };
        let code = match tone {
            Tone::Run => &colors.run,
            Tone::Cancel => &colors.cancel,
            Tone::Warning => &colors.warning,
            Tone::Error => &colors.error,
            Tone::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

impl Default for Colors {
    fn default() -> Self {
        Self { run: "34".to_owned(), cancel: "33".to_owned(), warning: "33".to_owned(), error: "31".to_owned() }
    }
}

impl Colors {
    /// `run=green:error=255,0,0`, as BuildKit reads it; what it does not know is left out.
    fn read(&mut self, text: &str) {
        for field in text.split(':') {
            let Some((name, color)) = field.split_once('=') else { continue };
            let Some(code) = code(color) else { continue };
            match name.to_ascii_lowercase().as_str() {
                "run" => self.run = code,
                "cancel" => self.cancel = code,
                "warning" => self.warning = code,
                "error" => self.error = code,
                _ => {}
            }
        }
    }
}

/// `light-blue`, or red, green and blue from 0 to 255.
fn code(color: &str) -> Option<String> {
    const NAMES: [&str; 8] = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
    let color = color.trim().to_ascii_lowercase();
    let (base, plain) = color.strip_prefix("light-").map_or((30, &*color), |plain| (90, plain));
    if let Some(number) = NAMES.iter().position(|name| *name == plain) {
        return Some((base + number).to_string());
    }
    let parts: Vec<u8> = color.split(',').map(|part| part.trim().parse().ok()).collect::<Option<_>>()?;
    let [red, green, blue] = parts[..] else { return None };
    Some(format!("38;2;{red};{green};{blue}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_named_as_for_buildkit() {
        let mut colors = Colors::default();
        colors.read("run=green:ERROR=light-red:cancel=1,2,255:warning=nothing:other=red:error");
        assert_eq!(
            colors,
            Colors { run: "32".into(), cancel: "38;2;1;2;255".into(), warning: "33".into(), error: "91".into() }
        );
        for bad in ["1,2", "1,2,256", "", "light-", "light-1,2,3"] {
            assert_eq!(code(bad), None, "{bad}");
        }
        assert_eq!(Look::from(false).paint(Tone::Error, "x"), "x");
        assert_eq!(Look::from(true).paint(Tone::Error, "x"), "\x1b[31mx\x1b[0m");
    }
}

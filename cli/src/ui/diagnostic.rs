//! Findings about a Dockerfile with the source shown, in rustc's look.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::ui::{visible, visible_in_place};
use lap_frontend::diagnostic::{Code, Diagnostic, Severity};

/// The finding, where it is and what to do. Ends with a line feed.
pub(crate) fn render(diagnostic: &Diagnostic, source: &str, color: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let (message, source) = (visible(&diagnostic.message), visible_in_place(source));
    let (file, hint) = (visible(&diagnostic.file), diagnostic.hint.as_deref().map(visible));
    let mut title = level.primary_title(message.as_str());
    if let Code::Rule(name) = &diagnostic.code {
        title = title.id(name.as_str());
    }
    // A span that does not fit the text would be a fault of the frontend; the message still counts.
    let end = diagnostic.span.end.min(source.len());
    let start = diagnostic.span.start.min(end);
    let mut group = if diagnostic.position.line == 0 {
        Group::with_title(title).element(annotate_snippets::Origin::path(file.as_str()))
    } else {
        let marked = AnnotationKind::Primary.span(start..end);
        title.element(Snippet::source(source.as_str()).path(file.as_str()).annotation(marked))
    };
    if let Some(hint) = &hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut out = renderer.render(&[group]);
    out.push('\n');
    out
}

//! Text to tree: directives, logical lines, heredocs, words, typed instructions.
//!
//! Parsing never fails: it returns a tree and what is wrong with it. An instruction that is wrong stays in the tree
//! as [`Command::Invalid`]. Rules and messages are `BuildKit`'s (`frontend/dockerfile/parser`, `instructions`), but for
//! two: a line may have any length, and all faults are told, not just the first.

mod directive;
mod dump;
mod flag;
mod heredoc;
mod instruction;
mod line;
mod mount;
mod print;
mod split;
mod typed;

pub use directive::Directive;
pub use heredoc::Heredoc;
pub(crate) use heredoc::opener as opens_heredoc;
pub use instruction::{
    ArgDefinition, Argument, Command, CommandLine, Device, From, Healthcheck, Instruction, MountFlag, Onbuild, Pair,
    Run, RunNetwork, RunSecurity, Transfer,
};
pub(crate) use mount::{Mount, MountType, read as read_mount};

use crate::diagnostic::{Code, Diagnostic, Fault, Severity};
use crate::source::{Source, Span};
use line::LogicalLine;
use split::{Arguments, Parts, Word};

/// The instructions there are.
pub(crate) const KEYWORDS: [&str; 18] = [
    "add",
    "arg",
    "cmd",
    "copy",
    "entrypoint",
    "env",
    "expose",
    "from",
    "healthcheck",
    "label",
    "maintainer",
    "onbuild",
    "run",
    "shell",
    "stopsignal",
    "user",
    "volume",
    "workdir",
];

/// A Dockerfile as a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The text.
    pub source: Source,
    /// Parser directives, in order.
    pub directives: Vec<Directive>,
    /// The escape letter: `\` or a backtick.
    pub escape: char,
    /// Instructions, in order.
    pub instructions: Vec<Instruction>,
}

/// A tree and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The tree.
    pub dockerfile: Dockerfile,
    /// Faults, in order of place.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Whether something makes the file unusable.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|found| found.severity == Severity::Error)
    }
}

/// Parses a Dockerfile; `file_name` is what messages call it.
#[must_use]
pub fn parse(file_name: &str, text: impl AsRef<[u8]>) -> Parsed {
    let mut parser = Parser::new(Source::new(file_name, text.as_ref()));
    parser.run();
    let dockerfile = Dockerfile {
        source: parser.source,
        directives: parser.directives,
        escape: parser.escape,
        instructions: parser.instructions,
    };
    Parsed { dockerfile, diagnostics: parser.diagnostics }
}

impl Dockerfile {
    /// The value of a directive (`check`, `escape`, `syntax`).
    #[must_use]
    pub fn directive(&self, key: &str) -> Option<&Directive> {
        self.directives.iter().find(|directive| directive.key == key)
    }

    /// The tree as s-expressions, one instruction a line.
    #[must_use]
    pub fn to_sexp(&self) -> String {
        dump::file(&self.instructions, self.escape)
    }

    /// The tree as a Dockerfile that means the same: keywords in capitals, one line an instruction.
    #[must_use]
    pub fn to_text(&self) -> String {
        print::file(self)
    }
}

struct Parser {
    source: Source,
    /// The physical line to read next, from 0.
    at: usize,
    escape: char,
    in_header: bool,
    directives: Vec<Directive>,
    comments: Vec<String>,
    instructions: Vec<Instruction>,
    diagnostics: Vec<Diagnostic>,
}

impl Parser {
    fn new(source: Source) -> Self {
        Self {
            source,
            at: 0,
            escape: '\\',
            in_header: true,
            directives: Vec::new(),
            comments: Vec::new(),
            instructions: Vec::new(),
            diagnostics: Vec::new(),
        }
    }

    fn run(&mut self) {
        while self.at < self.source.line_count() {
            if self.comment_or_directive() {
                self.at += 1;
                continue;
            }
            match line::read(&self.source, self.at, self.escape) {
                None => self.at += 1,
                Some(line) => {
                    self.at = line.lines.end;
                    self.instruction(&line);
                }
            }
        }
        if self.instructions.is_empty() && self.diagnostics.is_empty() {
            self.fault(Fault::new("file with no instructions"), Span::default());
        }
    }

    fn fault(&mut self, fault: Fault, span: Span) {
        self.diagnostics.push(fault.into_diagnostic(Code::Syntax, &self.source, span));
    }

    /// Keeps the comment or directive of the current line, if it is one.
    fn comment_or_directive(&mut self) -> bool {
        let span = self.source.line(self.at);
        let text = self.source.slice(span);
        let text = text.strip_prefix('\u{feff}').filter(|_| self.at == 0).unwrap_or(text).trim();
        // A script's first line does not end the header.
        let shebang = self.at == 0 && text.starts_with("#!");
        if let Some((key, value)) = directive::split(text).filter(|_| self.in_header) {
            let directive = Directive { key, value: value.to_owned(), span };
            self.directive(directive);
            return true;
        }
        self.in_header &= shebang;
        let Some(comment) = text.strip_prefix('#') else { return false };
        match comment.trim() {
            "" => self.comments.clear(),
            comment => self.comments.push(comment.to_owned()),
        }
        true
    }

    fn directive(&mut self, directive: Directive) {
        if self.directives.iter().any(|known| known.key == directive.key) {
            self.in_header = false;
            let message = format!("only one {} parser directive can be used", directive.key);
            return self.fault(Fault::new(message), directive.span);
        }
        if directive.key == "escape" {
            match directive.value.as_str() {
                "\\" => {}
                "`" => self.escape = '`',
                other => {
                    let message = format!("invalid escape token '{other}' does not match ` or \\");
                    self.fault(Fault::new(message), directive.span);
                }
            }
        }
        self.directives.push(directive);
    }

    fn instruction(&mut self, line: &LogicalLine) {
        let parts = split::parts(&line.text, 0, self.escape);
        let mut span = line.span;
        let (arguments, mut fault) = match arguments(&parts, self.escape) {
            Ok(arguments) => (arguments, None),
            Err(fault) => (Arguments::default(), Some(fault)),
        };
        let mut heredocs =
            if holds_heredocs(&parts, arguments.json, self.escape) { heredoc::openers(&line.text) } else { Vec::new() };
        for heredoc in &mut heredocs {
            if !self.body(heredoc) {
                fault = fault.or_else(|| Some(unterminated(&heredoc.name)));
            }
            span.end = heredoc.span.end.max(span.end);
        }
        let place = |word: &Word| Argument { text: word.text.clone(), span: line.place(word.range.clone()) };
        let mut instruction = Instruction {
            keyword: place(&parts.keyword),
            flags: parts.flags.iter().map(place).collect(),
            arguments: arguments.words.iter().map(place).collect(),
            json: arguments.json,
            heredocs,
            comments: std::mem::take(&mut self.comments),
            original: line.text.trim().to_owned(),
            span,
            lines: (number(line.lines.start), number(self.at.max(1) - 1)),
            empty_continuation: line.empty_continuation.then(|| number(line.lines.end - 1)),
            command: Command::Invalid,
        };
        match fault.map_or_else(|| typed::read(&instruction), Err) {
            Ok(command) => instruction.command = command,
            Err(fault) => self.fault(fault, line.span),
        }
        self.instructions.push(instruction);
    }

    /// Reads the body of a heredoc; false where its end is missing.
    fn body(&mut self, heredoc: &mut Heredoc) -> bool {
        let start = self.source.line(self.at).start;
        while self.at < self.source.line_count() {
            let span = self.source.line(self.at);
            let text = self.source.slice(span);
            self.at += 1;
            if heredoc::ends(heredoc, text) {
                heredoc.span = Span { start, end: span.start };
                return true;
            }
            heredoc.content.push_str(text);
        }
        heredoc.span = Span { start, end: self.source.text().len() };
        false
    }
}

/// A line's number for people.
fn number(index: usize) -> u32 {
    u32::try_from(index + 1).unwrap_or(u32::MAX)
}

fn unterminated(name: &str) -> Fault {
    Fault::new("unterminated heredoc").hint(Some(format!("a line with nothing but {name} ends it")))
}

/// The arguments of a line, read as its keyword asks.
fn arguments(parts: &Parts, escape: char) -> Result<Arguments, Fault> {
    let rest = &parts.rest;
    match parts.keyword.text.to_lowercase().as_str() {
        "add" | "copy" | "volume" => split::json_or(rest, split::blanks),
        "run" | "cmd" | "entrypoint" | "shell" => split::json_or(rest, split::whole),
        "expose" | "from" => Ok(split::blanks(rest)),
        "maintainer" | "stopsignal" | "user" | "workdir" => Ok(split::whole(rest)),
        "arg" => Ok(Arguments { words: split::quoted(rest, escape), json: false }),
        name @ ("env" | "label") => split::pairs(rest, &name.to_uppercase(), escape),
        "healthcheck" => split::healthcheck(rest),
        "onbuild" => {
            // The instruction for later must come apart; whether it means something is asked when it is used.
            let inner = split::parts(&rest.text, rest.range.start, escape);
            if inner.keyword.text.to_lowercase() != "onbuild" {
                arguments(&inner, escape)?;
            }
            Ok(split::whole(rest))
        }
        _ => Ok(Arguments::default()),
    }
}

/// Whether heredocs may follow: for `RUN`, `COPY`, `ADD` and `ONBUILD` of these, not in JSON form.
fn holds_heredocs(parts: &Parts, json: bool, escape: char) -> bool {
    match parts.keyword.text.to_lowercase().as_str() {
        "run" | "copy" | "add" => !json,
        "onbuild" => {
            let inner = split::parts(&parts.rest.text, parts.rest.range.start, escape);
            let json = arguments(&inner, escape).is_ok_and(|arguments| arguments.json);
            inner.keyword.text.to_lowercase() != "onbuild" && holds_heredocs(&inner, json, escape)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;

//! Text to tokens. The lexer knows whether it is in text or in an action, trims spaces, and drops comments.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The text of the token says what is wrong.
    Error,
    Eof,
    Text,
    LeftDelim,
    RightDelim,
    Space,
    Assign,
    Declare,
    Pipe,
    LeftParen,
    RightParen,
    /// Any other character.
    Char,
    CharConstant,
    Number,
    String,
    RawString,
    /// `.`
    Dot,
    /// `.name`
    Field,
    /// `$` or `$name`
    Variable,
    Identifier,
    Bool,
    Nil,
    Keyword(Keyword),
}

/// Words with a meaning of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Range,
    Template,
    With,
}

/// A token and where it begins.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Byte.
    pub(super) at: usize,
    pub(super) text: String,
    /// From 1.
    pub(super) line: usize,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::Eof => f.write_str("EOF"),
            Kind::Error => f.write_str(&self.text),
            Kind::Keyword(_) | Kind::Nil | Kind::Dot => write!(f, "<{}>", self.text),
            _ if self.text.len() > 10 => {
                let head: String = self.text.chars().take(10).collect();
                write!(f, "{}...", lap_frontend::go::quote(&head))
            }
            _ => f.write_str(&lap_frontend::go::quote(&self.text)),
        }
    }
}

const LEFT: &str = "{{";
const RIGHT: &str = "}}";

fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r' | '\n')
}

fn is_word(letter: char) -> bool {
    letter == '_' || letter.is_alphabetic() || letter.is_numeric()
}

/// `U+0021 '!'`
fn code_point(letter: Option<char>) -> String {
    match letter {
        None => "U+FFFFFFFFFFFFFFFF".to_owned(),
        Some(letter) if letter.is_control() => format!("U+{:04X}", u32::from(letter)),
        Some(letter) => format!("U+{:04X} '{letter}'", u32::from(letter)),
    }
}

/// The tokens of a template; the last is the end or an error.
pub(super) fn lex(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { text, start: 0, at: 0, line: 1, tokens: Vec::new(), parens: 0 };
    if let Err(message) = lexer.template() {
        let line = lexer.line;
        lexer.tokens.push(Token { kind: Kind::Error, at: lexer.start, text: message, line });
    }
    lexer.tokens
}

struct Lexer<'a> {
    text: &'a str,
    start: usize,
    at: usize,
    /// Line of `start`.
    line: usize,
    tokens: Vec<Token>,
    parens: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += letter.len_utf8();
        Some(letter)
    }

    fn accept(&mut self, any: &str) -> bool {
        let found = self.peek().is_some_and(|letter| any.contains(letter));
        if found {
            self.at += 1;
        }
        found
    }

    fn accept_all(&mut self, any: &str) {
        while self.accept(any) {}
    }

    /// Drops what was read.
    fn ignore(&mut self) {
        self.line += self.text[self.start..self.at].matches('\n').count();
        self.start = self.at;
    }

    fn emit(&mut self, kind: Kind) {
        let text = self.text[self.start..self.at].to_owned();
        // Go counts the lines of a text before it tells where it begins.
        let newlines = text.matches('\n').count();
        self.tokens.push(Token { kind, at: self.start, line: self.line, text });
        self.line += newlines;
        self.start = self.at;
    }

    fn template(&mut self) -> Result<(), String> {
        while let Some(found) = self.rest().find(LEFT) {
            let delim = self.at + found;
            let trims = trims_left(&self.text[delim + LEFT.len()..]);
            let text = &self.text[self.start..delim];
            let kept = if trims { text.trim_end_matches(is_space).len() } else { text.len() };
            self.at = self.start + kept;
            if kept > 0 {
                self.emit(Kind::Text);
            }
            self.at = delim;
            self.ignore();
            self.at += LEFT.len();
            let marker = if trims { 2 } else { 0 };
            if self.text[self.at + marker..].starts_with("/*") {
                self.at += marker;
                self.ignore();
                self.comment()?;
            } else {
                self.emit(Kind::LeftDelim);
                self.at += marker;
                self.ignore();
                self.parens = 0;
                while self.inside()? {}
            }
        }
        self.at = self.text.len();
        if self.at > self.start {
            self.emit(Kind::Text);
        }
        self.emit(Kind::Eof);
        Ok(())
    }

    fn comment(&mut self) -> Result<(), String> {
        let Some(end) = self.text[self.at + 2..].find("*/") else {
            return Err("unclosed comment".to_owned());
        };
        self.at += end + 4;
        let trims = trims_right(self.rest());
        let delim = if trims { 2 } else { 0 };
        if !self.text[self.at + delim..].starts_with(RIGHT) {
            return Err("comment ends before closing delimiter".to_owned());
        }
        self.at += delim + RIGHT.len();
        self.after_action(trims);
        Ok(())
    }

    fn after_action(&mut self, trims: bool) {
        if trims {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start_matches(is_space).len();
        }
        self.ignore();
    }

    /// One token of an action; false where it was the last.
    fn inside(&mut self) -> Result<bool, String> {
        let trims = trims_right(self.rest());
        if trims || self.rest().starts_with(RIGHT) {
            if self.parens > 0 {
                return Err("unclosed left paren".to_owned());
            }
            if trims {
                self.at += 2;
                self.ignore();
            }
            self.at += RIGHT.len();
            self.emit(Kind::RightDelim);
            self.after_action(trims);
            return Ok(false);
        }
        let Some(letter) = self.next() else { return Err("unclosed action".to_owned()) };
        match letter {
            letter if is_space(letter) => {
                // The space before `-}}` belongs to it.
                while self.peek().is_some_and(is_space) && !trims_right(self.rest()) {
                    self.next();
                }
                self.emit(Kind::Space);
            }
            '=' => self.emit(Kind::Assign),
            ':' => {
                if self.next() != Some('=') {
                    return Err("expected :=".to_owned());
                }
                self.emit(Kind::Declare);
            }
            '|' => self.emit(Kind::Pipe),
            '"' => self.quoted('"', "unterminated quoted string", Kind::String)?,
            '\'' => self.quoted('\'', "unterminated character constant", Kind::CharConstant)?,
            '`' => {
                let Some(end) = self.rest().find('`') else {
                    return Err("unterminated raw quoted string".to_owned());
                };
                self.at += end + 1;
                self.emit(Kind::RawString);
            }
            '$' => self.name(Kind::Variable, Kind::Variable)?,
            '.' if !self.peek().is_some_and(|digit| digit.is_ascii_digit()) => self.name(Kind::Field, Kind::Dot)?,
            '.' | '+' | '-' | '0'..='9' => {
                self.at = self.start;
                self.number()?;
            }
            letter if is_word(letter) => self.word()?,
            '(' => {
                self.emit(Kind::LeftParen);
                self.parens += 1;
            }
            ')' => {
                self.emit(Kind::RightParen);
                self.parens = self.parens.checked_sub(1).ok_or("unexpected right paren")?;
            }
            letter if letter.is_ascii_graphic() => self.emit(Kind::Char),
            letter => return Err(format!("unrecognized character in action: {}", code_point(Some(letter)))),
        }
        Ok(true)
    }

    /// Whether what comes may follow a name.
    fn at_terminator(&self) -> bool {
        let ends = |letter| is_space(letter) || ".,|:)(".contains(letter);
        self.peek().is_none_or(ends) || self.rest().starts_with(RIGHT)
    }

    fn name(&mut self, named: Kind, bare: Kind) -> Result<(), String> {
        if self.at_terminator() {
            self.emit(bare);
            return Ok(());
        }
        while self.peek().is_some_and(is_word) {
            self.next();
        }
        if !self.at_terminator() {
            return Err(format!("bad character {}", code_point(self.peek())));
        }
        self.emit(named);
        Ok(())
    }

    fn word(&mut self) -> Result<(), String> {
        while self.peek().is_some_and(is_word) {
            self.next();
        }
        if !self.at_terminator() {
            return Err(format!("bad character {}", code_point(self.peek())));
        }
        let kind = match &self.text[self.start..self.at] {
            "block" => Kind::Keyword(Keyword::Block),
            "break" => Kind::Keyword(Keyword::Break),
            "continue" => Kind::Keyword(Keyword::Continue),
            "define" => Kind::Keyword(Keyword::Define),
            "else" => Kind::Keyword(Keyword::Else),
            "end" => Kind::Keyword(Keyword::End),
            "if" => Kind::Keyword(Keyword::If),
            "range" => Kind::Keyword(Keyword::Range),
            "template" => Kind::Keyword(Keyword::Template),
            "with" => Kind::Keyword(Keyword::With),
            "nil" => Kind::Nil,
            "true" | "false" => Kind::Bool,
            _ => Kind::Identifier,
        };
        self.emit(kind);
        Ok(())
    }

    fn quoted(&mut self, quote: char, unterminated: &str, kind: Kind) -> Result<(), String> {
        loop {
            match self.next() {
                Some('\\') if !matches!(self.peek(), None | Some('\n')) => {
                    self.next();
                }
                None | Some('\n' | '\\') => return Err(unterminated.to_owned()),
                Some(letter) if letter == quote => break,
                Some(_) => {}
            }
        }
        self.emit(kind);
        Ok(())
    }

    fn number(&mut self) -> Result<(), String> {
        let mut bad = self.scan_number();
        // The second half of a complex number: there are none here.
        if !bad && self.peek().is_some_and(|sign| "+-".contains(sign)) {
            self.scan_number();
            bad = true;
        }
        if bad {
            let text = &self.text[self.start..self.at];
            return Err(format!("bad number syntax: {}", lap_frontend::go::quote(text)));
        }
        self.emit(Kind::Number);
        Ok(())
    }

    /// Whether what was read is no number.
    fn scan_number(&mut self) -> bool {
        self.accept("+-");
        let mut digits = "0123456789_";
        if self.accept("0") {
            digits = match self.peek() {
                Some('x' | 'X') => "0123456789abcdefABCDEF_",
                Some('o' | 'O') => "01234567_",
                Some('b' | 'B') => "01_",
                _ => digits,
            };
            self.accept("xXoObB");
        }
        self.accept_all(digits);
        if self.accept(".") {
            self.accept_all(digits);
        }
        if digits.len() == 11 && self.accept("eE") {
            self.accept("+-");
            self.accept_all("0123456789_");
        }
        let bad = self.peek().is_some_and(is_word);
        if bad {
            self.next();
        }
        bad
    }
}

fn trims_left(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next() == Some('-') && letters.next().is_some_and(is_space)
}

/// Whether an action ends here with ` -}}`.
fn trims_right(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(is_space) && letters.next() == Some('-') && letters.as_str().starts_with(RIGHT)
}

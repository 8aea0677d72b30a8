//! Tokens to a tree, by descent. Go's rules for spaces, variables and `else if`, and its messages.

use std::collections::BTreeMap;

use lap_frontend::go;

use super::lex::{Keyword, Kind, Token, lex};
use super::literal::{number, unquote};
use super::node::{Branch, Call, Command, Node, Pipe, Word, WordKind};
use super::{Template, TemplateError, functions};

/// How deep actions and parentheses may lie in each other: more is a mistake, and would fill the stack.
const MAX_DEPTH: usize = 100;

pub(super) fn parse(text: &str) -> Result<Template, TemplateError> {
    let mut parser = Parser {
        tokens: lex(text),
        next: 0,
        line: 1,
        action_line: 0,
        variables: vec!["$".to_owned()],
        ranges: 0,
        depth: 0,
        defined: BTreeMap::new(),
    };
    let root = parser.top()?;
    Ok(Template { text: text.to_owned(), root, defined: parser.defined })
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    /// Of the token looked at last.
    line: usize,
    /// Where the action began; 0 outside.
    action_line: usize,
    variables: Vec<String>,
    ranges: usize,
    depth: usize,
    defined: BTreeMap<String, Vec<Node>>,
}

/// What ended a list of nodes.
enum End {
    End,
    Else,
}

impl Parser {
    fn error<T>(&self, message: impl std::fmt::Display) -> Result<T, TemplateError> {
        Err(TemplateError(format!("template: :{}: {message}", self.line)))
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Result<T, TemplateError> {
        if token.kind == Kind::Error {
            let mut extra = String::new();
            if self.action_line != 0 && self.action_line != token.line {
                let action = if token.text.ends_with(" action") { "" } else { " in action" };
                extra = format!("{action} started at :{}", self.action_line);
            }
            return self.error(format!("{token}{extra}"));
        }
        self.error(format!("unexpected {token} in {context}"))
    }

    fn peek(&mut self) -> Token {
        // The last token, the end or an error, stays.
        let token = self.tokens[self.next.min(self.tokens.len() - 1)].clone();
        self.line = token.line;
        token
    }

    fn take(&mut self) -> Token {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.next += 1;
        }
    }

    fn peek_word(&mut self) -> Token {
        self.skip_space();
        self.peek()
    }

    fn take_word(&mut self) -> Token {
        self.skip_space();
        self.take()
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Result<(), TemplateError> {
        let token = self.take_word();
        if token.kind == kind { Ok(()) } else { self.unexpected(&token, context) }
    }

    fn top(&mut self) -> Result<Vec<Node>, TemplateError> {
        let mut nodes = Vec::new();
        loop {
            let before = self.next;
            let token = self.take();
            match token.kind {
                Kind::Eof => return Ok(nodes),
                Kind::LeftDelim if self.peek_word().kind == Kind::Keyword(Keyword::Define) => {
                    self.take();
                    self.definition()?;
                }
                _ => {
                    self.next = before;
                    match self.text_or_action()? {
                        Ok(Some(node)) => nodes.push(node),
                        Ok(None) => {}
                        Err(End::End) => return self.error("unexpected {{end}}"),
                        Err(End::Else) => return self.error("unexpected {{else}}"),
                    }
                }
            }
        }
    }

    fn definition(&mut self) -> Result<(), TemplateError> {
        const CONTEXT: &str = "define clause";
        let token = self.take_word();
        let name = self.template_name(&token, CONTEXT)?;
        self.expect(Kind::RightDelim, CONTEXT)?;
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let body = self.until_end(CONTEXT)?;
        self.variables = variables;
        self.define(name, body)
    }

    /// A definition takes the place of an empty one only.
    fn define(&mut self, name: String, body: Vec<Node>) -> Result<(), TemplateError> {
        let is_empty =
            |nodes: &[Node]| nodes.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()));
        match self.defined.get(&name) {
            Some(old) if !is_empty(old) => {
                if !is_empty(&body) {
                    return self.error(format!("template: multiple definition of template {}", go::quote(&name)));
                }
            }
            _ => drop(self.defined.insert(name, body)),
        }
        Ok(())
    }

    fn until_end(&mut self, context: &str) -> Result<Vec<Node>, TemplateError> {
        match self.list()? {
            (nodes, End::End) => Ok(nodes),
            (_, End::Else) => self.error(format!("unexpected {{{{else}}}} in {context}")),
        }
    }

    fn list(&mut self) -> Result<(Vec<Node>, End), TemplateError> {
        let mut nodes = Vec::new();
        while self.peek_word().kind != Kind::Eof {
            match self.text_or_action()? {
                Ok(node) => nodes.extend(node),
                Err(end) => return Ok((nodes, end)),
            }
        }
        self.error("unexpected EOF")
    }

    fn text_or_action(&mut self) -> Result<Result<Option<Node>, End>, TemplateError> {
        let token = self.take_word();
        match token.kind {
            Kind::Text => Ok(Ok(Some(Node::Text(token.text)))),
            Kind::LeftDelim => {
                self.action_line = token.line;
                let node = self.action();
                self.action_line = 0;
                node
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self) -> Result<Result<Option<Node>, End>, TemplateError> {
        let token = self.peek_word();
        let Kind::Keyword(keyword) = token.kind else {
            return Ok(Ok(Some(Node::Action(self.pipeline("command", Kind::RightDelim)?))));
        };
        self.take();
        let node = match keyword {
            Keyword::Block => Node::Template(self.block()?),
            Keyword::Template => Node::Template(self.call()?),
            Keyword::Break => self.jump("{{break}}", Node::Break)?,
            Keyword::Continue => self.jump("{{continue}}", Node::Continue)?,
            Keyword::If => Node::If(self.branch("if")?),
            Keyword::With => Node::With(self.branch("with")?),
            Keyword::Range => Node::Range(self.branch("range")?),
            Keyword::End => {
                self.expect(Kind::RightDelim, "end")?;
                return Ok(Err(End::End));
            }
            Keyword::Else => {
                if !matches!(self.peek_word().kind, Kind::Keyword(Keyword::If | Keyword::With)) {
                    self.expect(Kind::RightDelim, "else")?;
                }
                return Ok(Err(End::Else));
            }
            Keyword::Define => return self.unexpected(&token, "command"),
        };
        Ok(Ok(Some(node)))
    }

    fn jump(&mut self, name: &str, node: Node) -> Result<Node, TemplateError> {
        self.expect(Kind::RightDelim, name)?;
        if self.ranges == 0 {
            return self.error(format!("{name} outside {{{{range}}}}"));
        }
        Ok(node)
    }

    fn branch(&mut self, context: &str) -> Result<Branch, TemplateError> {
        self.deeper()?;
        let variables = self.variables.len();
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        let ranges = usize::from(context == "range");
        self.ranges += ranges;
        let (body, end) = self.list()?;
        self.ranges -= ranges;
        let otherwise = match (end, self.peek().kind) {
            (End::End, _) => None,
            // `{{else if x}}` is `{{else}}{{if x}}` with one `{{end}}` for both.
            (End::Else, Kind::Keyword(Keyword::If)) if context == "if" => {
                self.take();
                Some(vec![Node::If(self.branch("if")?)])
            }
            (End::Else, Kind::Keyword(Keyword::With)) if context == "with" => {
                self.take();
                Some(vec![Node::With(self.branch("with")?)])
            }
            (End::Else, _) => match self.list()? {
                (nodes, End::End) => Some(nodes),
                (_, End::Else) => return self.error("expected end; found {{else}}"),
            },
        };
        self.variables.truncate(variables);
        self.depth -= 1;
        Ok(Branch { pipe, body, otherwise })
    }

    fn deeper(&mut self) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { self.error("nested too deeply") } else { Ok(()) }
    }

    fn template_name(&mut self, token: &Token, context: &str) -> Result<String, TemplateError> {
        match token.kind {
            Kind::String | Kind::RawString => self.unquote(&token.text),
            _ => self.unexpected(token, context),
        }
    }

    fn block(&mut self) -> Result<Call, TemplateError> {
        const CONTEXT: &str = "block clause";
        self.deeper()?;
        let token = self.take_word();
        let name = self.template_name(&token, CONTEXT)?;
        let pipe = self.pipeline(CONTEXT, Kind::RightDelim)?;
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.ranges);
        let body = self.until_end(CONTEXT)?;
        self.variables = variables;
        self.ranges = ranges;
        self.depth -= 1;
        self.define(name.clone(), body)?;
        Ok(Call { at: token.at, name, pipe: Some(pipe) })
    }

    fn call(&mut self) -> Result<Call, TemplateError> {
        const CONTEXT: &str = "template clause";
        let token = self.take_word();
        let name = self.template_name(&token, CONTEXT)?;
        let pipe = if self.peek_word().kind == Kind::RightDelim {
            self.take();
            None
        } else {
            Some(self.pipeline(CONTEXT, Kind::RightDelim)?)
        };
        Ok(Call { at: token.at, name, pipe })
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe, TemplateError> {
        self.deeper()?;
        let at = self.peek_word().at;
        let mut pipe = Pipe { at, variables: Vec::new(), assigns: false, commands: Vec::new() };
        self.declarations(&mut pipe, context)?;
        loop {
            let token = self.peek_word();
            match token.kind {
                kind if kind == end => {
                    self.take();
                    break;
                }
                Kind::Bool
                | Kind::CharConstant
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return self.unexpected(&token, context),
            }
        }
        if pipe.commands.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        for (stage, command) in pipe.commands.iter().enumerate().skip(1) {
            use WordKind::{Bool, Dot, Nil, Number, String};
            if matches!(command.words[0].kind, Bool(_) | Dot | Nil | Number { .. } | String { .. }) {
                return self.error(format!("non executable command in pipeline stage {}", stage + 1));
            }
        }
        self.depth -= 1;
        Ok(pipe)
    }

    /// `$x :=`, `$x =`, or in loops `$i, $x :=`.
    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Result<(), TemplateError> {
        while self.peek_word().kind == Kind::Variable {
            let before = self.next;
            let variable = self.take().text;
            let token = self.peek_word();
            match token.kind {
                Kind::Assign | Kind::Declare => {
                    self.take();
                    pipe.assigns = token.kind == Kind::Assign;
                    self.variables.push(variable.clone());
                    pipe.variables.push(variable);
                    return Ok(());
                }
                Kind::Char if token.text == "," => {
                    self.take();
                    self.variables.push(variable.clone());
                    pipe.variables.push(variable);
                    if context != "range" || pipe.variables.len() > 1 {
                        return self.error(format!("too many declarations in {context}"));
                    }
                    if !matches!(self.peek_word().kind, Kind::Variable | Kind::RightDelim | Kind::RightParen) {
                        return self.error("range can only initialize variables");
                    }
                }
                _ => {
                    self.next = before;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        let mut command = Command { at: self.peek_word().at, words: Vec::new() };
        loop {
            self.skip_space();
            command.words.extend(self.operand()?);
            let token = self.take();
            match token.kind {
                Kind::Space => {}
                Kind::RightDelim | Kind::RightParen => {
                    self.next -= 1;
                    break;
                }
                Kind::Pipe => break,
                _ => return self.unexpected(&token, "operand"),
            }
        }
        if command.words.is_empty() { self.error("empty command") } else { Ok(command) }
    }

    /// A term and the fields after it; nothing where what follows is none.
    fn operand(&mut self) -> Result<Option<Word>, TemplateError> {
        let Some(mut word) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(word));
        }
        let at = self.peek().at;
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(self.take().text[1..].to_owned());
        }
        match &mut word.kind {
            WordKind::Field(names) | WordKind::Variable(names) => {
                names.extend(fields);
                word.at = at;
            }
            WordKind::Bool(_) | WordKind::String { .. } | WordKind::Number { .. } | WordKind::Nil | WordKind::Dot => {
                return self.error(format!("unexpected . after term {}", go::quote(&word.to_string())));
            }
            _ => return Ok(Some(Word { at, kind: WordKind::Chain(Box::new(word), fields) })),
        }
        Ok(Some(word))
    }

    fn term(&mut self) -> Result<Option<Word>, TemplateError> {
        let token = self.take_word();
        let kind = match token.kind {
            Kind::Identifier => {
                if !functions::is_known(&token.text) {
                    return self.error(format!("function {} not defined", go::quote(&token.text)));
                }
                WordKind::Identifier(token.text)
            }
            Kind::Dot => WordKind::Dot,
            Kind::Nil => WordKind::Nil,
            Kind::Variable => {
                if !self.variables.contains(&token.text) {
                    return self.error(format!("undefined variable {}", go::quote(&token.text)));
                }
                WordKind::Variable(vec![token.text])
            }
            Kind::Field => WordKind::Field(vec![token.text[1..].to_owned()]),
            Kind::Bool => WordKind::Bool(token.text == "true"),
            Kind::Number | Kind::CharConstant => match number(&token.text) {
                Some(value) => WordKind::Number { text: token.text, value },
                None if token.kind == Kind::CharConstant => {
                    return self.error(format!("malformed character constant: {}", token.text));
                }
                // A number that only a float could hold, but that does not look like one.
                None if token.text.parse::<f64>().is_ok() && !token.text.contains(['.', 'e', 'E']) => {
                    return self.error(format!("integer overflow: {}", go::quote(&token.text)));
                }
                None => return self.error(format!("illegal number syntax: {}", go::quote(&token.text))),
            },
            Kind::LeftParen => {
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                return Ok(Some(Word { at: pipe.at, kind: WordKind::Pipe(Box::new(pipe)) }));
            }
            Kind::String | Kind::RawString => {
                let text = self.unquote(&token.text)?;
                WordKind::String { quoted: token.text, text }
            }
            _ => {
                self.next -= 1;
                return Ok(None);
            }
        };
        Ok(Some(Word { at: token.at, kind }))
    }

    fn unquote(&self, quoted: &str) -> Result<String, TemplateError> {
        unquote(quoted).map_or_else(|| self.error("invalid syntax"), Ok)
    }
}

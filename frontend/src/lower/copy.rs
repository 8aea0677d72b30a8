//! `COPY` and `ADD`.

use lap_solver::graph::{self, File, FileAction, Mode, Op, Source, Unpack, VertexId};
use lap_solver::path;
use lap_solver::pattern::Matcher;

use super::Lowering;
use super::state::State;
use crate::diagnostic::Fault;
use crate::git::{self, GitReference};
use crate::plan::Step;
use crate::source::Span;
use crate::syntax::{Argument, Instruction, Transfer};
use crate::word::Lexer;
use crate::{go, lint, reference};

/// Position of `vertex` among `inputs`, put at the end where it is not there yet.
pub(super) fn input(inputs: &mut Vec<VertexId>, vertex: VertexId) -> u32 {
    let at = inputs.iter().position(|known| *known == vertex).unwrap_or_else(|| {
        inputs.push(vertex);
        inputs.len() - 1
    });
    // No instruction has u32::MAX inputs.
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// A `COPY` or `ADD` with its words expanded.
struct Job<'a> {
    instruction: &'a Instruction,
    is_add: bool,
    dest: String,
    chown: Option<String>,
    mode: Option<Mode>,
    checksum: Option<String>,
    exclude: Vec<String>,
    parents: bool,
    keep_git_dir: Option<bool>,
    unpack: Option<bool>,
    /// What local paths are taken from; none is an empty file system.
    from: Option<VertexId>,
    keep_owner: bool,
    inputs: Vec<VertexId>,
    actions: Vec<FileAction>,
}

impl Lowering<'_> {
    pub(super) fn transfer(
        &mut self,
        state: &mut State,
        step: &Step,
        transfer: &Transfer,
        is_add: bool,
    ) -> Result<(), Fault> {
        let at = &step.instruction;
        let optional = |this: &mut Self, word: &Option<Argument>| match word {
            None => Ok(None),
            Some(word) => this.argument(state, at, word).map(|text| Some(text).filter(|text| !text.is_empty())),
        };
        let chown = optional(self, &transfer.chown)?;
        let chmod = optional(self, &transfer.chmod)?;
        let checksum = optional(self, &transfer.checksum)?;
        let mode = match (&chmod, &transfer.chmod) {
            (Some(text), Some(word)) => Some(mode(text).map_err(|fault| fault.at(word.span))?),
            _ => None,
        };
        let mut sources = Vec::new();
        for word in &transfer.sources {
            sources.push((self.argument(state, at, word)?, word.span));
        }
        let dest = self.argument(state, at, &transfer.dest)?;
        let mut exclude = Vec::new();
        for word in &transfer.exclude {
            exclude.push(self.argument(state, at, word)?);
        }
        if let Err(error) = Matcher::new(&exclude) {
            let span = transfer.exclude.first().map_or(at.span, |word| word.span);
            return Err(Fault::new(format!("--exclude: {error}")).at(span));
        }
        if checksum.is_some() {
            check_checksum(&sources, transfer)
                .map_err(|fault| fault.at(transfer.checksum.as_ref().map_or(at.span, |word| word.span)))?;
        }
        let is_local = |text: &str| !is_http(text) && !matches!(git::parse(text, false), Ok(Some(_)) | Err(_));
        let uses_context = sources.iter().any(|(text, _)| is_local(text));
        let (from, keep_owner) = self.taken_from(state, step, transfer, &chown, uses_context)?;
        let link = transfer.link && chmod.is_none();
        let root = state.root.filter(|_| !link);
        let mut job = Job {
            instruction: at,
            is_add,
            dest: destination(state, &dest),
            chown,
            mode,
            checksum,
            exclude,
            parents: transfer.parents,
            keep_git_dir: transfer.keep_git_dir,
            unpack: transfer.unpack,
            from,
            keep_owner,
            inputs: root.into_iter().collect(),
            actions: Vec::new(),
        };
        let mut text = history(&job, chmod.as_deref());
        let name = self.shown(at, self.stages.lexer, &state.variables);
        for (source, span) in &sources {
            text.push_str(&format!(" {source}"));
            self.source(&mut job, source, transfer.from.is_some(), &name).map_err(|fault| fault.at(*span))?;
        }
        for index in &transfer.documents {
            let Some(heredoc) = at.heredocs.get(*index) else { continue };
            text.push_str(&format!(" <<{}", heredoc.name));
            let data = if heredoc.expand {
                let lexer = Lexer { plain_quotes: true, ..Lexer::new('\\') };
                self.expand(state, at, &heredoc.body(), lexer)?
            } else {
                heredoc.body()
            };
            let name = path::base(&path::clean(&format!("/{}", heredoc.name))).to_owned();
            if name == "/" {
                return Err(Fault::new(format!("a heredoc cannot be called {}", go::quote(&heredoc.name))));
            }
            let (mode, owner) = (job.mode.clone(), job.chown.clone());
            job.actions.push(FileAction::Mkfile { path: job.dest.clone(), name, data, mode, owner });
        }
        text.push_str(&format!(" {dest} # buildkit"));
        let vertex = self.add_file(state, step, job, root, link, name);
        state.root = Some(vertex);
        state.commit_step(text, vertex);
        Ok(())
    }

    fn argument(&mut self, state: &State, at: &Instruction, word: &Argument) -> Result<String, Fault> {
        self.word(state, at, &word.text).map_err(|fault| fault.at(word.span))
    }

    /// Where local paths come from, and whether owners there mean something.
    fn taken_from(
        &mut self,
        state: &State,
        step: &Step,
        transfer: &Transfer,
        chown: &Option<String>,
        uses_context: bool,
    ) -> Result<(Option<VertexId>, bool), Fault> {
        let Some(node) = step.sources.first().copied().flatten() else {
            return Ok((uses_context.then(|| self.context()), false));
        };
        let name = transfer.from.as_ref();
        match self.states.get(node).and_then(Option::as_ref) {
            Some(source) => Ok((source.root, chown.is_none() && !source.files_only)),
            None => {
                let from = go::quote(name.map_or("", |name| name.text.as_str()));
                let own = go::quote(&state.label);
                let message =
                    format!("cannot copy from stage {from}, it needs to be defined before current stage {own}");
                let fault = Fault::new(message);
                Err(match name {
                    Some(name) => fault.at(name.span),
                    None => fault,
                })
            }
        }
    }

    fn source(&mut self, job: &mut Job<'_>, text: &str, has_from: bool, name: &str) -> Result<(), Fault> {
        let git = git::parse(text, job.keep_git_dir.is_some() && is_http(text));
        if let Some(git) = git.map_err(|error| Fault::new(error.to_string()))? {
            if !job.is_add {
                return Err(Fault::new("source can't be a git ref for COPY"));
            }
            if let (Some(flag), Some(query)) = (job.keep_git_dir, git.keep_git_dir)
                && flag != query
            {
                return Err(Fault::new("inconsistent keep-git-dir configuration"));
            }
            if let (Some(flag), Some(query)) = (&job.checksum, &git.checksum)
                && flag != query
            {
                return Err(Fault::new(format!("checksum mismatch {} != {}", go::quote(flag), go::quote(query))));
            }
            let source = git_source(git, job.keep_git_dir, job.checksum.clone());
            self.remote(job, source, "/".to_owned(), Unpack::No, name);
            return Ok(());
        }
        if is_http(text) {
            if !job.is_add {
                return Err(Fault::new("source can't be a URL for COPY"));
            }
            if let Some(checksum) = &job.checksum {
                reference::digest(checksum).map_err(|error| Fault::new(error.to_string()))?;
            }
            let file = format!("/{}", file_name(text));
            let unpack = if job.unpack == Some(true) { Unpack::IfArchive } else { Unpack::No };
            self.remote(job, http_source(text, job.checksum.clone()), file, unpack, name);
            return Ok(());
        }
        if !has_from {
            self.check_ignored(job, text);
        }
        local(job, text);
        Ok(())
    }

    /// Copies from a source that the instruction brings in itself.
    fn remote(&mut self, job: &mut Job<'_>, source: Source, path: String, unpack: Unpack, name: &str) {
        let metadata = graph::Metadata {
            name: name.to_owned(),
            location: Some(self.location(job.instruction)),
            ..graph::Metadata::default()
        };
        let vertex = self.builder.add(Op::Source(source), Vec::new(), metadata);
        let from = Some(input(&mut job.inputs, vertex));
        let copy = graph::Copy { from, source: path, unpack, ..blank(job) };
        job.actions.push(FileAction::Copy(copy));
    }

    /// The step, laid over the root only afterwards where it is linked.
    fn add_file(
        &mut self,
        state: &mut State,
        step: &Step,
        job: Job<'_>,
        root: Option<VertexId>,
        link: bool,
        name: String,
    ) -> VertexId {
        let metadata = self.metadata(state, step, name);
        let file = File { root: root.map(|_| 0), actions: job.actions };
        let below = state.root.filter(|_| link);
        let vertex = self.builder.add(Op::File(file), job.inputs, metadata.clone());
        match below {
            None => vertex,
            Some(below) => {
                let metadata = graph::Metadata { name: format!("LINK {}", metadata.name), ..metadata };
                self.builder.add(Op::Merge, vec![below, vertex], metadata)
            }
        }
    }

    fn check_ignored(&mut self, job: &Job<'_>, text: &str) {
        let Some(patterns) = &self.options.ignore else { return };
        // An exception may bring back a part of an ignored directory: nothing can be said then.
        if patterns.iter().any(|pattern| pattern.starts_with('!')) {
            return;
        }
        let Ok(matcher) = Matcher::new(patterns) else { return };
        let cleaned = path::clean(text);
        let cleaned = cleaned.trim_start_matches('/');
        let is_root = matches!(cleaned, "" | ".");
        let all = |pattern: &String| matches!(pattern.as_str(), "*" | "**" | "**/*");
        let ignored = if is_root { patterns.iter().any(all) } else { matcher.matches(cleaned) };
        if ignored {
            let verb = if job.is_add { "Add" } else { "Copy" };
            let path = go::quote(if is_root { "." } else { cleaned });
            let message = format!("Attempting to {verb} file {path} that is excluded by .dockerignore");
            self.report(&lint::COPY_IGNORED_FILE, job.instruction, message);
        }
    }
}

/// Copies a path or pattern of the context, a stage or an image.
fn local(job: &mut Job<'_>, text: &str) {
    let (source, include) = if job.parents {
        let (parent, pattern) = text.split_once("/./").unwrap_or(("/", text));
        let pattern = path::clean(&format!("/{pattern}"));
        (parent, vec![pattern.trim_start_matches('/').to_owned()])
    } else {
        (text, Vec::new())
    };
    let unpack = match job.unpack {
        Some(unpack) => unpack,
        None => job.is_add,
    };
    let from = job.from.map(|from| input(&mut job.inputs, from));
    let copy = graph::Copy {
        from,
        source: path::clean(&format!("/{source}")),
        keep_owner: job.keep_owner,
        wildcard: has_wildcards(source),
        unpack: if unpack { Unpack::IfArchive } else { Unpack::No },
        include,
        parents: job.parents,
        ..blank(job)
    };
    job.actions.push(FileAction::Copy(copy));
}

/// A copy with what all sources of an instruction share.
fn blank(job: &Job<'_>) -> graph::Copy {
    graph::Copy {
        from: None,
        source: String::new(),
        dest: job.dest.clone(),
        owner: job.chown.clone(),
        keep_owner: false,
        mode: job.mode.clone(),
        wildcard: false,
        unpack: Unpack::No,
        include: Vec::new(),
        exclude: job.exclude.clone(),
        parents: false,
    }
}

fn history(job: &Job<'_>, chmod: Option<&str>) -> String {
    let mut text = if job.is_add { "ADD" } else { "COPY" }.to_owned();
    if job.parents {
        text.push_str(" --parents");
    }
    if let Some(chown) = &job.chown {
        text.push_str(&format!(" --chown={chown}"));
    }
    if let Some(chmod) = chmod {
        text.push_str(&format!(" --chmod={chmod}"));
    }
    text
}

/// The destination as an absolute path; a slash at its end stays.
fn destination(state: &State, text: &str) -> String {
    let path = state.resolve(text);
    let is_directory = text.is_empty() || text == "." || text.ends_with('/') || text.ends_with("/.");
    if is_directory && path != "/" { format!("{path}/") } else { path }
}

fn check_checksum(sources: &[(String, Span)], transfer: &Transfer) -> Result<(), Fault> {
    let [(source, _)] = sources else {
        return Err(Fault::new("checksum can't be specified for multiple sources"));
    };
    let is_git = git::parse(source, transfer.keep_git_dir.is_some() && is_http(source)).is_ok_and(|git| git.is_some());
    if is_git || is_http(source) { Ok(()) } else { Err(Fault::new("checksum requires HTTP(S) or Git sources")) }
}

fn is_http(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Whether a path is a pattern: an escaped letter makes it none.
fn has_wildcards(path: &str) -> bool {
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '*' | '?' | '[' => return true,
            '\\' => {
                letters.next();
            }
            _ => {}
        }
    }
    false
}

/// The source of a git reference; flags and query agree already.
pub(crate) fn git_source(git: GitReference, keep_git_dir: Option<bool>, checksum: Option<String>) -> Source {
    Source::Git {
        url: git.remote,
        reference: git.reference,
        subdir: git.subdir,
        keep_git_dir: git.keep_git_dir.or(keep_git_dir).unwrap_or(false),
        checksum: git.checksum.or(checksum),
        skip_submodules: git.submodules == Some(false),
    }
}

/// The source that an address of a named context stands for; nothing where it is none.
///
/// `known_git` says that an HTTP URL without `.git` is a repository all the same.
///
/// # Errors
/// Where it names a repository in a way that cannot be carried out.
pub fn remote_source(address: &str, known_git: bool) -> Result<Option<Source>, git::GitError> {
    match git::parse(address, known_git)? {
        Some(git) => Ok(Some(git_source(git, None, None))),
        None => Ok(is_http(address).then(|| http_source(address, None))),
    }
}

/// The source of a URL.
pub(crate) fn http_source(url: &str, checksum: Option<String>) -> Source {
    Source::Http { url: url.to_owned(), checksum, filename: file_name(url) }
}

/// The last part of a URL's path.
fn file_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    let decoded = git::decode(&path.replace('+', "%2B"));
    match path::base(&decoded) {
        "." | ".." | "/" => "__unnamed__".to_owned(),
        name => name.to_owned(),
    }
}

/// `--chmod`: octal bits, or clauses such as `u=rwX,go=rX`.
fn mode(text: &str) -> Result<Mode, Fault> {
    const FORMS: &str = "write octal bits such as 0644, or clauses such as u=rwX,go=rX";
    let octal = || {
        let message = format!("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777");
        Fault::new(message).hint(Some(FORMS.to_owned()))
    };
    match u32::from_str_radix(text, 8) {
        Ok(bits) if bits <= 0o7777 && !text.starts_with('+') => return Ok(Mode::Bits(bits)),
        Ok(_) => return Err(octal()),
        Err(_) if text.starts_with(|first: char| first.is_ascii_digit()) => return Err(octal()),
        Err(_) => {}
    }
    if text.split(',').all(is_clause) {
        return Ok(Mode::Symbolic(text.to_owned()));
    }
    Err(Fault::new(format!("invalid chmod parameter: '{text}'")).hint(Some(FORMS.to_owned())))
}

/// `ugo=rwX`, `+x`, `a-w+r`
fn is_clause(clause: &str) -> bool {
    let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    actions.starts_with(['+', '-', '='])
        && actions
            .chars()
            .all(|letter| matches!(letter, '+' | '-' | '=' | 'r' | 'w' | 'x' | 'X' | 's' | 't' | 'u' | 'g' | 'o'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_bits_or_clauses() {
        assert_eq!(mode("0644"), Ok(Mode::Bits(0o644)));
        assert_eq!(mode("u=rwX,go=rX"), Ok(Mode::Symbolic("u=rwX,go=rX".into())));
        for text in ["10000", "64a", "u", "rwx", "u=z", "u=r,"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_have_file_names() {
        for (url, want) in [
            ("https://h/a/b.tar.gz?x=1#y", "b.tar.gz"),
            ("https://h", "__unnamed__"),
            ("https://h/", "__unnamed__"),
            ("https://h/a%20b+c", "a b+c"),
            ("https://h/..", "__unnamed__"),
            ("https://h/%2e%2e%2fx", "x"),
        ] {
            assert_eq!(file_name(url), want, "{url}");
        }
    }

    #[test]
    fn wildcards_can_be_escaped() {
        assert!(has_wildcards("a*") && has_wildcards("[a]") && has_wildcards("\\\\?"));
        assert!(!has_wildcards("a\\*") && !has_wildcards("a"));
    }
}

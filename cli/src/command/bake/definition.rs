//! Where the definitions of a bake are: files here, standard input, a repository or an archive elsewhere.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use lap_cache::store::Lease;
use lap_solver::platform::Platform;

use super::words::is_remote;
use crate::args::Bake;
use crate::bake::{DEFAULT_FILES, Fault, Source};
use crate::command::App;
use crate::pipeline::{Context, Fetched, Opener};
use crate::settings::variable;
use crate::ui::error::Hint as _;

/// Largest bake file that is read.
const FILE_LIMIT: u64 = 16 << 20;

/// What was typed: where the definitions are, where `cwd://` is, and which targets are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    url: Option<&'a str>,
    /// `BAKE_CMD_CONTEXT` of the files.
    pub(super) command_context: &'a str,
    pub(super) targets: &'a [String],
}

impl<'a> Asked<'a> {
    /// One URL is where the files are, a second one the context of the command.
    pub(super) fn new(words: &'a [String]) -> Self {
        let mut asked = Self { url: None, command_context: "cwd://", targets: words };
        if let [first, rest @ ..] = asked.targets
            && is_remote(first)
        {
            (asked.url, asked.targets) = (Some(first.as_str()), rest);
            if let [second, rest @ ..] = rest
                && is_remote(second)
            {
                (asked.command_context, asked.targets) = (second.as_str(), rest);
            }
        }
        asked
    }

    /// Reads the files that are named, or all that have one of the usual names.
    ///
    /// # Errors
    /// Where one cannot be read, or there is none.
    pub(super) fn read(&self, app: &App, args: &Bake) -> anyhow::Result<(Vec<Source>, Place)> {
        let named = if args.files.is_empty() { of_environment() } else { args.files.clone() };
        let mut sources = Vec::new();
        let mut place = Place::Here;
        let here: Vec<PathBuf>;
        if let Some(url) = self.url {
            let (local, remote): (Vec<&PathBuf>, Vec<&PathBuf>) =
                named.iter().partition(|path| path.to_str().is_some_and(|path| path.starts_with("cwd://")));
            (place, sources) = fetch(app, args, url, &remote)?;
            here = local.into_iter().map(|path| local_path(path)).collect();
        } else {
            here = named.iter().map(|path| local_path(path)).collect();
        }
        for path in &here {
            if path.as_os_str() == "-" {
                sources.push(source("standard input", &mut std::io::stdin().lock())?);
                continue;
            }
            let mut file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            sources.push(source(&path.display().to_string(), &mut file)?);
        }
        if self.url.is_none() && named.is_empty() {
            for name in DEFAULT_FILES {
                match std::fs::File::open(name) {
                    Ok(mut file) => sources.push(source(name, &mut file)?),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error).with_context(|| format!("cannot read {name}")),
                }
            }
        }
        if sources.is_empty() {
            return Err(anyhow::anyhow!("there is no bake file {}", if self.url.is_some() { "there" } else { "here" }))
                .hint("name one with -f, or write docker-bake.hcl");
        }
        Ok((sources, place))
    }
}

/// `BUILDX_BAKE_FILE`, with its separator.
fn of_environment() -> Vec<PathBuf> {
    let separator = variable("BUILDX_BAKE_PATH_SEPARATOR").unwrap_or_else(|| ":".to_owned());
    let files = variable("BUILDX_BAKE_FILE").unwrap_or_default();
    files.split(&separator).map(str::trim).filter(|path| !path.is_empty()).map(PathBuf::from).collect()
}

fn local_path(path: &Path) -> PathBuf {
    path.to_str().and_then(|path| path.strip_prefix("cwd://")).map_or_else(|| path.to_path_buf(), PathBuf::from)
}

fn source(name: &str, reader: &mut dyn Read) -> anyhow::Result<Source> {
    let mut text = Vec::new();
    reader.take(FILE_LIMIT + 1).read_to_end(&mut text).with_context(|| format!("cannot read {name}"))?;
    if text.len() as u64 > FILE_LIMIT {
        bail!("{name} is larger than {FILE_LIMIT} bytes: no bake file");
    }
    let text = String::from_utf8(text).map_err(|_| anyhow::anyhow!("{name} is no text of UTF-8"))?;
    Ok(Source::new(name, text.strip_prefix('\u{feff}').unwrap_or(&text)))
}

/// Fetches what a URL names, and reads the bake files in it.
fn fetch(app: &App, args: &Bake, url: &str, names: &[&PathBuf]) -> anyhow::Result<(Place, Vec<Source>)> {
    let opener = Opener {
        app,
        mirrors: &args.registry_mirrors,
        secrets: &[],
        ssh: &[],
        platforms: &[Platform::host()],
        tells: true,
        inline: None,
    };
    let context = Context::parse(Path::new(url))?;
    let (directory, lease) = match opener.fetch(&context).with_context(|| format!("cannot fetch {url}"))? {
        Fetched::File(text) => {
            if let Some(name) = names.first() {
                bail!("{url} is a bake file itself: there is no {} in it", name.display());
            }
            return Ok((Place::Here, vec![source(url, &mut text.as_slice())?]));
        }
        Fetched::Directory(directory, lease) => (directory, lease),
    };
    let usual: Vec<PathBuf> = DEFAULT_FILES.iter().map(PathBuf::from).collect();
    let wanted: Vec<&PathBuf> = if names.is_empty() { usual.iter().collect() } else { names.to_vec() };
    let mut sources = Vec::new();
    for name in wanted {
        match crate::pipeline::read_inside(&directory, name)
            .with_context(|| format!("cannot read {}", name.display()))?
        {
            Some(text) => sources.push(source(&name.display().to_string(), &mut text.as_slice())?),
            None if names.is_empty() => {}
            None => bail!("{url} has no {}", name.display()),
        }
    }
    let place = match context {
        Context::Git(_) => Place::Repository { url: url.to_owned(), directory, _lease: lease },
        _ => Place::Unpacked { directory, _lease: lease },
    };
    Ok((place, sources))
}

/// What the contexts of the targets are relative to.
#[derive(Debug)]
pub(super) enum Place {
    /// The working directory.
    Here,
    /// A repository.
    Repository { url: String, directory: PathBuf, _lease: Lease },
    /// An archive of a web server, unpacked in the store.
    Unpacked { directory: PathBuf, _lease: Lease },
}

impl Place {
    /// The text of a file beside the definitions, none where there is none; `.env` is the user's own.
    ///
    /// # Errors
    /// Where it is there and cannot be read.
    pub(super) fn read(&self, path: &str) -> Result<Option<String>, Fault> {
        let fault = |error: String| Fault::new(format!("cannot read {path}: {error}"));
        let found = match self {
            Self::Repository { directory, .. } | Self::Unpacked { directory, .. } if path != ".env" => {
                crate::pipeline::read_inside(directory, Path::new(path)).map_err(|error| fault(format!("{error:#}")))?
            }
            _ => match std::fs::File::open(path) {
                Ok(file) if file.metadata().is_ok_and(|found| found.is_dir()) => None,
                Ok(file) => {
                    let mut text = Vec::new();
                    file.take(FILE_LIMIT).read_to_end(&mut text).map_err(|error| fault(error.to_string()))?;
                    Some(text)
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(fault(error.to_string())),
            },
        };
        found.map(|text| String::from_utf8(text).map_err(|_| fault("no text of UTF-8".to_owned()))).transpose()
    }

    /// A context of a target as `lap build` takes it.
    pub(super) fn context(&self, text: &str) -> String {
        if let Some(path) = text.strip_prefix("cwd://") {
            return if path.is_empty() { ".".to_owned() } else { path.to_owned() };
        }
        if is_remote(text) || Path::new(text).is_absolute() {
            return text.to_owned();
        }
        match self {
            Self::Here => text.to_owned(),
            Self::Repository { url, .. } => inside(url, text),
            Self::Unpacked { directory, .. } => directory.join(text).display().to_string(),
        }
    }
}

/// A directory of the repository that a URL names.
fn inside(url: &str, path: &str) -> String {
    let path = clean(path);
    let below = |directory: &str| clean(&format!("{directory}/{path}")).trim_start_matches('/').to_owned();
    if path == "." {
        return url.to_owned();
    }
    if let Some((repository, query)) = url.split_once('?') {
        let (query, fragment) = query.split_once('#').unwrap_or((query, ""));
        let given = query.split('&').find_map(|pair| pair.strip_prefix("subdir=")).unwrap_or_default();
        let mut pairs: Vec<String> =
            query.split('&').filter(|pair| !pair.starts_with("subdir=")).map(str::to_owned).collect();
        pairs.push(format!("subdir={}", below(given)));
        let fragment = if fragment.is_empty() { String::new() } else { format!("#{fragment}") };
        return format!("{repository}?{}{fragment}", pairs.join("&"));
    }
    let (repository, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
    format!("{repository}#{reference}:{}", below(directory))
}

/// A path without empty parts, `.` and `..` where something stands before it.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if path.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (path.starts_with('/'), joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_come_before_targets() {
        let words: Vec<String> =
            ["https://example.com/a.git", "git@example.com:b.git", "app"].map(str::to_owned).into();
        let asked = Asked::new(&words);
        assert_eq!((asked.url, asked.command_context), (Some("https://example.com/a.git"), "git@example.com:b.git"));
        assert_eq!(asked.targets, ["app"]);
        let asked = Asked::new(&words[2..]);
        assert_eq!((asked.url, asked.command_context, asked.targets.len()), (None, "cwd://", 1));
    }

    #[test]
    fn contexts_are_seen_from_the_definitions() {
        let url = "https://example.com/a.git#v1:sub";
        for (text, seen) in [
            (".", "https://example.com/a.git#v1:sub"),
            ("./app/", "https://example.com/a.git#v1:sub/app"),
            ("../other", "https://example.com/a.git#v1:other"),
        ] {
            assert_eq!(inside(url, text), seen, "{text}");
        }
        assert_eq!(inside("https://example.com/a.git", "app"), "https://example.com/a.git#:app");
        assert_eq!(
            inside("https://example.com/a.git?ref=v1&subdir=x", "app"),
            "https://example.com/a.git?ref=v1&subdir=x/app"
        );
        for (text, seen) in [
            ("app", "app"),
            ("cwd://", "."),
            ("cwd://x", "x"),
            ("/abs", "/abs"),
            ("git@example.com:b", "git@example.com:b"),
        ] {
            assert_eq!(Place::Here.context(text), seen, "{text}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, cleaned) in [("", "."), ("./a//b/.", "a/b"), ("a/..", "."), ("../a/../b", "../b"), ("/../x/", "/x")]
        {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }
}

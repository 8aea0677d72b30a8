//! Where the files of a build come from: a directory, standard input, a web server, a repository.
//!
//! What was typed is told apart at the door ([`Context::parse`]). What is no directory of this machine is unpacked
//! into a layer of the store, by content, and read from there like a directory: nothing in it leads out of it.

mod fetch;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use lap_cache::digest::Sha256Stream;
use lap_cache::fs;
use lap_cache::layer::{Compression, Owner};
use lap_cache::snapshot::{LayerRef, Snapshot};
use lap_cache::store::Lease;
use lap_cache::store::Store;
use lap_cache::tarball::{extract_into, is_archive};
use lap_executor::grant::Grants;
use lap_executor::source::{Remote, directory, git, http};
use lap_frontend::git::GitReference;
use lap_solver::event::Events;
use lap_solver::graph::Source;
use lap_solver::platform::Platform;
use rustix::fs::OFlags;

pub(crate) use fetch::Fetched;

use super::outputs;
use crate::args::KeyValue;
use crate::command::App;
use crate::settings::variable;
use crate::ui::error::Hint as _;

/// Largest Dockerfile that is read.
const DOCKERFILE_LIMIT: u64 = 16 << 20;
/// Bytes that tell an archive from a Dockerfile: one block of a tar.
const START: u64 = 512;
/// Build argument that keeps `.git` of a context that is a repository.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// A build context as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Context {
    /// A directory of this machine.
    Directory(PathBuf),
    /// An archive or a Dockerfile on standard input.
    Stdin,
    /// A repository.
    Git(GitReference),
    /// An archive or a Dockerfile of a web server.
    Http(String),
}

impl Context {
    /// Tells what was named. A directory that exists comes before any other meaning of its name.
    ///
    /// # Errors
    /// Where it is nothing that can be built from.
    pub(crate) fn parse(text: &Path) -> anyhow::Result<Self> {
        if text == Path::new("-") {
            return Ok(Self::Stdin);
        }
        let found = std::fs::metadata(text);
        if found.as_ref().is_ok_and(std::fs::Metadata::is_dir) {
            return Ok(Self::Directory(text.to_path_buf()));
        }
        if let Some(address) = text.to_str() {
            if let Some(git) = repository(address)? {
                return Ok(Self::Git(git));
            }
            if address.starts_with("http://") || address.starts_with("https://") {
                return Ok(Self::Http(address.to_owned()));
            }
        }
        found.with_context(|| format!("cannot read the build context {}", text.display()))?;
        bail!("the build context {} is no directory", text.display())
    }
}

/// The repository that an address names, if it names one.
fn repository(address: &str) -> anyhow::Result<Option<GitReference>> {
    let short = address.starts_with("github.com/").then(|| format!("https://{address}"));
    let git = lap_frontend::git::parse(short.as_deref().unwrap_or(address), short.is_some());
    git.with_context(|| format!("{} is no repository to build from", http::shown(address)))
}

/// A context and its Dockerfile, ready to be read.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) directory: PathBuf,
    pub(crate) ignore: Vec<String>,
    /// Name of the Dockerfile in messages.
    pub(crate) file_name: String,
    pub(crate) text: Vec<u8>,
    /// Where it was fetched from, with the commit or digest it turned out to be.
    pub(crate) origin: Option<Source>,
    /// Keeps what was fetched in the store.
    pub(crate) lease: Option<Lease>,
}

/// The Dockerfile that was named with `-f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dockerfile<'a> {
    /// None was.
    Default,
    Stdin,
    Url(&'a str),
    Path(&'a Path),
    /// Its text was given.
    Inline(&'a str),
}

impl<'a> Dockerfile<'a> {
    fn parse(named: Option<&'a Path>) -> Self {
        let Some(path) = named else { return Self::Default };
        match path.to_str() {
            Some("-") => Self::Stdin,
            Some(text) if text.starts_with("http://") || text.starts_with("https://") => Self::Url(text),
            _ => Self::Path(path),
        }
    }
}

/// Opens contexts.
pub(crate) struct Opener<'a> {
    pub(crate) app: &'a App,
    pub(crate) mirrors: &'a [KeyValue],
    pub(crate) secrets: &'a [String],
    pub(crate) ssh: &'a [String],
    /// What is built for; at least one.
    pub(crate) platforms: &'a [Platform],
    /// Whether the user is told what is waited for.
    pub(crate) tells: bool,
    /// The text of the Dockerfile, in place of any file.
    pub(crate) inline: Option<&'a str>,
}

impl Opener<'_> {
    /// Opens the main context; `file` is what `-f` said.
    ///
    /// # Errors
    /// Where it cannot be had or has no Dockerfile.
    pub(crate) fn open(&self, context: &Context, file: Option<&Path>, keep_git_dir: bool) -> anyhow::Result<Opened> {
        let file = self.inline.map_or_else(|| Dockerfile::parse(file), Dockerfile::Inline);
        match context {
            Context::Directory(dir) => self.directory(dir, file),
            Context::Stdin if file == Dockerfile::Stdin => {
                bail!("standard input cannot be both the build context and the Dockerfile")
            }
            Context::Stdin => self.stdin(file),
            Context::Http(url) => self.http(url, file),
            Context::Git(git) => {
                let fetched = self.fetch_git(git, keep_git_dir)?;
                let origin = Source::Git {
                    url: git.remote.clone(),
                    reference: git.reference.clone(),
                    subdir: git.subdir.clone(),
                    keep_git_dir: git.keep_git_dir.unwrap_or(keep_git_dir),
                    checksum: Some(fetched.commit),
                    skip_submodules: !git.submodules.unwrap_or(true),
                };
                Ok(Opened { origin: Some(origin), ..self.unpacked(&fetched.snapshot, file)? })
            }
        }
    }

    /// A directory of this machine. The Dockerfile may lie outside of it.
    fn directory(&self, dir: &Path, file: Dockerfile<'_>) -> anyhow::Result<Opened> {
        let path = match file {
            Dockerfile::Stdin | Dockerfile::Url(_) | Dockerfile::Inline(_) => None,
            Dockerfile::Path(path) => Some(path.to_path_buf()),
            Dockerfile::Default => {
                let (path, lower) = (dir.join("Dockerfile"), dir.join("dockerfile"));
                Some(if !path.exists() && lower.exists() { lower } else { path })
            }
        };
        let text = match (&path, file) {
            (Some(path), _) => {
                // A name that was given may be a pipe, as of `-f <(...)`.
                let named = matches!(file, Dockerfile::Path(_));
                let file = if named { File::open(path) } else { open_regular(path) };
                let file = file
                    .with_context(|| format!("cannot read the Dockerfile {}", path.display()))
                    .hint("name the file with -f, or the directory that has a Dockerfile")?;
                read_bounded(file, &path.display().to_string())?
            }
            (None, file) => self.elsewhere(file)?,
        };
        let ignore = ignore_patterns(dir, path.as_deref())?;
        let shown = |path: &PathBuf| path.strip_prefix(dir).unwrap_or(path).display().to_string();
        let file_name = path.as_ref().map_or_else(|| "Dockerfile".to_owned(), shown);
        Ok(Opened { directory: dir.to_path_buf(), ignore, file_name, text, origin: None, lease: None })
    }

    /// A Dockerfile that is no file of a context.
    fn elsewhere(&self, file: Dockerfile<'_>) -> anyhow::Result<Vec<u8>> {
        let url = match file {
            Dockerfile::Inline(text) => return Ok(text.as_bytes().to_vec()),
            Dockerfile::Url(url) => url,
            _ => return read_bounded(std::io::stdin().lock(), "the Dockerfile on standard input"),
        };
        let dir = self.fetch_http(url)?;
        read_inside(&dir, Path::new("Dockerfile"))?.with_context(|| format!("{} is empty", http::shown(url)))
    }

    fn stdin(&self, file: Dockerfile<'_>) -> anyhow::Result<Opened> {
        let what = "the build context on standard input";
        let mut stdin = std::io::stdin();
        let mut start = Vec::new();
        stdin.by_ref().take(START).read_to_end(&mut start).with_context(|| format!("cannot read {what}"))?;
        if start.is_empty() {
            return Err(anyhow::anyhow!("{what} is empty")).hint("send a tar or a Dockerfile");
        }
        let all = std::io::Cursor::new(start.clone()).chain(stdin);
        if Compression::of(&start) != Compression::None || is_archive(start.as_slice()) {
            let snapshot = self.unpack(all, what)?;
            return self.unpacked(&snapshot, file);
        }
        if file != Dockerfile::Default {
            bail!("both standard input and -f name a Dockerfile: give one of them");
        }
        let text = read_bounded(all, "the Dockerfile on standard input")?;
        let lease = self.store()?.lease()?;
        let snapshot = self.unpack(std::io::empty(), what)?;
        Ok(Opened {
            directory: self.place(&snapshot)?,
            ignore: Vec::new(),
            file_name: "Dockerfile".to_owned(),
            text,
            origin: None,
            lease: Some(lease),
        })
    }

    fn http(&self, url: &str, file: Dockerfile<'_>) -> anyhow::Result<Opened> {
        let lease = self.store()?.lease()?;
        let dir = self.fetch_http(url)?;
        let mut archive = File::from(open_inside(&fs::open_dir(&dir)?, Path::new("Dockerfile"))?);
        let mut hash = Sha256Stream::new(std::io::sink());
        std::io::copy(&mut archive, &mut hash)?;
        let (_, digest, _) = hash.finish();
        archive.rewind()?;
        let filename = "Dockerfile".to_owned();
        let origin = Some(Source::Http { url: url.to_owned(), checksum: Some(digest.to_string()), filename });
        if is_archive(&archive) {
            archive.rewind()?;
            let snapshot = self.unpack(archive, &http::shown(url))?;
            return Ok(Opened { origin, ..self.unpacked(&snapshot, file)? });
        }
        if file != Dockerfile::Default {
            bail!("{} is a Dockerfile, and -f names another: give one of them", http::shown(url));
        }
        archive.rewind()?;
        let text = read_bounded(archive, &http::shown(url))?;
        let file_name = "Dockerfile".to_owned();
        Ok(Opened { directory: dir, ignore: Vec::new(), file_name, text, origin, lease: Some(lease) })
    }

    /// What was unpacked into the store. The Dockerfile lies inside of it, and links lead nowhere else.
    fn unpacked(&self, snapshot: &Snapshot, file: Dockerfile<'_>) -> anyhow::Result<Opened> {
        let lease = self.store()?.lease()?;
        let dir = self.place(snapshot)?;
        let found = match file {
            Dockerfile::Stdin | Dockerfile::Url(_) | Dockerfile::Inline(_) => {
                Some((PathBuf::from("Dockerfile"), self.elsewhere(file)?))
            }
            Dockerfile::Path(path) => read_inside(&dir, path)?.map(|text| (path.to_path_buf(), text)),
            Dockerfile::Default => {
                let mut found = None;
                for name in ["Dockerfile", "dockerfile"] {
                    if found.is_none() {
                        found = read_inside(&dir, Path::new(name))?.map(|text| (PathBuf::from(name), text));
                    }
                }
                found
            }
        };
        let named = if let Dockerfile::Path(path) = file { path } else { Path::new("Dockerfile") };
        let missing = || anyhow::anyhow!("the build context has no {}", named.display());
        let (path, text) = found.ok_or_else(missing).hint("name the Dockerfile inside the context with -f")?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".dockerignore");
        let mut ignore = Vec::new();
        for name in [beside.as_os_str(), OsStr::new(".dockerignore")] {
            if let Some(text) = read_inside(&dir, Path::new(name))? {
                ignore = lap_frontend::ignore::read(&name.to_string_lossy(), &String::from_utf8_lossy(&text))?;
                break;
            }
        }
        Ok(Opened {
            directory: dir,
            ignore,
            file_name: path.display().to_string(),
            text,
            origin: None,
            lease: Some(lease),
        })
    }

    pub(super) fn store(&self) -> anyhow::Result<&Store> {
        self.app.store()
    }

    fn place(&self, snapshot: &Snapshot) -> anyhow::Result<PathBuf> {
        directory(self.store()?, snapshot).context("internal error: a context without a layer")
    }

    /// Unpacks an archive into a layer; nothing at all is an empty one.
    fn unpack(&self, archive: impl Read + Send, what: &str) -> anyhow::Result<Snapshot> {
        let store = self.store()?;
        let workspace = store.workspace()?;
        let root = fs::open_dir(&workspace.upper())?;
        extract_into(&root, b"", archive, Owner::Fixed { uid: 0, gid: 0 }, store.mode())
            .with_context(|| format!("cannot unpack {what}"))?;
        drop(root);
        refuse_devices(&workspace.upper()).with_context(|| format!("cannot build from {what}"))?;
        let layer = store.commit(workspace, &[], true).with_context(|| format!("cannot keep {what}"))?;
        Ok(Snapshot { layers: layer.as_ref().map(LayerRef::from).into_iter().collect() })
    }

    fn remote(&self, needs_agent: bool) -> anyhow::Result<Remote> {
        let mut ssh = self.ssh.to_vec();
        if needs_agent && ssh.is_empty() && variable("SSH_AUTH_SOCK").is_some() {
            // The user named the repository, so his own agent may be asked.
            ssh.push("default".to_owned());
        }
        remote(self.app, self.mirrors, self.secrets, &ssh)
    }

    fn tell(&self, address: &str) {
        if self.tells {
            eprintln!("fetching {}", http::shown(address));
        }
    }

    /// The directory with the one file `Dockerfile`, whatever it is.
    fn fetch_http(&self, url: &str) -> anyhow::Result<PathBuf> {
        self.tell(url);
        let remote = self.remote(false)?;
        let fetched = crate::registry::block_on(async { Ok(http::fetch(&remote, url, None, "Dockerfile").await?) });
        self.place(&fetched.context("cannot fetch the build context")?)
    }

    fn fetch_git(&self, reference: &GitReference, keep_git_dir: bool) -> anyhow::Result<git::Checkout> {
        let wanted = git::Wanted {
            url: reference.remote.clone(),
            reference: reference.reference.clone(),
            subdir: reference.subdir.clone(),
            keep_git_dir: reference.keep_git_dir.unwrap_or(keep_git_dir),
            checksum: reference.checksum.clone(),
            submodules: reference.submodules.unwrap_or(true),
        };
        self.tell(&wanted.url);
        let is_ssh = !wanted.url.contains("://") || wanted.url.starts_with("ssh://");
        let remote = self.remote(is_ssh)?;
        let fetched = crate::registry::block_on(async { Ok(git::fetch(&remote, &wanted).await?) });
        fetched.context("cannot fetch the build context")
    }
}

/// What fetching needs, with what the user grants to it.
pub(super) fn remote(app: &App, mirrors: &[KeyValue], secrets: &[String], ssh: &[String]) -> anyhow::Result<Remote> {
    Ok(Remote {
        store: app.store()?.clone(),
        client: crate::registry::client(&app.settings, mirrors)?,
        grants: Grants {
            secrets: outputs::secrets(secrets)?,
            ssh: app.agents.sockets(&app.settings, ssh)?,
            known_hosts: app.settings.known_hosts.clone(),
            ..Grants::default()
        },
        events: Events::none(),
    })
}

/// No context of somebody's own files has devices: in an archive they are an attempt at something.
fn refuse_devices(dir: &Path) -> anyhow::Result<()> {
    let mut left = vec![dir.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_block_device() || kind.is_char_device() {
                bail!("{} in it is a device", Path::new(&entry.file_name()).display());
            }
            if kind.is_dir() {
                left.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Whether a build argument asks for `.git` of the context.
pub(crate) fn keeps_git_dir(arguments: &BTreeMap<String, String>) -> bool {
    arguments.get(KEEP_GIT_DIR).and_then(|text| lap_frontend::go::parse_bool(text)).unwrap_or(false)
}

pub(super) fn open_inside(root: &OwnedFd, path: &Path) -> Result<OwnedFd, fs::FsError> {
    // A pipe or a device in it is nothing to wait for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    fs::open_in_root(root.as_fd(), path.as_os_str().as_bytes(), flags)
}

/// A file of an unpacked context, if it is there; links lead nowhere but into the context.
pub(crate) fn read_inside(dir: &Path, path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let file = match open_inside(&fs::open_dir(dir)?, path) {
        Ok(file) => File::from(file),
        Err(error) if matches!(error.errno(), Some(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR)) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        bail!("{} in the build context is no file", path.display());
    }
    read_bounded(file, &path.display().to_string()).map(Some)
}

pub(crate) fn read_bounded(reader: impl Read, what: &str) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    reader.take(DOCKERFILE_LIMIT + 1).read_to_end(&mut text).with_context(|| format!("cannot read {what}"))?;
    if text.len() as u64 > DOCKERFILE_LIMIT {
        bail!("{what} is larger than {DOCKERFILE_LIMIT} bytes: no Dockerfile");
    }
    Ok(text)
}

/// Opens a file whose content is to be read; a pipe or a device would be waited for, perhaps for ever.
pub(crate) fn open_regular(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("it is not a regular file")) }
}

/// Patterns of `<Dockerfile>.dockerignore`, or else of `.dockerignore` in the context.
pub(super) fn ignore_patterns(context: &Path, dockerfile: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let beside = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in beside.into_iter().chain([context.join(".dockerignore")]) {
        let (Some(name), parent) = (path.file_name(), path.parent().filter(|dir| !dir.as_os_str().is_empty())) else {
            continue;
        };
        let found = match read_inside(parent.unwrap_or_else(|| Path::new(".")), Path::new(name)) {
            // A link to somewhere else is not followed: the context may be a stranger's.
            Ok(None) if path.is_symlink() => Err(anyhow::anyhow!("it is a link that leads out of its directory")),
            found => found,
        };
        if let Some(text) = found.with_context(|| format!("cannot read {}", path.display()))? {
            let name = path.display().to_string();
            return Ok(lap_frontend::ignore::read(&name, &String::from_utf8_lossy(&text))?);
        }
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_told_apart_by_their_names() {
        let parse = |text: &str| Context::parse(Path::new(text));
        assert_eq!(parse("-").unwrap(), Context::Stdin);
        assert_eq!(parse("/").unwrap(), Context::Directory(PathBuf::from("/")));
        assert!(matches!(parse("https://h/x.tar.gz").unwrap(), Context::Http(_)));
        for (text, remote) in [
            ("https://h/x.git#a:b", "https://h/x.git"),
            ("git@h:x", "git@h:x"),
            ("git://h/x", "git://h/x"),
            ("github.com/a/b", "https://github.com/a/b"),
        ] {
            assert!(matches!(parse(text).unwrap(), Context::Git(git) if git.remote == remote), "{text}");
        }
        for text in ["/nowhere", "file:///", "https://h/x.git#--upload-pack=x", "ssh://-oProxyCommand=x/r"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_dockerfile_is_a_path_standard_input_or_an_address() {
        let parse = |text: &'static str| Dockerfile::parse(Some(Path::new(text)));
        assert_eq!(parse("-"), Dockerfile::Stdin);
        assert_eq!(parse("https://h/D"), Dockerfile::Url("https://h/D"));
        assert_eq!(parse("a/D"), Dockerfile::Path(Path::new("a/D")));
        assert_eq!(Dockerfile::parse(None), Dockerfile::Default);
    }
}

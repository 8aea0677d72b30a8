//! The git program, with nothing of the user's or the machine's in its surroundings.
//!
//! No configuration but ours, no hooks, no prompts, no helpers, no protocols but http, https, git and ssh, a fixed
//! `PATH`. Tokens are passed in the environment, never as arguments.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use lap_cache::registry::{basic_authorization, host_of};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use super::GitError;
use crate::source::Remote;
use crate::source::http::shown;

/// Most bytes that are read of what git prints.
const OUTPUT_LIMIT: u64 = 64 << 20;
/// Longest message of git that is passed on.
const MESSAGE_LIMIT: usize = 2000;
/// Keys of ssh servers that the machine knows.
const KNOWN_HOSTS: &str = "/etc/ssh/ssh_known_hosts";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How git is run for one source and its submodules.
#[derive(Debug, Clone)]
pub(super) struct Git {
    env: Vec<(String, String)>,
    config: Vec<(String, String)>,
}

impl Git {
    /// For a repository; tokens go to its own server only.
    pub(super) fn new(remote: &Remote, url: &str) -> Result<Self, GitError> {
        let known_hosts = remote.store.root().join("caches/git-known-hosts");
        let mut env = vec![("GIT_SSH_COMMAND".to_owned(), ssh(&known_hosts, remote.grants.known_hosts.as_deref()))];
        if let Some(agent) = remote.grants.agent("default", false)? {
            env.push(("SSH_AUTH_SOCK".to_owned(), agent.display().to_string()));
        }
        let proxies = remote.client.proxies();
        for (name, value) in
            [("http_proxy", &proxies.http), ("https_proxy", &proxies.https), ("no_proxy", &proxies.no_proxy)]
        {
            env.extend(value.iter().map(|value| (name.to_owned(), value.clone())));
        }
        if let Some(file) = remote.client.ca_files().first() {
            env.push(("GIT_SSL_CAINFO".to_owned(), file.display().to_string()));
        }
        let authorization = authorization(remote, url)?;
        // git would take a login along to wherever a redirect leads.
        let redirects = if authorization.is_some() || has_login(url) { "false" } else { "initial" };
        let mut config: Vec<(String, String)> = [
            ("advice.detachedHead", "false"),
            ("core.fsmonitor", "false"),
            ("core.hooksPath", "/dev/null"),
            ("core.symlinks", "true"),
            ("credential.helper", ""),
            ("gc.auto", "0"),
            ("http.followRedirects", redirects),
            ("http.lowSpeedLimit", "1"),
            ("http.lowSpeedTime", "60"),
            ("init.defaultBranch", "main"),
            ("maintenance.auto", "false"),
            ("safe.directory", "*"),
            ("submodule.recurse", "false"),
            ("tar.umask", "0022"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        if let Some((scope, value)) = authorization {
            config.push((format!("http.{scope}.extraHeader"), format!("Authorization: {value}")));
        }
        Ok(Self { env, config })
    }

    /// git in the repository `dir`, knowing `url` as `origin`.
    fn command(&self, dir: &Path, url: Option<&str>, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        self.prepare(command.as_std_mut(), dir, url);
        command.args(args).kill_on_drop(true).stderr(Stdio::piped()).stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// Gives a command its surroundings.
    fn prepare(&self, command: &mut std::process::Command, dir: &Path, url: Option<&str>) {
        command.env_clear().current_dir(dir).env("PATH", PATH).env("LC_ALL", "C").env("HOME", "/nonexistent");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_TERMINAL_PROMPT", "0");
        command.env("GIT_ATTR_NOSYSTEM", "1").env("GIT_ASKPASS", "/bin/false").env("SSH_ASKPASS", "/bin/false");
        command.env("GIT_ALLOW_PROTOCOL", "http:https:git:ssh").env("GIT_PROTOCOL_FROM_USER", "0");
        command.env("GIT_NO_REPLACE_OBJECTS", "1").env("GIT_CEILING_DIRECTORIES", dir.parent().unwrap_or(dir));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let origin = url.map(|url| ("remote.origin.url".to_owned(), url.to_owned()));
        let mut count = 0;
        for (name, value) in self.config.iter().chain(origin.iter()) {
            command.env(format!("GIT_CONFIG_KEY_{count}"), name).env(format!("GIT_CONFIG_VALUE_{count}"), value);
            count += 1;
        }
        command.env("GIT_CONFIG_COUNT", count.to_string());
    }

    /// Runs git; what it prints comes back.
    pub(super) async fn run(&self, dir: &Path, url: Option<&str>, args: &[&str]) -> Result<Vec<u8>, GitError> {
        let act = args.first().copied().unwrap_or_default().to_owned();
        run(self.command(dir, url, args), act, url).await
    }

    /// Runs git on files: with a sane umask, and allowed to read the repository `from`.
    pub(super) async fn run_on_files(&self, dir: &Path, args: &[&str]) -> Result<Vec<u8>, GitError> {
        let mut command = Command::new("sh");
        self.prepare(command.as_std_mut(), dir, None);
        command.args(["-c", "umask 022; exec git \"$@\"", "git"]).args(args).env("GIT_ALLOW_PROTOCOL", "file");
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        run(command, args.first().copied().unwrap_or_default().to_owned(), None).await
    }

    /// Starts git for its output to be read elsewhere.
    pub(super) fn stream(&self, dir: &Path, args: &[&str]) -> Result<std::process::Child, GitError> {
        let mut command = std::process::Command::new("git");
        self.prepare(&mut command, dir, None);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().map_err(|error| starting(args.first().copied().unwrap_or_default(), error))
    }
}

fn starting(act: &str, source: io::Error) -> GitError {
    match source.kind() {
        io::ErrorKind::NotFound => GitError::NoGit(source),
        _ => GitError::Run { act: act.to_owned(), source },
    }
}

async fn run(mut command: Command, act: String, url: Option<&str>) -> Result<Vec<u8>, GitError> {
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| starting(&act, error))?;
    let group = Group(child.id());
    let result = collect(&mut child).await;
    drop(group);
    let (status, out, err) = result.map_err(|source| GitError::Run { act: act.clone(), source })?;
    if status.success() { Ok(out) } else { Err(GitError::Git { act, message: message(&err, url) }) }
}

async fn collect(child: &mut Child) -> io::Result<(std::process::ExitStatus, Vec<u8>, Vec<u8>)> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read_out = async {
        match stdout {
            Some(stream) => stream.take(OUTPUT_LIMIT).read_to_end(&mut out).await,
            None => Ok(0),
        }
    };
    let read_err = async {
        match stderr {
            // The end of what it says tells why; the rest is not kept, but read, lest git wait for it.
            Some(mut stream) => {
                let mut part = vec![0; 4096];
                loop {
                    let count = stream.read(&mut part).await?;
                    if count == 0 {
                        return Ok::<usize, io::Error>(0);
                    }
                    err.extend_from_slice(&part[..count]);
                    let excess = err.len().saturating_sub(64 << 10);
                    err.drain(..excess);
                }
            }
            None => Ok(0),
        }
    };
    let (one, other) = tokio::join!(read_out, read_err);
    one?;
    other?;
    if out.len() as u64 >= OUTPUT_LIMIT {
        return Err(io::Error::other(format!("more than {OUTPUT_LIMIT} bytes of output")));
    }
    Ok((child.wait().await?, out, err))
}

/// git and the programs it has started; they die with this.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // Already gone is fine.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

/// What git said, without what could steer a terminal or is secret.
fn message(bytes: &[u8], url: Option<&str>) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    if let Some(url) = url {
        text = text.replace(url, &shown(url));
    }
    let lines: Vec<&str> = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
    let told: Vec<&str> = lines.iter().copied().filter(|line| !line.starts_with("hint:")).collect();
    told.join("; ").chars().filter(|letter| !letter.is_control()).take(MESSAGE_LIMIT).collect()
}

/// ssh that asks nothing, takes keys from the agent alone, and remembers the servers it has seen in `remembered`. What
/// the user and the machine know of servers counts too.
fn ssh(remembered: &Path, known: Option<&Path>) -> String {
    // ssh has its own meanings for these in names of files.
    let is_plain = |path: &&Path| !path.as_os_str().as_bytes().iter().any(|byte| b"\"'%$\\\n".contains(byte));
    let quoted = |path: &Path| format!("\"{}\"", String::from_utf8_lossy(path.as_os_str().as_bytes()));
    let path = quoted(remembered).replace('\'', "'\\''");
    let known: Vec<String> = known.filter(is_plain).into_iter().chain([Path::new(KNOWN_HOSTS)]).map(quoted).collect();
    let known = known.join(" ");
    format!(
        "ssh -F /dev/null -o BatchMode=yes -o IdentityFile=none -o ForwardAgent=no -o PermitLocalCommand=no \
         -o StrictHostKeyChecking=accept-new -o 'UserKnownHostsFile={path}' -o 'GlobalKnownHostsFile={known}' \
         -o ConnectTimeout=30"
    )
}

fn has_login(url: &str) -> bool {
    let host = url.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    host.is_some_and(|host| host.contains('@'))
}

/// The server's address and the header it gets, where a secret was granted.
fn authorization(remote: &Remote, url: &str) -> Result<Option<(String, String)>, GitError> {
    let Some((scheme, _)) = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https")) else {
        return Ok(None);
    };
    let Some(host) = host_of(url) else { return Ok(None) };
    for name in [format!("GIT_AUTH_HEADER.{host}"), "GIT_AUTH_HEADER".to_owned()] {
        if let Some(value) = remote.grants.secret(&name, false)? {
            return Ok(Some((format!("{scheme}://{host}/"), one_line(&value))));
        }
    }
    for name in [format!("GIT_AUTH_TOKEN.{host}"), "GIT_AUTH_TOKEN".to_owned()] {
        if let Some(value) = remote.grants.secret(&name, false)? {
            let value = basic_authorization("x-access-token", &one_line(&value));
            return Ok(Some((format!("{scheme}://{host}/"), value)));
        }
    }
    Ok(None)
}

fn one_line(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim().chars().filter(|letter| !letter.is_control()).collect()
}

/// Where mirrors lie in the store.
pub(super) fn mirrors(remote: &Remote) -> PathBuf {
    remote.store.root().join("caches/git")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_neither_steer_nor_tell() {
        let said = b"remote: \x1b]52;c;eA==\x07 hi\nhint: x\nfatal: unable to access 'https://u:pw@h/r.git/'\n";
        let text = message(said, Some("https://u:pw@h/r.git"));
        assert_eq!(text, "remote: ]52;c;eA== hi; fatal: unable to access 'https://h/r.git/'");
    }

    #[test]
    fn a_login_in_the_address_is_seen() {
        assert!(has_login("https://u:p@h/x") && has_login("https://u@h"));
        assert!(!has_login("https://h/u@x") && !has_login("git@h:x"));
    }
}

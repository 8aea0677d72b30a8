//! An SSH agent of our own that has just the keys it is given: `--ssh ID=KEY`.
//!
//! It is the machine's `ssh-agent`, as `ssh` and `git` are the machine's: every form of key that ssh reads, and no
//! cryptography of ours. It ends with this process, however that ends: its command is a `cat` whose input is a pipe of
//! ours, and an agent goes when its command is gone.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where helpers are found.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Largest key that is read, in bytes.
const MAX_KEY: u64 = 100 << 10;
/// Longest path of a socket (unix(7)).
const MAX_SOCKET: usize = 107;

/// Why there is no agent with these keys.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A key cannot be read.
    #[error("cannot read the ssh key {}", path.display())]
    Read {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that ssh does not take for a key it can use.
    #[error("{} is no ssh key that can be used: {said}", path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// What `ssh-add` said.
        said: String,
    },
    /// A program is missing, or does not start.
    #[error("cannot start {program}")]
    Start {
        /// `ssh-agent` or `ssh-add`.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The agent has nowhere to listen.
    #[error("cannot make a socket for an ssh agent in {}", dir.display())]
    Socket {
        /// Where it should be.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl AgentError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Key { path, .. } => Some(format!(
                "a key with a passphrase belongs into an agent: ssh-add {}, and then --ssh default",
                path.display()
            )),
            Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("install the package openssh-client, or name the socket of an agent".to_owned())
            }
            _ => None,
        }
    }
}

/// A running agent. Dropping it ends it.
#[derive(Debug)]
pub struct KeyAgent {
    dir: PathBuf,
    command: Child,
    /// The agent itself.
    pid: Option<rustix::process::Pid>,
}

impl KeyAgent {
    /// Starts an agent with these keys; its socket lies below `run_dir`.
    ///
    /// # Errors
    /// Where a key cannot be used, or there is no `ssh-agent`.
    pub fn start(run_dir: &Path, keys: &[PathBuf]) -> Result<Self, AgentError> {
        let texts: Vec<Vec<u8>> = keys.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
        let dir = place(run_dir)?;
        let socket = dir.join("agent");
        if socket.as_os_str().len() > MAX_SOCKET {
            let source = io::Error::other(format!("its path would have more than {MAX_SOCKET} bytes"));
            return Err(AgentError::Socket { dir, source });
        }
        let started = helper("ssh-agent")
            .arg("-a")
            .arg(&socket)
            .args(["sh", "-c", "echo $SSH_AGENT_PID; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let command = started.map_err(|source| AgentError::Start { program: "ssh-agent", source });
        let mut agent = match command {
            Ok(command) => Self { dir, command, pid: None },
            Err(error) => {
                drop(fs::remove_dir(&dir));
                return Err(error);
            }
        };
        let mut line = String::new();
        if let Some(stdout) = agent.command.stdout.take() {
            // What is no number is no agent, which the first key finds out.
            drop(BufReader::new(stdout.take(100)).read_line(&mut line));
        }
        agent.pid = line.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
        for (path, text) in keys.iter().zip(&texts) {
            agent.add(path, text)?;
        }
        Ok(agent)
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("agent")
    }

    /// Gives it a key, through a pipe: whose file may be read by others is a question for its owner.
    fn add(&self, path: &Path, text: &[u8]) -> Result<(), AgentError> {
        let failed = |source| AgentError::Start { program: "ssh-add", source };
        let mut child = helper("ssh-add")
            .args(["-q", "-"])
            .env("SSH_AUTH_SOCK", self.socket())
            // Nobody is asked for a passphrase.
            .env("SSH_ASKPASS", "/bin/false")
            .env("SSH_ASKPASS_REQUIRE", "force")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends before it has read the key says why.
            drop(stdin.write_all(text));
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("ssh-add refuses it");
        let said =
            said.replace("(stdin)", "the file").chars().filter(|letter| !letter.is_control()).take(200).collect();
        Err(AgentError::Key { path: path.to_owned(), said })
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            // Already gone is fine, here and below.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        drop(self.command.stdin.take());
        drop(self.command.wait());
        drop(fs::remove_dir_all(&self.dir));
    }
}

fn read(path: &Path) -> Result<Vec<u8>, AgentError> {
    let failed = |source| AgentError::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    fs::File::open(path).map_err(failed)?.take(MAX_KEY + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_KEY {
        return Err(failed(io::Error::other(format!("it has more than {MAX_KEY} bytes"))));
    }
    // ssh refuses keys whose last line has no end, as those of CI variables often are.
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    Ok(text)
}

/// A program of the machine with nothing of the user's surroundings.
fn helper(program: &'static str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C").env("HOME", "/nonexistent");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A directory for a socket; those whose makers are gone go too.
fn place(run_dir: &Path) -> Result<PathBuf, AgentError> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let above = run_dir.join("ssh");
    let failed = |source| AgentError::Socket { dir: above.clone(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&above).map_err(failed)?;
    for entry in fs::read_dir(&above).map_err(failed)?.flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.split_once('-')).and_then(|(pid, _)| pid.parse::<u32>().ok());
        if maker.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = above.join(format!("{}-{number}", std::process::id()));
    // One of that name can only be left over.
    drop(fs::remove_dir_all(&dir));
    fs::DirBuilder::new().mode(0o700).create(&dir).map_err(failed)?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_has_its_keys_and_ends_when_it_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        let mut made = Command::new("ssh-keygen");
        made.args(["-q", "-t", "ed25519", "-N", "", "-C", "note", "-f"]).arg(&key);
        if !made.status().is_ok_and(|status| status.success()) {
            println!("SKIPPED {}: ssh-keygen is not installed", module_path!());
            return;
        }
        let agent = KeyAgent::start(dir.path(), std::slice::from_ref(&key)).unwrap();
        let listed = Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", agent.socket()).output().unwrap();
        assert!(String::from_utf8_lossy(&listed.stdout).contains("ED25519"), "{listed:?}");
        let (socket, pid) = (agent.socket(), agent.pid.unwrap().as_raw_nonzero());
        drop(agent);
        assert!(!socket.parent().unwrap().exists());
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while Path::new("/proc").join(pid.to_string()).join("exe").exists() {
            assert!(std::time::Instant::now() < end, "the agent lives on");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }

        fs::write(dir.path().join("no"), "no key").unwrap();
        let error = KeyAgent::start(dir.path(), &[dir.path().join("no")]).unwrap_err();
        assert!(matches!(error, AgentError::Key { .. }) && error.hint().is_some(), "{error}");
        let error = KeyAgent::start(dir.path(), &[dir.path().join("gone")]).unwrap_err();
        assert!(matches!(error, AgentError::Read { .. }), "{error}");
        assert_eq!(fs::read_dir(dir.path().join("ssh")).unwrap().count(), 0);
    }
}

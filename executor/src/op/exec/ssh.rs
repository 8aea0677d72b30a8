//! Forwarding an SSH agent: a socket with the owner and mode that the step asks for, passed on to the agent's own.
//!
//! A step may ask which keys there are and have something signed; it may not add, remove or lock keys
//! (draft-ietf-sshm-ssh-agent, section 4).

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, Uid};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// `SSH_AGENT_FAILURE`.
const FAILURE: u8 = 5;
/// `SSH_AGENTC_REQUEST_IDENTITIES`.
const REQUEST_IDENTITIES: u8 = 11;
/// `SSH_AGENTC_SIGN_REQUEST`.
const SIGN_REQUEST: u8 = 13;
/// Longest message that is passed on, in bytes: OpenSSH's limit.
const MAX_MESSAGE: u32 = 256 << 10;

/// A forwarded agent. Dropping it closes the socket and every connection.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) socket: PathBuf,
    task: JoinHandle<()>,
}

impl Forward {
    /// Listens at `name` in `dir` for connections to `agent`.
    pub(super) fn start(dir: &Path, name: &str, agent: PathBuf, mode: u32, uid: u32, gid: u32) -> io::Result<Self> {
        let parent = std::fs::File::open(dir)?;
        // A socket's address has 107 bytes at most, which a store's path may exceed.
        let address = format!("/proc/self/fd/{}/{name}", parent.as_raw_fd());
        let listener = UnixListener::bind(&address)?;
        rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(&parent, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Self { socket: dir.join(name), task: tokio::spawn(serve(listener, agent)) })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: UnixListener, agent: PathBuf) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { return };
                connections.spawn(pass(client, agent.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass(client: UnixStream, agent: PathBuf) {
    if let Ok(agent) = UnixStream::connect(agent).await {
        // An end is an end, whichever side it comes from.
        drop(relay(client, agent).await);
    }
}

/// Requests to answers, one after the other, as the protocol has it.
async fn relay(mut client: UnixStream, mut agent: UnixStream) -> io::Result<()> {
    loop {
        let request = message(&mut client).await?;
        let answer = if matches!(request.first(), Some(&(REQUEST_IDENTITIES | SIGN_REQUEST))) {
            send(&mut agent, &request).await?;
            message(&mut agent).await?
        } else {
            vec![FAILURE]
        };
        send(&mut client, &answer).await?;
    }
}

async fn message(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    if length == 0 || length > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = Vec::new();
    (&mut *stream).take(length.into()).read_to_end(&mut message).await?;
    if message.len() as u64 == u64::from(length) { Ok(message) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

async fn send(stream: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    stream.write_u32(u32::try_from(message.len()).map_err(io::Error::other)?).await?;
    stream.write_all(message).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn keys_are_asked_for_and_used_but_never_changed() {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        let listener = UnixListener::bind(&agent).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while let Ok(request) = message(&mut stream).await {
                        send(&mut stream, &[b"got ", request.as_slice()].concat()).await.unwrap();
                    }
                });
            }
        });
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let forward = Forward::start(dir.path(), "ssh.0", agent, 0o600, uid, gid).unwrap();
        for _ in 0..3 {
            let mut client = UnixStream::connect(&forward.socket).await.unwrap();
            for kind in 0..=u8::MAX {
                send(&mut client, &[kind, b'x']).await.unwrap();
                let passed = matches!(kind, REQUEST_IDENTITIES | SIGN_REQUEST);
                let wanted = if passed { vec![b'g', b'o', b't', b' ', kind, b'x'] } else { vec![FAILURE] };
                assert_eq!(message(&mut client).await.unwrap(), wanted, "{kind}");
            }
        }
        // What is too long to be a message ends the conversation.
        for length in [0, MAX_MESSAGE + 1, u32::MAX] {
            let mut client = UnixStream::connect(&forward.socket).await.unwrap();
            client.write_u32(length).await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap_or(0), 0);
        }
    }
}

//! Forwarding an SSH agent: a socket with the owner and mode that the step asks for, passed on to the agent's own.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, Uid};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

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

async fn pass(mut client: UnixStream, agent: PathBuf) {
    if let Ok(mut agent) = UnixStream::connect(agent).await {
        // An end is an end, whichever side it comes from.
        drop(tokio::io::copy_bidirectional(&mut client, &mut agent).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn what_is_said_to_the_socket_reaches_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        let listener = UnixListener::bind(&agent).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut word = [0; 4];
                stream.read_exact(&mut word).await.unwrap();
                stream.write_all(&word).await.unwrap();
            }
        });
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let forward = Forward::start(dir.path(), "ssh.0", agent, 0o600, uid, gid).unwrap();
        for _ in 0..3 {
            let mut client = UnixStream::connect(&forward.socket).await.unwrap();
            client.write_all(b"ping").await.unwrap();
            let mut word = [0; 4];
            client.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"ping");
        }
    }
}

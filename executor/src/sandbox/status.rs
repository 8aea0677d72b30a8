//! What the init tells the outside: packets on a socket pair.
//!
//! The socket closes on exec, so its end tells that the command runs; it also tells the init that the outside died.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};

use super::error::Failure;

/// A packet of the init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// The master of the command's terminal travels with this packet.
    Terminal,
    /// These mount points did not exist in the root and were made.
    Created(Vec<CreatedEntry>),
    /// All is set up; the next thing is the command itself.
    Ready,
    /// The command runs, as a child of the init.
    Started,
    /// The command could not be started.
    Failed(Failure),
    /// The command, a child of the init, ended with this wait status.
    Ended(i32),
}

/// A mount point that was made in the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CreatedEntry {
    /// Path below the root, without links in it.
    pub(crate) path: String,
    /// Whether it is a directory.
    pub(crate) directory: bool,
    /// Modification time of its parent before.
    pub(crate) parent_mtime: (i64, i64),
}

/// Largest packet. Longer failure texts are cut.
const MAX_PACKET: usize = 64 * 1024;

/// Sends a packet, with a descriptor if given.
pub(crate) fn send(socket: BorrowedFd<'_>, message: &Message, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    rustix::net::sendmsg(socket, &[io::IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a packet; nothing at the end of the socket, or where none waits and `wait` is not set.
pub(crate) fn receive(socket: &OwnedFd, wait: bool) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
    let mut buffer = vec![0; MAX_PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
    let received = loop {
        match rustix::net::recvmsg(socket.as_fd(), &mut [io::IoSliceMut::new(&mut buffer)], &mut ancillary, flags) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN | Errno::CONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut fds = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fd = fds.next().and_then(|mut fds| fds.next());
    Ok(Some((serde_json::from_slice(&buffer[..received.bytes])?, fd)))
}

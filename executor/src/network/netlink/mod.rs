//! A small synchronous netlink client: one socket, one request, one answer.
//!
//! Why our own and not a crate: about fifteen rtnetlink messages and one nftables batch are all this program needs; the
//! maintained rtnetlink crates are asynchronous, bring 34 packages and break their interface most months, and the
//! nftables crates run the `nft` program or are under the GPL. Both protocols share this framing.
//!
//! Invariants: the socket belongs to the network namespace of the thread that opened it, for good; nothing waits for
//! ever: the kernel answers at once or a time-out says so.

mod message;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use message::messages;
pub(crate) use message::{Attributes, Message, u32_at};

pub(crate) const REQUEST: u16 = 0x01;
pub(crate) const ACK: u16 = 0x04;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
const DUMP: u16 = 0x300;

const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;

const PATIENCE: Duration = Duration::from_secs(10);
/// The kernel's largest dump datagram.
const DATAGRAM: usize = 32 * 1024;

/// A netlink socket in the namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens a socket for links, addresses and routes.
    pub(crate) fn route() -> io::Result<Self> {
        Self::open(None) // NETLINK_ROUTE is 0, the default
    }

    /// Opens a socket for nftables.
    pub(crate) fn netfilter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER))
    }

    fn open(protocol: Option<rustix::net::Protocol>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends one change and waits until the kernel has carried it out.
    pub(crate) fn request(&mut self, message: Message) -> io::Result<()> {
        self.exchange(vec![message], |_, _| ())
    }

    /// Sends several messages in one datagram; each should ask for an acknowledgement, the last but the end of a batch must.
    ///
    /// Ends with the first error. An nftables batch is atomic: after an error nothing of it is in effect.
    pub(crate) fn batch(&mut self, messages: Vec<Message>) -> io::Result<()> {
        self.exchange(messages, |_, _| ())
    }

    /// Sends one question and hands each answer's kind and body to `each`.
    pub(crate) fn query(&mut self, message: Message, each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.exchange(vec![message], each)
    }

    /// Asks for all objects of a kind; `kind`'s fixed header comes from `family_header`.
    pub(crate) fn dump(&mut self, kind: u16, family_header: &[u8], each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.exchange(vec![Message::new(kind, REQUEST | DUMP, family_header)], each)
    }

    /// The last message must be one that the kernel answers: by an acknowledgement, an error or the end of a dump.
    fn exchange(&mut self, requests: Vec<Message>, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut datagram = Vec::new();
        let first = self.sequence + 1;
        let mut last_answered = first;
        for request in requests {
            self.sequence += 1;
            let bytes = request.finish(self.sequence);
            if u16::from_ne_bytes([bytes[6], bytes[7]]) & (ACK | DUMP) != 0 {
                last_answered = self.sequence;
            }
            datagram.extend_from_slice(&bytes);
        }
        rustix::io::retry_on_intr(|| rustix::net::send(&self.socket, &datagram, SendFlags::empty()))?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let (_, length) =
                rustix::io::retry_on_intr(|| rustix::net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::TRUNC))?;
            let received = buffer.get(..length).ok_or_else(|| io::Error::other("netlink answer larger than 32 KiB"))?;
            for answer in messages(received) {
                if answer.sequence < first {
                    continue; // of an earlier request that timed out
                }
                match answer.kind {
                    KIND_ERROR | KIND_DONE => {
                        let code = u32_at(answer.body, 0).unwrap_or_default().cast_signed();
                        if code < 0 {
                            return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                        }
                        if answer.sequence >= last_answered {
                            return Ok(());
                        }
                    }
                    kind => each(kind, answer.body),
                }
            }
        }
    }
}

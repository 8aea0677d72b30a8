//! `/dev`: the nodes every program expects, terminals, shared memory and message queues.
//!
//! The file system itself gives no access to devices: a node that the command makes there, or anywhere else, cannot
//! be opened. The six harmless ones are mounts of single files.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::MountAttrFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::super::error::Failure;
use super::super::status::{self, Message};
use super::mounts::{Inside, attach, clone_tree, new_filesystem};
use super::tree::{file_type, make_dir, open_at, write_file};
use super::{During, refuse};

const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Mounts `/dev`.
pub(super) fn dev(inside: &Inside, shm_size: u64, bind_nodes: bool, console: bool) -> Result<(), Failure> {
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let closed = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let dev = new_filesystem("tmpfs", &[("mode", "0755"), ("size", "65536k")], closed)?;
    attach(dev.as_fd(), inside.fixed_place("/dev")?.as_fd(), "/dev")?;
    let dir = dev.as_fd();
    for (name, major, minor) in NODES {
        let node = if bind_nodes { host_node(name, major, minor)? } else { own_node(inside, name, major, minor)? };
        write_file(dir, name, 0o666, b"")?;
        attach(clone_tree(node.as_fd(), false)?.as_fd(), open_at(dir, name)?.as_fd(), name)?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, dir, name).during(|| format!("link /dev/{name}"))?;
    }
    let options = [("ptmxmode", "0666"), ("mode", "0620")];
    let with_group = [options[0], options[1], ("gid", "5")];
    // The terminal group may have no number in a user namespace of one.
    let pts = new_filesystem("devpts", &with_group, quiet).or_else(|_| new_filesystem("devpts", &options, quiet))?;
    attach(pts.as_fd(), make_dir(dir, "pts", 0o755)?.as_fd(), "/dev/pts")?;
    let size = shm_size.to_string();
    let shm = new_filesystem("tmpfs", &[("mode", "1777"), ("size", &size)], quiet | MountAttrFlags::MOUNT_ATTR_NODEV)?;
    attach(shm.as_fd(), make_dir(dir, "shm", 0o755)?.as_fd(), "/dev/shm")?;
    let place = make_dir(dir, "mqueue", 0o755)?;
    // A kernel may be built without message queues.
    if let Ok(mqueue) = new_filesystem("mqueue", &[], quiet | MountAttrFlags::MOUNT_ATTR_NODEV) {
        attach(mqueue.as_fd(), place.as_fd(), "/dev/mqueue")?;
    }
    if console {
        write_file(dir, "console", 0o620, b"")?;
    }
    Ok(())
}

/// A node on our own file system: its mode and owner are nobody else's.
fn own_node(inside: &Inside, name: &str, major: u32, minor: u32) -> Result<OwnedFd, Failure> {
    let nodes = open_at(inside.base_dir()?, "nodes")?;
    let device = rustix::fs::makedev(major, minor);
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(nodes.as_fd(), name, FileType::CharacterDevice, mode, device)
        .during(|| format!("mknod {name} c {major} {minor}"))?;
    rustix::fs::chmodat(nodes.as_fd(), name, mode, rustix::fs::AtFlags::empty()).during(|| format!("chmod {name}"))?;
    open_at(nodes.as_fd(), name)
}

/// The host's node, where it is what its name says.
fn host_node(name: &str, major: u32, minor: u32) -> Result<OwnedFd, Failure> {
    let path = format!("/dev/{name}");
    let node = rustix::fs::open(path.as_str(), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .during(|| format!("open {path}"))?;
    let stat = rustix::fs::fstat(&node).during(|| format!("stat {path}"))?;
    let real = file_type(node.as_fd()).is_ok_and(|kind| kind == FileType::CharacterDevice)
        && stat.st_rdev == rustix::fs::makedev(major, minor);
    if real {
        Ok(node)
    } else {
        Err(refuse(format!("{path} is not the device {major}:{minor}"), "repair the host's /dev"))
    }
}

/// Opens a terminal of the sandbox's own devpts, sends its master outside, and lays its other end over
/// `/dev/console` if it is the first one. The root has been entered already.
pub(super) fn terminal(size: Option<(u16, u16)>, status: &OwnedFd, is_console: bool) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()).during(|| "open a terminal".to_owned())?;
    rustix::pty::unlockpt(&master).during(|| "unlock the terminal".to_owned())?;
    if let Some((columns, rows)) = size {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size).during(|| "size the terminal".to_owned())?;
    }
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let peer = rustix::pty::ioctl_tiocgptpeer(&master, flags).during(|| "open the terminal's end".to_owned())?;
    if is_console {
        console(&master)?;
    }
    status::send(status.as_fd(), &Message::Terminal, Some(master.as_fd()))
        .during(|| "hand the terminal over".to_owned())?;
    Ok(peer)
}

fn console(master: &OwnedFd) -> Result<(), Failure> {
    let name = rustix::pty::ptsname(master, Vec::new()).during(|| "name the terminal".to_owned())?;
    let open = |path: &std::ffi::CStr| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).during(|| format!("open {}", path.to_string_lossy()))
    };
    let tree = clone_tree(open(&name)?.as_fd(), false)?;
    let place: OwnedFd = open(c"/dev/console")?;
    attach(tree.as_fd(), place.as_fd(), "/dev/console")
}

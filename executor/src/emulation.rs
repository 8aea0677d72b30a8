//! Running programs of other architectures: QEMU's user mode emulators, registered with the kernel (binfmt_misc).
//!
//! Where the machine has an emulator registered so that it works in any root file system (flag `F`), nothing is to be
//! done. Else we register those that are installed, not with the machine but in a user namespace of our own, which
//! has a register of its own since Linux 6.7: nobody else sees it and it goes with us. The namespace maps every id
//! to itself, so files keep their owners; the command enters it last, when all mounts stand.
//!
//! A process of ours holds the namespace and the register; it ends when we do.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use lap_solver::platform::Platform;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// `argv[0]` of the process that holds the register.
pub(crate) const HOLDER_NAME: &str = "lap-emulators";

/// Where a machine's own register is seen.
const REGISTER: &str = "/proc/sys/fs/binfmt_misc";

/// An architecture that QEMU emulates.
#[derive(Debug, Clone, Copy)]
struct Machine {
    /// In Go's names.
    architecture: &'static str,
    /// In QEMU's names.
    qemu: &'static str,
    /// ELF class: 1 is 32 bits, 2 is 64 bits.
    class: u8,
    /// ELF data: 1 is little-endian, 2 is big-endian.
    data: u8,
    /// ELF machine.
    number: u16,
}

const fn machine(architecture: &'static str, qemu: &'static str, class: u8, data: u8, number: u16) -> Machine {
    Machine { architecture, qemu, class, data, number }
}

const MACHINES: &[Machine] = &[
    machine("amd64", "x86_64", 2, 1, 62),
    machine("386", "i386", 1, 1, 3),
    machine("arm64", "aarch64", 2, 1, 183),
    machine("arm", "arm", 1, 1, 40),
    machine("ppc64le", "ppc64le", 2, 1, 21),
    machine("ppc64", "ppc64", 2, 2, 21),
    machine("s390x", "s390x", 2, 2, 22),
    machine("riscv64", "riscv64", 2, 1, 243),
    machine("mips64le", "mips64el", 2, 1, 8),
    machine("mips64", "mips64", 2, 2, 8),
    machine("mipsle", "mipsel", 1, 1, 8),
    machine("mips", "mips", 1, 2, 8),
    machine("loong64", "loongarch64", 2, 1, 258),
];

/// Why programs of a platform cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum EmulationError {
    /// There is no emulator for it.
    #[error("this machine is {host} and there is no emulator for {platform}")]
    Unknown {
        /// The platform.
        platform: Box<Platform>,
        /// What this machine is.
        host: Box<Platform>,
    },
    /// Its emulator is not installed.
    #[error(
        "programs for {platform} need {program}, which is not installed: install the package qemu-user-static, or \
         build what needs no emulation with FROM --platform=$BUILDPLATFORM"
    )]
    NotInstalled {
        /// The platform.
        platform: Box<Platform>,
        /// The emulator.
        program: String,
    },
    /// The kernel does not let us register it.
    #[error(
        "cannot register {program} for programs of {platform}: {why}; Linux 6.7 or later is needed, or an emulator \
         that the machine has registered with flag F (Debian: qemu-user-static with binfmt-support)"
    )]
    Register {
        /// The platform.
        platform: Box<Platform>,
        /// The emulator.
        program: String,
        /// What failed.
        why: String,
    },
}

/// The emulators of this machine, registered when they are first needed.
#[derive(Debug, Default)]
pub struct Emulators {
    /// Where emulators are looked for.
    dirs: Vec<PathBuf>,
    holder: Mutex<Option<Holder>>,
}

/// The process that holds the register, and its user namespace.
#[derive(Debug)]
struct Holder {
    child: Child,
    namespace: OwnedFd,
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It ends when its input ends.
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

impl Emulators {
    /// Emulators that lie in one of these directories.
    #[must_use]
    pub fn new(dirs: Vec<PathBuf>) -> Self {
        Self { dirs, holder: Mutex::default() }
    }

    /// Makes sure that programs of `platform` can run. Gives the user namespace that they must run in, if any.
    ///
    /// # Errors
    /// Where they cannot.
    pub fn prepare(&self, platform: &Platform) -> Result<Option<OwnedFd>, EmulationError> {
        let host = Platform::host();
        if is_native(&host, platform) {
            return Ok(None);
        }
        let machine = MACHINES.iter().find(|machine| machine.architecture == platform.architecture);
        let machine = machine.filter(|_| platform.os == host.os).ok_or_else(|| EmulationError::Unknown {
            platform: Box::new(platform.clone()),
            host: Box::new(host.clone()),
        })?;
        if is_registered(machine) {
            return Ok(None);
        }
        let program = format!("qemu-{}-static", machine.qemu);
        if self.find(machine).is_none() {
            return Err(EmulationError::NotInstalled { platform: Box::new(platform.clone()), program });
        }
        let failed = |error: io::Error| EmulationError::Register {
            platform: Box::new(platform.clone()),
            program: program.clone(),
            why: error.to_string(),
        };
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        if holder.is_none() {
            *holder = Some(self.register().map_err(failed)?);
        }
        holder.as_ref().map(|holder| holder.namespace.try_clone()).transpose().map_err(failed)
    }

    fn find(&self, machine: &Machine) -> Option<PathBuf> {
        let name = format!("qemu-{}-static", machine.qemu);
        self.dirs.iter().map(|dir| dir.join(&name)).find(|path| path.is_file())
    }

    /// Starts the holder with every emulator that is installed.
    fn register(&self) -> io::Result<Holder> {
        let host = Platform::host();
        let lines = MACHINES.iter().filter(|machine| machine.architecture != host.architecture).filter_map(|machine| {
            let path = self.find(machine)?;
            Some(rule(machine, path.to_str()?))
        });
        let mut child = Command::new("/proc/self/exe")
            .arg0(HOLDER_NAME)
            .args(lines)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let path = format!("/proc/{}", child.id());
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let mut said = BufReader::new(stdout);
        let mut answer = || {
            let mut line = String::new();
            said.read_line(&mut line)?;
            match line.trim_end() {
                "ok" => Ok(()),
                "" => Err(io::Error::other("the process that holds the register ended")),
                why => Err(io::Error::other(why.to_owned())),
            }
        };
        let set_up = (|| {
            answer()?;
            for map in ["uid_map", "gid_map"] {
                std::fs::write(
                    format!("{path}/{map}"),
                    identity(&std::fs::read_to_string(format!("/proc/self/{map}"))?),
                )?;
            }
            stdin.write_all(b"go\n")?;
            answer()?;
            Ok(OwnedFd::from(std::fs::File::open(format!("{path}/ns/user"))?))
        })();
        child.stdin = Some(stdin);
        match set_up {
            Ok(namespace) => Ok(Holder { child, namespace }),
            Err(error) => {
                drop(child.stdin.take());
                drop(child.wait());
                Err(error)
            }
        }
    }
}

/// Whether the machine runs programs of a platform by itself.
fn is_native(host: &Platform, platform: &Platform) -> bool {
    host.os == platform.os
        && (host.architecture == platform.architecture
            || (host.architecture == "amd64" && platform.architecture == "386")
            || (host.architecture == "arm64" && platform.architecture == "arm"))
}

/// Whether the machine has an emulator that works in any root file system.
fn is_registered(machine: &Machine) -> bool {
    let Ok(text) = std::fs::read_to_string(format!("{REGISTER}/qemu-{}", machine.qemu)) else { return false };
    let flags = text.lines().find_map(|line| line.strip_prefix("flags: ")).unwrap_or_default();
    text.starts_with("enabled") && flags.contains('F')
}

/// The line for the register: programs whose ELF header fits, executed by `path`, with credentials (C), opened now
/// (F), and with the name they were called by (P). See the kernel's binfmt-misc.rst and QEMU's qemu-binfmt-conf.sh.
fn rule(machine: &Machine, path: &str) -> String {
    let two = |number: u16| if machine.data == 1 { number.to_le_bytes() } else { number.to_be_bytes() };
    let mut magic = vec![0x7f, b'E', b'L', b'F', machine.class, machine.data, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut mask = vec![0xff; 16];
    // Which operating system the file says it is for varies.
    mask[7] = 0;
    // Executables and shared objects: 2 and 3.
    magic.extend(two(2));
    mask.extend(two(0xfffe));
    magic.extend(two(machine.number));
    mask.extend(two(0xffff));
    let escaped = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
            text
        })
    };
    format!(":qemu-{}:M::{}:{}:{path}:OCPF", machine.qemu, escaped(&magic), escaped(&mask))
}

/// A map of all ids that there are to themselves.
fn identity(map: &str) -> String {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace();
        let (inside, count) = (numbers.next()?, numbers.nth(1)?);
        Some(format!("{inside} {inside} {count}\n"))
    };
    map.lines().filter_map(line).collect()
}

/// The process that holds the register; its arguments are the lines for it.
pub(crate) fn holder_main(rules: impl Iterator<Item = OsString>) -> i32 {
    let told = |result: io::Result<()>| {
        let line = match &result {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        let mut out = io::stdout();
        let written = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
        result.is_ok() && written.is_ok()
    };
    let flags = nix::sched::CloneFlags::CLONE_NEWUSER | nix::sched::CloneFlags::CLONE_NEWNS;
    let own = nix::sched::unshare(flags).map_err(|error| io::Error::other(format!("make a user namespace: {error}")));
    if !told(own) {
        return 1;
    }
    let mut line = [0; 3];
    if io::stdin().read_exact(&mut line).is_err() {
        return 1;
    }
    let register = match mount(rules) {
        Ok(register) => register,
        Err(error) => {
            told(Err(error));
            return 1;
        }
    };
    if told(Ok(())) {
        // Until the other side is gone.
        drop(io::copy(&mut io::stdin(), &mut io::sink()));
    }
    drop(register);
    0
}

/// Mounts the namespace's register, attached nowhere, and fills it. It is empty again when the mount goes.
fn mount(rules: impl Iterator<Item = OsString>) -> io::Result<OwnedFd> {
    let during = |act: &'static str| move |error| io::Error::other(format!("{act}: {}", io::Error::from(error)));
    let context =
        rustix::mount::fsopen("binfmt_misc", FsOpenFlags::FSOPEN_CLOEXEC).map_err(during("open binfmt_misc"))?;
    rustix::mount::fsconfig_create(context.as_fd()).map_err(during("mount binfmt_misc in a user namespace"))?;
    let attributes = MountAttrFlags::empty();
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(during("mount binfmt_misc in a user namespace"))?;
    for rule in rules {
        let register = rustix::fs::openat(&mount, "register", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(during("open the register"))?;
        rustix::io::write(&register, rule.as_encoded_bytes()).map_err(during("register an emulator"))?;
    }
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_fit_the_elf_headers_of_their_machines() {
        let find = |name: &str| MACHINES.iter().find(|machine| machine.qemu == name).unwrap();
        // As in QEMU's qemu-binfmt-conf.sh.
        assert_eq!(
            rule(find("aarch64"), "/q"),
            r":qemu-aarch64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/q:OCPF"
        );
        assert!(rule(find("s390x"), "/q").contains(r"\x00\x02\x00\x16:"));
        assert!(rule(find("s390x"), "/q").contains(r"\xff\xfe\xff\xff:/q"));
        assert!(MACHINES.iter().all(|machine| rule(machine, "/usr/bin/qemu-x-static").len() < 1920));
    }

    #[test]
    fn maps_become_their_identity() {
        assert_eq!(identity("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(identity("0 1000 1\n1 100000 65536\n"), "0 0 1\n1 1 65536\n");
    }

    #[test]
    fn what_is_native_needs_nothing_and_what_is_missing_is_named() {
        let none = Emulators::default();
        assert!(none.prepare(&Platform::host()).unwrap().is_none());
        let parse = |text: &str| Platform::parse(text, &Platform::host()).unwrap();
        let error = none.prepare(&parse("linux/mips64")).unwrap_err().to_string();
        assert!(
            error.contains("qemu-mips64-static") && error.contains("install the package qemu-user-static"),
            "{error}"
        );
        assert!(matches!(none.prepare(&parse("windows/arm")), Err(EmulationError::Unknown { .. })));
    }
}

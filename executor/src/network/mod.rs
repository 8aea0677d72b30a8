//! The network of build steps and containers: one bridge, a veth pair for each sandbox, and a way out by NAT.
//!
//! What: a new network namespace with `eth0` ready to use (address, default route), for as long as its [`Attachment`]
//! lives. Everything is made in-process over netlink, by root; unprivileged networks are not here.
//! Why without a daemon: who uses the bridge is noted in a small file under a lock; the first user makes it, the last one
//! removes it, and what a killed process leaves is taken away by the next one.
//! Invariants: nothing remains when the last user has left: no link, no rule, no changed setting; no thread but our own
//! short-lived ones ever changes its namespace; IPv6 is off on the bridge and in the sandboxes until it is supported.
//!
//! Files: [`subnet`] and [`dns`] are pure; `netlink`, `link`, `nftables` talk to the kernel; `forwarding` and `nat` say
//! what is set there; `state` keeps the file, `bridge` makes and removes, `lease` gives addresses, `namespace` makes
//! namespaces.

mod bridge;
pub mod dns;
mod error;
mod forwarding;
mod lease;
mod link;
mod namespace;
mod nat;
mod netlink;
mod nftables;
mod state;
pub mod subnet;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use self::dns::{ResolvConf, host_resolv_conf, resolv_conf};
pub use self::error::NetworkError;
use self::lease::{Held, Lease, Leases};
use self::link::VethPair;
pub use self::namespace::loopback_only;
pub use self::nat::Notice;
use self::netlink::Socket;
use self::state::Bridge;
pub use self::subnet::Subnet;

/// The name of the link inside a sandbox.
const INNER: &str = "eth0";
/// How many namespaces are made ahead at most: each costs the kernel some milliseconds even if nobody takes it.
const MOST_PREPARED: usize = 4;

/// How long an address may wait for others to be given back with it.
const GATHERING: Duration = Duration::from_millis(30);

/// A handle on the default bridge network of a run directory.
///
/// Opening it costs nothing: the bridge is made with the first [`Network::attach`] or [`Network::prepare`], stays while a
/// handle or an attachment of any process lives, and goes with the last. Clones share one handle. The handle belongs to
/// the network namespace of the thread that opened it; use it from threads of that namespace only.
///
/// Dropping the last clone waits until everything is cleaned up: drop it before the program exits.
#[derive(Debug, Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    prepared: Mutex<VecDeque<Making>>,
}

/// What the threads that make namespaces need.
#[derive(Debug)]
struct Shared {
    leases: Arc<Leases>,
    active: Mutex<Option<Active>>,
    /// Cleaners that are finishing what [`Network::let_go`] began.
    ending: Mutex<Vec<JoinHandle<Result<(), NetworkError>>>>,
}

/// What there is while this handle keeps the bridge.
#[derive(Debug)]
struct Active {
    /// What there was to say when the bridge was made.
    notices: Vec<Notice>,
    leaving: mpsc::Sender<Ipv4Addr>,
    cleaner: JoinHandle<Result<(), NetworkError>>,
}

/// A namespace on its way.
type Making = JoinHandle<Result<Made, NetworkError>>;

/// A namespace with its address.
#[derive(Debug)]
struct Made {
    lease: Lease,
    namespace: OwnedFd,
}

impl Network {
    /// Opens the network whose state lies below `run_dir`. Nothing is made, but what killed processes left is removed.
    ///
    /// # Errors
    /// The state cannot be read, or what was left cannot be removed.
    pub fn open(run_dir: &Path) -> Result<Self, NetworkError> {
        let leases = Arc::new(Leases::new(run_dir)?);
        leases.reclaim()?;
        let shared = Arc::new(Shared { leases, active: Mutex::new(None), ending: Mutex::new(Vec::new()) });
        Ok(Self { inner: Arc::new(Inner { shared, prepared: Mutex::new(VecDeque::new()) }) })
    }

    /// Begins to make a namespace in the background, for an [`Network::attach`] to come. Returns at once; with several
    /// under way already it does nothing, and an error is that attach's.
    pub fn prepare(&self) {
        let mut prepared = lock(&self.inner.prepared);
        if prepared.len() < MOST_PREPARED
            && let Ok(making) = self.inner.shared.begin()
        {
            prepared.push_back(making);
        }
    }

    /// A new network namespace with `lo` and `eth0` up, an address and a default route: one that was prepared, or made
    /// now (some milliseconds; to be called where waiting is allowed).
    ///
    /// # Errors
    /// The kernel refused something, or the subnet is full.
    pub fn attach(&self) -> Result<Attachment, NetworkError> {
        let prepared = lock(&self.inner.prepared).pop_front();
        let making = prepared.map_or_else(|| self.inner.shared.begin(), Ok)?;
        let Made { lease, namespace } = making.join().map_err(|_| NetworkError::Thread)??;
        let subnet = lease.subnet;
        Ok(Attachment { lease: self.own(lease.address), namespace, subnet })
    }

    /// Takes up a lease that another process handed over to this one by [`Attachment::hand_over`].
    ///
    /// # Errors
    /// The address is not leased to this process.
    pub fn adopt(&self, address: Ipv4Addr) -> Result<AddressLease, NetworkError> {
        self.inner.shared.leases.subnet_of(address)?;
        self.inner.shared.activate()?;
        Ok(self.own(address))
    }

    /// Says that no attach is to be expected soon: what this handle holds is removed in the background, 20 to 50 ms of
    /// waiting that would else come with the drop. Attachments stay as they are, and another attach is possible.
    pub fn let_go(&self) {
        self.inner.let_go();
    }

    /// What the user should know, as far as this handle made the bridge.
    pub fn notices(&self) -> Vec<Notice> {
        lock(&self.inner.shared.active).as_ref().map(|active| active.notices.clone()).unwrap_or_default()
    }

    fn own(&self, address: Ipv4Addr) -> AddressLease {
        AddressLease { inner: Arc::clone(&self.inner), address, owned: true }
    }
}

/// Removes what killed processes left in the network of a run directory; cheap if there is nothing.
///
/// [`Network::open`] does this too; this is for commands that use no network, such as those that list and remove
/// containers.
///
/// # Errors
/// The state cannot be read, or what was left cannot be removed.
pub fn reclaim(run_dir: &Path) -> Result<(), NetworkError> {
    Leases::new(run_dir)?.reclaim()
}

/// One sandbox's end of the network.
///
/// Dropping it gives the address back and removes the veth pair, in the background; the namespace itself goes with the
/// last process or file descriptor in it. To be dropped when the sandbox's processes are dead.
#[derive(Debug)]
pub struct Attachment {
    lease: AddressLease,
    namespace: OwnedFd,
    subnet: Subnet,
}

impl Attachment {
    /// The network namespace, to be entered with `setns`, or to be duplicated with `try_clone_to_owned`.
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// The address of `eth0`.
    pub fn address(&self) -> Ipv4Addr {
        self.lease.address
    }

    /// The bridge's address: the default route of the sandbox.
    pub fn gateway(&self) -> Ipv4Addr {
        self.subnet.gateway()
    }

    /// The subnet of the bridge.
    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// Makes process `pid` the owner of the address: the connection stays when this process ends, until `pid` ends or
    /// gives it back ([`Network::adopt`]). Returns the namespace.
    ///
    /// # Errors
    /// There is no such process. The attachment is then given back as if dropped.
    pub fn hand_over(mut self, pid: i32) -> Result<OwnedFd, NetworkError> {
        self.lease.inner.shared.leases.hand_over(self.lease.address, pid)?;
        self.lease.owned = false;
        Ok(self.namespace)
    }
}

/// An address of the bridge's subnet, and the veth pair that goes with it. Dropping it gives both back.
#[derive(Debug)]
pub struct AddressLease {
    inner: Arc<Inner>,
    address: Ipv4Addr,
    /// False once handed over.
    owned: bool,
}

impl AddressLease {
    /// The address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }
}

impl Drop for AddressLease {
    fn drop(&mut self) {
        if self.owned {
            self.inner.shared.leave(self.address);
        }
    }
}

impl Shared {
    /// Begins to make a namespace on a thread of its own.
    fn begin(self: &Arc<Self>) -> Result<Making, NetworkError> {
        let shared = Arc::clone(self);
        namespace::on_own_thread(move || {
            shared.activate()?;
            let lease = shared.leases.take()?;
            match equip(&lease) {
                Ok(namespace) => Ok(Made { lease, namespace }),
                Err(error) => {
                    shared.leave(lease.address);
                    Err(error)
                }
            }
        })
    }

    /// Takes hold of the bridge and starts the cleaner, if this was not done yet.
    fn activate(&self) -> Result<(), NetworkError> {
        let mut active = lock(&self.active);
        if active.is_none() {
            let Held { bridge, notices } = self.leases.hold()?;
            let (leaving, left) = mpsc::channel();
            let leases = Arc::clone(&self.leases);
            let held = bridge.clone();
            let cleaner = match namespace::on_own_thread(move || clean(&leases, &left, held.as_ref())) {
                Ok(cleaner) => cleaner,
                Err(error) => {
                    drop(self.leases.let_go(&[], bridge.as_ref()));
                    return Err(error);
                }
            };
            *active = Some(Active { notices, leaving, cleaner });
        }
        Ok(())
    }

    /// Hands an address to the cleaner, or gives it back at once where there is none any more. What cannot be given back
    /// is reclaimed when this process has ended.
    fn leave(&self, address: Ipv4Addr) {
        let sent = lock(&self.active).as_ref().is_some_and(|active| active.leaving.send(address).is_ok());
        if !sent {
            drop(self.leases.give_back(&[address]));
        }
    }
}

impl Inner {
    fn let_go(&self) {
        let prepared: Vec<_> = lock(&self.prepared).drain(..).collect();
        for making in prepared {
            if let Ok(Ok(made)) = making.join() {
                self.shared.leave(made.lease.address);
            }
        }
        // Dropping the sender tells the cleaner that this was all.
        if let Some(Active { cleaner, .. }) = lock(&self.shared.active).take() {
            lock(&self.shared.ending).push(cleaner);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.let_go();
        for cleaner in lock(&self.shared.ending).drain(..) {
            // Errors have nobody to go to here; the state file still names what is left, for the next process.
            drop(cleaner.join());
        }
    }
}

/// Makes a namespace and connects it. Leaves the thread in the namespace in which it was.
fn equip(lease: &Lease) -> Result<OwnedFd, NetworkError> {
    let outside = namespace::current()?;
    let mut host = namespace::open_route_socket()?;
    let made = namespace::enter_new().and_then(|(namespace, inside)| {
        connect(lease, &mut host, namespace.as_fd(), inside)?;
        Ok(namespace)
    });
    namespace::enter(outside)?;
    made
}

fn connect(
    lease: &Lease,
    host: &mut Socket,
    namespace: BorrowedFd<'_>,
    mut inside: Socket,
) -> Result<(), NetworkError> {
    let outer = lease::outer_name(lease.address);
    let [a, b, c, d] = lease.address.octets();
    let pair = VethPair {
        outer: &outer,
        bridge: lease.bridge,
        inner: INNER,
        inner_mac: [0x02, 0x1a, a, b, c, d],
        namespace,
        mtu: lease.mtu,
    };
    link::create_veth(host, &pair)?;
    let index = link::by_name(&mut inside, INNER)?.unwrap_or_default().index;
    link::set_up(&mut inside, index)?;
    link::add_address(&mut inside, index, lease.address, lease.subnet)?;
    link::add_default_route(&mut inside, index, lease.subnet.gateway())
}

/// Gives back what is left until nothing can come any more, then lets go of the bridge.
///
/// Waits a moment after each first one for others: removing twenty takes as long as one, and the last ones go with the
/// bridge.
fn clean(leases: &Leases, left: &mpsc::Receiver<Ipv4Addr>, held: Option<&Bridge>) -> Result<(), NetworkError> {
    let mut result = Ok(());
    let mut batch = Vec::new();
    while let Ok(first) = left.recv() {
        batch.push(first);
        let until = Instant::now() + GATHERING;
        let end = loop {
            match left.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(next) => batch.push(next),
                Err(end) => break end,
            }
        };
        if end == mpsc::RecvTimeoutError::Disconnected {
            break;
        }
        let given_back = leases.give_back(&batch);
        result = result.and(given_back);
        batch.clear();
    }
    let let_go = leases.let_go(&batch, held);
    result.and(let_go)
}

/// A panic of another thread leaves these lists whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

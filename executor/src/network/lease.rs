//! Who has which address: taking, giving back and handing over, each a short transaction on the state file.
//!
//! Invariants: the bridge is there as long as there is a holder or a lease, and is removed by whoever takes the last one
//! away; every transaction first takes away what the dead have left.

use std::net::Ipv4Addr;
use std::path::Path;

use super::error::NetworkError;
use super::nat::Notice;
use super::state::{Bridge, Locked, Owner, State, StateDirectory};
use super::subnet::Subnet;
use super::{bridge, link, namespace};

/// An address taken from the subnet of a bridge that is up.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    pub(crate) subnet: Subnet,
    pub(crate) mtu: u32,
    /// The index of the bridge's link.
    pub(crate) bridge: u32,
}

/// What [`Leases::hold`] came to.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bridge: Option<Bridge>,
    /// What there is to say if the bridge was made for this.
    pub(crate) notices: Vec<Notice>,
}

/// The name of the outer end of the veth pair of an address: addresses are unique on a host, so are these.
pub(crate) fn outer_name(address: Ipv4Addr) -> String {
    format!("lapv{:08x}", address.to_bits())
}

/// The leases of one run directory in one network namespace.
#[derive(Debug)]
pub(crate) struct Leases {
    directory: StateDirectory,
}

impl Leases {
    pub(crate) fn new(run_dir: &Path) -> Result<Self, NetworkError> {
        Ok(Self { directory: StateDirectory::new(run_dir)? })
    }

    /// Makes the bridge if there is none and lets it stay until [`Leases::let_go`].
    pub(crate) fn hold(&self) -> Result<Held, NetworkError> {
        let (locked, mut state) = self.begin()?;
        let (_, notices) = bridge::ensure(&locked, &mut state)?;
        state.holders.push(Owner::this()?);
        locked.write(&state)?;
        Ok(Held { bridge: state.bridge, notices })
    }

    /// Ends one [`Leases::hold`] of this process, and gives back its last addresses in the same go.
    ///
    /// If somebody has removed the run directory meanwhile, nobody else can know of the bridge: then it goes as soon as
    /// it has no other ports.
    pub(crate) fn let_go(&self, addresses: &[Ipv4Addr], held: Option<&Bridge>) -> Result<(), NetworkError> {
        let (locked, mut state) = self.begin()?;
        let this = Owner::this()?;
        if let Some(position) = state.holders.iter().position(|owner| *owner == this) {
            state.holders.swap_remove(position);
        }
        let mut own = addresses.to_vec();
        match held {
            Some(bridge) if state.bridge.is_none() => {
                let names: Vec<_> = own.iter().copied().map(outer_name).collect();
                if bridge::is_idle(bridge, &names)? {
                    state.bridge = Some(bridge.clone());
                }
            }
            _ => {
                own.retain(|address| state.leases.get(address) == Some(&this));
                state.leases.retain(|address, _| !own.contains(address));
            }
        }
        settle(&locked, state, &own)
    }

    /// Takes an address for this process.
    pub(crate) fn take(&self) -> Result<Lease, NetworkError> {
        let (locked, mut state) = self.begin()?;
        let (link, _) = bridge::ensure(&locked, &mut state)?;
        let Some(bridge) = &state.bridge else { return Err(NetworkError::Thread) };
        let (subnet, mtu) = (bridge.subnet, bridge.mtu);
        let after = state.last.unwrap_or_else(|| subnet.gateway());
        let address = subnet
            .next_free(after, |address| state.leases.contains_key(&address))
            .ok_or_else(|| NetworkError::NoFreeAddress { subnet: subnet.to_string() })?;
        state.leases.insert(address, Owner::this()?);
        state.last = Some(address);
        locked.write(&state)?;
        Ok(Lease { address, subnet, mtu, bridge: link.index })
    }

    /// Gives addresses of this process back and removes their veth pairs.
    pub(crate) fn give_back(&self, addresses: &[Ipv4Addr]) -> Result<(), NetworkError> {
        // First the links, then the leases: nobody may get an address while it is still in use. Without the lock, for
        // it takes a while.
        delete_links(addresses)?;
        let (locked, mut state) = self.begin()?;
        let this = Owner::this()?;
        state.leases.retain(|address, owner| *owner != this || !addresses.contains(address));
        settle(&locked, state, &[])
    }

    /// Makes another process the owner of an address of this one.
    pub(crate) fn hand_over(&self, address: Ipv4Addr, pid: i32) -> Result<(), NetworkError> {
        let owner = Owner::of(pid)?.ok_or(NetworkError::NoProcess { pid })?;
        let (locked, mut state) = self.begin()?;
        let this = Owner::this()?;
        match state.leases.get_mut(&address) {
            Some(slot) if *slot == this || *slot == owner => *slot = owner,
            _ => return Err(NetworkError::NotLeased { address, pid: this.pid }),
        }
        locked.write(&state)
    }

    /// The subnet of an address that is leased to this process.
    pub(crate) fn subnet_of(&self, address: Ipv4Addr) -> Result<Subnet, NetworkError> {
        let (locked, state) = self.begin()?;
        let this = Owner::this()?;
        let subnet = state.bridge.as_ref().map(|bridge| bridge.subnet);
        let owned = state.leases.get(&address) == Some(&this);
        settle(&locked, state, &[])?;
        subnet.filter(|_| owned).ok_or(NetworkError::NotLeased { address, pid: this.pid })
    }

    /// Takes away what the dead have left, if anything was ever done here.
    pub(crate) fn reclaim(&self) -> Result<(), NetworkError> {
        if !self.directory.exists() {
            return Ok(());
        }
        let (locked, state) = self.begin()?;
        settle(&locked, state, &[])
    }

    /// Locks and reads the state, without the dead.
    fn begin(&self) -> Result<(Locked<'_>, State), NetworkError> {
        let locked = self.directory.lock()?;
        let mut state = locked.read()?;
        let dead = state.forget_dead();
        delete_links(&dead)?;
        Ok((locked, state))
    }
}

/// Writes the state, or removes everything if nobody needs it any more; and removes the veth pairs of `left`.
fn settle(locked: &Locked<'_>, mut state: State, left: &[Ipv4Addr]) -> Result<(), NetworkError> {
    if !state.is_unused() {
        delete_links(left)?;
        return locked.write(&state);
    }
    let left: Vec<_> = left.iter().copied().map(outer_name).collect();
    bridge::remove(locked, &mut state, &left)?;
    locked.remove()
}

fn delete_links(addresses: &[Ipv4Addr]) -> Result<(), NetworkError> {
    if addresses.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = addresses.iter().copied().map(outer_name).collect();
    link::delete(&mut namespace::open_route_socket()?, names.iter().map(String::as_str))
}

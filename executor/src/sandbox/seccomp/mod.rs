//! The system call filter: Docker's default profile as classic BPF.
//!
//! Why our own compiler: one errno for refused calls, another for `clone3`, three call tables in one filter, and a
//! balanced tree instead of a chain of 400 comparisons. A compiled filter is kept for the life of the process.

mod bpf;
mod profile;
mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use bpf::Instruction;

static COMPILED: Mutex<BTreeMap<u64, Arc<[Instruction]>>> = Mutex::new(BTreeMap::new());

/// The filter for a command that may have these capabilities (bit n is capability n).
pub(crate) fn filter(capabilities: u64) -> Arc<[Instruction]> {
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(compiled.entry(capabilities).or_insert_with(|| profile::compile(capabilities).into()))
}

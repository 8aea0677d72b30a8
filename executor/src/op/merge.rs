//! Laying layers over each other: nothing is read or written.

use lap_cache::snapshot::Snapshot;

use crate::worker::{Output, WorkerError};

/// The layers of all inputs, the first input's lowest.
///
/// # Errors
/// Where an input is no root file system.
pub fn run(inputs: &[Output]) -> Result<Snapshot, WorkerError> {
    let mut merged = Snapshot::default();
    for (index, input) in inputs.iter().enumerate() {
        let snapshot = input.snapshot().ok_or(WorkerError::Input(index))?;
        merged.layers.extend_from_slice(&snapshot.layers);
    }
    Ok(merged)
}

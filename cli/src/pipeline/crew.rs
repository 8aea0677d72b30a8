//! The workers of one solve: one for each way in which the requests let their steps run.
//!
//! Limits, hosts and grants are those of a request. A step that several requests share runs as the first one wants.

use std::collections::BTreeMap;
use std::sync::Arc;

use lap_executor::worker::{BuildWorker, Output, StepLock, WorkerError};
use lap_solver::digest::Key;
use lap_solver::graph::{Vertex, VertexId};
use lap_solver::key::KeyInputs;
use lap_solver::worker::{Index, Turn, Worker};

use super::Request;

/// Several workers that look like one.
pub(super) struct Crew {
    /// At least one. All have the same store, contexts and base images.
    workers: Vec<Arc<BuildWorker>>,
    /// Which worker each request has.
    of_request: Vec<usize>,
    /// Which request each vertex belongs to.
    owners: Vec<usize>,
}

impl Crew {
    /// `make` makes a worker for a request; requests that want the same have the same worker.
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) fn new(
        requests: &[&Request],
        owners: Vec<usize>,
        mut make: impl FnMut(&Request) -> anyhow::Result<Arc<BuildWorker>>,
    ) -> anyhow::Result<Arc<Self>> {
        let (mut workers, mut first, mut of_request) = (Vec::new(), Vec::<&Request>::new(), Vec::new());
        for request in requests {
            let found = first.iter().position(|other| same_sandbox(other, request));
            let worker = match found {
                Some(worker) => worker,
                None => {
                    workers.push(make(request)?);
                    first.push(request);
                    first.len() - 1
                }
            };
            of_request.push(worker);
        }
        Ok(Arc::new(Self { workers, of_request, owners }))
    }

    /// The request that a step belongs to.
    pub(super) fn owner(&self, vertex: VertexId) -> usize {
        self.owners.get(vertex.index()).copied().unwrap_or(0)
    }

    /// The worker of a request.
    pub(super) fn worker(&self, request: usize) -> &Arc<BuildWorker> {
        &self.workers[self.of_request.get(request).copied().unwrap_or(0)]
    }
}

/// Whether the steps of two requests may run with the same worker.
fn same_sandbox(one: &Request, two: &Request) -> bool {
    one.secrets == two.secrets
        && one.ssh == two.ssh
        && one.allow == two.allow
        && one.host_network == two.host_network
        && one.add_hosts == two.add_hosts
        && one.limits == two.limits
        && one.rlimits == two.rlimits
        && one.shm_size == two.shm_size
        && one.cgroup_parent == two.cgroup_parent
}

impl Worker for Crew {
    type Output = Output;
    type Error = WorkerError;

    async fn identity(self: &Arc<Self>, vertex: &Vertex, input: usize, output: &Output) -> Result<Key, WorkerError> {
        // What a step sees of its inputs does not depend on who runs it.
        self.worker(0).identity(vertex, input, output).await
    }

    fn secrets(&self, id: VertexId, vertex: &Vertex) -> Result<BTreeMap<String, Key>, WorkerError> {
        self.worker(self.owner(id)).secrets(id, vertex)
    }

    async fn execute(
        self: &Arc<Self>,
        id: VertexId,
        vertex: &Vertex,
        key: Key,
        inputs: Vec<Output>,
    ) -> Result<Output, WorkerError> {
        self.worker(self.owner(id)).execute(id, vertex, key, inputs).await
    }
}

impl Index<Output, WorkerError> for Crew {
    type Guard = StepLock;

    async fn lookup(
        &self,
        key: &Key,
        inputs: &KeyInputs,
        vertex: &Vertex,
        outputs: &[Output],
    ) -> Result<Option<Output>, WorkerError> {
        self.worker(0).lookup(key, inputs, vertex, outputs).await
    }

    fn missed(&self, inputs: &KeyInputs) {
        self.worker(0).missed(inputs);
    }

    async fn turn(
        &self,
        key: &Key,
        inputs: &KeyInputs,
        vertex: &Vertex,
        waiting: impl FnOnce() + Send,
    ) -> Result<Turn<StepLock, Output>, WorkerError> {
        self.worker(0).turn(key, inputs, vertex, waiting).await
    }

    fn record(&self, key: &Key, inputs: &KeyInputs, vertex: &Vertex, output: Output) -> Result<Output, WorkerError> {
        self.worker(0).record(key, inputs, vertex, output)
    }
}

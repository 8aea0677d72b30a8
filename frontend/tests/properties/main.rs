//! Properties: two references that were written apart from the code and say the same, and printing that loses nothing.
//!
//! The seeds are fixed, so that a failure is one for everybody; `PROPTEST_CASES` asks for more cases.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod expansion;
mod ignore;
mod noise;
mod printing;

use proptest::prelude::ProptestConfig;
use proptest::test_runner::{RngAlgorithm, RngSeed};

/// The same cases at every run.
fn cases(count: u32) -> ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: wanted.unwrap_or(count),
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(20_260_801),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

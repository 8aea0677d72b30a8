//! What to do, in which order, under which name: the pure core.
//!
//! A frontend builds a [`graph::Graph`]; [`drive::solve`] runs it through a [`worker::Worker`], using results that a
//! [`worker::Index`] knows. Which step may start when is decided by [`schedule`], a state machine without I/O. Names
//! of results are made in [`digest`] and [`key`]. What happens is told in [`event`]s.
//!
//! Nothing here reads a file, a clock, the environment or the network.

pub mod digest;
pub mod drive;
pub mod event;
pub mod graph;
pub mod image;
pub mod intent;
pub mod key;
pub mod path;
pub mod pattern;
pub mod platform;
pub mod provenance;
pub mod purl;
pub mod schedule;
pub mod why;
pub mod worker;

//! The kinds of steps, one module each.

pub mod exec;
pub mod file;
pub mod merge;

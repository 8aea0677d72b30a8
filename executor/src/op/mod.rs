//! The kinds of steps, one module each.

pub mod file;

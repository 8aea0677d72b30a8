//! Dockerfile text to a graph of steps. Pure: no disk, no network, no environment.
//!
//! [`parse`] makes a tree and never fails.

pub mod diagnostic;
pub mod go;
pub mod ignore;
pub mod source;
mod suggest;
pub mod syntax;
pub mod word;

pub use diagnostic::{Code, Diagnostic, Severity};
pub use syntax::{Dockerfile, Parsed, parse};

//! Dockerfile text to a graph of steps. Pure: no disk, no network, no environment.
//!
//! The sentence, each arrow a function: [`parse`] makes a tree and never fails; [`stages`] resolves stages, arguments
//! and the target; [`Stages::base_images`] says which images must be known; [`lower()`] makes the graph and the image
//! that the target becomes.

mod args;
pub mod diagnostic;
mod epoch;
pub mod git;
pub mod go;
pub mod ignore;
pub mod lint;
mod lower;
pub mod options;
pub mod outline;
mod plan;
pub mod reference;
pub mod source;
mod stage;
mod suggest;
pub mod syntax;
pub mod word;

pub use diagnostic::{Code, Diagnostic, Severity};
pub use epoch::Epoch;
pub use lower::{Lowered, check, is_secret_name, lower, remote_source};
pub use options::{BaseImage, Facts, NamedContext, Options, TargetContext};
pub use stage::{Stages, Target, stages, targets};
pub use syntax::{Dockerfile, Parsed, parse};

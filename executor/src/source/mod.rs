//! Where the inputs of a build come from.

pub mod image;
pub mod local;

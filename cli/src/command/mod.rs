//! One file a command.

pub mod dockerfile;

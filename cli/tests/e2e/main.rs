//! The real `lap`, each test with a store of its own, and other tools as second opinions.
//!
//! What cannot run on a machine prints `SKIPPED` with the reason.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failing helper fails its test; skips are printed")]

mod actions;
mod attacks;
mod attest;
mod bake;
mod bake_options;
mod build;
mod cache;
mod calls;
mod concurrent;
mod containers;
mod contexts;
mod copy;
mod crash;
mod debug;
mod dockerfiles;
mod edits;
mod errors;
mod export;
mod faults;
mod flags;
mod format;
mod fsck;
mod gc;
mod git_http;
mod hostile_contexts;
mod image_commands;
mod inside;
mod language;
mod login;
mod memory;
mod old_kernel;
mod outputs;
mod peers;
mod platforms;
mod power;
mod registry;
mod remote_cache;
mod reproducible;
mod rootless;
mod roundtrip;
mod sandbox;
mod ssh;
mod support;
mod truth;
mod web;
mod why;

//! The command line of flatmin, for a user's own files.
//!
//! `flatmin analyze` reads the Jacobian of a network at a minimum and says at which learning rates
//! and batch sizes SGD could have stayed there. `flatmin train` trains flatmin's own models as a
//! TOML file says, or replays a run of another program, and `flatmin metrics` measures them. All
//! computation is in other crates; this one reads files, checks them, and puts the answer into
//! words, JSON and figures.
//!
//! Standard output carries the answer and nothing else. Progress and errors go to standard error;
//! an error is one line, `flatmin: FILE: reason`. [`Exit`] lists the exit statuses.

// Everything here works on what users and files give, which must not end in a panic.
#![warn(clippy::expect_used, clippy::panic, clippy::unreachable, clippy::todo)]

mod analyze;
mod batches;
mod brackets;
mod column;
mod command;
mod config;
mod curvature;
mod data;
mod edge;
mod failure;
mod gram;
mod limits;
mod metrics;
mod network;
mod optimizer;
pub mod readers;
mod train;
mod values;
mod words;

pub use analyze::{Answer, History, Inquiry, Refusal};
pub use command::{main, main_from};
pub use flatmin_host::Exit;

//! The command line of flatmin: what a user asks of their own files.
//!
//! `flatmin analyze` reads the Jacobian of a network at a minimum and says at which learning rates and
//! batch sizes SGD could have stayed there. `flatmin train` trains flatmin's own models as a TOML file
//! says, or replays a run of another program, and `flatmin metrics` measures them. Everything it
//! computes is another crate's; this one reads files, checks what they say, and puts the answer into words, JSON and figures.
//!
//! Standard output carries the answer and nothing else, standard error progress and one line on what
//! went wrong, `flatmin: FILE: reason`. [`Exit`] lists the exit statuses.

mod analyze;
mod batches;
mod command;
mod config;
mod failure;
mod interrupt;
mod labelled;
mod load;
mod metrics;
mod network;
mod number;
mod output;
mod progress;
pub mod readers;
mod train;
mod values;

pub use command::main;
pub use failure::Exit;

//! `cargo xtask`: runs the whole reproduction, verifies the theory, and measures.
//!
//! This crate decides which cells run, in which order and where their results lie. It holds no
//! mathematics: what a cell computes, and what its result means, is `flatmin-experiments`' own, and
//! what a statement says is `flatmin-theory`'s.

mod bench;
mod docs;
mod failure;
mod files;
mod golden;
mod instructions;
mod ledger;
mod manifest;
mod markdown;
mod output;
mod process;
mod progress;
pub mod readers;
mod reproduce;
mod run;
mod store;
mod verified;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use flatmin_linalg::simd;

use crate::failure::{Failure, exit};

/// Tasks of the flatmin workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Reproduce the paper: run what is missing, then write tables, figures, claims and report.
    Reproduce(reproduce::Options),
    /// Try every statement of the theory, and its mutant, on random instances.
    Verify(verify::Options),
    /// Write the page of the statements, docs/ledger.md.
    Ledger(ledger::Options),
    /// Check the book and build it with mdBook.
    Docs(docs::Options),
    /// Time flatmin, beside what the processor allows and what other libraries take.
    Bench(bench::Options),
    /// Compare a smoke reproduction, byte for byte, with what was written down.
    Golden(golden::Options),
    /// Count the instructions of the hottest kernels, and compare with what was written down.
    Instructions(instructions::Options),
}

/// Runs the task that the arguments of the process ask for.
pub fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output::warn(&failure);
            ExitCode::from(exit::of(&failure))
        }
    }
}

fn run(task: Task) -> Result<u8, Failure> {
    choose_instruction_set()?;
    match task {
        Task::Reproduce(options) => reproduce::reproduce(&options),
        Task::Verify(options) => verify::verify(&options),
        Task::Ledger(options) => ledger::ledger(&options),
        Task::Docs(options) => docs::docs(&options),
        Task::Bench(options) => bench::bench(&options),
        Task::Golden(options) => golden::golden(&options),
        Task::Instructions(options) => instructions::instructions(&options),
    }
}

/// As the environment says.
fn choose_instruction_set() -> Result<(), Failure> {
    let Some(wanted) = std::env::var_os(simd::VARIABLE) else { return Ok(()) };
    simd::choose(wanted.to_string_lossy().parse()?)?;
    Ok(())
}

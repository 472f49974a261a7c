//! `cargo xtask`: runs the whole reproduction, verifies the theory, and measures.
//!
//! This crate decides which cells run, in which order and where their results lie. It holds no
//! mathematics: `flatmin-experiments` knows what a cell computes and what its result means,
//! `flatmin-ledger` what a statement says.

mod bench;
mod build_info;
mod compare;
mod docs;
mod failure;
mod golden;
mod instructions;
mod ledger;
mod markdown;
mod named;
mod process;
mod program;
pub mod readers;
pub mod report;
mod reproduce;
mod verified;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use flatmin_host::{Exit, Program};
use flatmin_linalg::simd::{self, InstructionSetError};

use crate::failure::Failure;
use crate::program::XTASK;

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
    Reproduce(reproduce::ReproduceArguments),
    /// Compare two reproductions: verdicts, medians, and what moved beyond the spread.
    Compare(compare::CompareArguments),
    /// Print the verdicts of several reproductions with the narrowest margin of each claim.
    Margins(compare::MarginsArguments),
    /// Try every statement of the theory, and its mutant, on random instances.
    Verify(verify::VerifyArguments),
    /// Write the page of the statements, docs/ledger.md.
    Ledger(ledger::LedgerArguments),
    /// Check the book and build it with mdBook.
    Docs(docs::DocsArguments),
    /// Time flatmin, beside the limits of the processor and other libraries.
    Bench(bench::BenchArguments),
    /// Compare a smoke reproduction, byte for byte, with the recorded digests.
    Golden(golden::GoldenArguments),
    /// Count the instructions of the hottest kernels, and compare with the recorded counts.
    Instructions(instructions::InstructionsArguments),
}

/// Runs the task that the arguments of the process ask for.
pub fn main() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| Program::end_parsing(&error));
    XTASK.end(run(arguments.task), Failure::exit).into()
}

fn run(task: Task) -> Result<Exit, Failure> {
    choose_instruction_set()?;
    match task {
        Task::Reproduce(arguments) => reproduce::reproduce(&arguments),
        Task::Compare(arguments) => compare::compare(&arguments),
        Task::Margins(arguments) => compare::margins(&arguments),
        Task::Verify(arguments) => verify::verify(&arguments),
        Task::Ledger(arguments) => ledger::ledger(&arguments),
        Task::Docs(arguments) => docs::docs(&arguments),
        Task::Bench(arguments) => bench::bench(&arguments),
        Task::Golden(arguments) => golden::golden(&arguments),
        Task::Instructions(arguments) => instructions::instructions(&arguments),
    }
}

/// Takes the instruction set that the environment names, if it names one.
fn choose_instruction_set() -> Result<(), Failure> {
    let Some(wanted) = std::env::var_os(simd::VARIABLE) else { return Ok(()) };
    let wanted = wanted.to_string_lossy().parse().map_err(InstructionSetError::from)?;
    simd::choose(wanted)?;
    Ok(())
}

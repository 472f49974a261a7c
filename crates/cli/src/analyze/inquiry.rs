//! The analysis of arrays that a program holds in memory.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use clap::Parser;
use flatmin_arrays::ArraysInMemory;
use flatmin_host::to_json;
use flatmin_linalg::{JacobianProducts, Parallelism};

use super::analysis::Analysis;
use super::arguments::AnalyzeArguments;
use super::bracket::{self, BracketAnalysis};
use super::input::{FileMinimum, Input, LargeMinimum};
use super::{figure, report, text};
use crate::failure::Failure;

/// A question of `flatmin analyze` about arrays in memory.
#[derive(Default)]
pub struct Inquiry {
    /// The arrays, one of which has the name `main`.
    pub arrays: ArraysInMemory,
    /// The name of the Jacobian or of the Gram matrix, by which messages call the input.
    pub main: String,
    /// The options of the command, as in `["--gram", "--batch-size", "8"]`. Their arrays are those
    /// in memory, by name.
    pub options: Vec<String>,
    /// Named blocks of columns, as the JSON text of `--blocks`.
    pub blocks: Option<String>,
    /// What the program did to the array.
    pub history: History,
    /// The Jacobian by its products in place of an array, for a bracket.
    pub products: Option<Box<dyn JacobianProducts + Send>>,
    /// Tells a bracket to end with what it has reached.
    pub stop: Option<Box<dyn Fn() -> bool + Send>>,
}

impl fmt::Debug for Inquiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inquiry")
            .field("main", &self.main)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// What a program knows of an array that it made.
#[derive(Debug, Clone, Copy, Default)]
pub struct History {
    /// The number of parameters, for a Gram matrix.
    pub parameters: Option<usize>,
    /// True if the columns were divided by the square roots of a diagonal preconditioner.
    pub is_preconditioned: bool,
}

/// The arguments of an inquiry.
#[derive(Debug, Parser)]
#[command(name = "flatmin analyze", no_binary_name = true, disable_help_flag = true)]
struct Options {
    #[command(flatten)]
    arguments: AnalyzeArguments,
}

/// An input or an option was refused. The message is that of the command, in one line.
#[derive(Debug)]
pub struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}

impl From<clap::Error> for Refusal {
    fn from(error: clap::Error) -> Self {
        let text = error.render().to_string();
        let reason = text.split("\n\n").next().unwrap_or_default();
        let words: Vec<&str> = reason.trim_start_matches("error: ").split_whitespace().collect();
        Self(words.join(" "))
    }
}

impl Inquiry {
    /// Analyses the arrays.
    ///
    /// # Errors
    /// [`Refusal`] with the message of the command.
    pub fn answer(self, parallelism: Parallelism) -> Result<Answer, Refusal> {
        let words = [self.main].into_iter().chain(self.options);
        let mut arguments = Options::try_parse_from(words)?.arguments;
        arguments.arrays = Some(self.arrays);
        arguments.blocks_in_memory = self.blocks;
        bracket::check(&arguments)?;
        let (source, reason) = if let Some(products) = self.products {
            (LargeMinimum::of_products(&arguments, products)?, None)
        } else {
            let input = Input::open(&arguments)?;
            let reason = input.excess().map(str::to_owned);
            if !(arguments.bracket.is_wanted() || reason.is_some()) {
                let minimum = input.minimum(parallelism)?;
                return Ok(exact(arguments, minimum, self.history, parallelism)?);
            }
            (input.products(parallelism)?, reason)
        };
        let stop = self.stop.unwrap_or_else(|| Box::new(|| false));
        let mut found = BracketAnalysis::new(&arguments, &source, reason, parallelism, &stop)?;
        found.is_preconditioned |= self.history.is_preconditioned;
        arguments.arrays = None;
        Ok(Answer { arguments, found: Found::Bracket(Box::new(found)) })
    }
}

/// The answer of the command to these words, the first of which is a file, in text and JSON.
pub(crate) fn answer_about_file(words: &[&OsStr]) -> Result<[String; 2], Refusal> {
    let arguments = Options::try_parse_from(words)?.arguments;
    let input = Input::open(&arguments)?;
    let parallelism = Parallelism::Sequential;
    let reason = input.excess().map(str::to_owned);
    let found = if arguments.bracket.is_wanted() || reason.is_some() {
        bracket::check(&arguments)?;
        let source = input.products(parallelism)?;
        let stop = &|| false;
        let found = BracketAnalysis::new(&arguments, &source, reason, parallelism, stop)?;
        Found::Bracket(Box::new(found))
    } else {
        let minimum = input.minimum(parallelism)?;
        Found::Exact(Box::new(Analysis::new(&arguments, minimum, parallelism)?))
    };
    let answer = Answer { arguments, found };
    Ok([answer.text(), answer.json()?])
}

/// The answer from all of the matrix.
fn exact(
    mut arguments: AnalyzeArguments,
    mut minimum: FileMinimum,
    history: History,
    parallelism: Parallelism,
) -> Result<Answer, Failure> {
    minimum.parameters = minimum.parameters.or(history.parameters);
    let mut analysis = Analysis::new(&arguments, minimum, parallelism)?;
    analysis.is_preconditioned |= history.is_preconditioned;
    // The arrays may be large, and are not needed any more.
    arguments.arrays = None;
    Ok(Answer { arguments, found: Found::Exact(Box::new(analysis)) })
}

/// The answer to an [`Inquiry`].
#[derive(Debug)]
pub struct Answer {
    arguments: AnalyzeArguments,
    found: Found,
}

#[derive(Debug)]
enum Found {
    Exact(Box<Analysis>),
    Bracket(Box<BracketAnalysis>),
}

impl Answer {
    /// The answer in words, as the command prints it.
    pub fn text(&self) -> String {
        match &self.found {
            Found::Exact(analysis) => text::render(&self.arguments, analysis),
            Found::Bracket(analysis) => bracket::render(&self.arguments, analysis),
        }
    }

    /// The answer as JSON, as `--format json` prints it.
    ///
    /// # Errors
    /// [`Refusal`] if a value has no JSON form.
    pub fn json(&self) -> Result<String, Refusal> {
        match &self.found {
            Found::Exact(analysis) => json(&report::report(&self.arguments, analysis)),
            Found::Bracket(analysis) => json(&bracket::report(&self.arguments, analysis)),
        }
    }

    /// The batches of the sizes 1, 2, 4, …, n, as those of [`json`](Self::json).
    ///
    /// # Errors
    /// [`Refusal`] with the message of the command.
    pub fn curve(&self, parallelism: Parallelism) -> Result<String, Refusal> {
        let analysis = self.exact()?;
        let curve = analysis.curve(&self.arguments, parallelism)?;
        json(&report::batch_reports(&self.arguments, analysis, &curve))
    }

    /// The figure of `--figure`, thresholds and bounds against batch size, as SVG.
    ///
    /// # Errors
    /// [`Refusal`] with the message of the command.
    pub fn figure(&self, parallelism: Parallelism) -> Result<String, Refusal> {
        let analysis = self.exact()?;
        let curve = analysis.curve(&self.arguments, parallelism)?;
        Ok(figure::figure(&self.arguments, analysis, &curve).to_svg())
    }

    fn exact(&self) -> Result<&Analysis, Refusal> {
        match &self.found {
            Found::Exact(analysis) => Ok(analysis),
            Found::Bracket(_) => {
                Err(Refusal("a bracket has its own batch sizes only: ask for those".to_owned()))
            }
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Refusal> {
    to_json(Path::new("the answer"), value).map_err(|error| Failure::from(error).into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flatmin_arrays::{ArrayInMemory, ArraysInMemory, Order};
    use flatmin_linalg::Parallelism::Sequential;

    use super::{Answer, Inquiry, Refusal};

    fn inquiry(options: &[&str]) -> Result<Answer, Refusal> {
        let mut arrays = ArraysInMemory::default();
        let mut insert = |name: &str, shape: &[usize], values: &[f64]| {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            let (descr, shape, bytes) = ("<f8".to_owned(), shape.to_vec(), Arc::new(bytes));
            let array = ArrayInMemory { descr, shape, order: Order::C, bytes };
            arrays.insert(name, array).unwrap();
        };
        // G has the eigenvalues 2 and 1, so that batches of one are stable up to 1/2.
        insert("jacobian", &[2, 2], &[2.0, 0.0, 0.0, 2.0_f64.sqrt()]);
        insert("residuals", &[2], &[0.0, 0.0]);
        insert("short", &[1], &[0.0]);
        Inquiry {
            arrays,
            main: "jacobian".to_owned(),
            options: options.iter().map(|&word| word.to_owned()).collect(),
            ..Inquiry::default()
        }
        .answer(Sequential)
    }

    #[test]
    fn the_answer_is_that_of_the_command() {
        let answer = inquiry(&["--residuals", "residuals", "--learning-rate", "0.4"]).unwrap();
        assert!(answer.text().starts_with("jacobian: 2 samples × 2 parameters, rank 2\n"));
        assert!(answer.json().unwrap().contains("\"verdict\": \"stable\""));
        assert!(answer.curve(Sequential).unwrap().contains("\"batch_size\": 2,"));
        assert!(answer.figure(Sequential).unwrap().starts_with("<svg"));
    }

    #[test]
    fn a_bracket_takes_the_place_of_a_threshold_that_does_not_fit() {
        let answer = inquiry(&["--learning-rate", "0.4", "--memory-limit", "0.01"]).unwrap();
        let text = answer.text();
        assert!(text.contains("\nBrackets from products take their place"), "{text}");
        assert!(text.contains("Read as the Jacobian of the outputs, not of the loss"), "{text}");
        assert!(answer.json().unwrap().contains("\"verdict\": \"stable\""));
        assert!(answer.curve(Sequential).is_err());
    }

    #[test]
    fn a_refusal_is_the_line_of_the_command() {
        let refused = |options: &[&str]| inquiry(options).unwrap_err().to_string();
        let text = refused(&["--residuals", "short"]);
        assert!(text.starts_with("jacobian: the residuals are 1 × 1, expected 2 × 1"), "{text}");
        let text = refused(&["--batch-size", "none"]);
        assert!(text.starts_with("invalid value 'none' for '--batch-size <B,…>': "), "{text}");
        let text = refused(&["--nesterov"]);
        assert!(!text.contains('\n') && text.contains("momentum"), "{text}");
    }
}

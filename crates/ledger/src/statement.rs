//! A statement of the theory as a value: its words, its check, its mutant and its generator.

use std::any::Any;
use std::fmt;

use rand::Rng;

use crate::comparison::Comparison;
use crate::error::LedgerError;

/// The comparisons that a check makes, or the reason why it cannot.
pub type Checked = Result<Vec<Comparison>, LedgerError>;

/// The version of a statement that a check tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The statement itself: every comparison must hold on every instance.
    Stated,
    /// The statement with one wrong constant or exponent: every comparison must fail on some
    /// instance.
    Mutant,
}

impl Form {
    /// Returns `stated` for the statement itself, and `mutant` for its mutant.
    pub fn pick<T>(self, stated: T, mutant: T) -> T {
        match self {
            Self::Stated => stated,
            Self::Mutant => mutant,
        }
    }
}

/// A statement of the theory. Two statements are equal when their ids are.
///
/// # Examples
/// A statement that is not in the ledger, and one that is, on one instance:
///
/// ```
/// use flatmin_ledger::{
///     Checked, Comparison, Form, MinimumInstance, STATEMENTS, Statement, TOLERANCE, Trial,
/// };
/// use flatmin_linalg::{RowMatrix, stream};
///
/// fn check(form: Form, minimum: &MinimumInstance) -> Checked {
///     let jacobian = &minimum.jacobian;
///     let squares = |row: &[f64]| row.iter().map(|entry| entry * entry).sum::<f64>();
///     let sum = squares(jacobian.values());
///     let largest = (0..jacobian.rows()).map(|i| squares(jacobian.row(i))).fold(0.0, f64::max);
///     let most = form.pick(1.0, 0.5) * jacobian.rows() as f64 * largest;
///     Ok(vec![Comparison::at_most("sum and largest row", sum, most)])
/// }
///
/// static X1: Statement = Statement {
///     id: "X1",
///     title: "The largest row",
///     words: "The squared Frobenius norm is at most n times that of the largest row.",
///     latex: r"\|J\|_F^2 \le n \max_i \|g_i\|^2",
///     hypotheses: "none",
///     source: "linear algebra",
///     check_words: "Both sides.",
///     mutant_words: "n/2 instead of n",
///     trial: &Trial { generate: MinimumInstance::random, check },
/// };
///
/// let instance = X1.instance(&mut stream(0, "an example", 0));
/// for statement in [&X1, STATEMENTS[1]] {
///     for comparison in statement.check(Form::Stated, instance.as_ref())? {
///         assert!(comparison.holds(TOLERANCE), "{statement}: {comparison:?}");
///     }
/// }
/// # Ok::<(), flatmin_ledger::LedgerError>(())
/// ```
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Statement {
    /// The identifier, as in `S2`.
    pub id: &'static str,
    /// A name of a few words.
    pub title: &'static str,
    /// The statement in a sentence or two.
    #[cfg_attr(feature = "serde", serde(rename = "statement"))]
    pub words: &'static str,
    /// The formula, for the math mode of LaTeX.
    pub latex: &'static str,
    /// The hypotheses.
    pub hypotheses: &'static str,
    /// The paper that the statement is from.
    pub source: &'static str,
    /// The comparisons that the check makes, in words.
    #[cfg_attr(feature = "serde", serde(rename = "check"))]
    pub check_words: &'static str,
    /// The mistake in the mutant, in words.
    #[cfg_attr(feature = "serde", serde(rename = "mutant"))]
    pub mutant_words: &'static str,
    /// The generator of instances and the check.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub trial: &'static dyn AnyTrial,
}

impl Statement {
    /// A random instance, from one of several deliberately hard families.
    pub fn instance(&self, rng: &mut dyn Rng) -> Box<dyn Instance> {
        self.trial.instance(rng)
    }

    /// The comparisons that the statement, or its mutant, makes on one instance.
    ///
    /// A pure function of the instance: where the statement is about an expectation, the instance
    /// carries the random inputs. No comparison is made where a hypothesis fails.
    ///
    /// # Errors
    /// [`LedgerError::WrongInstance`] when the statement is about instances of another type;
    /// otherwise the error for which the two sides cannot be computed.
    pub fn check(&self, form: Form, instance: &dyn Instance) -> Checked {
        let checked = self.trial.check(form, instance);
        checked.unwrap_or(Err(LedgerError::WrongInstance { statement: self.id }))
    }
}

/// Writes the id.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id)
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

impl PartialEq for Statement {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Statement {}

/// An object that statements are about: a minimum, a network, a training step.
pub trait Instance: Any + fmt::Debug + Send + Sync {
    /// The sizes in words, as in `n = 4, p = 2, B = 1 with replacement`.
    fn sizes(&self) -> String;
}

/// The generator of the instances of a statement and its check on one of them.
#[derive(Debug, Clone, Copy)]
pub struct Trial<I> {
    /// Draws an instance.
    pub generate: fn(&mut dyn Rng) -> I,
    /// Compares the two sides of the statement, or of its mutant, on an instance.
    pub check: fn(Form, &I) -> Checked,
}

/// A [`Trial`] on instances of any type.
pub trait AnyTrial: Sync {
    /// Draws an instance.
    fn instance(&self, rng: &mut dyn Rng) -> Box<dyn Instance>;
    /// The comparisons on `instance`; `None` when it is of another type.
    fn check(&self, form: Form, instance: &dyn Instance) -> Option<Checked>;
}

impl<I: Instance> AnyTrial for Trial<I> {
    fn instance(&self, rng: &mut dyn Rng) -> Box<dyn Instance> {
        Box::new((self.generate)(rng))
    }

    fn check(&self, form: Form, instance: &dyn Instance) -> Option<Checked> {
        let instance: &dyn Any = instance;
        instance.downcast_ref().map(|instance| (self.check)(form, instance))
    }
}

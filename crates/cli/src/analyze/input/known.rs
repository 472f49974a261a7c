//! The numbers n, k and p, as far as they are known without the array itself.

use std::path::Path;

use flatmin_arrays::Order;

use crate::analyze::arguments::AnalyzeArguments;
use crate::analyze::axes::{Axes, Counts, Letter, View};
use crate::analyze::blocks::Blocks;
use crate::failure::Failure;
use crate::words::shape_words;

/// A count, and the words for where it comes from.
type Count = Option<(usize, String)>;

/// The numbers of samples, outputs and parameters that options and arrays beside the Jacobian
/// tell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    samples: Count,
    outputs: Count,
    parameters: Count,
}

impl Known {
    /// Collects the counts of the options and of the arrays that they name.
    ///
    /// # Errors
    /// When such an array cannot be opened, or contradicts an earlier one.
    pub(crate) fn read(
        arguments: &AnalyzeArguments,
        blocks: Option<&Blocks>,
    ) -> Result<Self, Failure> {
        let mut known = Self::default();
        let (archive, training) = (&arguments.archive(), &arguments.training);
        if let Some(count) = arguments.samples {
            known.samples = Some((count, format!("--samples {count}")));
        }
        if let Some(count) = arguments.outputs {
            known.outputs = Some((count, format!("--outputs {count}")));
        }
        let beside = [
            ("--residuals", &training.residuals, false),
            ("--logits", &training.logits, false),
            ("--output-hessian", &training.output_hessian, true),
        ];
        for (name, place, is_hessian) in beside {
            let Some(place) = place else { continue };
            let (shape, path) = place.shape(archive)?;
            let (samples, outputs) = match (&shape[..], is_hessian) {
                ([n], _) => (*n, 1),
                ([n, k], false) | ([n, k, _], true) => (*n, *k),
                // A wrong shape is refused where the array is read.
                _ => continue,
            };
            let source = format!("{name} of shape ({})", shape_words(&shape));
            known.learn(Letter::N, samples, &source, &path)?;
            known.learn(Letter::K, outputs, &source, &path)?;
        }
        let is_other_known = known.samples.is_some() || known.outputs.is_some();
        // Alone, a length is as likely a mistake of its own, which is said where it is read.
        if let Some(place) = training.preconditioner.as_ref().filter(|_| is_other_known) {
            let (shape, _) = place.shape(archive)?;
            let count = shape.iter().product();
            known.parameters = Some((count, format!("--preconditioner of {count} numbers")));
        } else if let Some(blocks) = blocks.filter(|blocks| blocks.is_complete_list()) {
            let end = blocks.end();
            known.parameters = Some((end, format!("--blocks up to column {end}")));
        }
        Ok(known)
    }

    fn learn(
        &mut self,
        letter: Letter,
        count: usize,
        source: &str,
        path: &Path,
    ) -> Result<(), Failure> {
        let slot = match letter {
            Letter::N => &mut self.samples,
            Letter::K => &mut self.outputs,
            Letter::P => &mut self.parameters,
        };
        match slot {
            Some((other, said)) if *other != count => {
                let what = if letter == Letter::N { "samples" } else { "outputs" };
                let text = format!("{source} has {count} {what}, {said} has {other}");
                Err(Failure::input(path, text))
            }
            Some(_) => Ok(()),
            None => {
                *slot = Some((count, source.to_owned()));
                Ok(())
            }
        }
    }

    /// The count of one kind, if it is known.
    pub(crate) fn count(&self, letter: Letter) -> Option<usize> {
        let count = match letter {
            Letter::N => &self.samples,
            Letter::K => &self.outputs,
            Letter::P => &self.parameters,
        };
        count.as_ref().map(|(count, _)| *count)
    }

    /// The counts without their sources.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            samples: self.count(Letter::N),
            outputs: self.count(Letter::K),
            parameters: self.count(Letter::P),
        }
    }

    /// The number of outputs, if it is known.
    pub(crate) fn outputs(&self) -> Option<usize> {
        self.count(Letter::K)
    }

    /// The number of samples, if it is known.
    pub(crate) fn samples(&self) -> Option<usize> {
        self.count(Letter::N)
    }

    /// The sources of the counts, for messages.
    pub(crate) fn sources(&self) -> String {
        let mut list: Vec<&str> = Vec::new();
        for (_, source) in [&self.samples, &self.outputs, &self.parameters].into_iter().flatten() {
            if !list.contains(&source.as_str()) {
                list.push(source);
            }
        }
        list.join(", ")
    }

    /// True if the number of parameters is that of blocks, which may end before the last one.
    pub(crate) fn is_of_blocks(&self) -> bool {
        self.parameters.as_ref().is_some_and(|(_, source)| source.starts_with("--blocks"))
    }

    /// True if the reading agrees with all that is known.
    pub(crate) fn agrees(&self, view: &View) -> bool {
        let same = |letter, count| self.count(letter).is_none_or(|known| known == count);
        same(Letter::N, view.samples)
            && same(Letter::K, view.outputs)
            && same(Letter::P, view.columns)
    }

    /// The orders of the axes of an array of this shape that agree with all that is known, other
    /// than those that read one axis as several without any number that says so.
    pub(crate) fn orders(&self, shape: &[usize], order: Order) -> Vec<Axes> {
        let fits = |axes: &Axes| {
            axes.view(shape, order, &self.counts()).is_ok_and(|view| {
                let is_told = view.outputs > 1 && self.outputs.is_some();
                self.agrees(&view) && (is_told || !axes.is_flattened())
            })
        };
        Axes::all(shape.len()).filter(fits).collect()
    }
}

#[cfg(test)]
impl Known {
    /// Counts without sources.
    pub(crate) fn of_counts(
        samples: Option<usize>,
        outputs: Option<usize>,
        parameters: Option<usize>,
    ) -> Self {
        let count = |count: Option<usize>| count.map(|count| (count, String::new()));
        Self { samples: count(samples), outputs: count(outputs), parameters: count(parameters) }
    }
}

#[cfg(test)]
mod tests {
    use flatmin_arrays::Order;

    use super::Known;

    #[test]
    fn known_counts_tell_the_order_of_the_axes() {
        let check = |counts: [Option<usize>; 3], shape: &[usize], expected: &[&str]| {
            let [samples, outputs, parameters] = counts;
            let known = Known::of_counts(samples, outputs, parameters);
            let found: Vec<String> =
                known.orders(shape, Order::C).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{shape:?}");
        };
        check([Some(10), None, None], &[10, 40], &["np"]);
        check([Some(10), None, None], &[40, 10], &["pn"]);
        check([Some(10), Some(3), None], &[3, 10, 40], &["knp"]);
        check([Some(10), Some(3), None], &[10, 120], &["n,kp", "n,pk"]);
        check([Some(10), Some(3), None], &[30, 40], &["nk,p", "kn,p"]);
        check([None, None, Some(40)], &[3, 10, 40], &["nkp", "knp"]);
        check([Some(7), None, None], &[10, 40], &[]);
    }
}

//! Reading a Gram matrix, in the orders in which libraries of tangent kernels write it.

use faer::{Mat, MatRef};

use super::known::Known;
use crate::analyze::axes::Axes;
use crate::words::shape_words;

/// The orders of a kernel with four axes: those of neural-tangents and torch.func, of a matrix nk ×
/// nk that was reshaped, of a Gramian of `TorchJD`, and the same with outputs first.
const FOUR: [&str; 5] = ["nnkk", "nknk", "nkkn", "kknn", "knkn"];

/// The reading of an array as a Gram matrix nk × nk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) samples: usize,
    pub(super) outputs: usize,
    /// The orders that the shape allows, the likeliest first.
    orders: Vec<Axes>,
}

impl Kernel {
    /// The reading of an array of this shape.
    ///
    /// # Errors
    /// In words, when it cannot be a Gram matrix, or is one of another problem.
    pub(super) fn new(shape: &[usize], axes: Option<&Axes>, known: &Known) -> Result<Self, String> {
        if axes.is_some_and(Axes::is_jacobian) {
            return Err("--axes with p is about a Jacobian; a Gram matrix has n and k only".into());
        }
        match *shape {
            [rows, columns] if rows == columns => Self::matrix(rows, axes, known),
            [_, _] => Err(format!(
                "has shape ({}), expected the n × n matrix JJᵀ; without --gram it is read as a Jacobian",
                shape_words(shape)
            )),
            [a, b, c] if a == b && known.outputs().is_none_or(|outputs| outputs == c) && c > 1 => {
                Err(format!(
                    "has shape ({a} × {b} × {c}), a kernel of {c} outputs without the products of \
                     different outputs; the n × n matrix JJᵀ of one output, or all of n × n × k × k \
                     is needed: take trace_axes=() and diagonal_axes=()"
                ))
            }
            [_, _, _, _] => Self::four(shape, axes, known),
            _ => {
                let wanted = if known.outputs().is_none_or(|outputs| outputs == 1) {
                    "expected the n × n matrix JJᵀ"
                } else {
                    "expected the nk × nk matrix JJᵀ"
                };
                Err(format!("has shape ({}), {wanted}", shape_words(shape)))
            }
        }
    }

    fn matrix(rows: usize, axes: Option<&Axes>, known: &Known) -> Result<Self, String> {
        let outputs = match (known.outputs(), known.samples()) {
            (Some(outputs), Some(samples)) if samples * outputs != rows => {
                return Err(if rows == samples && outputs > 1 {
                    mean_words(rows, outputs, &known.sources())
                } else {
                    format!(
                        "has shape ({rows} × {rows}), but {} make {} rows",
                        known.sources(),
                        samples * outputs
                    )
                });
            }
            (Some(outputs), _) => outputs,
            (None, Some(samples)) if rows.is_multiple_of(samples) => rows / samples,
            (None, Some(samples)) => {
                return Err(format!(
                    "has shape ({rows} × {rows}), which is not k outputs for each of {samples} \
                     samples ({})",
                    known.sources()
                ));
            }
            (None, None) => 1,
        };
        if outputs == 0 || !rows.is_multiple_of(outputs) {
            return Err(format!(
                "has shape ({rows} × {rows}): {rows} rows are not {outputs} outputs for every \
                 sample; if it has a row for each sample, {}",
                mean_reason(outputs)
            ));
        }
        let default = || "nk".parse::<Axes>();
        let axes = axes.cloned().map_or_else(default, Ok)?;
        if axes.word().len() != 2 {
            return Err(format!("has two axes, and --axes {axes} has four"));
        }
        Ok(Self { samples: rows / outputs, outputs, orders: vec![axes] })
    }

    fn four(shape: &[usize], axes: Option<&Axes>, known: &Known) -> Result<Self, String> {
        let given = axes.map(Axes::word);
        let words: Vec<&str> = match &given {
            Some(word) if word.len() == 4 => vec![word.as_str()],
            Some(word) => return Err(format!("has four axes, and --axes {word} has two")),
            None => FOUR.to_vec(),
        };
        let mut fitting: Vec<(usize, usize, Axes)> = Vec::new();
        for word in words {
            let lengths = |letter| -> Vec<usize> {
                let axes = word.chars().zip(shape);
                axes.filter(|(found, _)| *found == letter).map(|(_, length)| *length).collect()
            };
            let (n, k) = (lengths('n'), lengths('k'));
            let agrees = known.samples().is_none_or(|samples| samples == n[0])
                && known.outputs().is_none_or(|outputs| outputs == k[0]);
            if n[0] == n[1] && k[0] == k[1] && agrees {
                fitting.push((n[0], k[0], word.parse()?));
            }
        }
        let Some(&(samples, outputs, _)) = fitting.first() else {
            let known = known.sources();
            let with = if known.is_empty() { String::new() } else { format!(" with {known}") };
            return Err(format!(
                "has shape ({}), which is no kernel of n samples and k outputs{with}; expected n × n \
                 × k × k, n × k × n × k or n × k × k × n, all against all samples",
                shape_words(shape)
            ));
        };
        fitting.retain(|(n, k, _)| (*n, *k) == (samples, outputs));
        let orders = fitting.into_iter().map(|(.., axes)| axes).collect();
        Ok(Self { samples, outputs, orders })
    }

    /// The matrix nk × nk, sample by sample, from the numbers in the order of C, and the order of
    /// the axes that it was read in.
    ///
    /// Where the lengths allow several orders, as for n = k, the one that makes the matrix
    /// symmetric is taken.
    pub(super) fn arrange(&self, values: &[f64]) -> (Mat<f64>, Axes) {
        let rows = self.samples * self.outputs;
        let symmetric = |axes: &&Axes| {
            let place = self.places(axes);
            let pairs = (0..rows).flat_map(|i| (0..i).map(move |j| (i, j)));
            let largest = (0..rows).fold(0.0_f64, |m, i| m.max(values[place(i, i)].abs()));
            let differ = |(i, j): (usize, usize)| (values[place(i, j)] - values[place(j, i)]).abs();
            pairs.map(differ).all(|difference| difference <= 1e-4 * largest)
        };
        let axes = match &self.orders[..] {
            [only] => only,
            several => several.iter().find(symmetric).unwrap_or(&several[0]),
        };
        if axes.word() == "nk" {
            return (MatRef::from_row_major_slice(values, rows, rows).to_owned(), axes.clone());
        }
        let place = self.places(axes);
        (Mat::from_fn(rows, rows, |i, j| values[place(i, j)]), axes.clone())
    }

    /// The place of an entry of the matrix among the numbers.
    fn places(&self, axes: &Axes) -> impl Fn(usize, usize) -> usize + use<> {
        let (samples, outputs) = (self.samples, self.outputs);
        let word = match axes.word().as_str() {
            // The rows are in this order, and the columns too.
            short if short.len() == 2 => short.repeat(2),
            word => word.to_owned(),
        };
        // The stride of each index: sample and output of the row, then of the column.
        let mut strides = [[0_usize; 2]; 2];
        let (mut stride, mut seen) = (1, [2_usize, 2]);
        for letter in word.chars().rev() {
            let (kind, length) = if letter == 'n' { (0, samples) } else { (1, outputs) };
            seen[kind] -= 1;
            strides[seen[kind]][kind] = stride;
            stride *= length;
        }
        move |i, j| {
            strides[0][0] * (i / outputs)
                + strides[0][1] * (i % outputs)
                + strides[1][0] * (j / outputs)
                + strides[1][1] * (j % outputs)
        }
    }
}

/// The reason why a mean or sum over outputs is no Gram matrix of the problem.
fn mean_reason(outputs: usize) -> String {
    format!(
        "it is the mean or the sum over the {outputs} outputs (the default trace_axes=(-1,) of \
         neural-tangents), which does not determine the threshold: take trace_axes=() and pass n × n \
         × k × k"
    )
}

fn mean_words(rows: usize, outputs: usize, sources: &str) -> String {
    format!("has a row for each of {rows} samples, and {sources}: {}", mean_reason(outputs))
}

#[cfg(test)]
mod tests {
    use super::super::known::Known;
    use super::Kernel;

    fn value(i: usize, a: usize, j: usize, b: usize) -> f64 {
        // Symmetric under the exchange of (i, a) and (j, b).
        let one = |i: usize, a: usize| (1 + i) as f64 + 0.37 * (a * a) as f64;
        one(i, a) * one(j, b) + if (i, a) == (j, b) { 50.0 } else { 0.0 }
    }

    /// The numbers of a kernel in the order of these letters.
    fn stored(word: &str, samples: usize, outputs: usize) -> (Vec<usize>, Vec<f64>) {
        let shape: Vec<usize> =
            word.chars().map(|c| if c == 'n' { samples } else { outputs }).collect();
        let count: usize = shape.iter().product();
        let values = (0..count).map(|mut at| {
            let mut index = [0; 4];
            for axis in (0..4).rev() {
                index[axis] = at % shape[axis];
                at /= shape[axis];
            }
            let of =
                |letter| word.chars().zip(index).filter(move |(c, _)| *c == letter).map(|(_, i)| i);
            let (n, k): (Vec<usize>, Vec<usize>) = (of('n').collect(), of('k').collect());
            value(n[0], k[0], n[1], k[1])
        });
        let values = values.collect();
        (shape, values)
    }

    #[test]
    fn every_order_becomes_the_same_matrix_also_for_equal_lengths() {
        for (samples, outputs) in [(4, 3), (3, 3)] {
            for word in ["nnkk", "nknk", "nkkn"] {
                let (shape, values) = stored(word, samples, outputs);
                let kernel = Kernel::new(&shape, None, &Known::default()).unwrap();
                assert_eq!((kernel.samples, kernel.outputs), (samples, outputs), "{word}");
                let (matrix, axes) = kernel.arrange(&values);
                assert_eq!(axes.to_string(), word);
                for row in 0..samples * outputs {
                    for column in 0..samples * outputs {
                        let (i, a) = (row / outputs, row % outputs);
                        let (j, b) = (column / outputs, column % outputs);
                        let expected = value(i, a, j, b);
                        assert!((matrix[(row, column)] - expected).abs() < 1e-12, "{word}");
                    }
                }
            }
        }
    }

    #[test]
    fn outputs_that_come_first_are_read_where_they_are_known() {
        let (shape, values) = stored("kknn", 4, 3);
        let known = Known::of_counts(None, Some(3), None);
        let kernel = Kernel::new(&shape, None, &known).unwrap();
        let (matrix, axes) = kernel.arrange(&values);
        assert_eq!(axes.to_string(), "kknn");
        assert!((matrix[(1, 0)] - value(0, 1, 0, 0)).abs() < 1e-12);
        let given = "kn".parse().unwrap();
        let kernel = Kernel::new(&[4, 4], Some(&given), &Known::of_counts(None, Some(2), None));
        let values: Vec<f64> = (0..16).map(f64::from).collect();
        // Row (1, 0), the third one sample by sample, is the second in the file.
        assert!((kernel.unwrap().arrange(&values).0[(2, 0)] - 4.0).abs() < 1e-12);
    }

    #[test]
    fn kernels_of_another_problem_are_refused() {
        let error = |shape: &[usize], samples, outputs| {
            let known = Known::of_counts(samples, outputs, None);
            Kernel::new(shape, None, &known).unwrap_err()
        };
        assert!(error(&[20, 20], Some(20), Some(10)).contains("mean or the sum over the 10"));
        assert!(error(&[20, 20], None, Some(3)).contains("mean or the sum over the 3 outputs"));
        assert!(error(&[20, 20, 10], None, None).contains("different outputs"));
        assert!(error(&[20, 5, 3, 3], None, None).contains("no kernel"));
        assert!(error(&[20, 20, 3, 3], None, Some(4)).contains("no kernel"));
        assert!(error(&[20, 19], None, None).contains("without --gram"));
    }
}

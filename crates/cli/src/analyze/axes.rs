//! The meaning of the axes of an array: `--axes`, and how a stored index maps to row and column.

use std::fmt;
use std::str::FromStr;

use flatmin_arrays::Order;

/// The things that an axis, or a part of it, counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Letter {
    /// Samples.
    N,
    /// Outputs.
    K,
    /// Parameters.
    P,
}

impl Letter {
    fn word(self) -> &'static str {
        match self {
            Self::N => "n",
            Self::K => "k",
            Self::P => "p",
        }
    }
}

/// The numbers of samples, outputs and parameters, as far as they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) samples: Option<usize>,
    pub(crate) outputs: Option<usize>,
    pub(crate) parameters: Option<usize>,
}

impl Counts {
    /// The count of one kind.
    pub(crate) fn of(&self, letter: Letter) -> Option<usize> {
        match letter {
            Letter::N => self.samples,
            Letter::K => self.outputs,
            Letter::P => self.parameters,
        }
    }
}

/// The axes of an array in their order. The letters of one axis are flattened together, the last
/// one running fastest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Axes(Vec<Vec<Letter>>);

impl FromStr for Axes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let letter = |character: char| match character {
            'n' => Ok(Letter::N),
            'k' => Ok(Letter::K),
            'p' => Ok(Letter::P),
            other => Err(format!(
                "\"{other}\" is no axis; expected n (samples), k (outputs) and p (parameters), as \
                 in knp or kn,p"
            )),
        };
        let axis = |part: &str| part.trim().chars().map(letter).collect::<Result<Vec<_>, _>>();
        let groups: Vec<Vec<Letter>> = if text.contains(',') {
            text.split(',').map(axis).collect::<Result<_, _>>()?
        } else {
            axis(text)?.into_iter().map(|letter| vec![letter]).collect()
        };
        if groups.iter().any(Vec::is_empty) {
            return Err("an axis has no letter; expected an order such as knp or kn,p".to_owned());
        }
        let axes = Self(groups);
        let count = |letter| axes.letters().filter(|found| *found == letter).count();
        let is_jacobian = count(Letter::P) == 1 && count(Letter::N) == 1 && count(Letter::K) <= 1;
        let is_kernel = count(Letter::P) == 0
            && matches!((count(Letter::N), count(Letter::K)), (1, 1) | (2, 2));
        if is_jacobian || is_kernel {
            return Ok(axes);
        }
        Err("expected n and p once and k at most once, as in knp, npk, pn or kn,p; with --gram n \
             and k, as in kn or nnkk"
            .to_owned())
    }
}

impl fmt::Display for Axes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_flattened = self.is_flattened();
        for (index, group) in self.0.iter().enumerate() {
            if is_flattened && index > 0 {
                f.write_str(",")?;
            }
            for letter in group {
                f.write_str(letter.word())?;
            }
        }
        Ok(())
    }
}

/// The reading of an array as the rows and columns of a Jacobian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) samples: usize,
    /// Rows per sample.
    pub(crate) outputs: usize,
    pub(crate) columns: usize,
    /// Lengths before and after the columns, in the order of the file.
    pub(crate) outer: usize,
    pub(crate) inner: usize,
    /// The row of each stored index (outer, inner), sample by sample; `None` for the order of the
    /// file.
    pub(crate) rows: Option<Vec<usize>>,
}

impl Axes {
    fn letters(&self) -> impl Iterator<Item = Letter> {
        self.0.iter().flatten().copied()
    }

    /// True for the axes of a Jacobian, false for those of a Gram matrix.
    pub(crate) fn is_jacobian(&self) -> bool {
        self.letters().any(|letter| letter == Letter::P)
    }

    /// True if an axis has several letters.
    pub(crate) fn is_flattened(&self) -> bool {
        self.0.iter().any(|group| group.len() > 1)
    }

    /// The letters in the order of the axes, without regard to which are flattened.
    pub(crate) fn word(&self) -> String {
        self.letters().map(Letter::word).collect()
    }

    /// The documented order for an array of so many axes: `n,p`, or `nk,p` for several outputs, or
    /// `n,k,p`.
    pub(crate) fn usual(axes: usize, outputs: usize) -> Self {
        use Letter::{K, N, P};
        match (axes, outputs) {
            (2, 0 | 1) => Self(vec![vec![N], vec![P]]),
            (2, _) => Self(vec![vec![N, K], vec![P]]),
            _ => Self(vec![vec![N], vec![K], vec![P]]),
        }
    }

    /// All orders of the axes of an array that has two or three, the likeliest first.
    pub(crate) fn all(axes: usize) -> impl Iterator<Item = Self> {
        const TWO: [&str; 10] =
            ["n,p", "p,n", "nk,p", "kn,p", "n,kp", "n,pk", "p,nk", "p,kn", "kp,n", "pk,n"];
        const THREE: [&str; 6] = ["nkp", "knp", "npk", "pkn", "pnk", "kpn"];
        let list: &[&str] = if axes == 2 { &TWO } else { &THREE };
        list.iter().filter_map(|text| text.parse().ok())
    }

    /// Reads an array of this shape.
    ///
    /// # Errors
    /// In words, when the axes do not fit the shape, or when the lengths of what is flattened are
    /// not known.
    pub(crate) fn view(
        &self,
        shape: &[usize],
        order: Order,
        known: &Counts,
    ) -> Result<View, String> {
        let Self(groups) = self;
        if groups.len() != shape.len() {
            return Err(format!("--axes {self} has {} axes", groups.len()));
        }
        let length = self.lengths(shape, known)?;
        let of = |letter: Letter| length[letter as usize].unwrap_or(1);
        // From the slowest to the fastest in the file.
        let stored: Vec<Letter> = match order {
            Order::C => self.letters().collect(),
            Order::Fortran => groups.iter().rev().flatten().copied().collect(),
        };
        let at = stored.iter().position(|letter| *letter == Letter::P).unwrap_or(0);
        let product = |letters: &[Letter]| letters.iter().map(|letter| of(*letter)).product();
        let (outer, inner): (usize, usize) = (product(&stored[..at]), product(&stored[at + 1..]));
        let (samples, outputs) = (of(Letter::N), of(Letter::K));
        let samples_first = stored
            .iter()
            .position(|letter| *letter == Letter::N)
            .zip(stored.iter().position(|letter| *letter == Letter::K))
            .is_none_or(|(n, k)| n < k);
        // Stored indices run over both in one of two orders, whichever axes lie between them.
        let rows = (!samples_first && samples > 1 && outputs > 1).then(|| {
            (0..samples * outputs).map(|at| at % samples * outputs + at / samples).collect()
        });
        Ok(View { samples, outputs, columns: of(Letter::P), outer, inner, rows })
    }

    /// The length of each letter, in the order n, k, p; `None` for one that has no axis.
    fn lengths(&self, shape: &[usize], known: &Counts) -> Result<[Option<usize>; 3], String> {
        let mut length = [None; 3];
        for (group, total) in self.0.iter().zip(shape) {
            if let [letter] = group[..] {
                length[letter as usize] = Some(*total);
            }
        }
        for (group, total) in self.0.iter().zip(shape).filter(|(group, _)| group.len() > 1) {
            let mut counts: Vec<Option<usize>> =
                group.iter().map(|letter| known.of(*letter)).collect();
            // The number of parameters is the least certain one: blocks may end before the last.
            if let Some(at) = group.iter().position(|letter| *letter == Letter::P)
                && counts.iter().enumerate().all(|(index, count)| index == at || count.is_some())
            {
                counts[at] = None;
            }
            let product: usize = counts.iter().flatten().product();
            let unknown = counts.iter().filter(|count| count.is_none()).count();
            if unknown > 1 || (unknown == 1 && !total.is_multiple_of(product)) {
                let words: Vec<&str> = group.iter().map(|letter| letter.word()).collect();
                return Err(format!(
                    "the axis of length {total} is {} flattened, and {}; give --outputs k or \
                     --samples n",
                    words.join(" × "),
                    if unknown > 1 {
                        "neither length is known".to_owned()
                    } else {
                        format!("{product} does not divide it")
                    }
                ));
            }
            if unknown == 0 && product != *total {
                return Err(format!("the axis of length {total} should have {product}"));
            }
            for (letter, count) in group.iter().zip(counts) {
                length[*letter as usize] = Some(count.unwrap_or(total / product.max(1)));
            }
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use flatmin_arrays::Order;

    use super::{Axes, Counts, View};

    fn axes(text: &str) -> Axes {
        text.parse().unwrap()
    }

    #[test]
    fn orders_are_read_and_printed() {
        for text in ["nkp", "knp", "pn", "kn,p", "n,kp", "nk,p", "nnkk", "kn"] {
            assert_eq!(axes(text).to_string(), text);
        }
        assert_eq!(axes("k,n,p"), axes("knp"));
        for wrong in ["", "nk,", "npq", "kp", "nnp", "n", "nnk", "np,k,k"] {
            assert!(wrong.parse::<Axes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn stored_indices_map_to_rows_and_columns() {
        let known = Counts { samples: Some(2), outputs: Some(3), parameters: None };
        let check = |text: &str, shape: &[usize], order, outer, inner, outputs_first: bool| {
            let rows = outputs_first.then(|| vec![0, 3, 1, 4, 2, 5]);
            let expected = View { samples: 2, outputs: 3, columns: 4, outer, inner, rows };
            assert_eq!(axes(text).view(shape, order, &known), Ok(expected), "{text}");
        };
        check("nkp", &[2, 3, 4], Order::C, 6, 1, false);
        check("nkp", &[2, 3, 4], Order::Fortran, 1, 6, true);
        check("knp", &[3, 2, 4], Order::C, 6, 1, true);
        check("npk", &[2, 4, 3], Order::C, 2, 3, false);
        check("kpn", &[3, 4, 2], Order::C, 3, 2, true);
        check("kn,p", &[6, 4], Order::C, 6, 1, true);
        check("kn,p", &[6, 4], Order::Fortran, 1, 6, true);
        check("n,kp", &[2, 12], Order::C, 6, 1, false);
        check("n,kp", &[2, 12], Order::Fortran, 3, 2, true);
        check("n,pk", &[2, 12], Order::C, 2, 3, false);
    }

    #[test]
    fn what_is_flattened_must_be_known() {
        let known = Counts::default();
        let error = |text: &str, shape: &[usize], known: &Counts| {
            axes(text).view(shape, Order::C, known).unwrap_err()
        };
        assert!(error("kn,p", &[6, 4], &known).contains("neither length is known"));
        assert!(error("kn,p", &[6, 4, 1], &known).contains("has 2 axes"));
        let five = Counts { outputs: Some(5), ..Counts::default() };
        assert!(error("kn,p", &[6, 4], &five).contains("5 does not divide it"));
    }
}

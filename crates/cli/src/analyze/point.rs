//! The point that an analysis is about: how near it is to a minimum, as its residuals tell.

use std::fmt::Write as _;

use faer::Mat;
use flatmin_host::significant;
use flatmin_linalg::simd;
use flatmin_theory::{LossError, OutputHessians, ResidualGradients};

/// The largest derivative of the loss at which a point counts as interpolating.
const INTERPOLATES: f64 = 1e-6;

/// Derivatives that lose more than this part of their norm in the range of the Hessians are not
/// those of the Gauss–Newton model.
const OUTSIDE: f64 = 1e-3;

/// Targets that differ by less than this part of their size are all alike.
const ALIKE: f64 = 1e-6;

/// The derivatives of the loss in the outputs.
#[derive(Debug, Clone)]
pub(super) struct Residuals {
    /// Those of the weighted Jacobian.
    pub(super) weighted: Vec<f64>,
    /// The derivatives as given.
    pub(super) given: Vec<f64>,
    /// The largest absolute derivative.
    pub(super) largest: f64,
    /// False if derivatives are outside of the range of the Hessians: the loss is linear there, as
    /// Huber's is far from the target, or they are not those of the loss.
    pub(super) are_of_the_model: bool,
    pub(super) spread: Spread,
}

/// The scale on which a change of the outputs is large.
#[derive(Debug, Clone, Copy)]
pub(super) enum Spread {
    /// A mean cross-entropy: a step that lowers its quadratic model by ½ changes probabilities by
    /// as much as they can.
    Nats,
    /// The root mean square distance of the targets from the mean output, in the metric of the
    /// loss. The targets are where a Newton step in the outputs leads, y for the squared loss.
    Targets(f64),
    /// The outputs are not known, or all targets are alike.
    Unknown,
}

impl Residuals {
    /// The derivatives of a loss with these Hessians, or of the squared loss if there are none, with
    /// an unknown spread.
    ///
    /// # Errors
    /// The errors of [`OutputHessians::weigh_residuals`].
    pub(super) fn new(
        derivatives: &[f64],
        loss: Option<&OutputHessians>,
    ) -> Result<Self, LossError> {
        let largest = derivatives.iter().fold(0.0_f64, |m, value| m.max(value.abs()));
        let weighted = match loss {
            None => derivatives.to_vec(),
            Some(loss) => loss.weigh_residuals(derivatives)?,
        };
        let are_of_the_model = match loss {
            Some(loss) if largest > INTERPOLATES => {
                let column = Mat::from_fn(weighted.len(), 1, |row, _| weighted[row]);
                let back = loss.weigh_transposed(column.as_ref())?;
                let rows = derivatives.iter().enumerate();
                let lost: f64 = rows.map(|(row, value)| (value - back[(row, 0)]).powi(2)).sum();
                lost <= OUTSIDE * OUTSIDE * simd::norm_squared(derivatives)
            }
            _ => true,
        };
        let (given, spread) = (derivatives.to_vec(), Spread::Unknown);
        Ok(Self { weighted, given, largest, are_of_the_model, spread })
    }

    /// True if every sample has its least loss, to 1e-6.
    pub(super) fn interpolate(&self) -> bool {
        self.largest <= INTERPOLATES
    }
}

impl Spread {
    /// The spread of the targets, from n × k outputs and the weighted residuals.
    ///
    /// # Errors
    /// The errors of [`OutputHessians::weigh`].
    pub(super) fn of_targets(
        outputs: &[f64],
        k: usize,
        loss: Option<&OutputHessians>,
        residuals: &[f64],
    ) -> Result<Self, LossError> {
        let n = (outputs.len() / k) as f64;
        let weigh = |value: &dyn Fn(usize) -> f64| {
            let column = Mat::from_fn(outputs.len(), 1, |at, _| value(at));
            loss.map_or(Ok(column.clone()), |loss| loss.weigh(column.as_ref()))
        };
        let means = column_means(outputs, k);
        let centred = weigh(&|at| outputs[at] - means[at % k])?;
        let targets: Vec<f64> =
            residuals.iter().enumerate().map(|(at, r)| centred[(at, 0)] - r).collect();
        let of_outputs = simd::norm_squared(weigh(&|at| outputs[at])?.col_as_slice(0));
        // The targets about the value that fits all of them best.
        let about_one_value = match loss {
            None => {
                let means = column_means(&targets, k);
                targets.iter().enumerate().map(|(at, t)| (t - means[at % k]).powi(2)).sum()
            }
            Some(_) if k == 1 => {
                let ones = weigh(&|_| 1.0)?;
                let ones = ones.col_as_slice(0);
                let size = simd::norm_squared(ones).max(f64::MIN_POSITIVE);
                let common = simd::dot(&targets, ones) / size;
                targets.iter().zip(ones).map(|(t, one)| (t - common * one).powi(2)).sum()
            }
            Some(_) => simd::norm_squared(&targets),
        };
        let squares = simd::norm_squared(&targets);
        let are_alike = about_one_value <= ALIKE * ALIKE * squares.max(of_outputs);
        Ok(if are_alike { Self::Unknown } else { Self::Targets((squares / n).sqrt()) })
    }
}

/// The means of the k columns of a matrix that is stored row by row.
fn column_means(values: &[f64], k: usize) -> Vec<f64> {
    let n = (values.len() / k) as f64;
    (0..k).map(|a| values.iter().skip(a).step_by(k).map(|value| value / n).sum()).collect()
}

/// The point, as its residuals show it.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Point {
    pub(super) samples: usize,
    pub(super) gradients: ResidualGradients,
    /// The amount by which a Gauss–Newton step lowers the quadratic model of the loss; `None` where
    /// weight decay moves every mode.
    pub(super) lowers: Option<f64>,
    /// The root mean square change of the outputs in this step, relative to the spread of their
    /// targets; `None` if this is not known.
    pub(super) distance: Option<f64>,
    /// True if weight decay moves the stationary point.
    pub(super) decays: bool,
    /// True if every sample has its least loss.
    pub(super) interpolates: bool,
    /// True if the step is only known to be at least this large.
    pub(super) is_bound: bool,
    /// True if the distance is that of the spread of the targets.
    pub(super) is_of_targets: bool,
}

impl Point {
    /// The point of these residuals, for `loss_scale` times the loss, without weight decay.
    pub(super) fn new(
        residuals: &Residuals,
        gradients: ResidualGradients,
        samples: usize,
        loss_scale: f64,
    ) -> Self {
        let distance = gradients.decrement.and_then(|decrement| {
            let step = (2.0 * decrement).sqrt();
            match residuals.spread {
                Spread::Nats => Some(step),
                Spread::Targets(spread) => Some(step / spread),
                Spread::Unknown => None,
            }
        });
        Self {
            samples,
            gradients,
            lowers: gradients.decrement.map(|decrement| loss_scale * decrement),
            distance: distance.filter(|distance| distance.is_finite()),
            decays: false,
            interpolates: residuals.interpolate(),
            is_bound: false,
            is_of_targets: matches!(residuals.spread, Spread::Targets(_)),
        }
    }

    /// The mean gradient that noise leaves of independent gradients.
    pub(super) fn standard_error(&self) -> f64 {
        self.gradients.root_mean_square / (self.samples as f64).sqrt()
    }

    /// Words for the effect of a Gauss–Newton step, which follow its name.
    pub(super) fn step_words(&self) -> Option<String> {
        let bound = if self.is_bound { "at least " } else { "" };
        let lowers = significant(self.lowers?, 3);
        let lowers = format!("lowers the quadratic model of the loss by {bound}{lowers}");
        Some(match self.distance {
            Some(distance) if self.is_of_targets => format!(
                "{lowers} and moves the outputs by {bound}{} % of the spread of their targets",
                significant(100.0 * distance, 2)
            ),
            Some(distance) => {
                format!("{lowers}, at the distance {bound}{}", significant(distance, 2))
            }
            None => lowers,
        })
    }

    /// Writes how near the point is to a minimum.
    pub(super) fn write(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "Mean gradient of the residuals {}, beside {} of a mean of independent ones.",
            significant(self.gradients.mean, 3),
            significant(self.standard_error(), 3)
        );
        let modes = if self.decays { ", in the modes that weight decay hardly moves," } else { "" };
        let _ = match self.step_words() {
            Some(words) => writeln!(text, "A Gauss–Newton step{modes} {words}."),
            None => writeln!(
                text,
                "Weight decay moves every mode, so that the residuals do not tell how near the minimum \
                 is."
            ),
        };
    }
}

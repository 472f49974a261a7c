//! The edge where momentum makes modes oscillate, by eigenvectors of means over a few orders.

use faer::{Mat, Scale};

use super::{Blocks, Estimator, OrderMean, SHORT, SMALL, quantile, root_of};
use crate::ThresholdError;
use crate::epochs::krylov::ritz_pair;
use crate::epochs::last_batch::LastBatch;
use crate::epochs::step::Direction;
use crate::epochs::{CONFIDENCE, EpochEdge};

/// The random orders of the means whose eigenvectors are X and Y, in short epochs and in others.
const KRYLOV_ORDERS: [usize; 2] = [256, 32];

/// The directions of a Krylov space in short epochs and in others.
const DIRECTIONS: [usize; 2] = [20, 12];

/// The largest number of Krylov spaces for one eigenvector, and the relative residual that ends
/// them.
const RESTARTS: usize = 12;
const RESIDUAL: f64 = 1e-3;

/// The largest number of Newton's steps to a root, and the largest of them, in logarithms of the
/// learning rate; and the difference for the slope.
const NEWTON_STEPS: usize = 12;
const LARGEST_MOVE: f64 = 0.05;
const DIFFERENCE: f64 = 1e-3;

impl Estimator<'_> {
    /// The root of the growth near a learning rate, with its interval, where modes oscillate.
    ///
    /// Eigenvectors change fast with the learning rate there. Newton's method takes new ones at each
    /// step: the slope for fixed eigenvectors is that of the eigenvalue.
    pub(super) fn oscillating_root(
        &self,
        near: f64,
        last: Option<&LastBatch>,
        orders: usize,
    ) -> Result<EpochEdge, ThresholdError> {
        let mut root = near;
        let mut vectors = (self.start.clone(), self.start.clone());
        let mut half_width = f64::INFINITY;
        for _ in 0..NEWTON_STEPS {
            let growth = |rate: f64, vectors: &(Blocks, Blocks)| {
                let coefficients = self.step.coefficients(rate);
                let mean = OrderMean::new(&coefficients, last, orders);
                self.quotient(mean, &vectors.0, &vectors.1)
            };
            let coefficients = self.step.coefficients(root);
            let mean = OrderMean::new(&coefficients, last, orders);
            let Some(found) = self.eigenvectors(mean, &vectors)? else {
                root *= libm::exp(-LARGEST_MOVE);
                continue;
            };
            vectors = found;
            let here = growth(root, &vectors);
            let beyond = growth(root * libm::exp(DIFFERENCE), &vectors);
            let slope = (beyond.log - here.log) / DIFFERENCE;
            let error = libm::hypot(quantile(orders - 1) * here.standard_error, SMALL);
            let is_rising = slope > 0.0 && here.log.is_finite();
            let step = if is_rising { -here.log / slope } else { -here.log.signum() };
            half_width = if is_rising { (error + here.log.abs()) / slope } else { f64::INFINITY };
            if is_rising && step.abs() <= 0.1 * error / slope {
                break;
            }
            root *= libm::exp(step.clamp(-LARGEST_MOVE, LARGEST_MOVE));
        }
        let half_width = half_width.min(1.0);
        let (lower, upper) = (root * libm::exp(-half_width), root * libm::exp(half_width));
        Ok(EpochEdge { lower, upper, estimate: root, confidence: Some(CONFIDENCE) })
    }

    /// The largest eigenvalue of a mean over few orders, with a root of its eigenvector, from
    /// second moments close to it; `None` where they overflow. A decision needs to know only on
    /// which side of 1 the eigenvalue is.
    pub(super) fn leading(
        &self,
        mean: OrderMean<'_>,
        start: &Mat<f64>,
        is_decision: bool,
    ) -> Result<Option<(f64, Mat<f64>)>, ThresholdError> {
        let kind = usize::from(self.work() > SHORT);
        let mean = OrderMean { orders: mean.orders.min(KRYLOV_ORDERS[kind]), ..mean };
        let mut vector = start.clone();
        // Every direction, velocities too.
        let share = 0.1 * vector.norm_l2() / (vector.nrows() as f64).sqrt();
        for k in 0..vector.nrows() {
            vector[(k, k)] += share;
        }
        let mut value = f64::INFINITY;
        for _ in 0..RESTARTS {
            let apply = |moments: &Mat<f64>| self.full_image(mean, moments);
            let Some(pair) = ritz_pair(&apply, &vector, DIRECTIONS[kind]) else { return Ok(None) };
            (value, vector) = (pair.value, pair.vector);
            let enough = if is_decision { 0.2 * (value - 1.0).abs() } else { 0.0 };
            if !value.is_finite() || pair.residual <= enough.max(RESIDUAL * value) {
                break;
            }
        }
        let trace: f64 = (0..vector.nrows()).map(|k| vector[(k, k)]).sum();
        if !(value.is_finite() && trace != 0.0) {
            return Ok(None);
        }
        // The eigenvector is semidefinite, up to its sign.
        Ok(Some((value, root_of(&(vector * Scale(trace.signum())))?)))
    }

    /// `T(P)` for a symmetric matrix P that need not be semidefinite.
    fn full_image(&self, mean: OrderMean<'_>, moments: &Mat<f64>) -> Mat<f64> {
        let side = moments.nrows();
        let zero = || (Mat::<f64>::zeros(side, side), Mat::<f64>::zeros(side, side));
        let parts = self.over_orders(mean, zero, |(sum, states), weight, pass| {
            // A P, and A (A P)ᵀ = A P Aᵀ.
            states.copy_from(moments);
            pass(states);
            let mut turned = states.transpose().to_owned();
            pass(&mut turned);
            *sum += turned * Scale(weight);
        });
        let mut total = Mat::<f64>::zeros(side, side);
        for (sum, _) in parts {
            total += sum;
        }
        total * Scale(1.0 / mean.orders as f64)
    }

    /// Approximate eigenvectors of T and of its adjoint, from others that are close to them.
    fn eigenvectors(
        &self,
        mean: OrderMean<'_>,
        (right, left): &(Blocks, Blocks),
    ) -> Result<Option<(Blocks, Blocks)>, ThresholdError> {
        let side = self.start.roots.nrows();
        let find = |direction: Direction, start: &Blocks| -> Result<_, ThresholdError> {
            // The same orders, so that both belong to one eigenvalue of one map.
            let mean = OrderMean { direction, stage: 1, ..mean };
            let Some((_, root)) = self.leading(mean, &start.product(), false)? else {
                return Ok(None);
            };
            let mut roots = vec![root];
            if mean.last.is_some() {
                // Few orders may miss what a short last batch does.
                roots.extend(self.start.ranges().map(|r| self.start.roots.get(.., r).to_owned()));
            }
            Ok(Some(Blocks::new(side, &roots)))
        };
        let Some(right) = find(Direction::Forward, right)? else { return Ok(None) };
        Ok(find(Direction::Backward, left)?.map(|left| (right, left)))
    }
}

//! A point at which the mean gradient of the residuals is far from zero.

use flatmin_host::significant;

use super::facts::{Doubt, PointFacts};

pub(super) const KIND: &str = "not_stationary";

/// A mean gradient beyond so many standard errors is no accident of the noise.
const FAR: f64 = 4.0;

pub(super) fn doubt(point: &PointFacts<'_>) -> Option<Doubt> {
    let PointFacts { samples, gradients, .. } = point;
    // With decay the residuals have a mean gradient at the stationary point.
    if point.decays {
        return None;
    }
    let root = (*samples as f64).sqrt();
    let spread = gradients.root_mean_square / root;
    // Gradients that all point the same way have a mean of √n times that.
    let far = FAR.min(0.95 * root);
    (gradients.mean > far * spread).then(|| {
        let text = format!(
            "the point is not stationary: the mean gradient of the residuals is {}, {} times what \
             noise leaves of a mean of {samples}: train further, or take the residuals of this very \
             point (derivatives of the loss in the outputs)",
            significant(gradients.mean, 3),
            significant(gradients.mean / spread, 2)
        );
        Doubt { kind: KIND, text }
    })
}

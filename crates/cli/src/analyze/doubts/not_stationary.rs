//! A point at which the mean gradient of the residuals is far from zero.

use flatmin_host::significant;

use super::facts::Doubt;
use crate::analyze::point::Point;

pub(super) const KIND: &str = "not_stationary";

/// A mean gradient beyond so many standard errors is no accident of the noise.
const FAR: f64 = 4.0;

pub(super) fn doubt(point: &Point) -> Option<Doubt> {
    let (samples, mean) = (point.samples, point.gradients.mean);
    // With decay the residuals have a mean gradient at the stationary point, and the gradients of
    // few samples have one by chance.
    if point.decays || samples < 4 {
        return None;
    }
    // Gradients that all point the same way have a mean of √n standard errors.
    let far = FAR.min(0.95 * (samples as f64).sqrt());
    let standard_error = point.standard_error();
    (mean > far * standard_error).then(|| {
        let text = format!(
            "the point is not stationary: the mean gradient of the residuals is {}, {} times what \
             noise leaves of a mean of {samples}: train further, or take the residuals of this very \
             point (derivatives of the loss in the outputs)",
            significant(mean, 3),
            significant(mean / standard_error, 2)
        );
        Doubt { kind: KIND, text }
    })
}

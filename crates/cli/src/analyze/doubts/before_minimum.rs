//! A point that training has not brought close to a minimum.
//!
//! In an untrained network with more parameters than samples, the mean gradient is often no larger
//! than that of noise. The Gauss–Newton decrement tells such points apart: it is the part of the
//! quadratic model of the loss that the linearised network can take away.

use super::facts::Doubt;
use crate::analyze::point::Point;

pub(super) const KIND: &str = "before_the_minimum";

/// A Gauss–Newton step that moves the outputs by this part of the spread of their targets changes
/// the curvature by a part of the same order, where the network fits its data:
/// `docs/guide/examples/how_near.py` shows it.
const FAR: f64 = 0.2;

pub(super) fn doubt(point: &Point) -> Option<Doubt> {
    if point.distance? < FAR {
        return None;
    }
    let text = format!(
        "the point is not close to a minimum, where η* may be several times as large or as small. A \
         Gauss–Newton step {}. Train further; where noise holds the loss up, train with a smaller \
         learning rate",
        point.step_words()?
    );
    Some(Doubt { kind: KIND, text })
}

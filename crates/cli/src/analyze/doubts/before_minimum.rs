//! A point that training has not brought to its minimum.
//!
//! The mean gradient of a network with more parameters than samples is often no larger than that of
//! noise, even before training. The Gauss–Newton decrement tells such points apart: it is the loss
//! that the linearised network can take away.

use super::facts::{Doubt, PointFacts};

pub(super) const KIND: &str = "before_the_minimum";

/// A Gauss–Newton step that moves the outputs by this part of the spread of their targets changes
/// the curvature by a part of the same order, as `docs/guide/examples/how_near.py` shows.
const FAR: f64 = 0.2;

pub(super) fn doubt(point: &PointFacts<'_>) -> Option<Doubt> {
    (point.step.distance? >= FAR).then(|| {
        let bound = if point.is_step_bound { "at least " } else { "" };
        let text = format!(
            "the point is not at its minimum, where η* may be several times as large or as small: a \
             Gauss–Newton step {}; train further, and with a smaller learning rate where noise \
             holds the loss up",
            point.step.words(bound)
        );
        Doubt { kind: KIND, text }
    })
}

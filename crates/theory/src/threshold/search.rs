//! The search for the μ at which the Perron root of M(μ) is 1.
//!
//! If single samples dominate, for example if gradients are nearly orthogonal and differ in length,
//! M is nearly diagonal. Its top eigenvalues lie as close together as its diagonal entries D, and a
//! Krylov space of M finds them one by one. Then the search uses `A = E^{−½} (M − D) E^{−½}` with
//! `E = s − D` instead. A is nonnegative like M and has the root 1 exactly where M has the root s,
//! since `s − M = E^{½} (1 − A) E^{½}`; its eigenvalues lie further apart.

use flatmin_linalg::Krylov;

use super::certificate::Certificate;
use super::interval::ThresholdOptions;
use super::perron::PerronOperator;
use crate::ThresholdError;

/// The size of a Krylov space at which the search checks whether single samples dominate. About 20
/// directions are enough for trained networks.
const FIRST_DIRECTIONS: usize = 40;

/// The largest number of directions of one Krylov space.
const MAX_DIRECTIONS: usize = 200;

/// The largest number of certificates that are tried for one threshold.
const MAX_ATTEMPTS: usize = 8;

/// The distance of the level of a supersolution above the root, as a fraction of the requested
/// width. A larger distance takes fewer products. But the supersolution mixes in eigenvectors whose
/// eigenvalues are that close to the root, and the lower end, its Rayleigh quotient, drops by about
/// as much.
const LEVEL_SHARE: f64 = 0.4;

/// The fraction of the root of M that its largest diagonal entry must reach for the diagonal to be
/// split off.
const DOMINANT: f64 = 0.5;

/// The least relative distance between the split-off diagonal and the level.
const MIN_GAP: f64 = 1e-4;

/// The smallest relative width that the search aims at. Rounding errors exceed any smaller width
/// for every n: a level within rounding of the root has no supersolution, and the interval would
/// become much wider.
const MIN_WIDTH: f64 = 1e-14;

/// An interval for μ* = pole + ν* of the stored rows and eigenvalues.
pub(super) struct Bracket {
    pub(super) lower: f64,
    pub(super) upper: f64,
    pub(super) products: usize,
    pub(super) converged: bool,
    /// The ν that attains the lower end.
    pub(super) nu: f64,
    /// The vector v that attains the lower end.
    pub(super) weights: Vec<f64>,
}

/// An interval for μ* of the rows and eigenvalues of `operator`. Needs noise and curvature.
pub(super) fn bracket(
    operator: &mut PerronOperator<'_>,
    options: &ThresholdOptions,
) -> Result<Bracket, ThresholdError> {
    let start = operator.cone.unit();
    let homogeneous = operator.response.is_homogeneous();
    let least_offset = operator.cone.least_offset();
    let width = options.relative_width.max(MIN_WIDTH);
    let mut search = Search {
        operator,
        width,
        max_products: options.max_products,
        products: 0,
        start,
        resolution: 1e-3 * width.sqrt(),
        offset: (LEVEL_SHARE * width).max(least_offset),
        directions: FIRST_DIRECTIONS,
        dominated: false,
    };
    if homogeneous { search.homogeneous() } else { search.general() }
}

impl Bracket {
    /// A bracket before anything is known.
    fn unbounded(nu: f64) -> Self {
        let (lower, upper, weights) = (0.0, f64::INFINITY, Vec::new());
        Self { lower, upper, products: 0, converged: false, nu, weights }
    }

    /// True if the relative width is at most `width`, not counting rounding.
    fn is_narrow(&self, width: f64, rounding: f64) -> bool {
        self.upper.is_finite() && self.upper - self.lower <= (width + 4.0 * rounding) * self.upper
    }
}

struct Search<'a, 'b> {
    operator: &'a mut PerronOperator<'b>,
    width: f64,
    max_products: usize,
    products: usize,
    /// The start of the next Krylov space, a positive vector.
    start: Vec<f64>,
    /// The relative residual below which a Ritz value is taken for the root itself.
    resolution: f64,
    /// The relative distance of the level of a supersolution above the root, for p = 1.
    offset: f64,
    /// The largest number of directions of the next Krylov space.
    directions: usize,
    /// True if single samples dominate, so that the diagonal of M is split off.
    dominated: bool,
}

/// The diagonal `E = s − D` of the splitting `s − M = E^{½} (1 − A) E^{½}`; or D = 0, E = 1 and A =
/// M where the diagonal is not split off.
struct Splitting {
    is_trivial: bool,
    /// D, at most the diagonal of M.
    diagonal: Vec<f64>,
    /// `E^{½}`.
    root: Vec<f64>,
}

/// The vector that a Krylov space is grown for.
enum Goal {
    /// A Ritz vector with this residual, relative to its value.
    RitzVector(f64),
    /// A positive vector v with `Mv ≤ s v`. The level s is the given one, or a little above the
    /// Ritz value; if the diagonal is split off, it is the level of the splitting.
    Supersolution(Option<f64>),
}

/// The vector that a Krylov space produced.
struct KrylovVector {
    /// The largest Ritz value, at most ρ; relative to the level where the diagonal is split off.
    value: f64,
    residual: f64,
    /// The Ritz vector, or the supersolution.
    vector: Vec<f64>,
    reached: bool,
}

impl Splitting {
    /// Keeps D below the level by [`MIN_GAP`]: dividing by a smaller E would magnify the rounding
    /// of M.
    fn new(level: f64, diagonal: Vec<f64>) -> Self {
        let diagonal: Vec<f64> =
            diagonal.into_iter().map(|d| d.min(level * (1.0 - MIN_GAP))).collect();
        let root = diagonal.iter().map(|d| (level - d).sqrt()).collect();
        Self { is_trivial: false, diagonal, root }
    }

    /// The splitting for which A is M, exactly.
    fn trivial(len: usize) -> Self {
        Self { is_trivial: true, diagonal: vec![0.0; len], root: vec![1.0; len] }
    }

    /// Turns `M v` into `E^{−½} (M − D) v`.
    fn subtract_diagonal(&self, vector: &[f64], image: &mut [f64]) {
        let diagonal = self.diagonal.iter().zip(vector).map(|(d, v)| d * v);
        for ((image, part), root) in image.iter_mut().zip(diagonal).zip(&self.root) {
            *image = (*image - part) / root;
        }
    }

    /// `E^{−½} v`.
    fn divide(&self, vector: &[f64]) -> Vec<f64> {
        vector.iter().zip(&self.root).map(|(value, root)| value / root).collect()
    }
}

impl Search<'_, '_> {
    /// The search for α = 0 without momentum or decay, where `M(μ) = M(1)/μ`, so that `μ* = ρ(M(1))`.
    fn homogeneous(&mut self) -> Result<Bracket, ThresholdError> {
        let mut best = Bracket::unbounded(1.0);
        let mut attempts = 0;
        loop {
            let level = best.lower * (1.0 + self.offset);
            let found = self.grow(1.0, level, &Goal::Supersolution(None))?;
            let vector = self.operator.cone.positive(found.vector)?;
            let certificate = self.certify(1.0, &vector)?;
            best.upper = best.upper.min(certificate.upper);
            // Many blocks just below the top one pull the Rayleigh quotient down. The top block has
            // more weight in this vector, so the next space starts from it.
            self.start = self.operator.cone.mixed(&vector)?;
            if certificate.lower > best.lower {
                best.lower = certificate.lower;
                (best.nu, best.weights) = (certificate.lower, vector);
            }
            // A supersolution whose blocks are nearly singular cannot be recognised as one.
            let judged = found.reached || !self.operator.cone.is_orthant();
            if judged && certificate.is_lost_in_rounding() {
                self.offset *= 8.0;
            }
            // Rounding puts the lower end below the root.
            self.offset =
                self.offset.max(LEVEL_SHARE * self.width + 2.0 * certificate.rayleigh_rounding);
            best.products = self.products;
            attempts += 1;
            let is_last = attempts == MAX_ATTEMPTS || self.products >= self.max_products;
            let rounding = certificate.unavoidable(found.reached);
            best.converged = best.is_narrow(self.width, rounding);
            if best.converged || is_last {
                return Ok(best);
            }
        }
    }

    /// The search for α > 0, momentum or weight decay.
    fn general(&mut self) -> Result<Bracket, ThresholdError> {
        let response = self.operator.response;
        let pole = response.pole();
        let (mut nu, ritz_vector) =
            self.approach(response.spectral_root(self.operator.cone.outputs))?;
        let mut ritz_vector = Some(ritz_vector);
        let mut best = Bracket::unbounded(nu);
        let cone = self.operator.cone;
        // With momentum, ρ may fall more slowly than μ grows, but the distance must hold in terms
        // of ρ.
        let stiffness = (response.stiffness(nu) / (pole + nu)).max(1.0);
        let least = cone.least_offset().max(0.4 * MIN_WIDTH);
        let mut offset = (LEVEL_SHARE * self.width).max(least * stiffness);
        let mut attempts = 0;
        loop {
            let upper_nu = nu + offset * (pole + nu);
            let found = self.grow(upper_nu, 1.0, &Goal::Supersolution(Some(1.0)))?;
            let vector = self.operator.cone.positive(found.vector)?;
            let certificate = self.certify(upper_nu, &vector)?;
            let stiffness = response.stiffness(upper_nu);
            let upper = pole + upper_nu + (certificate.upper - 1.0).max(0.0) * stiffness;
            // The stiffness is proved where d is linear in μ.
            if certificate.upper <= 1.0 || response.heavy_ball().is_some() {
                best.upper = best.upper.min(upper * (1.0 + 1e-15));
            }
            let root = self.raise_lower(&mut best, nu, &vector, &certificate);
            attempts += 1;
            let is_last = attempts == MAX_ATTEMPTS || self.products >= self.max_products;
            let rounding = certificate.unavoidable(found.reached) * (stiffness / upper).max(1.0);
            if found.reached && certificate.upper <= 1.0 && !best.is_narrow(self.width, rounding) {
                // After few products a supersolution still contains much of the start. The Ritz
                // vector does not.
                if let Some(ritz_vector) = ritz_vector.take() {
                    let ritz_vector = self.operator.cone.positive(ritz_vector)?;
                    let certificate = self.certify(nu, &ritz_vector)?;
                    self.raise_lower(&mut best, nu, &ritz_vector, &certificate);
                }
            }
            best.products = self.products;
            best.converged = best.is_narrow(self.width, rounding);
            if best.converged || is_last {
                return Ok(best);
            }
            if found.reached {
                // Rounding errors require a larger distance.
                if certificate.is_lost_in_rounding() {
                    offset *= 8.0;
                } else {
                    offset += 2.0 * (certificate.upper - 1.0).max(self.width);
                }
            } else {
                // The level was not above the root. Restart from the better vector with a finer
                // resolution, because eigenvalues may lie closer together than the residual can
                // resolve.
                self.resolution *= 0.1;
                self.start = self.operator.cone.mixed(&vector)?;
                let hidden = 3.0 * certificate.rayleigh_rounding * (stiffness / upper).max(1.0);
                offset = offset.max(0.4 * self.width + hidden);
                let is_above = found.value < 1.0;
                if !cone.is_orthant() && is_above && certificate.is_lost_in_rounding() {
                    // The level was above the root, but the blocks are too nearly singular to tell.
                    offset *= 8.0;
                }
                nu = nu.max(root);
            }
        }
    }

    /// Raises the lower end to the root of the Rayleigh quotient of `vector`, whose moments are
    /// set, less its rounding. Returns the root.
    fn raise_lower(
        &self,
        best: &mut Bracket,
        nu: f64,
        vector: &[f64],
        certificate: &Certificate,
    ) -> f64 {
        let level = 1.0 + 2.0 * certificate.rayleigh_rounding;
        let root = self.operator.rayleigh_root(vector, nu, level);
        let lower = (self.operator.response.pole() + root) * (1.0 - 1e-15);
        if lower > best.lower {
            best.lower = lower;
            (best.nu, best.weights) = (root, vector.to_vec());
        }
        root
    }

    /// Grows a Krylov space at ν, where the root is about `level`. If it misses its goal, checks if
    /// single samples dominate and the next space should split off the diagonal.
    fn grow(&mut self, nu: f64, level: f64, goal: &Goal) -> Result<KrylovVector, ThresholdError> {
        if self.dominated {
            let splitting = Splitting::new(level, self.operator.diagonal(nu));
            self.products += 1;
            return self.krylov(nu, goal, &splitting);
        }
        let found = self.krylov(nu, goal, &Splitting::trivial(self.start.len()))?;
        if !found.reached && self.directions < MAX_DIRECTIONS {
            self.directions = MAX_DIRECTIONS;
            if !self.operator.cone.is_orthant() {
                // For several outputs the diagonal of Φ is not a set of numbers but a linear map
                // for each block.
                return Ok(found);
            }
            let diagonal = self.operator.diagonal(nu);
            self.products += 1;
            self.dominated = diagonal.iter().any(|value| *value >= DOMINANT * found.value);
        }
        Ok(found)
    }

    /// A close lower bound of the ν of the threshold, with the Ritz vector that gave it. The start
    /// becomes a vector close to that one.
    fn approach(&mut self, mut nu: f64) -> Result<(f64, Vec<f64>), ThresholdError> {
        let pole = self.operator.response.pole();
        let mut residual = 3e-2;
        loop {
            // The error of the root of the Rayleigh quotient is about the square of the error of
            // the vector.
            let found = self.grow(nu, 1.0, &Goal::RitzVector(residual))?;
            self.operator.set_moments(&found.vector);
            self.products += 1;
            let moved = self.operator.rayleigh_root(&found.vector, nu, 1.0).max(nu);
            let change = (moved - nu) / (pole + moved);
            nu = moved;
            self.start = self.operator.cone.mixed(&found.vector)?;
            let accuracy = (found.residual / found.value).max(change).powi(2);
            if 4.0 * accuracy <= self.width || self.products >= self.max_products {
                return Ok((nu, found.vector));
            }
            residual = (0.1 * accuracy).max(0.05 * self.width.sqrt()).min(1e-3);
        }
    }

    /// Grows a Krylov space of the A of a splitting of `M(pole + ν)` from the start until the goal
    /// is reached.
    fn krylov(
        &mut self,
        nu: f64,
        goal: &Goal,
        splitting: &Splitting,
    ) -> Result<KrylovVector, ThresholdError> {
        let modes = self.operator.response.modes(nu);
        let mut krylov = Krylov::new(&splitting.divide(&self.start))?;
        loop {
            krylov.extend(|vector, out| {
                let inner = splitting.divide(vector);
                self.operator.apply(&modes, &inner, out);
                splitting.subtract_diagonal(&inner, out);
            })?;
            self.products += 1;
            let (value, coefficients, residual) = krylov.largest_ritz_pair()?;
            let exhausted = krylov.is_closed()
                || krylov.products() >= self.directions
                || self.products >= self.max_products;
            let ritz_vector = |reached| {
                let vector = splitting.divide(&krylov.combine(&coefficients));
                Ok(KrylovVector { value, residual, vector, reached })
            };
            match goal {
                Goal::RitzVector(relative) => {
                    let reached = residual <= relative * value;
                    if reached || exhausted {
                        return ritz_vector(reached);
                    }
                }
                Goal::Supersolution(level) => {
                    let level = match level {
                        _ if !splitting.is_trivial => 1.0,
                        Some(level) => *level,
                        None => value * (1.0 + self.offset),
                    };
                    if let Some((vector, reached)) = self.supersolution(&krylov, level, splitting) {
                        if reached || exhausted {
                            return Ok(KrylovVector { value, residual, vector, reached });
                        }
                    } else if exhausted || residual <= self.resolution * value {
                        // The root lies above the level, so that no supersolution exists.
                        return ritz_vector(false);
                    }
                }
            }
        }
    }

    /// The Galerkin solution of `(1 − A) E^{½} v = E^{−½} start`, which is `(s − M) v = start`; and
    /// true if the residual shows that it is positive with `Mv ≤ s v`.
    fn supersolution(
        &self,
        krylov: &Krylov,
        level: f64,
        splitting: &Splitting,
    ) -> Option<(Vec<f64>, bool)> {
        let coefficients = krylov.resolvent(level)?;
        let vector = splitting.divide(&krylov.combine(&coefficients));
        let cone = self.operator.cone;
        // Mv − s v = −start + residual, with a quarter of the start kept for rounding.
        let reached = match (krylov.next_direction(), coefficients.last()) {
            (Some((beta, direction)), Some(last)) => {
                let factor = beta * last;
                let pairs = direction.iter().zip(&splitting.root);
                let residuals: Vec<f64> = pairs.map(|(q, root)| factor * q * root).collect();
                cone.contains(&vector) && cone.is_below(&residuals, &self.start, 0.75)
            }
            _ => cone.contains(&vector),
        };
        Some((vector, reached))
    }

    fn certify(&mut self, nu: f64, vector: &[f64]) -> Result<Certificate, ThresholdError> {
        self.products += 1;
        self.operator.certify(nu, vector).ok_or(ThresholdError::NoCertificate)
    }
}

#[cfg(test)]
mod tests {
    use super::Bracket;

    #[test]
    fn a_bracket_without_an_end_is_not_narrow() {
        let unbounded = Bracket::unbounded(1.0);
        assert!(!unbounded.is_narrow(1e300, 1.0));
        assert!(Bracket { lower: 1.0, upper: 1.1, ..unbounded }.is_narrow(0.1, 0.0));
    }
}

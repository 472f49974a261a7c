//! The implicit QL iteration for tridiagonal matrices.

/// The largest number of sweeps for one eigenvalue.
const MAX_SWEEPS: usize = 60;

/// Makes a symmetric tridiagonal matrix diagonal. Returns false when the iteration did not
/// converge.
///
/// The matrix is given by its diagonal d and the entries e beside it, followed by a zero. `record`
/// is called with every sweep of rotations: rotation i turns the columns i and i + 1, for i down to
/// the first argument, and the highest i comes first.
pub(super) fn diagonalize(
    d: &mut [f64],
    e: &mut [f64],
    mut record: impl FnMut(usize, &[(f64, f64)]),
) -> bool {
    let n = d.len();
    let mut rotations = Vec::with_capacity(n);
    // An entry this small is a rounding error of the whole matrix, and need not become small
    // relative to small diagonal entries beside it.
    let largest = d.iter().zip(&*e).fold(0.0_f64, |m, (d, e)| m.max(d.abs() + e.abs()));
    let floor = f64::EPSILON * 0.125 * largest;
    for first in 0..n {
        let mut sweeps = 0;
        loop {
            let is_split = |k: usize| {
                let scale = f64::EPSILON * 0.5 * (d[k].abs() + d[k + 1].abs());
                e[k].abs() <= scale.max(floor)
            };
            let last = (first..n - 1).find(|k| is_split(*k)).unwrap_or(n - 1);
            if last == first {
                break;
            }
            if sweeps == MAX_SWEEPS {
                return false;
            }
            sweeps += 1;
            // The shift is the eigenvalue of the leading 2 × 2 block nearer to its first entry.
            let half = (d[first + 1] - d[first]) / (2.0 * e[first]);
            let root = libm::hypot(half, 1.0).copysign(half);
            let mut bulge = d[last] - d[first] + e[first] / (half + root);
            let (mut sine, mut cosine, mut moved) = (1.0, 1.0, 0.0);
            rotations.clear();
            let mut is_cut = false;
            for i in (first..last).rev() {
                let (across, along) = (sine * e[i], cosine * e[i]);
                let length = libm::hypot(across, bulge);
                e[i + 1] = length;
                if length == 0.0 {
                    // Underflow has split the matrix.
                    d[i + 1] -= moved;
                    e[last] = 0.0;
                    is_cut = true;
                    break;
                }
                sine = across / length;
                cosine = bulge / length;
                let rest = d[i + 1] - moved;
                let slope = (d[i] - rest) * sine + 2.0 * cosine * along;
                moved = sine * slope;
                d[i + 1] = rest + moved;
                bulge = cosine * slope - along;
                rotations.push((cosine, sine));
            }
            if !is_cut {
                d[first] -= moved;
                e[first] = bulge;
                e[last] = 0.0;
            }
            record(last - rotations.len(), &rotations);
        }
    }
    d.iter().all(|v| v.is_finite())
}

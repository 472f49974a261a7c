//! Quadratic forms of a symmetric matrix given by its lower triangle.

use faer::{Accum, ColRef, Mat, MatRef};

use super::dispatch::run_in_chains;
use super::form_tile::lower_forms;
use super::job::{Gemm, Part};
use super::rank_k::{LARGE_ROWS, chain_length, large_block_columns, rounding_terms};
use crate::{Parallelism, simd};

/// The number of vectors of a task, which make whole tiles on every instruction set.
const TASK_FORMS: usize = 120;

/// The approximate number of rows of `Lᵀ X` that are computed before they join the forms. X is
/// packed once for each such strip.
const STRIP_ROWS: usize = 384;

/// The forms `xᵀ (L + Lᵀ) x` of the columns x of `vectors` (m × n), with `L` m × m, lower
/// triangular and zero above its diagonal.
///
/// Costs m²n operations. An entry passes through at most [`quadratic_rounding_terms`] roundings.
///
/// # Panics
/// When the shapes do not fit.
pub fn quadratic_forms(
    lower: MatRef<'_, f64>,
    vectors: MatRef<'_, f64>,
    parallelism: Parallelism,
) -> Vec<f64> {
    let m = lower.nrows();
    assert_eq!((m, m), (lower.ncols(), vectors.nrows()), "shapes of a quadratic form");
    if m == 0 {
        return vec![0.0; vectors.ncols()];
    }
    let by_columns;
    let lower = if lower.try_as_col_major().is_some() {
        lower
    } else {
        by_columns = lower.to_owned();
        by_columns.as_ref()
    };
    let task = TASK_FORMS * if m < LARGE_ROWS { 1 } else { 2 };
    let mut values = vec![0.0; vectors.ncols()];
    parallelism.for_each_chunk(&mut values, task, |index, values| {
        let columns = vectors.subcols(index * task, values.len());
        lower_forms(lower, columns, chain_length(m), values);
        for value in values {
            *value *= 2.0;
        }
    });
    values
}

/// The lower triangles of `Xᵀ (L + Lᵀ) X`, row by row and group by group, where every group X
/// consists of `group` columns of `vectors` (m × n).
///
/// `L` has the form described at [`quadratic_forms`], which is used for groups of one column. Costs
/// m²n + mn·`group` operations. An entry passes through at most [`quadratic_rounding_terms`]
/// roundings.
///
/// # Panics
/// When the shapes do not fit, or the columns do not make whole groups.
pub fn quadratic_blocks(
    lower: MatRef<'_, f64>,
    vectors: MatRef<'_, f64>,
    group: usize,
    parallelism: Parallelism,
) -> Vec<f64> {
    let m = lower.nrows();
    assert_eq!((m, m), (lower.ncols(), vectors.nrows()), "shapes of a quadratic form");
    assert!(group > 0 && vectors.ncols().is_multiple_of(group), "columns in groups");
    if group == 1 {
        return quadratic_forms(lower, vectors, parallelism);
    }
    let entries = group * (group + 1) / 2;
    let task = (large_block_columns(m) / group).max(1);
    let mut values = vec![0.0; vectors.ncols() / group * entries];
    parallelism.for_each_chunk(&mut values, task * entries, |index, values| {
        let count = values.len() / entries * group;
        block_forms(lower, vectors.subcols(index * task * group, count), group, values);
    });
    values
}

/// Computes one task of [`quadratic_blocks`]. Strips of rows of `Lᵀ X` join the forms one by one.
fn block_forms(lower: MatRef<'_, f64>, columns: MatRef<'_, f64>, group: usize, values: &mut [f64]) {
    let (m, count) = (lower.nrows(), columns.ncols());
    let (factor, part, chain) = (1.0, Part::Whole, chain_length(m));
    let accumulate = Accum::Add;
    let strip = (STRIP_ROWS / chain).max(1) * chain;
    let mut images = Mat::zeros(strip.min(m), count);
    // image_aᵀ x_b for the columns a, b of each group.
    let mut dots = vec![0.0; count * group];
    for start in (0..m).step_by(strip) {
        let stop = (start + strip).min(m);
        let mut images = images.as_mut().subrows_mut(0, stop - start);
        images.fill(0.0);
        // Rows first..last of L end at the diagonal: they contribute nothing to Lᵀx below it.
        for first in (start..stop).step_by(chain) {
            let last = (first + chain).min(stop);
            let b = columns.get(first..last, ..);
            let a = lower.get(first..last, start..last).transpose();
            let c = images.as_mut().subrows_mut(0, last - start);
            run_in_chains(Gemm { c, accumulate, a, b, factor, part, chain });
        }
        if stop < m {
            let a = lower.get(stop.., start..stop).transpose();
            let (b, c) = (columns.get(stop.., ..), images.as_mut());
            run_in_chains(Gemm { c, accumulate, a, b, factor, part, chain });
        }
        for (index, dots) in dots.chunks_mut(group).enumerate() {
            let image = images.as_ref().col(index);
            for (b, dot) in dots.iter_mut().enumerate() {
                let column = columns.col(index / group * group + b);
                for first in (start..stop).step_by(chain) {
                    let last = (first + chain).min(stop);
                    let image = image.get(first - start..last - start);
                    *dot += inner_product(image, column.get(first..last));
                }
            }
        }
    }
    let mut values = values.iter_mut();
    for first in (0..count).step_by(group) {
        let dot = |a: usize, b: usize| dots[(first + a) * group + b];
        for a in 0..group {
            for b in 0..=a {
                let Some(value) = values.next() else { return };
                *value = if a == b { 2.0 * dot(a, a) } else { dot(a, b) + dot(b, a) };
            }
        }
    }
}

/// The dot product of two columns, in lanes where both are contiguous.
fn inner_product(a: ColRef<'_, f64>, b: ColRef<'_, f64>) -> f64 {
    match (a.try_as_col_major(), b.try_as_col_major()) {
        (Some(a), Some(b)) => simd::dot(a.as_slice(), b.as_slice()),
        _ => a.iter().zip(b.iter()).map(|(a, b)| a * b).sum(),
    }
}

/// The number of roundings of [`rounding_terms`], for [`quadratic_forms`] with m × m matrices.
pub fn quadratic_rounding_terms(m: usize) -> usize {
    2 * rounding_terms(m)
}

#[cfg(test)]
mod tests {
    use faer::Mat;

    use super::{LARGE_ROWS, TASK_FORMS, quadratic_blocks, quadratic_forms};
    use crate::Parallelism;
    use crate::gemm::tests::matrix;

    #[test]
    fn quadratic_forms_agree_with_their_definition() {
        // The last size makes several tasks of a large matrix.
        for (m, n) in [(0, 2), (1, 3), (5, 300), (150, 131), (LARGE_ROWS, 2 * TASK_FORMS + 1)] {
            let full = matrix(m, m);
            let lower = Mat::from_fn(m, m, |i, j| if i < j { 0.0 } else { full[(i, j)] });
            let vectors = matrix(m, n);
            let forms = quadratic_forms(lower.as_ref(), vectors.as_ref(), Parallelism::Sequential);
            let by_rows = lower.transpose().to_owned();
            let (lower_by_rows, sequential) = (by_rows.transpose(), Parallelism::Sequential);
            assert_eq!(forms, quadratic_forms(lower_by_rows, vectors.as_ref(), sequential));
            let threaded = quadratic_forms(lower.as_ref(), vectors.as_ref(), Parallelism::Rayon);
            for j in 0..n {
                let mut expected = 0.0;
                for k in 0..m {
                    for l in 0..=k {
                        expected += 2.0 * vectors[(k, j)] * lower[(k, l)] * vectors[(l, j)];
                    }
                }
                assert!((forms[j] - expected).abs() <= 1e-13 * (m * m) as f64);
                assert_eq!(forms[j].to_bits(), threaded[j].to_bits());
            }
        }
    }

    #[test]
    fn groups_of_columns_make_blocks() {
        for (m, groups, group) in [(1, 2, 3), (5, 60, 5), (70, 3, 130)] {
            let full = matrix(m, m);
            let lower = Mat::from_fn(m, m, |i, j| if i < j { 0.0 } else { full[(i, j)] });
            let symmetric = &lower + lower.transpose();
            let vectors = matrix(m, groups * group);
            let sequential = Parallelism::Sequential;
            let blocks = quadratic_blocks(lower.as_ref(), vectors.as_ref(), group, sequential);
            let threaded =
                quadratic_blocks(lower.as_ref(), vectors.as_ref(), group, Parallelism::Rayon);
            let mut found = blocks.iter();
            for index in 0..groups {
                let x = vectors.get(.., index * group..(index + 1) * group);
                let expected = x.transpose() * &symmetric * x;
                for a in 0..group {
                    for b in 0..=a {
                        let error = found.next().unwrap() - expected[(a, b)];
                        assert!(error.abs() <= 1e-13 * (m * m) as f64, "{m} {a} {b}: {error}");
                    }
                }
            }
            assert_eq!(found.next(), None);
            assert_eq!(blocks, threaded);
        }
    }
}

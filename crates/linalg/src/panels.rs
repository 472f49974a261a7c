//! Large dense products with a fixed order of summation and few roundings.
//!
//! Inner products are summed panel by panel ([`rounding_terms`] says how many roundings a term
//! passes through: about `2√len`, not `len`), which is what makes rigorous error bounds useful at
//! sizes in the thousands. Work is cut into blocks that depend on the sizes only, so that the
//! result has the same bits for any number of threads.

use faer::{Accum, Mat, MatMut, MatRef};
use rayon::prelude::*;

use crate::{matmul, matmul_lower, simd};

/// Whether one large problem may use several cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parallelism {
    /// On the calling thread.
    #[default]
    Sequential,
    /// On the current rayon thread pool. The result is the same to the bit.
    Rayon,
}

/// Terms of an inner product that are summed before they join the rest.
const PANEL: usize = 64;

/// Output columns of one task. Smaller products are one task.
const BLOCK: usize = 128;

fn panel(len: usize) -> usize {
    // Near √len the number of roundings, panel + len/panel, is least.
    len.isqrt().div_ceil(PANEL).max(1) * PANEL
}

/// The largest number of rounded operations that a term of an inner product of `len` terms passes
/// through in the products of this module, its own multiplication included.
///
/// With u = 2⁻⁵³ and `γ = k u / (1 − k u)` for this number k, the error of a computed inner product
/// is at most `γ Σ |a_i b_i|`, whatever the order inside a panel and with or without fused
/// operations (Higham 2002, section 3.1).
pub fn rounding_terms(len: usize) -> usize {
    let panel = panel(len);
    panel.min(len) + len.div_ceil(panel)
}

/// The lower triangle of `A Bᵀ` for `A`, `B` both m × k, where that product is symmetric; above the
/// diagonal zeros.
///
/// Costs m²k operations. Blocks of columns may run in parallel.
///
/// # Panics
/// When the shapes differ.
pub fn symmetric_product(
    a: MatRef<'_, f64>,
    b: MatRef<'_, f64>,
    parallelism: Parallelism,
) -> Mat<f64> {
    let mut product = Mat::zeros(a.nrows(), a.nrows());
    add_symmetric_product(product.as_mut(), a, b, parallelism);
    product
}

/// Adds what [`symmetric_product`] makes to `sum`, m × m.
///
/// # Panics
/// When the shapes do not fit.
pub fn add_symmetric_product(
    sum: MatMut<'_, f64>,
    a: MatRef<'_, f64>,
    b: MatRef<'_, f64>,
    parallelism: Parallelism,
) {
    let (m, terms) = (a.nrows(), a.ncols());
    assert_eq!((m, terms), (b.nrows(), b.ncols()), "shapes of a symmetric product");
    assert_eq!((m, m), (sum.nrows(), sum.ncols()), "shape of a sum of symmetric products");
    let width = if m <= 4 * BLOCK { m.max(1) } else { BLOCK };
    let panel = panel(terms);
    let block = |first: usize, mut out: MatMut<'_, f64>| {
        let columns = out.ncols();
        let end = first + columns;
        for start in (0..terms).step_by(panel) {
            let stop = (start + panel).min(terms);
            let right = b.get(first..end, start..stop).transpose();
            let diagonal = out.as_mut().subrows_mut(first, columns);
            matmul_lower(diagonal, Accum::Add, a.get(first..end, start..stop), right, 1.0);
            if end < m {
                let below = out.as_mut().subrows_mut(end, m - end);
                matmul(below, Accum::Add, a.get(end.., start..stop), right, 1.0);
            }
        }
    };
    let blocks = column_blocks(sum, width);
    match parallelism {
        Parallelism::Sequential => {
            for (first, out) in blocks {
                block(first, out);
            }
        }
        Parallelism::Rayon => {
            blocks.into_par_iter().with_max_len(1).for_each(|(first, out)| block(first, out));
        }
    }
}

/// Cuts a matrix into blocks of `width` columns, each with the index of its first one.
fn column_blocks(mut matrix: MatMut<'_, f64>, width: usize) -> Vec<(usize, MatMut<'_, f64>)> {
    let mut blocks = Vec::new();
    let mut first = 0;
    while matrix.ncols() > 0 {
        let columns = width.min(matrix.ncols());
        let (block, rest) = matrix.split_at_col_mut(columns);
        blocks.push((first, block));
        matrix = rest;
        first += columns;
    }
    blocks
}

/// `xᵀ (L + Lᵀ) x` for every column x of `vectors` (m × n), with `L` m × m lower triangular and zero
/// above its diagonal.
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
    quadratic_blocks(lower, vectors, 1, parallelism)
}

/// The lower triangle of `Xᵀ (L + Lᵀ) X` for every group X of `group` columns of `vectors` (m × n), row by
/// row and group by group; `L` as in [`quadratic_forms`], which is this for groups of one.
///
/// Costs m²n + mn·`group` operations. An entry passes through at most [`quadratic_rounding_terms`]
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
    let panel = panel(m);
    let entries = group * (group + 1) / 2;
    let task = (BLOCK / group).max(1);
    let block = |first: usize, values: &mut [f64]| {
        let count = values.len() / entries * group;
        let columns = vectors.get(.., first * group..first * group + count);
        let mut images = Mat::zeros(m, count);
        for start in (0..m).step_by(panel) {
            let stop = (start + panel).min(m);
            // Rows start..stop of L end at the diagonal: Lᵀx gets nothing below it from them.
            let rows = lower.get(start..stop, 0..stop);
            let image = images.as_mut().subrows_mut(0, stop);
            let right = columns.get(start..stop, ..);
            matmul(image, Accum::Add, rows.transpose(), right, 1.0);
        }
        let dot = |i: usize, j: usize| -> f64 {
            let (image, column) = (images.col(i), columns.col(j));
            let dot = |start: usize, stop: usize| -> f64 {
                let parts = (image.get(start..stop), column.get(start..stop));
                match (parts.0.try_as_col_major(), parts.1.try_as_col_major()) {
                    (Some(image), Some(column)) => simd::dot(image.as_slice(), column.as_slice()),
                    _ => (start..stop).map(|k| image[k] * column[k]).sum(),
                }
            };
            let parts = (0..m).step_by(panel).map(|start| dot(start, (start + panel).min(m)));
            parts.sum()
        };
        let pairs = (0..group).flat_map(|a| (0..=a).map(move |b| (a, b)));
        for (index, values) in values.chunks_mut(entries).enumerate() {
            let first = index * group;
            for (value, (a, b)) in values.iter_mut().zip(pairs.clone()) {
                let (a, b) = (first + a, first + b);
                *value = if a == b { 2.0 * dot(a, a) } else { dot(a, b) + dot(b, a) };
            }
        }
    };
    let mut values = vec![0.0; vectors.ncols() / group * entries];
    match parallelism {
        Parallelism::Sequential => {
            for (index, values) in values.chunks_mut(task * entries).enumerate() {
                block(index * task, values);
            }
        }
        Parallelism::Rayon => {
            let chunks = values.par_chunks_mut(task * entries).enumerate();
            chunks.with_max_len(1).for_each(|(index, values)| block(index * task, values));
        }
    }
    values
}

/// As [`rounding_terms`], for [`quadratic_forms`] with m × m matrices.
pub fn quadratic_rounding_terms(m: usize) -> usize {
    2 * rounding_terms(m)
}

#[cfg(test)]
mod tests {
    use faer::Mat;

    use super::{
        Parallelism, panel, quadratic_blocks, quadratic_forms, rounding_terms, symmetric_product,
    };

    fn matrix(rows: usize, columns: usize) -> Mat<f64> {
        let value = |i: usize, j: usize| ((i * 7919 + j * 104_729) % 1009) as f64 / 504.5 - 1.0;
        Mat::from_fn(rows, columns, value)
    }

    #[test]
    fn products_agree_with_their_definition_and_threads_change_no_bit() {
        for (m, terms) in [(1, 1), (3, 200), (130, 7), (600, 70)] {
            let a = matrix(m, terms);
            let product = symmetric_product(a.as_ref(), a.as_ref(), Parallelism::Sequential);
            let threaded = symmetric_product(a.as_ref(), a.as_ref(), Parallelism::Rayon);
            for j in 0..m {
                for i in 0..m {
                    let expected: f64 =
                        if i < j { 0.0 } else { (0..terms).map(|k| a[(i, k)] * a[(j, k)]).sum() };
                    assert!((product[(i, j)] - expected).abs() <= 1e-13 * terms as f64);
                    assert_eq!(product[(i, j)].to_bits(), threaded[(i, j)].to_bits());
                }
            }
        }
    }

    #[test]
    fn quadratic_forms_agree_with_their_definition() {
        for (m, n) in [(1, 3), (5, 300), (150, 131)] {
            let full = matrix(m, m);
            let lower = Mat::from_fn(m, m, |i, j| if i < j { 0.0 } else { full[(i, j)] });
            let vectors = matrix(m, n);
            let forms = quadratic_forms(lower.as_ref(), vectors.as_ref(), Parallelism::Sequential);
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

    #[test]
    fn long_sums_have_few_roundings() {
        assert_eq!((panel(1), panel(2000), panel(1_000_000)), (64, 64, 1024));
        assert_eq!(rounding_terms(5), 6);
        assert_eq!(rounding_terms(2000), 64 + 32);
        assert_eq!(rounding_terms(1_000_000), 1024 + 977);
    }
}

//! Times of dense products, symmetric eigenproblems and QR decompositions, compared with faer.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop")]
#![expect(clippy::disallowed_methods, reason = "faer's product is what is compared with")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use faer::{Accum, Mat, MatRef, Par, Side};
use flatmin_linalg::{matmul, product, symmetric_eigen, symmetric_eigenvalues, thin_qr};

fn matrix(rows: usize, columns: usize) -> Mat<f64> {
    let value = |i: usize, j: usize| ((i * 7919 + j * 104_729) % 1009) as f64 / 504.5 - 1.0;
    Mat::from_fn(rows, columns, value)
}

/// The sizes (m, n, k) of products of an m × k matrix, stored by columns or by rows, and a k × n
/// matrix, stored by columns.
const SHAPES: [(usize, usize, usize); 9] = [
    (8, 8, 8),
    (32, 32, 32),
    (100, 100, 100),
    (300, 100, 100),
    (256, 256, 784),
    (1000, 256, 784),
    (16, 16, 10_100),
    (10_100, 16, 16),
    (2000, 2000, 2000),
];

fn products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("product");
    group.sample_size(10).warm_up_time(Duration::from_millis(200));
    for (m, n, k) in SHAPES {
        let (a, b, mut c) = (matrix(m, k), matrix(k, n), Mat::zeros(m, n));
        let a_rows = a.transpose().to_owned();
        let storages: [(&str, MatRef<'_, f64>); 2] =
            [("columns", a.as_ref()), ("rows", a_rows.transpose())];
        for (storage, a) in storages {
            let id = format!("m={m},n={n},k={k},{storage}");
            group.bench_function(format!("{id}/own"), |bench| {
                bench.iter(|| matmul(c.as_mut(), Accum::Replace, a, black_box(b.as_ref()), 1.0));
            });
            group.bench_function(format!("{id}/faer"), |bench| {
                bench.iter(|| {
                    let (c, b) = (c.as_mut(), black_box(b.as_ref()));
                    faer::linalg::matmul::matmul(c, Accum::Replace, a, b, 1.0, Par::Seq);
                });
            });
        }
    }
}

fn decompositions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decomposition");
    group.sample_size(10).warm_up_time(Duration::from_millis(200));
    for n in [10, 100, 300, 1000] {
        let factor = matrix(n, 2 * n);
        let gram = product(factor.as_ref(), factor.transpose());
        let gram = gram.as_ref();
        group.bench_function(format!("eigenvalues/n={n}/own"), |bench| {
            bench.iter(|| symmetric_eigenvalues(black_box(gram)).unwrap());
        });
        group.bench_function(format!("eigenvalues/n={n}/faer"), |bench| {
            bench.iter(|| black_box(gram).self_adjoint_eigenvalues(Side::Lower).unwrap());
        });
        group.bench_function(format!("eigenvectors/n={n}/own"), |bench| {
            bench.iter(|| symmetric_eigen(black_box(gram)).unwrap());
        });
        group.bench_function(format!("eigenvectors/n={n}/faer"), |bench| {
            bench.iter(|| black_box(gram).self_adjoint_eigen(Side::Lower).unwrap());
        });
        group.bench_function(format!("thin_qr/n={n}/own"), |bench| {
            bench.iter(|| thin_qr(black_box(gram)));
        });
        group.bench_function(format!("thin_qr/n={n}/faer"), |bench| {
            bench.iter(|| black_box(gram).qr().compute_thin_Q());
        });
    }
}

criterion_group!(benches, products, decompositions);
criterion_main!(benches);

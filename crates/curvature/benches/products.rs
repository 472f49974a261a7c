//! The time of products with the Hessian and the Gauss–Newton matrix of a perceptron, compared with
//! its gradient; and that of blocks of products with its Jacobian and the transpose.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use faer::Mat;
use flatmin_curvature::{CurvatureOptions, ModelJacobian, gauss_newton_with, hessian_with};
use flatmin_linalg::{JacobianProducts as _, Operator as _, Parallelism};
use flatmin_models::{Activation, Model as _};
use flatmin_workloads::Products;

fn products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("products,784-256-256-10,n=1000");
    group.sample_size(20);
    for (name, activation) in [("relu", Activation::Relu), ("tanh", Activation::Tanh)] {
        let Products { model, data, parameters, vectors } =
            flatmin_workloads::products(activation, 16);
        let p = model.parameter_count();
        let vectors = Mat::from_fn(p, 16, |i, j| vectors.row(j)[i]);
        let threads = [("1 thread", Parallelism::Sequential), ("all threads", Parallelism::Rayon)];
        for (threads, parallelism) in threads {
            let id = |what: &str| BenchmarkId::new(format!("{name},{what}"), threads);
            let kept = CurvatureOptions { parallelism, ..CurvatureOptions::default() };
            let anew = CurvatureOptions { cache_bytes: 0, ..kept };
            group.bench_function(id("gradient"), |b| {
                b.iter(|| {
                    let operator = hessian_with(&model, &parameters, &data, &anew);
                    operator.expect("they fit").gradient()
                });
            });
            for (what, options, is_hessian, count) in [
                ("hessian", kept, true, 1),
                ("hessian, passes anew", anew, true, 1),
                ("hessian, 16 vectors", kept, true, 16),
                ("gauss_newton", kept, false, 1),
            ] {
                let make = if is_hessian { hessian_with } else { gauss_newton_with };
                let operator = make(&model, &parameters, &data, &options).expect("they fit");
                let vectors = vectors.subcols(0, count);
                let mut images = Mat::zeros(p, count);
                group.bench_function(id(what), |b| {
                    b.iter(|| operator.apply(vectors, images.as_mut()));
                });
            }
        }
    }
    group.finish();
}

/// A few thousand samples, as brackets have them: passes at θ are made anew for every block.
const JACOBIAN_SAMPLES: usize = 4096;

fn jacobian(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("jacobian,784-256-256-10,n=4096");
    group.sample_size(10);
    let Products { model, data, parameters, vectors } =
        flatmin_workloads::products_of(JACOBIAN_SAMPLES, Activation::Relu, 16);
    let (p, rows) = (model.parameter_count(), 10 * JACOBIAN_SAMPLES);
    let inputs = Mat::from_fn(p, 16, |i, j| vectors.row(j)[i]);
    let weights = Mat::from_fn(rows, 16, |i, j| ((i * 31 + j * 17) % 101) as f64 / 50.0 - 1.0);
    let (mut outputs, mut back) = (Mat::zeros(rows, 16), Mat::zeros(p, 16));
    let threads = [("1 thread", Parallelism::Sequential), ("all threads", Parallelism::Rayon)];
    for (threads, parallelism) in threads {
        let jacobian =
            ModelJacobian::new(&model, &parameters, &data, parallelism).expect("they fit");
        group.bench_function(BenchmarkId::new("relu,jvp, 16 vectors", threads), |b| {
            b.iter(|| jacobian.jvp(inputs.as_ref(), outputs.as_mut()).expect("they fit"));
        });
        group.bench_function(BenchmarkId::new("relu,vjp, 16 vectors", threads), |b| {
            b.iter(|| jacobian.vjp(weights.as_ref(), back.as_mut()).expect("they fit"));
        });
        group.bench_function(BenchmarkId::new("relu,both, 16 vectors", threads), |b| {
            b.iter(|| jacobian.gram_product(weights.as_ref(), outputs.as_mut()).expect("they fit"));
        });
    }
    group.finish();
}

criterion_group!(benches, products, jacobian);
criterion_main!(benches);

//! The time of products with the Hessian and the Gauss–Newton matrix of a perceptron, compared with
//! its gradient.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use faer::Mat;
use flatmin_curvature::{CurvatureOptions, gauss_newton_with, hessian_with};
use flatmin_linalg::{Operator as _, Parallelism};
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

criterion_group!(benches, products);
criterion_main!(benches);

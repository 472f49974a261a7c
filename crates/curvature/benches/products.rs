//! Time of products with the Hessian and the Gauss–Newton matrix of a perceptron, beside its gradient.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use faer::Mat;
use flatmin_curvature::{CurvatureOptions, gauss_newton_with, hessian_with};
use flatmin_linalg::{Operator as _, Parallelism, RowMatrix, stream};
use flatmin_models::{Activation, Dataset, Mlp, Model as _};
use rand::RngExt as _;

const SAMPLES: usize = 1000;

fn products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("products,784-256-256-10,n=1000");
    group.sample_size(20);
    let mut rng = stream(0, "bench products", 0);
    let mut numbers =
        |rows, columns| RowMatrix::from_fn(rows, columns, |_, _| rng.random_range(-1.0..1.0));
    let (inputs, targets) = (numbers(SAMPLES, 784), numbers(SAMPLES, 10));
    let data = Dataset::with_outputs(inputs, &targets).expect("finite and not empty");
    for (name, activation) in [("relu", Activation::Relu), ("tanh", Activation::Tanh)] {
        let model = Mlp::new(&[784, 256, 256, 10], activation, true).expect("positive widths");
        let parameters = model.initial_parameters(&mut stream(1, "bench products", 0));
        let p = model.parameter_count();
        let vectors = numbers(16, p);
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

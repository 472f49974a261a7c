//! Times of the exact threshold of a two-layer ReLU network (m = d = 100) at its initial
//! parameters, from its Gram matrix and including the eigendecomposition. Small minima are also
//! timed with the dense form.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use faer::Mat;
use flatmin_linalg::{Parallelism, stream};
use flatmin_models::{Model as _, TwoLayerRelu, data};
use flatmin_theory::{
    Batch, Gram, Minimum, Optimizer, Sampling, ThresholdOptions, dense_threshold, threshold_with,
};

const SEQUENTIAL: &[usize] = &[20, 100, 300];
const ON_ALL_CORES: &[usize] = &[1000, 2000];

fn gram(samples: usize) -> Mat<f64> {
    let model = TwoLayerRelu::new(100, 100).unwrap();
    let parameters = model.initial_parameters(&mut stream(0, "bench parameters", 0));
    let inputs = data::sphere_inputs(samples, 100, &mut stream(0, "bench inputs", 0));
    model.gram(&parameters, &inputs)
}

fn minimum(gram: Mat<f64>, parallelism: Parallelism) -> Minimum {
    Minimum::from_gram(Gram::from_means(gram).unwrap(), parallelism).unwrap()
}

fn exact(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("threshold");
    group.sample_size(10).warm_up_time(Duration::from_millis(200));
    for (sizes, parallelism) in
        [(SEQUENTIAL, Parallelism::Sequential), (ON_ALL_CORES, Parallelism::Rayon)]
    {
        for &samples in sizes {
            let gram = gram(samples);
            for batch_size in [1, 8] {
                let batch = Batch::new(batch_size, Sampling::WithoutReplacement).unwrap();
                let options = ThresholdOptions { parallelism, ..ThresholdOptions::default() };
                let id = BenchmarkId::from_parameter(format!("n={samples},B={batch_size}"));
                group.bench_function(id, |bench| {
                    bench.iter(|| {
                        let minimum = minimum(gram.clone(), parallelism);
                        black_box(
                            threshold_with(&minimum, &Optimizer::sgd(), &batch, &options).unwrap(),
                        )
                    });
                });
            }
        }
    }
}

fn dense(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dense_threshold");
    group.sample_size(10).warm_up_time(Duration::from_millis(200));
    let batch = Batch::new(1, Sampling::WithoutReplacement).unwrap();
    for samples in [10, 20, 40] {
        let minimum = minimum(gram(samples), Parallelism::Sequential);
        let id = BenchmarkId::from_parameter(format!("n={samples},B=1"));
        group.bench_function(id, |bench| {
            bench.iter(|| black_box(dense_threshold(&minimum, &batch).unwrap()));
        });
    }
}

criterion_group!(benches, exact, dense);
criterion_main!(benches);

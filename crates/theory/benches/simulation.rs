//! Times of the linearised dynamics at the size of the paper's networks, n = r = 300.
//!
//! The gradients are Gaussian with norms spread over a decade, so that the spectrum is spread too.
//! A step of a replica is one product and one update of 300 numbers, compared with the same step in
//! plain scalars.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flatmin_linalg::{RowMatrix, stream};
use flatmin_theory::{
    Batch, EdgeOptions, LinearisedSgd, LyapunovOptions, Minimum, Optimizer, Sampling,
    SecondMoments, SimulationOptions, Start, almost_sure_edge, lyapunov_exponent, simulate,
    simulate_at, trace_bound,
};
use rand::{Rng, RngExt as _};
use rand_distr::{Distribution as _, StandardNormal};

const SAMPLES: usize = 300;
const COLUMNS: usize = 400;

fn rows(rng: &mut impl Rng) -> RowMatrix {
    RowMatrix::from_fn(SAMPLES, COLUMNS, |i, _| {
        let normal: f64 = StandardNormal.sample(rng);
        normal * 10.0_f64.powi(-i32::from(i % 2 == 0))
    })
}

fn minimum() -> Minimum {
    Minimum::new(&rows(&mut stream(0, "bench minimum", 0))).expect("finite gradients")
}

fn sgd(minimum: &Minimum, batch_size: usize, momentum: f64) -> LinearisedSgd<'_> {
    let batch = Batch::new(batch_size, Sampling::WithReplacement).expect("a sample");
    let optimizer = Optimizer::sgd().momentum(momentum).expect("a momentum below 1");
    dynamics(minimum, &optimizer, &batch)
}

fn dynamics<'a>(minimum: &'a Minimum, optimizer: &Optimizer, batch: &Batch) -> LinearisedSgd<'a> {
    let learning_rate = 0.5 * trace_bound(minimum.sharpness().trace, 1.0);
    LinearisedSgd::new(minimum, optimizer, batch, learning_rate).expect("a moderate rate")
}

fn nesterov() -> Optimizer {
    let momentum = Optimizer::sgd().momentum(0.9).expect("a momentum below 1");
    momentum.nesterov().expect("momentum").weight_decay(1e-4).expect("a small decay")
}

/// Moves one replica by `steps` steps, in plain scalars.
fn plain_steps(rows: &RowMatrix, position: &mut [f64], steps: usize, rng: &mut impl Rng) {
    for _ in 0..steps {
        let row = rows.row(rng.random_range(0..rows.rows()));
        let product: f64 = row.iter().zip(&*position).map(|(g, x)| g * x).sum();
        for (x, g) in position.iter_mut().zip(row) {
            *x -= 1e-4 * product * g;
        }
    }
}

fn replicas(criterion: &mut Criterion) {
    let minimum = minimum();
    let form =
        RowMatrix::from_fn(SAMPLES, SAMPLES, |i, j| if i == j { 1.0 + i as f64 } else { 0.1 });
    let mut group = criterion.benchmark_group("replicas/n=300,r=300,replicas=20000,steps=20");
    group.throughput(Throughput::Elements(20_000 * 20));
    group.sample_size(10);
    for (name, batch_size, momentum) in [("B=1", 1, 0.0), ("B=16", 16, 0.0), ("momentum", 1, 0.9)] {
        let sgd = sgd(&minimum, batch_size, momentum);
        let start = Start::Signs;
        let options = SimulationOptions { replicas: 20_000, steps: &[2, 20], start, seed: 0 };
        group.bench_function(name, |b| {
            b.iter(|| simulate(&sgd, &form, options).expect("a finite form"));
        });
        if batch_size == 1 {
            let rates = [0.8, 0.95, 1.05, 1.2].map(|factor| factor * sgd.learning_rate());
            group.bench_function(format!("{name}, four learning rates"), |b| {
                b.iter(|| simulate_at(&sgd, &rates, &form, options).expect("a finite form"));
            });
        }
    }
    let plain = RowMatrix::from_fn(SAMPLES, SAMPLES, |i, j| ((i * 7 + j) % 11) as f64 / 11.0);
    group.bench_function("plain B=1", |b| {
        b.iter(|| {
            let mut rng = stream(0, "bench plain", 0);
            for _ in 0..20_000 {
                let mut position = vec![1.0; SAMPLES];
                plain_steps(&plain, &mut position, 20, &mut rng);
                black_box(&position);
            }
        });
    });
    group.finish();
}

fn exponents(criterion: &mut Criterion) {
    let minimum = minimum();
    let mut group = criterion.benchmark_group("lyapunov/n=300,r=300");
    group.sample_size(10);
    let options = LyapunovOptions { burn_in: 500, steps: 2000, ..LyapunovOptions::with_seed(0) };
    for (name, momentum) in [("80 000 steps", 0.0), ("80 000 steps, momentum", 0.9)] {
        let sgd = sgd(&minimum, 1, momentum);
        group.bench_function(name, |b| {
            b.iter(|| lyapunov_exponent(&sgd, options).expect("enough replicas"));
        });
    }
    let batch = Batch::new(1, Sampling::WithReplacement).expect("a sample");
    for (name, size, sampling) in [
        ("80 000 steps, Nesterov", 1, Sampling::WithReplacement),
        ("80 000 steps, Nesterov, reshuffled", 1, Sampling::Reshuffling),
        ("80 000 steps, Nesterov, Poisson, B=16", 16, Sampling::Poisson),
    ] {
        let batch = Batch::new(size, sampling).expect("a sample");
        let sgd = dynamics(&minimum, &nesterov(), &batch);
        group.bench_function(name, |b| {
            b.iter(|| lyapunov_exponent(&sgd, options).expect("enough replicas"));
        });
    }
    group.bench_function("almost-sure edge, reshuffled", |b| {
        let batch = Batch::new(1, Sampling::Reshuffling).expect("a sample");
        b.iter(|| {
            almost_sure_edge(&minimum, &Optimizer::sgd(), &batch, EdgeOptions::with_seed(0))
                .expect("rates")
        });
    });
    group.bench_function("almost-sure edge", |b| {
        b.iter(|| {
            almost_sure_edge(&minimum, &Optimizer::sgd(), &batch, EdgeOptions::with_seed(0))
                .expect("rates")
        });
    });
    group.finish();
}

fn moments(criterion: &mut Criterion) {
    let minimum = minimum();
    let mut group = criterion.benchmark_group("second_moments_step/n=300,r=300");
    group.sample_size(20);
    for (name, momentum) in [("plain", 0.0), ("momentum", 0.9)] {
        let mut moments =
            SecondMoments::new(&sgd(&minimum, 1, momentum)).expect("independent batches");
        group.bench_function(name, |b| b.iter(|| moments.step()));
    }
    let batch = Batch::new(1, Sampling::Poisson).expect("a sample");
    let sgd = dynamics(&minimum, &nesterov(), &batch);
    let mut moments = SecondMoments::new(&sgd).expect("independent batches");
    group.bench_function("Nesterov", |b| b.iter(|| moments.step()));
    group.finish();
}

criterion_group!(benches, replicas, exponents, moments);
criterion_main!(benches);

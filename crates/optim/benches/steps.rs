//! Time per optimizer step, fused against the plain definition: the paper's sizes.
//!
//! One iteration is an epoch of 300 steps for SGD (the id says so) and one step for gradient
//! descent. Learning rates are small, so that the data stay in the regime of training: about half
//! of the neurons active, all values of normal size.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flatmin_linalg::{RowMatrix, stream};
use flatmin_models::{Activation, Dataset, DiagonalLinear, Mlp, Model as _, TwoLayerRelu, data};
use flatmin_optim::{DiagonalKernel, Kernel, MlpKernel, PlainKernel, ReluKernel, Update};
use rand::RngExt as _;

const SAMPLES: usize = 300;
const UPDATE: Update = Update { learning_rate: 1e-4, clip_norm: 100.0 };

fn order() -> Vec<u32> {
    let mut rng = stream(0, "bench order", 0);
    (0..SAMPLES).map(|_| rng.random_range(0..300)).collect()
}

fn relu() -> (TwoLayerRelu, Dataset, Vec<f64>) {
    let model = TwoLayerRelu::new(100, 100).expect("positive sizes");
    let mut rng = stream(0, "bench relu", 0);
    let inputs = data::sphere_inputs(SAMPLES, 100, &mut rng);
    let targets = (0..SAMPLES).map(|_| rng.random_range(-1.0..1.0)).collect();
    let initial = model.initial_parameters(&mut rng);
    (model, Dataset::new(inputs, targets).expect("finite data"), initial)
}

fn diagonal() -> (DiagonalLinear, Dataset, Vec<f64>) {
    let model = DiagonalLinear::new(1000).expect("positive size");
    let mut rng = stream(0, "bench diagonal", 0);
    let inputs = data::cube_inputs(SAMPLES, 1000, &mut rng);
    let targets = data::linear_targets(&inputs, &data::sparse_coefficients(1000, 3));
    let initial = model.initial_parameters(&mut rng);
    (model, Dataset::new(inputs, targets).expect("finite data"), initial)
}

fn mlp(widths: &[usize], activation: Activation) -> (Mlp, Dataset, Vec<f64>) {
    let model = Mlp::new(widths, activation, true).expect("positive widths");
    let mut rng = stream(0, "bench mlp", 0);
    let inputs = data::sphere_inputs(SAMPLES, model.input_dim(), &mut rng);
    let targets =
        RowMatrix::from_fn(SAMPLES, model.output_dim(), |_, _| rng.random_range(-1.0..1.0));
    let initial = model.initial_parameters(&mut rng);
    (model, Dataset::with_outputs(inputs, &targets).expect("finite data"), initial)
}

fn bench(
    criterion: &mut Criterion,
    id: &str,
    size: &str,
    mut kernels: Vec<(&str, Box<dyn Kernel + '_>)>,
) {
    let order = order();
    let rates = vec![UPDATE.learning_rate; SAMPLES];
    let mut group = criterion.benchmark_group(format!("sgd_epoch_{id}/{size}"));
    group.throughput(Throughput::Elements(SAMPLES as u64));
    for (name, kernel) in &mut kernels {
        group.bench_function(*name, |b| {
            b.iter(|| kernel.single_steps(&order, &rates, UPDATE.clip_norm));
        });
    }
    group.finish();
    for batch_size in [4, 16, 64] {
        let mut group = criterion.benchmark_group(format!("batch_{batch_size}_step_{id}/{size}"));
        for (name, kernel) in &mut kernels {
            let batch = &order[..batch_size];
            group.bench_function(*name, |b| b.iter(|| kernel.batch_step(batch, UPDATE)));
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group(format!("gd_step_{id}/{size}"));
    for (name, kernel) in &mut kernels {
        group.bench_function(*name, |b| b.iter(|| kernel.full_step(UPDATE)));
    }
    group.finish();
}

fn steps(criterion: &mut Criterion) {
    let (model, data, initial) = relu();
    bench(
        criterion,
        "relu",
        "n=300,m=100,d=100",
        vec![
            ("fused", Box::new(ReluKernel::new(model, &data, &initial))),
            ("plain", Box::new(PlainKernel::new(model, &data, &initial))),
        ],
    );
    let (model, data, initial) = diagonal();
    bench(
        criterion,
        "diagonal",
        "n=300,d=1000",
        vec![
            ("fused", Box::new(DiagonalKernel::new(model, &data, &initial))),
            ("plain", Box::new(PlainKernel::new(model, &data, &initial))),
        ],
    );
    for (widths, activation, size) in [
        (&[64, 64, 64, 1][..], Activation::Tanh, "n=300,64-64-64-1,tanh"),
        (&[64, 64, 64, 1], Activation::Relu, "n=300,64-64-64-1,relu"),
        (&[64, 128, 128, 10], Activation::Tanh, "n=300,64-128-128-10,tanh"),
        (&[64, 128, 128, 10], Activation::Relu, "n=300,64-128-128-10,relu"),
    ] {
        let (model, data, initial) = mlp(widths, activation);
        bench(
            criterion,
            "mlp",
            size,
            vec![
                ("fused", Box::new(MlpKernel::new(&model, &data, &initial))),
                ("plain", Box::new(PlainKernel::new(model.clone(), &data, &initial))),
            ],
        );
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);

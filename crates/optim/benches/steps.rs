//! Time per optimizer step at the sizes of the paper, of the fused kernels and of the plain
//! definition.
//!
//! One benchmark iteration is an epoch of 300 steps for SGD with batch size 1 (its id begins with
//! `sgd_epoch`), and a single step for larger batches and for gradient descent.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flatmin_models::Activation;
use flatmin_optim::{DiagonalKernel, Kernel, MlpKernel, PlainKernel, ReluKernel, Update};
use flatmin_workloads::{CLIP_NORM, LEARNING_RATE, Steps, diagonal, mlp, relu};

const UPDATE: Update = Update { learning_rate: LEARNING_RATE, clip_norm: CLIP_NORM };

fn bench(
    criterion: &mut Criterion,
    id: &str,
    size: &str,
    order: &[u32],
    mut kernels: Vec<(&str, Box<dyn Kernel + '_>)>,
) {
    let rates = vec![UPDATE.learning_rate; order.len()];
    let mut group = criterion.benchmark_group(format!("sgd_epoch_{id}/{size}"));
    group.throughput(Throughput::Elements(order.len() as u64));
    for (name, kernel) in &mut kernels {
        group.bench_function(*name, |b| {
            b.iter(|| kernel.single_steps(order, &rates, UPDATE.clip_norm));
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
    let Steps { model, data, initial, order } = relu();
    bench(
        criterion,
        "relu",
        "n=300,m=100,d=100",
        &order,
        vec![
            ("fused", Box::new(ReluKernel::<f64>::new(model, &data, &initial))),
            ("float32", Box::new(ReluKernel::<f32>::new(model, &data, &initial))),
            ("plain", Box::new(PlainKernel::new(&model, &data, &initial))),
        ],
    );
    let Steps { model, data, initial, order } = diagonal();
    bench(
        criterion,
        "diagonal",
        "n=300,d=1000",
        &order,
        vec![
            ("fused", Box::new(DiagonalKernel::<f64>::new(model, &data, &initial))),
            ("float32", Box::new(DiagonalKernel::<f32>::new(model, &data, &initial))),
            ("plain", Box::new(PlainKernel::new(&model, &data, &initial))),
        ],
    );
    for (widths, activation, size) in [
        (&[64, 64, 64, 1][..], Activation::Tanh, "n=300,64-64-64-1,tanh"),
        (&[64, 64, 64, 1], Activation::Relu, "n=300,64-64-64-1,relu"),
        (&[64, 128, 128, 10], Activation::Tanh, "n=300,64-128-128-10,tanh"),
        (&[64, 128, 128, 10], Activation::Relu, "n=300,64-128-128-10,relu"),
    ] {
        let Steps { model, data, initial, order } = mlp(widths, activation);
        bench(
            criterion,
            "mlp",
            size,
            &order,
            vec![
                ("fused", Box::new(MlpKernel::new(&model, &data, &initial))),
                ("plain", Box::new(PlainKernel::new(&model, &data, &initial))),
            ],
        );
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);

//! The time of the exact trace, Frobenius norm and largest eigenvalue of the Gauss–Newton matrix.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use flatmin_curvature::gauss_newton_sharpness;
use flatmin_linalg::stream;
use flatmin_models::{DiagonalLinear, TwoLayerRelu, data};

fn metrics(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("metrics");
    let mut rng = stream(0, "bench metrics", 0);
    let model = TwoLayerRelu::new(100, 100).expect("positive sizes");
    let parameters = model.initial_parameters(&mut rng);
    for n in [300, 1000, 2000] {
        let inputs = data::sphere_inputs(n, 100, &mut rng);
        group.bench_function(BenchmarkId::new("relu,m=100,d=100", format!("n={n}")), |b| {
            b.iter(|| gauss_newton_sharpness(&model, &parameters, &inputs));
        });
    }
    let model = DiagonalLinear::new(1000).expect("positive size");
    let parameters = model.initial_parameters(&mut rng);
    let inputs = data::cube_inputs(300, 1000, &mut rng);
    group.bench_function(BenchmarkId::new("diagonal,d=1000", "n=300"), |b| {
        b.iter(|| gauss_newton_sharpness(&model, &parameters, &inputs));
    });
    let model = TwoLayerRelu::new(100, 100).expect("positive sizes");
    let parameters = model.initial_parameters(&mut rng);
    group.bench_function("population,relu,m=100,d=100", |b| {
        b.iter(|| model.population(&parameters).sharpness(&mut stream(0, "bench start", 0)));
    });
    group.finish();
}

criterion_group!(benches, metrics);
criterion_main!(benches);

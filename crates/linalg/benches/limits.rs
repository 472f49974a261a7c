//! Limits of the processor, with which `cargo xtask bench` compares the fused steps.
//!
//! `relu_step` and `diagonal_step` touch memory as a step of SGD does (of `flatmin-optim`, m = d =
//! 100 and d = 1000) with no more arithmetic than that takes; nothing waits for a residual.
//! `fma` and `product` count floating-point operations.

#![expect(clippy::inline_always, reason = "a kernel that is not inlined loses its instruction set")]
#![expect(clippy::disallowed_methods, reason = "the faster of the two products is the limit")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use faer::{Accum, Mat, Par};
use flatmin_linalg::simd::{self, AlignedVec, Groups, GroupsMut, Lanes, padded};
use flatmin_linalg::{matmul, stream};
use pulp::{Simd, WithSimd};
use rand::RngExt as _;
use rand::seq::SliceRandom as _;

/// The number of neurons, and the length of their padded rows.
const WIDTH: usize = 100;
const ROW: usize = padded(100);

/// The number of idle rows that are read together. Independent sums hide the latency of an
/// addition.
const ROWS: usize = 5;

/// The number of samples of the diagonal network, and the dimension of its inputs.
const SAMPLES: usize = 300;
const INPUT_DIM: usize = padded(1000);

/// A step that reads all rows and writes the active half of them back.
struct ReluStep<'a> {
    hidden: &'a mut [f64],
    active: &'a [usize],
    idle: &'a [usize],
}

impl WithSimd for ReluStep<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let registers = ROW / S::F64_LANES;
        let hidden = S::as_mut_simd_f64s(self.hidden).0;
        // w ← 1 − w, which stays of normal size however often it is done.
        let (one, minus_one) = (simd.splat_f64s(1.0), simd.splat_f64s(-1.0));
        for &j in self.active {
            for w in &mut hidden[j * registers..][..registers] {
                *w = simd.mul_add_f64s(*w, minus_one, one);
            }
        }
        let mut sums = [simd.splat_f64s(0.0); ROWS];
        for block in self.idle.chunks_exact(ROWS) {
            let mut rows = [&hidden[..0]; ROWS];
            for r in 0..ROWS {
                rows[r] = &hidden[block[r] * registers..][..registers];
            }
            let mut k = 0;
            while k < registers {
                for r in 0..ROWS {
                    sums[r] = simd.mul_add_f64s(rows[r][k], rows[r][k], sums[r]);
                }
                k += 1;
            }
        }
        let mut total = 0.0;
        for sum in sums {
            total += simd.reduce_sum_f64s(sum);
        }
        total
    }
}

/// A step that moves both layers along one input and computes output and gradient norm at the next.
struct DiagonalStep<'a> {
    a: &'a mut [f64],
    b: &'a mut [f64],
    input: &'a [f64],
    next: &'a [f64],
    multiple: f64,
}

impl WithSimd for DiagonalStep<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let (mut a, mut b) = (GroupsMut::<S>::new(self.a), GroupsMut::<S>::new(self.b));
        let (input, next) = (Groups::<S>::new(self.input), Groups::<S>::new(self.next));
        let multiple = Lanes::splat(simd, self.multiple);
        let zero = Lanes::splat(simd, 0.0);
        let (mut out, mut squares) = (zero, zero);
        for k in 0..input.len() {
            let (old_a, old_b) = (a.get(simd, k), b.get(simd, k));
            let step = input.get(simd, k).mul(simd, multiple);
            let new_a = old_b.mul_add(simd, step, old_a);
            let new_b = old_a.mul_add(simd, step, old_b);
            a.set(k, new_a);
            b.set(k, new_b);
            let x = next.get(simd, k);
            out = new_a.mul(simd, new_b).mul_add(simd, x, out);
            let eigenvalue = new_a.mul_add(simd, new_a, new_b.mul(simd, new_b));
            squares = eigenvalue.mul_add(simd, x.mul(simd, x), squares);
        }
        out.sum(simd) + squares.sum(simd)
    }
}

/// Independent chains of fused multiply-adds in registers.
struct FusedMultiplyAdd {
    factor: f64,
}

/// The number of chains: more than latency times units, fewer than registers.
const CHAINS: usize = 12;
const FUSED: usize = 8000 * CHAINS;

impl WithSimd for FusedMultiplyAdd {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let factor = simd.splat_f64s(self.factor);
        let mut chains = [simd.splat_f64s(1.0); CHAINS];
        for _ in 0..FUSED / (CHAINS * S::F64_LANES) {
            for chain in &mut chains {
                *chain = simd.mul_add_f64s(*chain, factor, factor);
            }
        }
        let mut total = 0.0;
        for chain in chains {
            total += simd.reduce_sum_f64s(chain);
        }
        total
    }
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("limit");
    let mut rng = stream(0, "bench limits", 0);
    let mut numbers = |len: usize| {
        let mut numbers = AlignedVec::zeros(len);
        numbers.fill_with(|| rng.random_range(-1.0..1.0));
        numbers
    };
    let arch = simd::arch();

    let mut hidden = numbers(WIDTH * ROW);
    let mut active: Vec<usize> = (0..WIDTH).collect();
    active.shuffle(&mut stream(0, "bench limits", 1));
    let mut idle = active.split_off(WIDTH / 2);
    active.sort_unstable();
    idle.sort_unstable();
    group.bench_function("relu_step", |b| {
        b.iter(|| {
            let hidden = &mut hidden;
            arch.dispatch(ReluStep { hidden, active: black_box(&active), idle: black_box(&idle) })
        });
    });

    let (mut a, mut b) = (numbers(INPUT_DIM), numbers(INPUT_DIM));
    let inputs = numbers(SAMPLES * INPUT_DIM);
    let mut rng = stream(0, "bench limits", 2);
    let order: Vec<usize> = (0..=SAMPLES).map(|_| rng.random_range(0..SAMPLES)).collect();
    let input = |sample: usize| &inputs[sample * INPUT_DIM..][..INPUT_DIM];
    group.throughput(Throughput::Elements(SAMPLES as u64));
    group.bench_function("diagonal_step", |bench| {
        bench.iter(|| {
            let mut total = 0.0;
            // Every second step goes back, so that the layers stay of normal size.
            let multiples = [1e-6, -1e-6].into_iter().cycle();
            for (pair, multiple) in black_box(&order).windows(2).zip(multiples) {
                let (input, next) = (input(pair[0]), input(pair[1]));
                let (a, b) = (&mut *a, &mut *b);
                total += arch.dispatch(DiagonalStep { a, b, input, next, multiple });
            }
            total
        });
    });

    group.throughput(Throughput::Elements(2 * FUSED as u64));
    group.bench_function("fma", |b| {
        b.iter(|| arch.dispatch(FusedMultiplyAdd { factor: black_box(0.5) }));
    });
    group.finish();
}

/// The sizes (m, n, k) of products of an m × k and a k × n matrix, stored by columns.
const SHAPES: [(usize, usize, usize); 8] = [
    // The gradient of the ReLU network on 300 samples, m = d = 100, padded as its step does.
    (304, 100, 100),
    (104, 100, 300),
    // The Hessian of a perceptron 784-256-256-10 on 1000 samples.
    (1000, 256, 784),
    (784, 256, 1000),
    (1000, 256, 256),
    (256, 256, 1000),
    // Thresholds.
    (300, 300, 300),
    (1000, 1000, 1000),
];

fn products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("limit");
    let value = |i: usize, j: usize| ((i * 7919 + j * 104_729) % 1009) as f64 / 504.5 - 1.0;
    for (m, n, k) in SHAPES {
        let (a, b, mut c) =
            (Mat::from_fn(m, k, value), Mat::from_fn(k, n, value), Mat::zeros(m, n));
        group.throughput(Throughput::Elements(2 * (m * n * k) as u64));
        group.bench_function(format!("product,m={m},n={n},k={k}/own"), |bench| {
            bench.iter(|| {
                matmul(c.as_mut(), Accum::Replace, black_box(a.as_ref()), b.as_ref(), 1.0);
            });
        });
        group.bench_function(format!("product,m={m},n={n},k={k}/faer"), |bench| {
            bench.iter(|| {
                let (c, a, b) = (c.as_mut(), black_box(a.as_ref()), b.as_ref());
                faer::linalg::matmul::matmul(c, Accum::Replace, a, b, 1.0, Par::Seq);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, steps, products);
criterion_main!(benches);

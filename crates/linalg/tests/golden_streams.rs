//! The first values of the random streams. Every published number depends on them: a change needs
//! an entry in the changelog.

use flatmin_linalg::stream;
use rand::{Rng as _, RngExt as _};
use rand_distr::{Distribution as _, StandardNormal};

#[test]
fn the_generator_is_unchanged() {
    let first = |seed, purpose, index| {
        let mut rng = stream(seed, purpose, index);
        [rng.next_u64(), rng.next_u64()]
    };
    let values = [
        first(0, "golden", 0),
        first(0, "golden", 1),
        first(1, "golden", 0),
        first(0, "initial parameters", 0),
    ];
    let expected = [
        [0x5c1e_0b3b_a704_478e, 0xb524_94a4_c7ad_98df],
        [0x56d7_3ea0_0225_8555, 0xa847_7c73_b6cc_6ae4],
        [0xc53f_a33c_b62d_591d, 0x610a_395a_ab22_339a],
        [0x712d_842c_d091_9072, 0x6c15_f721_bc0f_397b],
    ];
    assert_eq!(values, expected);
}

#[test]
fn normal_variables_are_unchanged() {
    let mut rng = stream(0, "golden", 0);
    let values: [f64; 3] = std::array::from_fn(|_| StandardNormal.sample(&mut rng));
    let expected =
        [-0.404_016_175_141_815_1, 0.346_489_734_270_336_3, -0.057_090_790_204_556_65_f64];
    assert_eq!(values.map(f64::to_bits), expected.map(f64::to_bits), "{values:?}");
}

#[test]
fn uniform_variables_are_unchanged() {
    let mut rng = stream(0, "golden", 0);
    let values: [f64; 3] = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
    let expected =
        [-0.280_333_133_576_247_56, 0.415_178_852_519_016_76, -0.048_547_101_705_352_7_f64];
    assert_eq!(values.map(f64::to_bits), expected.map(f64::to_bits), "{values:?}");
}

#[test]
fn indices_are_unchanged() {
    let mut rng = stream(0, "golden", 0);
    let indices: [u32; 8] = std::array::from_fn(|_| rng.random_range(0..300));
    assert_eq!(indices, [195, 107, 233, 212, 278, 142, 160, 66]);
}

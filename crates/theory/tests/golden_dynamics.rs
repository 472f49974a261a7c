//! The bits of the dynamics of SGD and of the heavy ball with batches of a fixed size.
//!
//! Every number below comes from loops with a fixed order of sums, so that the digests are the same
//! on every processor. A change of a digest is a change of published numbers.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_linalg::RowMatrix;
use flatmin_theory::{
    Batch, EdgeOptions, LinearisedSgd, LyapunovExponent, LyapunovOptions, Minimum, Optimizer,
    Sampling, SecondMoments, SimulationOptions, Start, almost_sure_edge, lyapunov_exponent,
    simulate, simulate_at,
};

const RANK: usize = 11;

/// FNV-1a over the bits of numbers.
struct Digest(u64);

impl Digest {
    fn add(&mut self, value: f64) {
        for byte in value.to_bits().to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn add_exponent(&mut self, exponent: LyapunovExponent) {
        self.add(exponent.value);
        self.add(exponent.standard_error);
        self.add(exponent.drift.value);
    }
}

fn minimum() -> Minimum {
    let jacobian = RowMatrix::from_fn(19, RANK, |i, k| {
        ((i * 37 + k * k * 11 + i * i * k) % 103) as f64 / 50.0 - 1.0
    });
    Minimum::new(&jacobian).unwrap()
}

fn digest(size: usize, sampling: Sampling, momentum: f64) -> u64 {
    let minimum = minimum();
    let form = RowMatrix::from_fn(RANK, RANK, |i, k| if i == k { 2.0 + i as f64 } else { 0.3 });
    let batch = Batch::new(size, sampling).unwrap();
    let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
    let sgd = LinearisedSgd::new(&minimum, &optimizer, &batch, 0.02).unwrap();
    let mut digest = Digest(0xcbf2_9ce4_8422_2325);
    for start in [Start::Signs, Start::Gaussian] {
        let options = SimulationOptions { replicas: 21, steps: &[3, 70], start, seed: 2 };
        let rates = [0.01, 0.02, 0.03, 0.04, 0.05];
        let mut all = simulate_at(&sgd, &rates, &form, options).unwrap();
        all.push(simulate(&sgd, &form, options).unwrap());
        for snapshot in all.as_slice().concat() {
            let means = [snapshot.form, snapshot.form_change, snapshot.norm_squared];
            for mean in means {
                digest.add(mean.value);
            }
            digest.add(snapshot.norm_squared_change.standard_error);
        }
    }
    let options = LyapunovOptions { replicas: 7, burn_in: 13, steps: 101, seed: 4 };
    digest.add_exponent(lyapunov_exponent(&sgd, options).unwrap());
    let options =
        EdgeOptions { steps: 300, evaluations: 8, replicas: 6, ..EdgeOptions::with_seed(1) };
    let edge = almost_sure_edge(&minimum, &optimizer, &batch, options).unwrap();
    for point in [edge.lower, edge.upper] {
        digest.add(point.learning_rate);
        digest.add_exponent(point.exponent);
    }
    let mut moments = SecondMoments::new(&sgd).unwrap();
    for _ in 0..20 {
        moments.step();
        digest.add(moments.norm_squared());
        digest.add(moments.quadratic_form(&form).unwrap());
    }
    digest.0
}

#[test]
fn sgd_and_the_heavy_ball_keep_their_bits() {
    use Sampling::{WithReplacement, WithoutReplacement};
    let cases = [
        (1, WithReplacement, 0.0, 0x09fe_8127_ec07_3bd7),
        (1, WithReplacement, 0.9, 0x51cc_9b63_ab9c_9997),
        (1, WithoutReplacement, 0.5, 0x3fdf_ebcc_5402_b7eb),
        (4, WithReplacement, 0.0, 0xab79_a0da_10b1_e05f),
        (4, WithoutReplacement, 0.9, 0x51c3_5601_6e74_3331),
        (19, WithoutReplacement, 0.5, 0x013b_9381_d661_d743),
    ];
    let got = cases.map(|(size, sampling, momentum, _)| digest(size, sampling, momentum));
    assert_eq!(got, cases.map(|(_, _, _, expected)| expected), "{got:#x?}");
}

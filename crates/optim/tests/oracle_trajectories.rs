//! Kernels and metrics compared with trajectories that another program computed by automatic
//! differentiation.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "helpers of tests on small files"
)]

mod npz;

use flatmin_curvature::gauss_newton_sharpness;
use flatmin_models::{
    Activation, Dataset, DiagonalLinear, MatrixSensing, Mlp, Model, TwoLayerRelu, UnivariateRelu,
};
use flatmin_optim::{
    DiagonalKernel, Kernel, MatrixSensingKernel, MlpKernel, PlainKernel, ReluKernel,
    UnivariateKernel, Update,
};

use self::npz::{Arrays, matrix, read_npz};

/// Arrays of parameters, joined in the model's order.
fn parameters(arrays: &Arrays, names: &[&str], name: impl Fn(&str) -> String) -> Vec<f64> {
    names.iter().flat_map(|n| arrays[&name(n)].1.clone()).collect()
}

/// Asserts agreement to 1e-10 times the larger of 1 and the reference. The second implementation
/// behind the files agrees to 1e-15, and perturbations grow by at most 4 over the 1000 steps.
fn assert_close(actual: &[f64], expected: &[f64], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (k, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= 1e-10 * e.abs().max(1.0), "{what}[{k}]: {a} against {e}");
    }
}

struct Case<M> {
    file: &'static str,
    names: &'static [&'static str],
    model: fn(&Arrays) -> M,
}

fn check<M: Model>(
    case: &Case<M>,
    kernel: for<'a> fn(&'a M, &'a Dataset, &[f64]) -> Box<dyn Kernel + 'a>,
) {
    let arrays = read_npz(case.file);
    let model = (case.model)(&arrays);
    let data = Dataset::new(matrix(&arrays, "x"), arrays["y"].1.clone()).unwrap();
    let initial = parameters(&arrays, case.names, |n| format!("initial_{n}"));
    let order = matrix(&arrays, "order");
    let update =
        Update { learning_rate: arrays["learning_rate"].1[0], clip_norm: arrays["clip_norm"].1[0] };
    let full_batch = case.file.contains("_gd_");
    let mut kernel = kernel(&model, &data, &initial);
    let losses = &arrays["loss"].1;
    assert_close(&[data.loss(&model, &initial)], &losses[..1], "initial loss");
    for t in 0..order.rows() {
        let batch: Vec<u32> = order.row(t).iter().map(|i| *i as u32).collect();
        let step = if full_batch {
            kernel.full_step(update)
        } else if batch.len() == 1 {
            let segment = kernel.single_steps(&batch, &[update.learning_rate], update.clip_norm);
            flatmin_optim::Step {
                loss: segment.loss_sum,
                gradient_norm: segment.max_gradient_norm,
                clipped: segment.clipped_steps == 1,
            }
        } else {
            kernel.batch_step(&batch, update)
        };
        assert_close(
            &[step.gradient_norm, f64::from(u8::from(step.clipped))],
            &[arrays["gradient_norms"].1[t], arrays["clipped"].1[t]],
            &format!("{} gradient norm and clip at step {t}", case.file),
        );
        if let Some(k) = [10, 100, 1000].iter().position(|s| *s == t + 1) {
            let expected = parameters(&arrays, case.names, |n| format!("{n}_{}", t + 1));
            let what = format!("{} after {} steps", case.file, t + 1);
            assert_close(&kernel.parameters(), &expected, &what);
            assert_close(&[data.loss(&model, &kernel.parameters())], &losses[k + 1..=k + 1], &what);
        }
    }
}

/// Metrics at the reference's final parameters, to 1e-10 relative.
fn check_metrics<M: Model, const N: usize>(
    case: &Case<M>,
    norms: impl Fn(&M, &[f64]) -> [(&'static str, f64); N],
) {
    let arrays = read_npz(case.file);
    let model = (case.model)(&arrays);
    let inputs = matrix(&arrays, "x");
    let last = parameters(&arrays, case.names, |n| format!("{n}_1000"));
    assert_close(&model.outputs(&last, &inputs), &arrays["outputs"].1, "outputs");
    assert_close(model.jacobian(&last, &inputs).values(), &arrays["jacobian"].1, "Jacobian");
    let sharpness = gauss_newton_sharpness(&model, &last, &inputs).unwrap();
    let measured = [
        ("gauss_newton_trace", sharpness.trace),
        ("gauss_newton_frobenius_norm", sharpness.frobenius_norm),
        ("gauss_newton_lambda_max", sharpness.lambda_max),
    ];
    for (name, value) in measured.into_iter().chain(norms(&model, &last)) {
        let expected = arrays[name].1[0];
        assert!((value / expected - 1.0).abs() <= 1e-10, "{name}: {value} against {expected}");
    }
}

fn relu(file: &'static str) -> Case<TwoLayerRelu> {
    let model = |arrays: &Arrays| {
        let shape = &arrays["initial_w"].0;
        TwoLayerRelu::new(shape[0] as usize, shape[1] as usize).unwrap()
    };
    Case { file, names: &["w", "a"], model }
}

fn diagonal(file: &'static str) -> Case<DiagonalLinear> {
    let model = |arrays: &Arrays| DiagonalLinear::new(arrays["initial_a"].1.len()).unwrap();
    Case { file, names: &["a", "b"], model }
}

fn sensing(file: &'static str) -> Case<MatrixSensing> {
    let model = |arrays: &Arrays| {
        let [u, v] = ["initial_u", "initial_v"].map(|name| &arrays[name].0);
        MatrixSensing::new(u[0] as usize, v[0] as usize, u[1] as usize).unwrap()
    };
    Case { file, names: &["u", "v"], model }
}

fn univariate(file: &'static str) -> Case<UnivariateRelu> {
    let model = |arrays: &Arrays| UnivariateRelu::new(arrays["initial_w"].1.len()).unwrap();
    Case { file, names: &["w", "b", "a", "c"], model }
}

fn mlp(file: &'static str) -> Case<Mlp> {
    let model = |_: &Arrays| Mlp::new(&[10, 8, 8, 1], Activation::Tanh, true).unwrap();
    Case { file, names: &["w1", "b1", "w2", "b2", "w3", "b3"], model }
}

const RELU: [&str; 4] =
    ["relu_sgd_b1_s0.npz", "relu_sgd_b1_noclip_s0.npz", "relu_sgd_b4_s0.npz", "relu_gd_s0.npz"];
const DIAGONAL: [&str; 3] =
    ["diagonal_sgd_b1_s0.npz", "diagonal_sgd_b3_s0.npz", "diagonal_gd_s0.npz"];
const SENSING: [&str; 3] = ["sensing_sgd_b1_s0.npz", "sensing_sgd_b3_s0.npz", "sensing_gd_s0.npz"];
const UNIVARIATE: [&str; 3] =
    ["univariate_sgd_b1_s0.npz", "univariate_sgd_b4_s0.npz", "univariate_gd_s0.npz"];
const MLP: [&str; 2] = ["mlp_sgd_b4_s0.npz", "mlp_gd_s0.npz"];

#[test]
fn the_plain_kernel_follows_the_reference() {
    for file in RELU {
        check(&relu(file), |m, d, p| Box::new(PlainKernel::new(m, d, p)));
    }
    for file in DIAGONAL {
        check(&diagonal(file), |m, d, p| Box::new(PlainKernel::new(m, d, p)));
    }
    for file in SENSING {
        check(&sensing(file), |m, d, p| Box::new(PlainKernel::new(m, d, p)));
    }
    for file in UNIVARIATE {
        check(&univariate(file), |m, d, p| Box::new(PlainKernel::new(m, d, p)));
    }
    for file in MLP {
        check(&mlp(file), |m, d, p| Box::new(PlainKernel::new(m, d, p)));
    }
}

#[test]
fn the_fused_kernels_follow_the_reference() {
    for file in RELU {
        check(&relu(file), |m, d, p| Box::new(ReluKernel::<f64>::new(*m, d, p)));
    }
    for file in DIAGONAL {
        check(&diagonal(file), |m, d, p| Box::new(DiagonalKernel::<f64>::new(*m, d, p)));
    }
    for file in SENSING {
        check(&sensing(file), |m, d, p| Box::new(MatrixSensingKernel::<f64>::new(*m, d, p)));
    }
    for file in UNIVARIATE {
        check(&univariate(file), |m, d, p| Box::new(UnivariateKernel::<f64>::new(*m, d, p)));
    }
    for file in MLP {
        check(&mlp(file), |m, d, p| Box::new(MlpKernel::new(m, d, p)));
    }
}

#[test]
fn metrics_at_the_end_agree() {
    for file in RELU {
        check_metrics(&relu(file), |m, p| [("path_norm", m.path_norm(p))]);
    }
    for file in DIAGONAL {
        check_metrics(&diagonal(file), |m, p| [("balance_ratio", m.balance_ratio(p))]);
    }
    for file in SENSING {
        check_metrics(&sensing(file), |_, _| []);
    }
    for file in UNIVARIATE {
        check_metrics(&univariate(file), |_, _| []);
    }
    for file in MLP {
        check_metrics(&mlp(file), |_, _| []);
    }
}

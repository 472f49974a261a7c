//! Cross-entropy compared with PyTorch: steps, losses, gradients and curvature; and runs with it.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "helpers of tests on small files"
)]

mod npz;

use faer::Mat;
use flatmin_curvature::{gauss_newton, hessian, training_curvature};
use flatmin_linalg::{Operator, stream, symmetric_eigenvalues};
use flatmin_models::{Activation, Dataset, Loss, Mlp};
use flatmin_optim::{
    BatchOrder, Kernel, Method, MlpKernel, Optimizer, OptimizerState, Outcome, PlainKernel,
    Precision, Samples, Sampling, Schedule, Segment, StoppingRule, TrainOptions, Trainer, Update,
};

use self::npz::{Arrays, matrix, read_npz};

const LABELS: [&str; 3] = ["classes", "smoothed", "soft"];

fn model() -> Mlp {
    Mlp::new(&[4, 5, 4, 3], Activation::Tanh, true).unwrap()
}

fn dataset(arrays: &Arrays, labels: &str) -> Dataset {
    let inputs = matrix(arrays, "x");
    let data = if labels == "soft" {
        Dataset::with_outputs(inputs, &matrix(arrays, "soft"))
    } else {
        let classes: Vec<usize> = arrays["classes"].1.iter().map(|c| *c as usize).collect();
        Dataset::with_classes(inputs, &classes, 3)
    };
    let loss = Loss::cross_entropy(arrays[&format!("{labels}_smoothing")].1[0]).unwrap();
    data.unwrap().with_loss(loss).unwrap()
}

#[track_caller]
fn assert_close(actual: &[f64], expected: &[f64], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (k, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= 1e-10 * e.abs().max(1.0), "{what}[{k}]: {a} against {e}");
    }
}

/// The samples of every step of a run; `None` for all of them.
fn batches(arrays: &Arrays, run: &str) -> Option<Vec<Vec<u32>>> {
    let order = (run != "gd").then(|| matrix(arrays, &format!("{run}_order")))?;
    let row = |t| order.row(t).iter().map(|index| *index as u32).collect();
    Some((0..order.rows()).map(row).collect())
}

/// Replays a recorded run, step by step.
fn check_steps(arrays: &Arrays, name: [&str; 3], mut kernel: Box<dyn Kernel + '_>) {
    let [labels, run, optimizer] = name;
    let (model, data, what) = (model(), dataset(arrays, labels), name.join("_"));
    let share = if optimizer == "momentum" { 5.0 } else { 1.0 };
    let learning_rate = arrays["learning_rate"].1[0] / share;
    let update = Update { learning_rate, clip_norm: f64::INFINITY };
    let (path, norms) = (matrix(arrays, &what), &arrays[&format!("{what}_gradient_norms")].1);
    let losses = &arrays[&format!("{what}_losses")].1;
    assert_close(&[data.loss(&model, &kernel.parameters())], &losses[..1], &what);
    let batches = batches(arrays, run);
    for (t, norm) in norms.iter().enumerate() {
        let norm_here = match &batches {
            None => {
                let before = data.excess_loss(&model, &kernel.parameters());
                let step = kernel.step(Samples::All, update);
                assert_close(&[step.loss], &[before], &what);
                step.gradient_norm
            }
            Some(batches) if run == "b1" => {
                let steps = kernel.single_steps(&batches[t], &[learning_rate], f64::INFINITY);
                steps.max_gradient_norm
            }
            Some(batches) => kernel.batch_step(&batches[t], update).gradient_norm,
        };
        assert_close(&[norm_here], &[*norm], &format!("{what}: gradient norm of step {t}"));
        let steps = &arrays["steps"].1;
        if let Some(row) = steps.iter().position(|step| *step as usize == t + 1) {
            let parameters = kernel.parameters();
            assert_close(&parameters, path.row(row), &what);
            assert_close(&[data.loss(&model, &parameters)], &losses[row + 1..=row + 1], &what);
        }
    }
}

#[test]
fn steps_are_those_of_pytorch() {
    let (arrays, model) = (read_npz("cross_entropy.npz"), model());
    let initial = &arrays["initial"].1;
    let momentum = Optimizer::sgd().momentum(arrays["momentum"].1[0]).unwrap();
    for labels in LABELS {
        let data = dataset(&arrays, labels);
        for run in ["b1", "b4", "gd"] {
            let plain = |optimizer| {
                let state = OptimizerState::default();
                PlainKernel::with_optimizer(&model, &data, initial, optimizer, state)
            };
            let fused = MlpKernel::new(&model, &data, initial);
            check_steps(&arrays, [labels, run, "sgd"], Box::new(plain(Optimizer::sgd())));
            check_steps(&arrays, [labels, run, "sgd"], Box::new(fused));
            check_steps(&arrays, [labels, run, "momentum"], Box::new(plain(momentum)));
        }
    }
}

/// The columns of an operator.
fn dense(operator: &impl Operator) -> Mat<f64> {
    let p = operator.dim();
    let mut images = Mat::zeros(p, p);
    operator.apply(Mat::<f64>::identity(p, p).as_ref(), images.as_mut());
    images
}

#[test]
fn curvature_is_that_of_pytorch() {
    let (arrays, model) = (read_npz("cross_entropy.npz"), model());
    for labels in LABELS {
        let data = dataset(&arrays, labels);
        let path = matrix(&arrays, &format!("{labels}_b4_sgd"));
        let parameters = path.row(path.rows() - 1);
        let operator = hessian(&model, parameters, &data).unwrap();
        let losses = &arrays[&format!("{labels}_b4_sgd_losses")].1;
        assert_close(&[operator.loss()], &losses[3..], labels);
        assert_close(&operator.gradient(), &arrays[&format!("{labels}_gradient")].1, labels);
        let gauss_newton = gauss_newton(&model, parameters, &data).unwrap();
        for (name, found) in [("hessian", dense(&operator)), ("gauss_newton", dense(&gauss_newton))]
        {
            let expected = matrix(&arrays, &format!("{labels}_{name}"));
            for (i, column) in found.col_iter().enumerate() {
                let column: Vec<f64> = column.iter().copied().collect();
                assert_close(&column, expected.row(i), &format!("{labels} {name}, column {i}"));
            }
        }
        let expected = matrix(&arrays, &format!("{labels}_gauss_newton"));
        let eigenvalues = symmetric_eigenvalues(expected.as_mat()).unwrap();
        let measured = training_curvature(&model, parameters, &data).unwrap();
        let trace: f64 = (0..expected.rows()).map(|i| expected.row(i)[i]).sum();
        let sharpness = measured.sharpness;
        assert_close(&[sharpness.lambda_max], &eigenvalues[eigenvalues.len() - 1..], labels);
        assert_close(&[sharpness.trace, measured.loss], &[trace, losses[3]], labels);
        // The batch sharpness by its definition, `Σ g_iᵀH_ig_i / Σ ‖g_i‖²` of single samples.
        let (mut along, mut squares) = (0.0, 0.0);
        for i in 0..data.sample_count() {
            let one = Dataset::with_outputs(
                data.inputs_of(i..i + 1),
                &flatmin_linalg::RowMatrix::new(1, 3, data.targets_of(i..i + 1).to_vec()).unwrap(),
            );
            let one = one.unwrap().with_loss(data.loss_function()).unwrap();
            let operator = flatmin_curvature::gauss_newton(&model, parameters, &one).unwrap();
            let gradient = operator.gradient();
            let column = Mat::from_fn(gradient.len(), 1, |j, _| gradient[j]);
            let mut image = Mat::zeros(gradient.len(), 1);
            operator.apply(column.as_ref(), image.as_mut());
            along += gradient.iter().zip(image.col(0).iter()).map(|(a, b)| a * b).sum::<f64>();
            squares += gradient.iter().map(|g| g * g).sum::<f64>();
        }
        assert_close(&[measured.batch_sharpness.unwrap()], &[along / squares], labels);
    }
}

fn options(batch_size: usize, sampling: Sampling, optimizer: Optimizer) -> TrainOptions {
    TrainOptions {
        method: Method::Sgd { batch_size, sampling },
        optimizer,
        learning_rate: 0.5,
        schedule: Schedule::Constant,
        clip_norm: f64::INFINITY,
        max_steps: 200_000,
        precision: Precision::Float64,
        stopping: StoppingRule { loss: 1e-10, screening_loss: 1e-7, checks: 5 },
        checkpoints: Vec::new(),
    }
}

/// With smoothed labels the loss above its least value goes to zero at a finite point: the run
/// ends by the stopping rule, where the gradient of every sample vanishes.
#[test]
fn a_run_on_smoothed_labels_converges() {
    let (arrays, model) =
        (read_npz("cross_entropy.npz"), Mlp::new(&[4, 30, 3], Activation::Tanh, true).unwrap());
    let data = dataset(&arrays, "smoothed");
    let initial = model.initial_parameters(&mut stream(0, "initial", 0));
    for (batch_size, sampling) in
        [(1, Sampling::WithReplacement), (3, Sampling::Poisson), (4, Sampling::Reshuffling)]
    {
        let options = options(batch_size, sampling, Optimizer::sgd());
        let start = Trainer::new(&model, &data, &initial, &options, stream(1, "batches", 0));
        let run = start.unwrap().run(|_| {});
        assert_eq!(run.outcome, Outcome::Converged, "{sampling} {:?}", run.total);
        assert!(data.excess_loss(&model, &run.parameters) <= 1e-10);
        let least = data.loss_function().least(&data.targets()[..3]);
        assert!((data.loss(&model, &run.parameters) - least).abs() < 1e-9);
        assert!(data.residuals(&model, &run.parameters).iter().all(|g| g.abs() < 1e-4));
        assert!((data.accuracy(&model, &run.parameters) - 1.0).abs() < 1e-15);
    }
}

#[test]
fn a_replayed_run_has_the_bits_of_the_steps() {
    let (arrays, model) = (read_npz("cross_entropy.npz"), model());
    let (data, initial) = (dataset(&arrays, "soft"), &arrays["initial"].1);
    let indices = batches(&arrays, "b4").unwrap().concat();
    let order = BatchOrder::new(4, indices, data.sample_count()).unwrap();
    let stopping = StoppingRule::never();
    let base = options(4, Sampling::WithoutReplacement, Optimizer::sgd());
    let options = TrainOptions { max_steps: 50, stopping, ..base };
    let run = Trainer::replay(&model, &data, initial, &options, &order).unwrap().run(|_| {});
    let (mut kernel, mut total) = (MlpKernel::new(&model, &data, initial), Segment::default());
    for batch in order.indices().chunks(4) {
        total
            .add(kernel.batch_step(batch, Update { learning_rate: 0.5, clip_norm: f64::INFINITY }));
    }
    assert_eq!(run.parameters, kernel.parameters());
    assert_eq!(run.total.steps, total.steps);
}

#[test]
fn labels_that_are_no_probabilities_are_refused() {
    let arrays = read_npz("cross_entropy.npz");
    let loss = Loss::cross_entropy(0.0).unwrap();
    let refused = |targets: &[f64], k: usize| {
        let targets = flatmin_linalg::RowMatrix::new(9, k, targets.to_vec()).unwrap();
        let data = Dataset::with_outputs(matrix(&arrays, "x"), &targets).unwrap();
        data.with_loss(loss).unwrap_err().to_string()
    };
    let expected = "cross-entropy needs a target for each of at least two classes, got 1";
    assert_eq!(refused(&[1.0; 9], 1), expected);
    let mut targets = [0.5; 18];
    (targets[6], targets[7]) = (1.25, -0.25);
    let expected = "the targets of sample 3 have the least entry -0.25 and the sum 1, expected \
                    probabilities of the classes, from 0 and with the sum 1";
    assert_eq!(refused(&targets, 2), expected);
    assert!(refused(&[0.4; 18], 2).contains("sample 0 have the least entry 0.4 and the sum 0.8"));
    let error = Dataset::with_classes(matrix(&arrays, "x"), &[3; 9], 3).unwrap_err().to_string();
    assert_eq!(error, "sample 0 has class 3, expected one of 3 classes, from 0");
}

//! Momentum and weight decay in the configuration: replayed from PyTorch, resumed, and checked.

mod support;

use std::fs;
use std::path::Path;

use support::{
    Numbers, Runs, SMALL_RUN, array, assert_close, results, small_data, trajectory, write_npz,
};

/// The optimizers of the recorded runs.
const OPTIMIZERS: [&str; 9] = [
    "sgd",
    "momentum",
    "dampening",
    "nesterov",
    "weight_decay",
    "decoupled_weight_decay",
    "dampening_weight_decay",
    "nesterov_weight_decay",
    "momentum_decoupled_weight_decay",
];

/// The keys of a recorded optimizer that are not at their defaults.
fn keys(source: &Path, optimizer: &str) -> String {
    let (_, settings) = array(source, optimizer);
    let names = ["momentum", "dampening", "nesterov", "weight_decay", "decoupled_weight_decay"];
    let given = names.iter().zip(&settings).filter(|(_, value)| **value > 0.0);
    let key = |(name, value): (&&str, &f64)| match *name {
        "nesterov" => "nesterov = true\n".to_owned(),
        name => format!("{name} = {value:?}\n"),
    };
    given.map(key).collect()
}

/// Replays the runs of an archive on a model whose parameter arrays have these names and shapes.
fn check(file: &str, model: &str, arrays: &[(&str, &[usize])]) {
    let source = trajectory(file);
    let (_, initial) = array(&source, "initial");
    let number = |name: &str| array(&source, name).1[0];
    for (run, schedule) in [("b1", "constant"), ("b3", "cosine")] {
        let runs = Runs::new();
        let mut rest = initial.as_slice();
        let start: Vec<(&str, Numbers)> = arrays
            .iter()
            .map(|(name, shape)| {
                let (values, others) = rest.split_at(shape.iter().product());
                rest = others;
                (*name, (shape.to_vec(), values.to_vec()))
            })
            .collect();
        let start: Vec<(&str, &Numbers)> = start.iter().map(|(n, array)| (*n, array)).collect();
        write_npz(&runs.path("initial.npz"), &start);
        let order = array(&source, &format!("{run}_order"));
        write_npz(&runs.path("order.npz"), &[("order", &order)]);
        for optimizer in OPTIMIZERS {
            let text = format!(
                "data = '{}'\ninitial = 'initial.npz'\norder = 'order.npz'\n[model]\n{model}\n\
                 [optimizer]\nlearning_rate = {:?}\nclip_norm = {:?}\nschedule = '{schedule}'\n{}",
                source.display(),
                number("learning_rate"),
                number(&format!("{run}_clip_norm")),
                keys(&source, optimizer)
            );
            let name = format!("{run}-{optimizer}");
            runs.config(&format!("{name}.toml"), &text);
            runs.train(&[&format!("{name}.toml")]).assert().success().stderr("");
            let parameters = runs.path(&name).join("parameters.npz");
            let ours: Vec<f64> = arrays
                .iter()
                .flat_map(|(array_name, _)| array(&parameters, array_name).1)
                .collect();
            let (_, recorded) = array(&source, &format!("{run}_{optimizer}"));
            let last = &recorded[recorded.len() - initial.len()..];
            assert_close(&ours, last, 1e-10, &format!("{file}, {name}"));
        }
    }
}

#[test]
fn runs_of_pytorch_with_each_optimizer_are_replayed() {
    let relu = "kind = 'two-layer-relu'\nwidth = 5";
    check("optimizers_relu.npz", relu, &[("w", &[5, 4]), ("a", &[5])]);
    let diagonal = "kind = 'diagonal-linear'";
    check("optimizers_diagonal.npz", diagonal, &[("a", &[4]), ("b", &[4])]);
    let perceptron = "kind = 'perceptron'\nwidths = [5, 3]\nactivation = 'tanh'";
    let arrays: [(&str, &[usize]); 6] = [
        ("w1", &[5, 4]),
        ("b1", &[5]),
        ("w2", &[3, 5]),
        ("b2", &[3]),
        ("w3", &[1, 3]),
        ("b3", &[1]),
    ];
    check("optimizers_mlp.npz", perceptron, &arrays);
}

/// A folder with the data of [`SMALL_RUN`].
fn runs() -> Runs {
    let runs = Runs::new();
    let [x, y] = small_data();
    write_npz(&runs.path("data.npz"), &[("x", &x), ("y", &y)]);
    runs
}

/// [`SMALL_RUN`] with these settings of the optimizer.
fn with_settings(settings: &str) -> String {
    SMALL_RUN.replace("batch_size = 2", &format!("batch_size = 2\n{settings}"))
}

#[test]
fn a_run_with_momentum_goes_on_with_the_same_bytes() {
    for settings in ["momentum = 0.9", "momentum = 0.9\nnesterov = true\nweight_decay = 0.01"] {
        let runs = runs();
        let text = with_settings(settings).replace("max_steps = 10", "max_steps = 100");
        let text = format!("stopping = 'never'\n{text}[output]\ncheckpoint_every = 30\n");
        runs.config("run.toml", &text);
        runs.train(&["run.toml"]).assert().success();
        let whole = results(&runs.path("run"));
        // Without its summary the run counts as killed after its last checkpoint.
        for name in ["run.json", "parameters.npz"] {
            fs::remove_file(runs.path("run").join(name)).expect("it was written");
        }
        let said = predicates::str::contains("going on from step ");
        runs.train(&["run.toml", "--resume"]).assert().success().stderr(said);
        assert_eq!(results(&runs.path("run")), whole);
        // Another momentum is another run.
        runs.config("run.toml", &text.replace("momentum = 0.9", "momentum = 0.8"));
        let said = predicates::str::contains("is of a run with another configuration");
        runs.train(&["run.toml", "--resume"]).assert().code(3).stderr(said);
    }
}

#[test]
fn settings_at_their_defaults_are_plain_sgd() {
    let runs = runs();
    runs.config("run.toml", SMALL_RUN);
    let defaults = "momentum = 0\ndampening = 0.0\nnesterov = false\nweight_decay = 0";
    runs.config("other.toml", &with_settings(defaults));
    for name in ["run.toml", "other.toml"] {
        runs.train(&[name]).assert().success();
    }
    // Also the digests in run.json are the same.
    assert_eq!(results(&runs.path("run")), results(&runs.path("other")));
}

#[test]
fn the_rules_of_pytorch_are_checked_with_the_line() {
    let check = |settings: &str, message: &str| {
        runs().fails(&with_settings(settings), &format!("run.toml: line {message}"));
    };
    check("momentum = 1", "9: the momentum is 1, expected a number in [0, 1)");
    check("momentum = 'x'", "9: momentum is a string, expected a number");
    check(
        "momentum = 0.9\ndampening = -0.5",
        "10: the dampening is -0.5, expected a number in [0, 1)",
    );
    check("nesterov = 1", "9: nesterov is an integer, expected true or false");
    check(
        "nesterov = true",
        "9: Nesterov's method needs a momentum above 0 and no dampening, got momentum 0 \
         and dampening 0",
    );
    check(
        "momentum = 0.9\ndampening = 0.1\nnesterov = true",
        "11: Nesterov's method needs a momentum above 0 and no dampening, got momentum \
         0.9 and dampening 0.1",
    );
    check("weight_decay = inf", "9: the weight decay is inf, expected a finite number, at least 0");
    check(
        "weight_decay = 0.1\ndecoupled_weight_decay = 0.1",
        "10: weight decay is either coupled (0.1) or decoupled (0.1), not both",
    );
    check(
        "momentom = 0.9",
        "9: unknown key \"momentom\" in [optimizer]; did you mean \"momentum\"?",
    );
    check(
        "momentum = 0.9\nprecision = 'float32'",
        "10: precision \"float32\" is for SGD without momentum and weight decay only: SGD with \
         momentum 0.9 is float64, leave it out",
    );
}

#[test]
fn thresholds_are_those_of_the_optimizer() {
    let columns = "[metrics]\ncolumns = ['threshold_lower', 'threshold_upper']\n";
    // For gradient descent it is 2(1 + β)/λ_max.
    let lower = |settings: &str| {
        let runs = runs();
        let config =
            with_settings(settings).replace("batch_size = 2", "method = 'gradient-descent'");
        runs.config("run.toml", &(config + columns));
        runs.train(&["run.toml"]).assert().success();
        support::table(&runs.path("run"))["threshold_lower"][0]
    };
    let (plain, momentum) = (lower("momentum = 0"), lower("momentum = 0.5"));
    assert_close(&[momentum], &[1.5 * plain], 1e-5, "threshold");
    // With Nesterov's momentum it is 2(1 + β)/((1 + 2β) λ_max).
    let nesterov = lower("momentum = 0.5\nnesterov = true");
    assert_close(&[nesterov], &[0.75 * plain], 1e-5, "threshold");
}

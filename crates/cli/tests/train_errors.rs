//! `flatmin train` and `flatmin metrics` on bad input: one line that says what, where, and the
//! remedy.

mod support;

use std::fs;

use support::{Numbers, Runs, SMALL_RUN, flatmin, small_data, write_npz};

/// A folder with data and parameters that fit.
fn runs() -> Runs {
    let runs = Runs::new();
    let [x, y] = small_data();
    write_npz(&runs.path("data.npz"), &[("x", &x), ("y", &y)]);
    let (w, a) = ((vec![3, 2], vec![0.5; 6]), (vec![3], vec![1.0; 3]));
    write_npz(&runs.path("initial.npz"), &[("w", &w), ("a", &a)]);
    runs
}

/// A configuration with one line replaced.
#[track_caller]
fn edited(from: &str, to: &str, message: &str) {
    assert!(SMALL_RUN.contains(from), "{from}");
    runs().fails(&SMALL_RUN.replace(from, to), &format!("run.toml: {message}"));
}

#[test]
fn a_run_writes_these_files_with_these_names_in_them() {
    let runs = runs();
    runs.config("run.toml", SMALL_RUN);
    runs.train(&["run.toml"]).assert().success().stderr("");
    let mut files: Vec<_> = fs::read_dir(runs.path("run"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["checkpoint", "metrics.csv", "parameters.npz", "run.json"]);
    let table = fs::read_to_string(runs.path("run/metrics.csv")).unwrap();
    let header = "step,train_loss,max_gradient_norm,clipped_steps,trace,frobenius_norm,lambda_max,\
                  batch_sharpness,path_norm\n0,";
    assert!(table.starts_with(header), "{table}");
    let run = fs::read_to_string(runs.path("run/run.json")).unwrap();
    let start = "{\n  \"schema\": \"flatmin.train/1\",\n  \"version\": ";
    assert!(run.starts_with(start), "{run}");
    let keys: Vec<&str> = run.lines().filter_map(|line| line.trim().split('"').nth(1)).collect();
    let expected = "schema version outcome steps clipped_steps sample_count parameter_count digests \
                    config data test_data initial order last step train_loss max_gradient_norm \
                    clipped_steps trace frobenius_norm lambda_max batch_sharpness path_norm files \
                    metrics.csv parameters.npz checksum";
    assert_eq!(keys.join(" "), expected);
    let checkpoint = fs::read_to_string(runs.path("run/checkpoint")).unwrap();
    assert!(checkpoint.starts_with("{\"schema\":\"flatmin.checkpoint/1\",\"checksum\":\""));
    // The ended run prints the same summary as JSON on standard output.
    let again = runs.train(&["run.toml", "--resume", "--format", "json"]).assert().success();
    again.stdout(run);
}

#[test]
fn unknown_keys_are_named_with_the_nearest_one() {
    edited(
        "learning_rate",
        "learning_rte",
        "line 7: unknown key \"learning_rte\" in [optimizer]; did you mean \"learning_rate\"?",
    );
    edited("width", "Width", "line 5: unknown key \"Width\" in [model]; did you mean \"width\"?");
    edited(
        "batch_size",
        "b",
        "line 8: unknown key \"b\" in [optimizer]; known here: method, learning_rate, momentum, \
         dampening, nesterov, weight_decay, decoupled_weight_decay, batch_size, sampling, clip_norm, \
         schedule, precision, max_steps",
    );
    edited("seed", "sed", "line 1: unknown key \"sed\"; did you mean \"seed\"?");
    edited(
        "[optimizer]",
        "[optimiser]",
        "line 6: unknown key \"optimiser\"; did you mean \"optimizer\"?",
    );
}

#[test]
fn wrong_values_are_named_with_what_is_expected() {
    edited(
        "learning_rate = 0.01",
        "learning_rate = '0.01'",
        "line 7: learning_rate is a string, expected a number",
    );
    edited("= 0.01", "= -0.01", "line 7: learning_rate is -0.01, expected a positive number");
    edited("= 0.01", "= nan", "line 7: learning_rate is nan, expected a number");
    edited("= 0.01", "= 1e999", "line 7: learning_rate is 1e999, out of range");
    edited(
        "width = 3",
        "width = 0",
        "line 5: width is 0, expected a whole number from 1 to 4294967295",
    );
    edited("width = 3", "width = 3.0", "line 5: width is a float, expected a whole number");
    edited(
        "'two-layer-relu'",
        "'two-layer-rellu'",
        "line 4: kind is \"two-layer-rellu\", expected one of \"two-layer-relu\", \
         \"diagonal-linear\", \"matrix-sensing\", \"perceptron\"; did you mean \"two-layer-relu\"?",
    );
    edited("seed = 0", "seed = 0\n[data", "line 2: unclosed table, expected `]`");
    edited("width = 3", "", "line 3: [model] needs width, the number of neurons");
    edited("max_steps = 10", "", "line 6: [optimizer] needs max_steps, the number of steps");
    edited(
        "seed = 0",
        "",
        "seed is missing: it fixes the initial parameters, the batches, for example seed = 0",
    );
    edited(
        "data = 'data.npz'",
        "",
        "data is missing: a file with arrays x and y, data = \"FILE.npz\", or a table [data]",
    );
    let metrics = |text: &str, message: &str| {
        let config = SMALL_RUN.to_owned() + "[metrics]\n" + text;
        runs().fails(&config, &format!("run.toml: line 11: {message}"));
    };
    metrics("columns = ['trase']", "columns holds \"trase\"; did you mean \"trace\"?");
    metrics("columns = ['trace', 'trace']", "columns holds \"trace\" twice");
    metrics(
        "columns = ['l1_norm']",
        "columns holds \"l1_norm\", which is for diagonal-linear only",
    );
    metrics(
        "columns = ['test_loss']",
        "columns holds \"test_loss\", but there is no test set: set test_data, or test_count in \
         [data]",
    );
}

#[test]
fn what_excludes_each_other_is_said_before_anything_runs() {
    let order = |text: &str, message: &str| {
        let config = "order = 'order.npz'\n".to_owned() + text;
        runs().fails(&config, &format!("run.toml: {message}"));
    };
    order(
        SMALL_RUN,
        "line 9: batch_size and order exclude each other: batches and steps are those of the order",
    );
    order(
        &SMALL_RUN.replace("batch_size = 2\n", "method = 'gradient-descent'\n"),
        "line 9: method is gradient-descent, but order says which samples each step takes: remove \
         one of them",
    );
    edited(
        "batch_size = 2",
        "method = 'gradient-descent'\nbatch_size = 2",
        "line 9: batch_size is for method = \"sgd\" only: gradient descent takes all samples",
    );
    edited(
        "batch_size = 2",
        "batch_size = 5",
        "batch_size is 5, but there are 4 samples; a larger batch needs sampling = \
         \"with-replacement\"",
    );
    edited(
        "'two-layer-relu'",
        "'diagonal-linear'",
        "line 5: width is for two-layer-relu only: leave it out",
    );
    edited(
        "max_steps = 10",
        "max_steps = 10\n[metrics]\nevery = 2\nper_decade = 3",
        "line 11: every and per_decade exclude each other: remove one of them",
    );
    edited(
        "max_steps = 10",
        "max_steps = 1_000_000_000\n[metrics]\nevery = 2",
        "every = 2 in [metrics] makes more than 10000000 rows of 1000000000 steps; raise it",
    );
    edited(
        "max_steps = 10",
        "max_steps = 10\nsampling = 'reshuffling'\n[metrics]\ncolumns = ['threshold_lower']",
        "line 12: columns holds \"threshold_lower\", but the threshold has no closed form with \
         reshuffling",
    );
    edited(
        "batch_size = 2",
        "batch_size = 4_000_000_000\nsampling = 'with-replacement'",
        "a matrix of batch_size × width = 4000000000 × 3 numbers is too large (at most 1073741824 \
         numbers)",
    );
    edited(
        "width = 3",
        "width = 4_000_000_000",
        "a matrix of width × input_dim = 4000000000 × 2 numbers is too large (at most 1073741824 \
         numbers)",
    );
    edited(
        "data = 'data.npz'",
        "test_data = 'data.npz'\ndata = { teacher = 'two-layer-relu', sample_count = 5 }",
        "line 3: synthetic data needs input_dim in [model], the dimension of the inputs",
    );
}

#[test]
fn bad_data_is_named() {
    let check = |arrays: &[(&str, &Numbers)], message: &str| {
        let runs = runs();
        write_npz(&runs.path("data.npz"), arrays);
        runs.fails(SMALL_RUN, &format!("data.npz: {message}"));
    };
    let [x, y] = small_data();
    check(
        &[("x", &x), ("y", &(vec![3], vec![0.0; 3]))],
        "array \"y\" is 3, expected 4, one target per row of x, or 4 × k for several",
    );
    check(&[("x", &y), ("y", &y)], "array \"x\" is 4, expected n × d, a row per sample");
    let mut nan = x.clone();
    nan.1[5] = f64::NAN;
    check(&[("x", &nan), ("y", &y)], "sample 2 holds NaN, expected finite numbers");
    check(
        &[("x", &(vec![0, 2], vec![])), ("y", &(vec![0], vec![]))],
        "a data set needs at least one sample",
    );

    let runs = runs();
    let config = SMALL_RUN.replace("width = 3", "width = 3\ninput_dim = 5");
    runs.fails(&config, "data.npz: x has 2 columns, but input_dim in [model] is 5");
    runs.fails(&SMALL_RUN.replace("data.npz", "none.npz"), "none.npz: no such file");
}

#[test]
fn bad_initial_parameters_are_named() {
    let check = |w: &Numbers, a: &Numbers, message: &str| {
        let runs = runs();
        write_npz(&runs.path("initial.npz"), &[("w", w), ("a", a)]);
        let config = "initial = 'initial.npz'\n".to_owned() + SMALL_RUN;
        runs.fails(&config, &format!("initial.npz: {message}"));
    };
    let (w, a) = ((vec![3, 2], vec![0.5; 6]), (vec![3], vec![1.0; 3]));
    let network = "(Two-layer ReLU network, width 3, input dimension 2)";
    let transposed = (vec![2, 3], vec![0.5; 6]);
    check(&transposed, &a, &format!("array \"w\" is 2 × 3, expected 3 × 2 {network}"));
    let short = (vec![2], vec![1.0; 2]);
    check(&w, &short, &format!("array \"a\" is 2, expected 3 {network}"));
    let mut infinite = w;
    infinite.1[3] = f64::INFINITY;
    check(&infinite, &a, "entry (1, 1) of array \"w\" is inf, expected a finite number");
}

#[test]
fn bad_orders_are_named() {
    let config = "order = 'order.npz'\n".to_owned()
        + &SMALL_RUN.replace("batch_size = 2\n", "").replace("max_steps = 10\n", "");
    let check = |order: Numbers, message: &str| {
        let runs = runs();
        write_npz(&runs.path("order.npz"), &[("order", &order)]);
        runs.fails(&config, &format!("order.npz: {message}"));
    };
    let expected = "expected the index of one of 4 samples, 0 to 3";
    check((vec![2, 2], vec![0.0, 1.0, 4.0, 9.0]), &format!("entry (1, 0) is 4, {expected}"));
    check((vec![3], vec![0.0, -1.0, 2.0]), &format!("entry 1 is -1, {expected}"));
    check((vec![2], vec![0.0, 0.5]), &format!("entry 1 is 0.5, {expected}"));
    let padding = format!("{expected}, or -1 at the end of a short batch");
    check((vec![2, 2], vec![0.0, 1.0, 2.0, -2.0]), &format!("entry (1, 1) is -2, {padding}"));
    let behind = "entry (1, 1) is 2 behind a -1, but -1 fills up the end of a row only";
    check((vec![2, 2], vec![0.0, 1.0, -1.0, 2.0]), behind);
    check((vec![2, 2], vec![0.0, 1.0, -1.0, -1.0]), "step 1 has no sample");
    check((vec![1], vec![f64::NAN]), &format!("entry 0 is NaN, {expected}"));
    check((vec![0], vec![]), "an order needs at least one step of at least one sample");
    check((vec![1, 1, 1], vec![0.0]), "the order is 1 × 1 × 1, expected T × B, a row per step");
    check((vec![1000, 0], vec![]), "an order needs at least one step of at least one sample");
    let check = |order: Numbers, sizes: Numbers, message: &str| {
        let runs = runs();
        write_npz(&runs.path("order.npz"), &[("order", &order), ("sizes", &sizes)]);
        runs.fails(&config, &format!("order.npz: {message}"));
    };
    let order = || (vec![3], vec![0.0, 1.0, 2.0]);
    let total = "the sizes of the batches add up to 4, but there are 3 indices";
    check(order(), (vec![2], vec![2.0, 2.0]), total);
    let size = "expected the number of samples of a step, 1 or more";
    let entry = format!("entry 1 of array \"sizes\" is 0, {size}");
    check(order(), (vec![2], vec![3.0, 0.0]), &entry);
    let shape = "array \"sizes\" is 1 × 2, expected T numbers";
    check(order(), (vec![1, 2], vec![2.0, 1.0]), shape);
    let list =
        "the order is 1 × 3, expected a list of all indices, as the file has the array \"sizes\"";
    check((vec![1, 3], vec![0.0, 1.0, 2.0]), (vec![1], vec![3.0]), list);
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let runs = runs();
    let train = |name: &str| runs.train(&[name]).assert().code(3).stdout("");
    train("none.toml").stderr("flatmin: none.toml: No such file or directory (os error 2)\n");
    train(".").stderr("flatmin: .: is a folder, expected a TOML file\n");
    fs::write(runs.path("binary.toml"), [0xff, 0xfe]).unwrap();
    train("binary.toml").stderr("flatmin: binary.toml: is not UTF-8 text\n");
    fs::write(runs.path("empty.toml"), "").unwrap();
    train("empty.toml").stderr(
        "flatmin: empty.toml: [model] is missing: a table with its kind, two-layer-relu, \
         diagonal-linear, matrix-sensing or perceptron\n",
    );
    flatmin(&["train"]).assert().code(2).stdout("");
}

#[test]
fn divergence_is_an_outcome_with_its_step() {
    let runs = runs();
    runs.config("run.toml", &SMALL_RUN.replace("0.01", "1e6"));
    let said = predicates::str::starts_with("diverged after 2 steps\n");
    runs.train(&["run.toml"]).assert().success().stdout(said).stderr("");
    let run = fs::read_to_string(runs.path("run/run.json")).unwrap();
    assert!(run.contains("\"outcome\": \"diverged\""), "{run}");
    let table = fs::read_to_string(runs.path("run/metrics.csv")).unwrap();
    assert!(!table.contains("NaN"), "{table}");
}

/// Neurons that see no number are off, so that gradients and curvature would come out as zero.
#[test]
fn parameters_that_are_no_numbers_are_not_measured() {
    let runs = runs();
    let config = "seed = 0\n[model]\nkind = \"two-layer-relu\"\nwidth = 20\ninput_dim = 10\n\
        [data]\nteacher = \"two-layer-relu\"\nteacher_width = 3\nsample_count = 50\n\
        [optimizer]\nlearning_rate = 3.0\nbatch_size = 1\nmax_steps = 1000\n";
    runs.config("run.toml", config);
    runs.train(&["run.toml"]).assert().success().stdout(predicates::str::starts_with("diverged"));
    let table = fs::read_to_string(runs.path("run/metrics.csv")).unwrap();
    assert_eq!(table.lines().last(), Some("50,,,0,,,,,"), "{table}");
}

#[test]
fn the_printed_configuration_runs_as_it_is() {
    let runs = Runs::new();
    let printed = runs.train(&["--print-config"]).assert().success().stderr("");
    let text = String::from_utf8(printed.get_output().stdout.clone()).unwrap();
    // A few steps of it are enough here.
    let short = text.replace("max_steps = 2_000_000", "max_steps = 2_000");
    assert_ne!(short, text);
    runs.config("run.toml", &short);
    runs.train(&["run.toml"]).assert().success().stderr("");
    // The defaults that the file names are the real ones: without these lines it is the same run.
    let defaults = [
        "method",
        "sampling",
        "schedule",
        "loss",
        "checks",
        "per_decade",
        "checkpoint_every",
        "kind = \"gaussian\"",
    ];
    let is_default = |line: &str| defaults.iter().any(|key| line.starts_with(key));
    let lines: Vec<&str> = short.lines().filter(|line| !is_default(line)).collect();
    runs.config("short.toml", &lines.join("\n"));
    runs.train(&["short.toml"]).assert().success();
    assert_eq!(support::results(&runs.path("run")), support::results(&runs.path("short")));
    // The alternatives in it are keys that are known: whatever is wrong with them here, it is not
    // that.
    for line in text.lines().filter(|line| line.starts_with('#') && !line.starts_with("# ")) {
        let alternative = text.replace(line, line.trim_start_matches('#'));
        runs.config("alternative.toml", &alternative);
        let assert = runs.train(&["alternative.toml", "--out", "run"]).assert().code(3);
        let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(!said.contains("unknown key"), "{line}: {said}");
    }
}

#[test]
fn metrics_take_a_model_alone_or_a_whole_configuration() {
    let runs = runs();
    runs.config("run.toml", SMALL_RUN);
    runs.train(&["run.toml"]).assert().success();
    runs.config("model.toml", "[model]\nkind = 'two-layer-relu'\nwidth = 3\n");
    let metrics = |model: &str, more: &[&str]| {
        let mut command = flatmin(&["metrics", model, "--data", "data.npz"]);
        command.args(["--parameters", "run/parameters.npz"]).args(more);
        command.current_dir(runs.folder.path()).assert()
    };
    let alone = metrics("model.toml", &[]).success().stderr("").get_output().stdout.clone();
    let whole = metrics("run.toml", &[]).success().stderr("").get_output().stdout.clone();
    assert_eq!(alone, whole);
    let text = String::from_utf8(alone).unwrap();
    assert!(
        text.starts_with(
            "Two-layer ReLU network, width 3, input dimension 2: 9 parameters, 4 samples\n"
        ),
        "{text}"
    );
    // Without a file, the training data of the run.
    let own = |model: &str| {
        let arguments = ["metrics", model, "--parameters", "run/parameters.npz"];
        flatmin(&arguments).current_dir(runs.folder.path()).assert()
    };
    assert_eq!(own("run.toml").success().stderr("").get_output().stdout, whole);
    own("model.toml").code(3).stdout("").stderr(
        "flatmin: model.toml: names no data: give --data FILE, or the configuration of a run\n",
    );
    // The other tables are checked all the same.
    runs.config("wrong.toml", &SMALL_RUN.replace("max_steps", "steps"));
    metrics("wrong.toml", &[]).code(3).stdout("");
    metrics("model.toml", &["--batch-size", "5"])
        .code(3)
        .stdout("")
        .stderr("flatmin: run/parameters.npz: cannot draw 5 of 4 samples without replacement\n");
    metrics("model.toml", &["--batch-size", "5", "--sampling", "with-replacement"]).success();
    metrics("model.toml", &["--batch-size", "0"]).code(2).stdout("");
}

#[cfg(unix)]
#[test]
fn what_never_ends_is_not_read() {
    let fails = |arguments: &[&str], message: &str| {
        let expected = format!("flatmin: {message}\n");
        runs().train(arguments).assert().code(3).stdout("").stderr(expected);
    };
    fails(&["/dev/zero"], "/dev/zero: is a device or a pipe, expected a TOML file");
    // An order with no end: a header and 80 GB that take no place on the disk.
    let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000,), }\n";
    let size = u16::try_from(header.len()).unwrap().to_le_bytes();
    let start = [b"\x93NUMPY\x01\x00", size.as_slice(), header.as_bytes()].concat();
    let runs = runs();
    fs::write(runs.path("order.npy"), &start).unwrap();
    let file = fs::File::options().write(true).open(runs.path("order.npy")).unwrap();
    file.set_len(start.len() as u64 + 80_000_000_000).unwrap();
    let config = "order = 'order.npy'\n".to_owned()
        + &SMALL_RUN.replace("batch_size = 2\nmax_steps = 10\n", "");
    let message =
        "order.npy: has 10000000000 numbers, more than the 1073741824 that are held in memory";
    runs.fails(&config, message);
}

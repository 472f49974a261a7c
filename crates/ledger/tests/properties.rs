//! Every statement of the ledger on shrinking random instances, and every mutant refuted.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::cell::RefCell;
use std::convert::Infallible;

use flatmin_ledger::{
    DiagonalInstance, EpochInstance, Form, Instance, InterpolationInstance, LedgerError, Loss,
    LossInstance, MatrixInstance, MinimumInstance, MomentumInstance, NetworkInstance,
    NoiseFloorInstance, OptimizerInstance, OutputsInstance, RecoveryInstance, STATEMENTS,
    SampleInstance, SensingInstance, Statement, StepInstance, TOLERANCE, UnivariateInstance,
    statement, verify,
};
use flatmin_linalg::{RowMatrix, Stream, stream};
use flatmin_models::data::{cube_inputs, sphere_inputs};
use flatmin_models::{DiagonalLinear, MatrixSensing, TwoLayerRelu, UnivariateRelu};
use flatmin_theory::{Batch, Optimizer, Sampling};
use proptest::prelude::{BoxedStrategy, Just, ProptestConfig, Strategy, any};
use proptest::test_runner::{TestCaseError, TestRunner};
use proptest::{collection, prop_assert, prop_oneof, sample};
use rand::{Rng as _, TryRng};

type BoxedInstance = Box<dyn Instance>;

fn boxed(instance: impl Instance) -> BoxedInstance {
    Box::new(instance)
}

/// Zeros, small integers (exact ties and dependencies), and numbers of sizes over eight decades.
fn entry() -> impl Strategy<Value = f64> {
    prop_oneof![
        1 => Just(0.0),
        3 => (-3_i32..=3).prop_map(f64::from),
        3 => -2.0..2.0_f64,
        1 => (-1.0..1.0_f64, -4_i32..=4).prop_map(|(x, e)| x * 10.0_f64.powi(e)),
    ]
}

fn batch(sample_count: usize) -> impl Strategy<Value = Batch> {
    prop_oneof![
        (1..=sample_count).prop_map(|size| Batch::new(size, Sampling::WithoutReplacement)),
        (1..=2 * sample_count).prop_map(|size| Batch::new(size, Sampling::WithReplacement)),
    ]
    .prop_map(Result::unwrap)
}

/// A few distinct rows, each of which may be repeated.
fn minimum() -> impl Strategy<Value = BoxedInstance> {
    (1..=5_usize, 1..=6_usize, 1..=7_usize)
        .prop_flat_map(|(distinct, columns, rows)| {
            let values = collection::vec(entry(), distinct * columns);
            let order = collection::vec(0..distinct, rows);
            (Just(columns), values, order, batch(rows))
        })
        .prop_map(|(columns, values, order, batch)| {
            let jacobian =
                RowMatrix::from_fn(order.len(), columns, |i, j| values[order[i] * columns + j]);
            boxed(MinimumInstance { jacobian, batch })
        })
}

/// A few distinct rows, distributed over samples of up to 3 outputs.
fn outputs() -> impl Strategy<Value = BoxedInstance> {
    (1..=5_usize, 1..=5_usize, 1..=3_usize, 1..=4_usize)
        .prop_flat_map(|(distinct, columns, outputs, samples)| {
            let values = collection::vec(entry(), distinct * columns);
            let order = collection::vec(0..distinct, samples * outputs);
            (Just((columns, outputs)), values, order, batch(samples))
        })
        .prop_map(|((columns, output_count), values, order, batch)| {
            let jacobian =
                RowMatrix::from_fn(order.len(), columns, |i, j| values[order[i] * columns + j]);
            boxed(OutputsInstance { jacobian, output_count, batch })
        })
}

/// Hidden directions are repeated with factors, so that parallel and opposite neurons are common.
fn relu() -> impl Strategy<Value = BoxedInstance> {
    (1..=6_usize, 1..=5_usize, any::<u64>())
        .prop_flat_map(|(width, dim, seed)| {
            let directions = collection::vec(entry(), width * dim);
            let neurons = collection::vec((any::<sample::Index>(), entry(), entry()), width);
            (Just((width, dim, seed)), directions, neurons)
        })
        .prop_map(|((width, dim, seed), directions, neurons)| {
            let model = TwoLayerRelu::new(width, dim).unwrap();
            let mut parameters = Vec::new();
            let mut output = Vec::new();
            for (index, factor, a) in neurons {
                let start = index.index(width) * dim;
                let w: Vec<f64> =
                    directions[start..][..dim].iter().map(|value| factor * value).collect();
                // The hypothesis of the statements: a dead neuron has an output weight of zero.
                output.push(if w.iter().all(|value| value.abs() <= 0.0) { 0.0 } else { a });
                parameters.extend(w);
            }
            parameters.extend(output);
            let inputs = sphere_inputs(200, dim, &mut stream(seed, "inputs", 0));
            boxed(NetworkInstance::new(model, parameters, inputs).unwrap())
        })
}

fn diagonal() -> impl Strategy<Value = BoxedInstance> {
    (1..=6_usize, any::<u64>(), 0.01..10.0_f64)
        .prop_flat_map(|(dim, seed, variance)| {
            (Just((dim, seed, variance)), collection::vec(entry(), 2 * dim))
        })
        .prop_map(|((dim, seed, variance), parameters)| {
            let model = DiagonalLinear::new(dim).unwrap();
            let unit = cube_inputs(200, dim, &mut stream(seed, "inputs", 0));
            let side = (3.0 * variance).sqrt();
            let inputs = RowMatrix::from_fn(200, dim, |i, j| side * unit.row(i)[j]);
            let network = NetworkInstance::new(model, parameters, inputs).unwrap();
            boxed(DiagonalInstance { network, input_variance: variance })
        })
}

fn step() -> impl Strategy<Value = BoxedInstance> {
    (1..=4_usize, 1..=4_usize, prop_oneof![Just(0.0), 1e-3..10.0_f64])
        .prop_flat_map(|(dim, size, rate)| {
            let parameters = collection::vec(entry(), 2 * dim);
            let inputs = collection::vec(entry(), size * dim);
            (Just((dim, rate)), parameters, inputs, collection::vec(entry(), size))
        })
        .prop_map(|((dim, rate), parameters, inputs, residuals)| {
            let model = DiagonalLinear::new(dim).unwrap();
            let inputs = RowMatrix::new(residuals.len(), dim, inputs).unwrap();
            let network = NetworkInstance::new(model, parameters, inputs).unwrap();
            let step = StepInstance::new(network, residuals, rate);
            boxed(step.unwrap())
        })
}

/// Rank at most 3: the dense operator has dimension r(2r + 1).
fn momentum() -> impl Strategy<Value = BoxedInstance> {
    (1..=3_usize, 1..=5_usize, prop_oneof![Just(0.0), 0.0..0.99_f64])
        .prop_flat_map(|(columns, rows, momentum)| {
            let values = collection::vec(entry(), rows * columns);
            (Just((columns, rows, momentum)), values, batch(rows))
        })
        .prop_map(|((columns, rows, momentum), values, batch)| {
            let jacobian = RowMatrix::new(rows, columns, values).unwrap();
            let minimum = MinimumInstance { jacobian, batch };
            boxed(MomentumInstance { minimum, momentum })
        })
}

/// Batches drawn independently in any way.
fn independent(sample_count: usize) -> impl Strategy<Value = Batch> {
    let poisson = (1..=sample_count).prop_map(|size| Batch::new(size, Sampling::Poisson).unwrap());
    prop_oneof![2 => batch(sample_count), 1 => poisson]
}

/// A matrix of entries, divided by the largest.
fn unit_matrix(rows: usize, columns: usize) -> impl Strategy<Value = RowMatrix> {
    collection::vec(entry(), rows * columns).prop_map(move |values| {
        let largest = values.iter().fold(f64::MIN_POSITIVE, |most, value| most.max(value.abs()));
        let values = values.iter().map(|value| value / largest).collect();
        RowMatrix::new(rows, columns, values).unwrap()
    })
}

/// Momentum of three kinds, and decay of two.
fn optimizer() -> impl Strategy<Value = Optimizer> {
    let decay = prop_oneof![Just(0.0), 1e-3..1.0_f64];
    (prop_oneof![Just(0.0), 0.05..0.95_f64], 0..3_u8, decay, any::<bool>()).prop_map(
        |(momentum, kind, decay, is_coupled)| {
            let sgd = Optimizer::sgd().momentum(momentum).unwrap();
            let optimizer = match kind {
                0 => sgd,
                1 if momentum > 0.0 => sgd.nesterov().unwrap(),
                _ => sgd.dampening(momentum).unwrap(),
            };
            let decayed = if is_coupled {
                optimizer.weight_decay(decay)
            } else {
                optimizer.decoupled_weight_decay(decay)
            };
            decayed.unwrap()
        },
    )
}

fn optimizers() -> impl Strategy<Value = BoxedInstance> {
    (1..=3_usize, 0..=2_usize)
        .prop_flat_map(|(columns, more)| {
            let (rows, diagonal) = (columns + more, collection::vec(0.2..5.0_f64, columns));
            (unit_matrix(rows, columns), independent(rows), optimizer(), diagonal)
        })
        .prop_map(|(jacobian, batch, optimizer, preconditioner)| {
            boxed(OptimizerInstance { jacobian, batch, optimizer, preconditioner })
        })
}

fn losses() -> impl Strategy<Value = BoxedInstance> {
    (1..=3_usize, 1..=3_usize, 1..=3_usize)
        .prop_flat_map(|(samples, outputs, columns)| {
            let rows = samples * outputs;
            let logits = unit_matrix(samples, outputs);
            let roots = unit_matrix(rows, outputs);
            (unit_matrix(rows, columns), logits, roots, any::<bool>(), independent(samples))
        })
        .prop_map(|(jacobian, logits, roots, is_general, batch)| {
            let loss = match logits.columns() {
                _ if is_general => Loss::General(roots),
                1 => Loss::Logistic(logits.values().to_vec()),
                _ => Loss::Softmax(logits),
            };
            boxed(LossInstance::new(jacobian, loss, batch).unwrap())
        })
}

fn noise_floors() -> impl Strategy<Value = BoxedInstance> {
    (1..=2_usize, 1..=2_usize, 1..=4_usize, 0.05..0.95_f64)
        .prop_flat_map(|(columns, outputs, samples, share)| {
            let rows = samples * outputs;
            let residuals = collection::vec(-2.0..2.0_f64, rows);
            let settings = (optimizer(), independent(samples));
            (Just((outputs, share)), unit_matrix(rows, columns), residuals, settings)
        })
        .prop_map(|((outputs, share), jacobian, residuals, (optimizer, batch))| {
            let rows = (jacobian, outputs);
            boxed(NoiseFloorInstance::new(rows, residuals, optimizer, batch, share).unwrap())
        })
}

fn epochs() -> impl Strategy<Value = BoxedInstance> {
    (1..=3_usize)
        .prop_flat_map(|samples| (unit_matrix(samples, 2), 1..=samples, any::<bool>()))
        .prop_map(|(jacobian, size, drops_last)| {
            boxed(EpochInstance::new(jacobian, size, drops_last).unwrap())
        })
}

fn relu_step() -> impl Strategy<Value = BoxedInstance> {
    (1..=4_usize, 1..=4_usize, prop_oneof![Just(0.0), 1e-3..10.0_f64])
        .prop_flat_map(|(width, dim, rate)| {
            let parameters = collection::vec(entry(), width * (dim + 1));
            (Just((width, dim, rate)), parameters, collection::vec(entry(), dim), entry())
        })
        .prop_map(|((width, dim, rate), parameters, input, residual)| {
            let model = TwoLayerRelu::new(width, dim).unwrap();
            let input = RowMatrix::new(1, dim, input).unwrap();
            let network = NetworkInstance::new(model, parameters, input).unwrap();
            let step = StepInstance::new(network, vec![residual], rate);
            boxed(step.unwrap())
        })
}

fn inputs_of_a_class() -> impl Strategy<Value = BoxedInstance> {
    (1..=8_usize, 1..=2_usize, 0.0..10.0_f64)
        .prop_flat_map(|(count, dim, path_norm)| {
            (Just((count, dim, path_norm)), collection::vec(entry(), count * dim))
        })
        .prop_map(|((count, dim, path_norm), values)| {
            let inputs = RowMatrix::new(count, dim, values).unwrap();
            boxed(SampleInstance::new(inputs, path_norm).unwrap())
        })
}

fn recovery() -> impl Strategy<Value = BoxedInstance> {
    (1..=5_usize, 1..=6_usize, 0.01..10.0_f64)
        .prop_flat_map(|(count, dim, variance)| {
            let inputs = collection::vec(entry(), count * dim);
            (Just((count, dim, variance)), inputs, collection::vec(entry(), dim))
        })
        .prop_map(|((count, dim, variance), inputs, coefficients)| {
            let inputs = RowMatrix::new(count, dim, inputs).unwrap();
            boxed(RecoveryInstance::new(inputs, coefficients, variance).unwrap())
        })
}

fn interpolation() -> impl Strategy<Value = BoxedInstance> {
    (1..=5_usize, 0.01..10.0_f64, any::<u64>(), collection::vec(entry(), 1..=6))
        .prop_map(|(count, variance, seed, coefficients)| {
            let mut rng = stream(seed, "designs", 0);
            let side = (3.0 * variance).sqrt();
            let mut design = || {
                let unit = cube_inputs(count, coefficients.len(), &mut rng);
                RowMatrix::from_fn(count, coefficients.len(), |i, j| side * unit.row(i)[j])
            };
            let designs = (0..200).map(|_| design()).collect();
            InterpolationInstance::new(coefficients, designs, variance)
        })
        .prop_map(|instance| boxed(instance.unwrap()))
}

/// A model of matrix sensing and its factors.
fn factors() -> impl Strategy<Value = (MatrixSensing, Vec<f64>)> {
    (1..=3_usize, 1..=3_usize, 1..=4_usize).prop_flat_map(|(rows, columns, count)| {
        let model = MatrixSensing::new(rows, columns, count).unwrap();
        (Just(model), collection::vec(entry(), (rows + columns) * count))
    })
}

fn matrices() -> impl Strategy<Value = BoxedInstance> {
    (factors(), 0.01..10.0_f64).prop_map(|((model, parameters), variance)| {
        boxed(MatrixInstance::new(model, parameters, variance).unwrap())
    })
}

fn sensing() -> impl Strategy<Value = BoxedInstance> {
    (factors(), 1..=5_usize)
        .prop_flat_map(|((model, parameters), count)| {
            let inputs = collection::vec(entry(), count * model.rows() * model.columns());
            (Just((model, parameters, count)), inputs, batch(count))
        })
        .prop_map(|((model, parameters, count), inputs, batch)| {
            let inputs = RowMatrix::new(count, model.rows() * model.columns(), inputs).unwrap();
            let network = NetworkInstance::new(model, parameters, inputs).unwrap();
            boxed(SensingInstance { network, batch })
        })
}

fn sensing_step() -> impl Strategy<Value = BoxedInstance> {
    (factors(), 1..=3_usize, prop_oneof![Just(0.0), 1e-3..10.0_f64])
        .prop_flat_map(|((model, parameters), count, rate)| {
            let inputs = collection::vec(entry(), count * model.rows() * model.columns());
            (Just((model, parameters, rate)), inputs, collection::vec(entry(), count))
        })
        .prop_map(|((model, parameters, rate), inputs, residuals)| {
            let inputs =
                RowMatrix::new(residuals.len(), model.rows() * model.columns(), inputs).unwrap();
            let network = NetworkInstance::new(model, parameters, inputs).unwrap();
            boxed(StepInstance::new(network, residuals, rate).unwrap())
        })
}

/// Weights and inputs are small multiples of ¼, so that knots lie on inputs and on each other, and
/// products are exact.
fn univariate() -> impl Strategy<Value = BoxedInstance> {
    let quarters = || (-8_i32..=8).prop_map(|k| 0.25 * f64::from(k));
    (1..=5_usize, collection::vec(quarters(), 1..=5))
        .prop_flat_map(move |(width, inputs)| {
            let weights = collection::vec(quarters(), 2 * width);
            let output = collection::vec(entry(), width + 1);
            let batch = batch(inputs.len());
            (Just((width, inputs)), weights, output, batch)
        })
        .prop_map(|((width, inputs), weights, output, batch)| {
            let inputs = RowMatrix::new(inputs.len(), 1, inputs).unwrap();
            let parameters = [weights, output].concat();
            let model = UnivariateRelu::new(width).unwrap();
            let network = NetworkInstance::new(model, parameters, inputs).unwrap();
            boxed(UnivariateInstance { network, batch })
        })
}

/// Hand-made strategies for the instance types, with the degenerate cases that are hard.
fn families() -> [BoxedStrategy<BoxedInstance>; 18] {
    [
        minimum().boxed(),
        momentum().boxed(),
        outputs().boxed(),
        optimizers().boxed(),
        losses().boxed(),
        noise_floors().boxed(),
        epochs().boxed(),
        relu().boxed(),
        relu_step().boxed(),
        inputs_of_a_class().boxed(),
        diagonal().boxed(),
        step().boxed(),
        recovery().boxed(),
        interpolation().boxed(),
        matrices().boxed(),
        sensing().boxed(),
        sensing_step().boxed(),
        univariate().boxed(),
    ]
}

/// Random numbers that begin with words chosen by the test. Smaller words mostly make smaller sizes
/// and simpler instances, so that instances of every generator shrink; a word that chooses the kind
/// of an instance can also make it larger.
#[derive(Debug, Clone)]
struct Tape {
    words: std::vec::IntoIter<u64>,
    rest: Stream,
}

impl TryRng for Tape {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        // Returns the upper half of the word, because generators use the leading bits first.
        self.try_next_u64().map(|word| (word >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.words.next().unwrap_or_else(|| self.rest.next_u64()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

fn tape() -> impl Strategy<Value = Tape> {
    (collection::vec(any::<u64>(), 32), 0..1000_u64)
        .prop_map(|(words, seed)| Tape { words: words.into_iter(), rest: stream(seed, "tape", 0) })
}

/// Asserts that the statement holds on the instance, unless it is about another type of instance.
fn holds(statement: &Statement, instance: &dyn Instance) -> Result<(), TestCaseError> {
    let comparisons = match statement.check(Form::Stated, instance) {
        Err(LedgerError::WrongInstance { .. }) => Vec::new(),
        comparisons => comparisons.unwrap(),
    };
    for comparison in comparisons {
        prop_assert!(comparison.holds(TOLERANCE), "{}: {:?}", statement, comparison);
    }
    Ok(())
}

/// Runs a test on the usual number of cases (`PROPTEST_CASES`, or 256) divided by `share`.
fn for_all<S: Strategy>(
    share: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let config = ProptestConfig::default();
    let config =
        ProptestConfig { cases: config.cases.div_ceil(share), failure_persistence: None, ..config };
    TestRunner::new(config).run(strategy, test).unwrap_or_else(|failure| panic!("{failure}"));
}

// The sampled comparisons raise a false alarm once in 10⁹.
#[test]
fn statements_hold_on_instances_of_every_family() {
    for family in families() {
        for_all(1, &family, |instance| {
            STATEMENTS.iter().try_for_each(|statement| holds(statement, instance.as_ref()))
        });
    }
}

#[test]
fn statements_hold_on_what_their_generators_draw() {
    for statement in STATEMENTS {
        for_all(4, &tape(), |mut tape| holds(statement, statement.instance(&mut tape).as_ref()));
    }
}

/// Shrinking the words passes through the smallest instance that fails. The seed is fixed, so that
/// the cases are always the same.
#[test]
fn instances_of_a_generator_shrink() {
    let failing = RefCell::new(Vec::new());
    let failure = TestRunner::deterministic().run(&tape(), |mut tape| {
        let sizes = statement("S2").unwrap().instance(&mut tape).sizes();
        let samples: usize = sizes[4..].split(',').next().unwrap().parse().unwrap();
        if samples >= 3 {
            failing.borrow_mut().push(samples);
        }
        prop_assert!(samples < 3, "{}", sizes);
        Ok(())
    });
    let failing = failing.into_inner();
    assert!(failure.is_err() && failing[0] > 3 && failing.contains(&3), "{failing:?}");
}

#[test]
fn every_statement_survives_and_every_mutant_dies() {
    for statement in STATEMENTS {
        let verification = verify(statement, 1, 0..300).unwrap();
        assert!(verification.passed(), "{verification:#?}");
    }
}

#[test]
fn a_statement_refuses_instances_of_another_type() {
    let step = statement("D5").unwrap().instance(&mut stream(0, "wrong instance", 0));
    let error = statement("S2").unwrap().check(Form::Stated, step.as_ref()).unwrap_err();
    assert_eq!(error.to_string(), "S2 is about instances of another type");
}

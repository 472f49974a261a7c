//! Claims on cross-entropy, on reshuffled epochs and on the noise floor, on made-up results: each
//! must hold where it should, and fail where one result breaks it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_experiments::cell::{
    CellResult, CellSpec, ClassMeasurement, ClassResult, ClassSpec, EpochMeasurement, EpochResult,
    EpochSpec, PerturbedResult, PerturbedSpec, Plateau, PlateauModel, PlateauResult, PlateauSpec,
    PushedGrowth, Results, ShortBatchResult, StoredEpochEdge,
};
use flatmin_experiments::{Experiment, Profile, Settings, Verdict, claims, expand, find};
use flatmin_models::Activation;
use flatmin_optim::{Outcome, Sampling};

fn experiments() -> [&'static Experiment; 3] {
    ["losses", "epochs", "noise_floor"].map(|id| find(id).unwrap())
}

/// A run that ends at 1.2 η*; the larger η, the nearer.
fn ideal_class(spec: &ClassSpec) -> ClassResult {
    let rate = spec.learning_rate;
    let last = ClassMeasurement {
        step: 1000,
        excess_loss: 1e-11,
        trace: 1.0 / rate,
        lambda_max: 0.1 / rate,
        threshold: Some((1.2 + 0.01 / rate) * rate),
        accuracy: 1.0,
    };
    ClassResult { outcome: Outcome::Converged, steps: 1000, path: Vec::new(), last: Some(last) }
}

fn ideal_pushes() -> PerturbedResult {
    let growth = |factor: f64| {
        let grown = if factor > 1.0 { 2.0 } else { 0.5 };
        PushedGrowth { factor, exact: grown, replicas: grown, grown: 1.0 }
    };
    PerturbedResult { threshold: 1.0, growth: [0.8, 0.9, 1.1, 1.25].map(growth).to_vec() }
}

fn edge(estimate: f64) -> StoredEpochEdge {
    StoredEpochEdge { estimate, lower: 0.9 * estimate, upper: 1.1 * estimate }
}

/// Reshuffled SGD with single samples rests at its own edge at the largest η, and everything else
/// a little inside of both.
fn ideal_epoch(spec: &EpochSpec) -> EpochResult {
    let rate = spec.learning_rate;
    let rests_at_its_edge =
        spec.batch_size == 1 && is_top(spec) && spec.sampling == Sampling::Reshuffling;
    let (threshold, own) = if rests_at_its_edge { (0.8, 0.98) } else { (1.1, 1.12) };
    let last = EpochMeasurement {
        step: 1000,
        train_loss: 1e-13,
        trace: 1.6 / rate,
        lambda_max: 0.1 / rate,
        threshold: threshold * rate,
    };
    let short_batch = spec.short_batch.map(|_| ShortBatchResult {
        threshold: 1.0,
        edge: edge(0.6),
        edge_without: edge(1.0),
        departures: vec![1e6; 10],
        departures_without: vec![0.99; 10],
    });
    EpochResult {
        outcome: Outcome::Converged,
        steps: 1000,
        last: Some(last),
        edge: (spec.edge_orders > 0).then_some(edge(own * rate)),
        short_batch,
    }
}

fn is_top(spec: &EpochSpec) -> bool {
    spec.learning_rate * (spec.problem.input_dim as f64).sqrt() > 0.09
}

fn ideal_plateaus(spec: &PlateauSpec) -> PlateauResult {
    let plateau = |factor: &f64| Plateau {
        factor: *factor,
        predicted: 2.0,
        simulated: 2.001,
        standard_error: 0.002,
    };
    let plateaus = spec.factors.iter().map(plateau).collect();
    PlateauResult { threshold: 0.1, still: 1.0, plateaus }
}

fn verdict(id: &str, change: &mut dyn FnMut(&CellSpec, &mut CellResult)) -> Verdict {
    let settings = Settings::new(Profile::Paper);
    let mut results = Results::new();
    for cell in expand(&experiments(), &settings) {
        let mut result = match &cell {
            CellSpec::Classes(spec) => CellResult::Classes(ideal_class(spec)),
            CellSpec::Perturbed(_) => CellResult::Perturbed(ideal_pushes()),
            CellSpec::Epochs(spec) => CellResult::Epochs(ideal_epoch(spec)),
            CellSpec::Plateau(spec) => CellResult::Plateau(ideal_plateaus(spec)),
            other => panic!("{}", other.label()),
        };
        change(&cell, &mut result);
        results.insert(cell.key(), result);
    }
    let claims = claims(&experiments(), &settings, &results).unwrap();
    claims.into_iter().find(|claim| claim.id == id).unwrap().verdict
}

fn with_classes(id: &str, change: impl Fn(&ClassSpec, &mut ClassResult)) -> Verdict {
    verdict(id, &mut |cell, result| {
        if let (CellSpec::Classes(spec), CellResult::Classes(result)) = (cell, result) {
            change(spec, result);
        }
    })
}

fn with_pushes(change: impl Fn(&PerturbedSpec, &mut PushedGrowth)) -> Verdict {
    verdict("28", &mut |cell, result| {
        if let (CellSpec::Perturbed(spec), CellResult::Perturbed(result)) = (cell, result) {
            result.growth.iter_mut().for_each(|growth| change(spec, growth));
        }
    })
}

fn with_epochs(id: &str, change: impl Fn(&EpochSpec, &mut EpochResult)) -> Verdict {
    verdict(id, &mut |cell, result| {
        if let (CellSpec::Epochs(spec), CellResult::Epochs(result)) = (cell, result) {
            change(spec, result);
        }
    })
}

fn with_short(change: impl Fn(&mut ShortBatchResult)) -> Verdict {
    with_epochs("30", |_, result| {
        if let Some(short) = &mut result.short_batch {
            change(short);
        }
    })
}

fn with_plateaus(id: &str, change: impl Fn(&PlateauSpec, &mut Plateau)) -> Verdict {
    verdict(id, &mut |cell, result| {
        if let (CellSpec::Plateau(spec), CellResult::Plateau(result)) = (cell, result) {
            result.plateaus.iter_mut().for_each(|plateau| change(spec, plateau));
        }
    })
}

#[test]
fn every_claim_holds_on_ideal_results() {
    for id in 27..=32 {
        assert_eq!(verdict(&id.to_string(), &mut |_, _| {}), Verdict::Holds, "claim {id}");
    }
}

#[test]
fn an_edge_that_does_not_come_near_breaks_claim_27() {
    let scaled = |scale: fn(f64) -> f64| {
        with_classes("27", |spec, result| {
            let rate = spec.learning_rate;
            result.last.as_mut().unwrap().threshold = Some(scale(rate) * rate);
        })
    };
    assert_eq!(scaled(|rate| 1.2 + 0.01 * rate), Verdict::Fails, "it must fall with the rate");
    assert_eq!(scaled(|rate| 2.0 - 0.01 * rate), Verdict::Fails);
    assert_eq!(scaled(|rate| 0.8 - 0.01 * rate), Verdict::Fails);
    assert_eq!(scaled(|rate| 1.3 - 0.01 * rate), Verdict::Holds);
    let hovering = |_: &ClassSpec, result: &mut ClassResult| result.outcome = Outcome::OutOfSteps;
    assert_eq!(with_classes("27", hovering), Verdict::Undecided);
    // Half of the settings tell, less than half do not.
    let small = |spec: &ClassSpec, result: &mut ClassResult| {
        if spec.batch_size < 16 {
            hovering(spec, result);
        }
    };
    assert_eq!(with_classes("27", small), Verdict::Holds);
    let most = |spec: &ClassSpec, result: &mut ClassResult| {
        if spec.batch_size < 16 || spec.problem.activation == Activation::Relu {
            hovering(spec, result);
        }
    };
    assert_eq!(with_classes("27", most), Verdict::Undecided);
}

#[test]
fn one_push_on_the_wrong_side_breaks_claim_28() {
    let check = |is_cross_entropy: bool, factor: f64, change: fn(&mut PushedGrowth)| {
        with_pushes(|spec, growth| {
            let is_one = (spec.training.seed, spec.batch_size) == (1, 8)
                && spec.is_cross_entropy == is_cross_entropy;
            if is_one && (growth.factor - factor).abs() < 1e-9 {
                change(growth);
            }
        })
    };
    for is_cross_entropy in [true, false] {
        assert_eq!(check(is_cross_entropy, 0.8, |g| g.exact = 1.1), Verdict::Fails);
        assert_eq!(check(is_cross_entropy, 0.8, |g| g.replicas = f64::NAN), Verdict::Fails);
        assert_eq!(check(is_cross_entropy, 1.25, |g| g.exact = 0.9), Verdict::Fails);
        assert_eq!(check(is_cross_entropy, 1.25, |g| g.replicas = 0.9), Verdict::Fails);
        // Between the two heavy tails decide: shown, and not judged.
        assert_eq!(check(is_cross_entropy, 1.1, |g| g.replicas = 0.9), Verdict::Holds);
    }
}

#[test]
fn each_part_of_claim_29_can_fail() {
    let scale_edge = |result: &mut EpochResult, factor: f64| {
        if let Some(edge) = &mut result.edge {
            edge.estimate *= factor;
        }
    };
    let small_rate = |spec: &EpochSpec, result: &mut EpochResult| {
        if spec.batch_size == 1 && !is_top(spec) {
            scale_edge(result, 1.25);
        }
    };
    assert_eq!(with_epochs("29", small_rate), Verdict::Fails);
    let large_batch = |spec: &EpochSpec, result: &mut EpochResult| {
        if spec.batch_size == 8 {
            scale_edge(result, 0.8);
        }
    };
    assert_eq!(with_epochs("29", large_batch), Verdict::Fails);
    let sharper = |spec: &EpochSpec, result: &mut EpochResult| {
        if spec.sampling == Sampling::Reshuffling && !is_top(spec) {
            result.last.as_mut().unwrap().trace *= 1.1;
        }
    };
    assert_eq!(with_epochs("29", sharper), Verdict::Fails);
    let rests_inside = |spec: &EpochSpec, result: &mut EpochResult| {
        if is_top(spec) && spec.batch_size == 1 {
            scale_edge(result, 1.3);
        }
    };
    assert_eq!(with_epochs("29", rests_inside), Verdict::Fails);
    let same_edge = |spec: &EpochSpec, result: &mut EpochResult| {
        if is_top(spec) && spec.batch_size == 1 {
            result.last.as_mut().unwrap().threshold = 0.95 * spec.learning_rate;
        }
    };
    assert_eq!(with_epochs("29", same_edge), Verdict::Fails);
    let hovering = |spec: &EpochSpec, result: &mut EpochResult| {
        if is_top(spec) {
            result.outcome = Outcome::OutOfSteps;
        }
    };
    assert_eq!(with_epochs("29", hovering), Verdict::Undecided);
}

#[test]
fn one_trial_on_the_wrong_side_breaks_claim_30() {
    assert_eq!(with_short(|short| short.departures[3] = 5.0), Verdict::Fails);
    assert_eq!(with_short(|short| short.departures_without[3] = 1.6), Verdict::Fails);
    assert_eq!(with_short(|short| short.edge.upper = 0.95), Verdict::Fails);
}

#[test]
fn a_plateau_off_its_prediction_breaks_claims_31_and_32() {
    let linear = |scale: f64, least: f64, most: f64| {
        with_plateaus("31", |spec, plateau| {
            let is_linear = matches!(spec.model, PlateauModel::Linear { outputs: 3, .. });
            if is_linear && plateau.factor >= least && plateau.factor <= most {
                plateau.simulated *= scale;
            }
        })
    };
    // Six standard errors; three per cent of a plateau that is known badly.
    assert_eq!(linear(1.006, 0.7, 0.85), Verdict::Fails);
    assert_eq!(linear(0.6, 0.85, 1.0), Verdict::Holds, "not judged");
    let vague = |spec: &PlateauSpec, plateau: &mut Plateau| {
        if matches!(spec.model, PlateauModel::Linear { .. }) && plateau.factor < 0.5 {
            plateau.simulated *= 1.03;
            plateau.standard_error = 1.0;
        }
    };
    assert_eq!(with_plateaus("31", vague), Verdict::Fails);
    let network = |noise: f64, factor: f64| {
        with_plateaus("32", |spec, plateau| {
            let is_network = matches!(spec.model, PlateauModel::Tanh { .. });
            let is_one = is_network && spec.noise < 1.5 * noise && spec.noise > 0.5 * noise;
            if is_one && (plateau.factor - factor).abs() < 1e-9 {
                plateau.simulated *= 0.9;
            }
        })
    };
    assert_eq!(network(0.01, 0.5), Verdict::Fails);
    assert_eq!(network(0.01, 0.8), Verdict::Holds, "not judged");
    assert_eq!(network(0.1, 0.5), Verdict::Holds, "not judged");
}

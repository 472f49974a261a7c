//! The claims on estimators.

use super::super::MissingCell;
use super::super::estimators::{Pooled, median_error, pooled, tried};
use super::verdict;
use crate::cell::{Estimator, Results, Spectrum};
use crate::{Claim, Measured, Settings};

/// Fewest products from which on coverage is judged.
const FEWEST_PRODUCTS: usize = 20;
/// Fewest estimates that tell 95 % from 93 % and 97 %: the standard error of the share is 0.6 %.
const FEWEST_ESTIMATES: usize = 1500;
/// Where the coverage of a 95 % interval must lie.
const COVERAGE: [f64; 2] = [0.93, 0.97];
/// Products at which accuracy is compared, and by what factor.
const COMPARED: usize = 80;
const FACTOR: f64 = 5.0;

pub(super) fn coverage(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let pooled: Vec<Pooled> = pooled(&tried(settings, results)?);
    let (mut measured, mut holds, mut enough) = (Vec::new(), true, true);
    for estimator in Estimator::ALL {
        let chosen: Vec<&Pooled> = pooled
            .iter()
            .filter(|p| p.estimator == estimator && p.products >= FEWEST_PRODUCTS)
            .collect();
        let shares: Vec<f64> = chosen.iter().map(|p| p.coverage).collect();
        enough &= chosen.iter().all(|p| p.replicas >= FEWEST_ESTIMATES);
        holds &= shares.iter().all(|share| (COVERAGE[0]..=COVERAGE[1]).contains(share));
        let label = format!("{}: coverage, by budget", estimator.name());
        measured.push(Measured::new(label, &shares));
    }
    let (verdict, mut note) = verdict(settings, enough, holds);
    if settings.profile.judges_training() && !enough {
        "Too few estimates to judge it.".clone_into(&mut note);
    }
    Ok(Claim {
        id: "16".to_owned(),
        sentence:
            "The standard errors of the trace estimators can be believed: their 95 % intervals \
                   cover the trace about 95 % of the time."
                .to_owned(),
        source: "Girard 1989; Meyer et al. 2021; Epperly, Tropp and Webber 2024".to_owned(),
        predicate: format!(
            "for each estimator and budget of at least {FEWEST_PRODUCTS} products, over all \
             operators together, between {} and {} % of the 95 % intervals hold the trace",
            100.0 * COVERAGE[0],
            100.0 * COVERAGE[1],
        ),
        measured,
        runs: pooled.iter().map(|p| p.replicas).sum(),
        verdict,
        note,
    })
}

pub(super) fn accuracy(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let tried = tried(settings, results)?;
    let error = |estimator| median_error(&tried, Spectrum::ReluNetwork, estimator, COMPARED);
    let plain = error(Estimator::Hutchinson);
    let (mut measured, mut holds) = (Vec::new(), true);
    for estimator in Estimator::ALL {
        let value = error(estimator);
        if matches!(estimator, Estimator::XTrace | Estimator::XNysTrace) {
            // Written so that a NaN fails.
            holds &= FACTOR * value <= plain;
        }
        let label = format!("{}: median relative error", estimator.name());
        measured.push(Measured::new(label, &[value]));
    }
    let (verdict, note) = verdict(settings, true, holds);
    Ok(Claim {
        id: "17".to_owned(),
        sentence: "Where the spectrum decays, estimators that deflate it need far fewer products."
            .to_owned(),
        source: "Epperly, Tropp and Webber 2024".to_owned(),
        predicate: format!(
            "Gauss–Newton matrix of a ReLU network, {COMPARED} products: the median errors of XTrace and \
             XNysTrace are at most 1/{FACTOR} of that of Hutchinson's estimator"
        ),
        measured,
        runs: tried.iter().map(|(spec, _)| spec.replicas).sum(),
        verdict,
        note,
    })
}

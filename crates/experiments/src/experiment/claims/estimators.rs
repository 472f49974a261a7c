//! The claims on estimators.

use super::super::MissingCell;
use super::super::estimators::{Pooled, median_error, pooled, share, tried};
use super::verdict;
use crate::cell::{Estimator, Results, Spectrum};
use crate::{Claim, Measured, Settings};

/// Fewest products from which on coverage is judged.
const FEWEST_PRODUCTS: usize = 20;
/// Fewest estimates that tell 95 % from 93 % and 97 %: the standard error of the share is 0.6 %.
const FEWEST_ESTIMATES: usize = 1500;
/// Where the coverage of a 95 % interval must lie.
const COVERAGE: [f64; 2] = [0.93, 0.97];
/// And where on a single operator: the standard error is 1.1 % with 400 estimates, and one of the 57
/// shares of intervals that cover exactly 95 % lies outside once in a hundred reproductions.
const SINGLE_COVERAGE: [f64; 2] = [0.91, 0.99];
/// From how many products to how many the error must fall, and by what factor. That of independent
/// vectors falls by 2.
const PRODUCTS: [usize; 2] = [20, 80];
const FACTOR: f64 = 3.0;

pub(super) fn coverage(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let tried = tried(settings, results)?;
    let pooled: Vec<Pooled> = pooled(&tried);
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
        let single: Vec<f64> = tried
            .iter()
            .filter(|(spec, _)| spec.estimator == estimator && spec.products >= FEWEST_PRODUCTS)
            .map(|(_, result)| share(result))
            .collect();
        holds &=
            single.iter().all(|share| (SINGLE_COVERAGE[0]..=SINGLE_COVERAGE[1]).contains(share));
        let label = format!("{}: coverage, by budget and operator", estimator.name());
        measured.push(Measured::new(label, &single));
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
             operators together, between {} and {} % of the 95 % intervals hold the trace, and on \
             every single operator between {} and {} %",
            100.0 * COVERAGE[0],
            100.0 * COVERAGE[1],
            100.0 * SINGLE_COVERAGE[0],
            100.0 * SINGLE_COVERAGE[1],
        ),
        measured,
        runs: pooled.iter().map(|p| p.replicas).sum(),
        verdict,
        note,
    })
}

pub(super) fn accuracy(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let tried = tried(settings, results)?;
    let (mut measured, mut holds) = (Vec::new(), true);
    for spectrum in [Spectrum::PowerLaw, Spectrum::ReluNetwork] {
        let error = |estimator, products| median_error(&tried, spectrum, estimator, products);
        let [few, many] = PRODUCTS;
        for estimator in Estimator::ALL {
            let gain = error(estimator, few) / error(estimator, many);
            if matches!(estimator, Estimator::XTrace | Estimator::XNysTrace) {
                // Written so that a NaN fails.
                holds &= gain >= FACTOR;
            }
            let name = format!("{}, {}", spectrum.name(), estimator.name());
            let label = format!("{name}: error with {few} over that with {many} products");
            measured.push(Measured::new(label, &[gain]));
            let ratio = error(Estimator::Hutchinson, many) / error(estimator, many);
            let label = format!("{name}: times more accurate than Hutchinson, {many} products");
            measured.push(Measured::new(label, &[ratio]));
        }
    }
    let (verdict, note) = verdict(settings, true, holds);
    Ok(Claim {
        id: "17".to_owned(),
        sentence: "Where the spectrum decays, estimators that deflate it need far fewer products."
            .to_owned(),
        source: "Epperly, Tropp and Webber 2024".to_owned(),
        predicate: format!(
            "eigenvalues 1/k, and the Gauss–Newton matrix of a ReLU network: the median errors of XTrace \
             and XNysTrace fall by a factor of at least {FACTOR} from {} to {} products, where a mean \
             of independent forms falls by 2",
            PRODUCTS[0], PRODUCTS[1],
        ),
        measured,
        runs: tried.iter().map(|(spec, _)| spec.replicas).sum(),
        verdict,
        note,
    })
}

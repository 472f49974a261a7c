//! F1–F4: sharpness of the population and norms of the matrix in matrix sensing.

use flatmin_linalg::Sharpness;
use flatmin_models::{MatrixSensing, Model as _};

use crate::families::sensing::{
    SENSING_INPUTS, balanced_factors, dense_spectrum, factor_matrices, population_jacobian,
    random_factors, random_sensing, singular,
};
use crate::prelude::*;

pub(super) static F1: Statement = Statement {
    id: "F1",
    title: "The spectrum of matrix sensing",
    words: "The population Gauss–Newton matrix has the eigenvalues s²(σ_i(U)² + σ_j(V)²) for i ≤ d₁ \
            and j ≤ d₂, where missing singular values are zeros: d₁d₂ − (d₁ − rank U)(d₂ − rank V) \
            nonzero ones.",
    latex: r"\operatorname{spec}\bar G \setminus \{0\} = \left\{ s^2\left(\sigma_i(U)^2 + \sigma_j(V)^2\right) \right\} \setminus \{0\}",
    hypotheses: SENSING_INPUTS,
    source: FLATMIN,
    check_words: "The spectrum of the dense population matrix, value by value, and the number of its \
                  nonzero eigenvalues where the ranks are beyond doubt.",
    mutant_words: "2σ_j(V)² instead of σ_j(V)², and rank U · rank V nonzero eigenvalues",
    trial: &Trial { generate: MatrixInstance::random, check: check_spectrum },
};

pub(super) static F2: Statement = Statement {
    id: "F2",
    title: "The trace is a nuclear norm",
    words: "The population trace is s²(d₂‖U‖_F² + d₁‖V‖_F²), at least 2s²√(d₁d₂)‖W‖_*. The two are \
            equal if and only if d₂UᵀU = d₁VᵀV: the square of the trace exceeds that of the bound \
            by at least s⁴‖d₂UᵀU − d₁VᵀV‖_*².",
    latex: r"\operatorname{tr}\bar G = s^2\left(d_2\|U\|_F^2 + d_1\|V\|_F^2\right) \ge 2s^2\sqrt{d_1d_2}\,\|W\|_*",
    hypotheses: SENSING_INPUTS,
    source: "flatmin; Ding, Drusvyatskiy, Fazel and Harchaoui (2022) for the trace",
    check_words: "The trace of the dense population matrix against the norms; and at balanced \
                  factors of the same matrix, where the bound is attained.",
    mutant_words: "2d₁‖V‖_F² instead of d₁‖V‖_F², and 4s² instead of 2s²",
    trial: &Trial { generate: MatrixInstance::random, check: check_trace },
};

pub(super) static F3: Statement = Statement {
    id: "F3",
    title: "The Frobenius norm of matrix sensing",
    words: "The squared Frobenius norm of the population matrix is s⁴(d₂‖UUᵀ‖_F² + d₁‖VVᵀ‖_F² + \
            2‖U‖_F²‖V‖_F²), at least 2s⁴(√(d₁d₂)‖W‖_F² + ‖W‖_*²), with equality if and only if \
            √d₂UᵀU = √d₁VᵀV.",
    latex: r"\|\bar G\|_F^2 = s^4\left(d_2\|UU^\top\|_F^2 + d_1\|VV^\top\|_F^2 + 2\|U\|_F^2\|V\|_F^2\right) \ge 2s^4\left(\sqrt{d_1d_2}\,\|W\|_F^2 + \|W\|_*^2\right)",
    hypotheses: SENSING_INPUTS,
    source: FLATMIN,
    check_words: "The Frobenius norm of the dense population matrix against both expressions, with \
                  s⁴‖√d₂UᵀU − √d₁VᵀV‖_F² added to the second; and at balanced factors, where the \
                  bound is attained.",
    mutant_words: "‖U‖_F²‖V‖_F² instead of twice that, and 4s⁴ instead of 2s⁴",
    trial: &Trial { generate: MatrixInstance::random, check: check_frobenius_norm },
};

pub(super) static F4: Statement = Statement {
    id: "F4",
    title: "The largest eigenvalue is a spectral norm",
    words: "The largest eigenvalue of the population matrix is s²(‖U‖₂² + ‖V‖₂²), at least 2s²‖W‖₂, \
            with equality where ‖U‖₂ = ‖V‖₂ with a common top right singular vector.",
    latex: r"\lambda_{\max}(\bar G) = s^2\left(\|U\|_2^2 + \|V\|_2^2\right) \ge 2s^2\|W\|_2",
    hypotheses: SENSING_INPUTS,
    source: FLATMIN,
    check_words: "The largest eigenvalue of the dense population matrix against both expressions; \
                  and at factors with UᵀU = VᵀV, where the bound is attained.",
    mutant_words: "2‖V‖₂² instead of ‖V‖₂², and 4s² instead of 2s²",
    trial: &Trial { generate: MatrixInstance::random, check: check_lambda_max },
};

/// The factors of a matrix, and the variance of the entries of the matrices that measure it.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixInstance {
    model: MatrixSensing,
    parameters: Vec<f64>,
    input_variance: f64,
}

impl MatrixInstance {
    /// The factors `parameters` of `model`, measured by matrices with independent entries of mean
    /// zero and variance `input_variance` = s².
    ///
    /// # Errors
    /// [`InstanceError::Length`] when the parameters do not fit the model.
    pub fn new(
        model: MatrixSensing,
        parameters: Vec<f64>,
        input_variance: f64,
    ) -> Result<Self, InstanceError> {
        expect_length("the parameter vector", parameters.len(), model.parameter_count())?;
        Ok(Self { model, parameters, input_variance })
    }

    fn random(rng: &mut dyn Rng) -> Self {
        let model = random_sensing(rng);
        let parameters = random_factors(model, rng);
        Self { model, parameters, input_variance: power_of_ten(rng, 2.0) }
    }

    /// The eigenvalues of the dense population matrix and its sharpness.
    fn population(&self) -> Result<(Vec<f64>, Sharpness), LedgerError> {
        let Self { model, parameters, input_variance } = self;
        dense_spectrum(&population_jacobian(*model, parameters, *input_variance))
    }

    /// An instance with the matrix of this one and the factors `(d₁/d₂)^exponent P√Σ` and
    /// `(d₂/d₁)^exponent Q√Σ`.
    fn balanced(&self, exponent: f64) -> Self {
        let Self { model, parameters, input_variance } = self;
        let (rows, columns) = (model.rows(), model.columns());
        let ratio = rows as f64 / columns as f64;
        let factors = balanced_factors(
            &model.matrix(parameters),
            model.factor_count(),
            libm::pow(ratio, exponent),
        );
        Self { model: *model, parameters: factors, input_variance: *input_variance }
    }
}

impl Instance for MatrixInstance {
    fn sizes(&self) -> String {
        let Self { model, input_variance, .. } = self;
        let (rows, columns, k) = (model.rows(), model.columns(), model.factor_count());
        format!("d₁ = {rows}, d₂ = {columns}, k = {k}, s² = {input_variance}")
    }
}

/// The norms of the factors and of their product.
struct MatrixNorms {
    /// d₁ and d₂.
    dims: [f64; 2],
    /// `UᵀU` and `VᵀV`.
    grams: [Mat<f64>; 2],
    /// The squared singular values of U, as many as rows, and of V.
    squares: [Vec<f64>; 2],
    /// The singular values of W.
    singular: Vec<f64>,
}

impl MatrixNorms {
    fn new(instance: &MatrixInstance) -> Self {
        let MatrixInstance { model, parameters, .. } = instance;
        let (u, v) = factor_matrices(*model, parameters);
        let squares = [(&u, model.rows()), (&v, model.columns())].map(|(factor, count)| {
            let mut squares: Vec<f64> = singular(factor).iter().map(|s| s * s).collect();
            squares.resize(count, 0.0);
            squares
        });
        Self {
            dims: [model.rows() as f64, model.columns() as f64],
            squares,
            singular: singular(&(&u * v.transpose())),
            grams: [u.transpose() * &u, v.transpose() * &v],
        }
    }

    /// `‖U‖_F²` and `‖V‖_F²`.
    fn frobenius(&self) -> [f64; 2] {
        [0, 1].map(|which: usize| self.squares[which].iter().sum())
    }

    fn nuclear(&self) -> f64 {
        self.singular.iter().sum()
    }

    /// `left UᵀU − right VᵀV`.
    fn imbalance(&self, left: f64, right: f64) -> Mat<f64> {
        let [u, v] = &self.grams;
        faer::Scale(left) * u - faer::Scale(right) * v
    }
}

fn check_spectrum(form: Form, instance: &MatrixInstance) -> Checked {
    let norms = MatrixNorms::new(instance);
    let [rows, columns] = &norms.squares;
    let factor = form.pick(1.0, 2.0);
    let pairs = rows.iter().flat_map(|u| columns.iter().map(move |v| u + factor * v));
    let mut expected: Vec<f64> = pairs.map(|value| instance.input_variance * value).collect();
    expected.sort_by(f64::total_cmp);
    let (found, sharpness) = instance.population()?;
    // Of two lists of different lengths the longer one begins with zeros.
    let count = found.len().max(expected.len());
    let padded = |values: &[f64]| -> Vec<f64> {
        let zeros = std::iter::repeat_n(0.0, count - values.len());
        zeros.chain(values.iter().copied()).collect()
    };
    let scale = sharpness.lambda_max;
    let values = padded(&found).into_iter().zip(padded(&expected));
    let mut comparisons: Vec<Comparison> = values
        .map(|(found, expected)| Comparison::equal("eigenvalues", found, expected, scale))
        .collect();
    // Squared singular values and eigenvalues: zero below the one, nonzero above the other.
    let largest = [rows, columns].into_iter().flatten().fold(0.0_f64, |m, value| m.max(*value));
    let in_doubt = |value: &f64| (1e-14..1e-6).contains(&(value / largest));
    if !(largest > 0.0) || rows.iter().chain(columns).any(in_doubt) {
        return Ok(comparisons);
    }
    let rank = |squares: &[f64]| squares.iter().filter(|s| **s > 1e-10 * largest).count();
    let (u_rank, v_rank) = (rank(rows), rank(columns));
    let count = rows.len() * columns.len() - (rows.len() - u_rank) * (columns.len() - v_rank);
    let claimed = form.pick(count, u_rank * v_rank) as f64;
    let nonzero = found.iter().filter(|value| **value > 1e-10 * scale).count() as f64;
    comparisons.push(Comparison::equal("nonzero eigenvalues", nonzero, claimed, claimed));
    Ok(comparisons)
}

fn check_trace(form: Form, instance: &MatrixInstance) -> Checked {
    let norms = MatrixNorms::new(instance);
    let ([rows, columns], [u, v]) = (norms.dims, norms.frobenius());
    let variance = instance.input_variance;
    let trace = instance.population()?.1.trace;
    let expected = variance * (columns * u + form.pick(1.0, 2.0) * rows * v);
    let bound = form.pick(2.0, 4.0) * variance * (rows * columns).sqrt() * norms.nuclear();
    let imbalance: f64 = singular(&norms.imbalance(columns, rows)).iter().sum();
    let balanced = instance.balanced(0.25).population()?.1.trace;
    Ok(vec![
        Comparison::equal("trace and factors", trace, expected, trace),
        Comparison::at_most("nuclear norm and trace", bound, trace),
        Comparison::at_most(
            "nuclear norm, imbalance and trace",
            (bound.powi(2) + (variance * imbalance).powi(2)).sqrt(),
            trace,
        ),
        Comparison::equal("trace of balanced factors", balanced, bound, bound),
    ])
}

fn check_frobenius_norm(form: Form, instance: &MatrixInstance) -> Checked {
    let norms = MatrixNorms::new(instance);
    let ([rows, columns], [u, v]) = (norms.dims, norms.frobenius());
    let factor = instance.input_variance.powi(2);
    let squared = |instance: &MatrixInstance| -> Result<f64, LedgerError> {
        Ok(instance.population()?.1.frobenius_norm.powi(2))
    };
    let found = squared(instance)?;
    let [u_fourth, v_fourth] =
        [0, 1].map(|which: usize| norms.squares[which].iter().map(|s| s * s).sum::<f64>());
    let cross = form.pick(2.0, 1.0) * u * v;
    let expected = factor * (columns * u_fourth + rows * v_fourth + cross);
    let root = (rows * columns).sqrt();
    let w_squared: f64 = norms.singular.iter().map(|s| s * s).sum();
    let bound = form.pick(2.0, 4.0) * factor * (root * w_squared + norms.nuclear().powi(2));
    let imbalance = norms.imbalance(columns.sqrt(), rows.sqrt()).norm_l2().powi(2);
    // The remainder in the bound is 2(‖U‖_F²‖V‖_F² − ‖W‖_*²) ≥ 0 beside the imbalance.
    let with_imbalance = bound + factor * imbalance;
    let balanced = squared(&instance.balanced(0.125))?;
    Ok(vec![
        Comparison::equal("Frobenius norm and factors", found, expected, found),
        Comparison::at_most("matrix norms and Frobenius norm", bound, found),
        Comparison::at_most("matrix norms, imbalance and Frobenius norm", with_imbalance, found),
        Comparison::equal("Frobenius norm of balanced factors", balanced, bound, bound),
    ])
}

fn check_lambda_max(form: Form, instance: &MatrixInstance) -> Checked {
    let norms = MatrixNorms::new(instance);
    let largest = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let [u, v] = [0, 1].map(|which: usize| largest(&norms.squares[which]));
    let variance = instance.input_variance;
    let lambda_max = instance.population()?.1.lambda_max;
    let expected = variance * (u + form.pick(1.0, 2.0) * v);
    let bound = form.pick(2.0, 4.0) * variance * largest(&norms.singular);
    let balanced = instance.balanced(0.0).population()?.1.lambda_max;
    Ok(vec![
        Comparison::equal("eigenvalue and factors", lambda_max, expected, lambda_max),
        Comparison::at_most("spectral norm and eigenvalue", bound, lambda_max),
        Comparison::equal("eigenvalue of balanced factors", balanced, bound, bound),
    ])
}

#[cfg(test)]
mod tests {
    use flatmin_models::MatrixSensing;

    use super::{MatrixInstance, check_spectrum, check_trace};
    use crate::comparison::TOLERANCE;
    use crate::statement::Form;

    #[test]
    fn more_columns_than_rows_and_a_zero_factor_are_ordinary() {
        let model = MatrixSensing::new(1, 2, 3).unwrap();
        let zero = vec![0.0; 9];
        let mut one_factor = zero.clone();
        one_factor[3..].copy_from_slice(&[1.0, 2.0, 0.0, -1.0, 0.0, 3.0]);
        for parameters in [zero, one_factor] {
            let instance = MatrixInstance::new(model, parameters, 2.0).unwrap();
            for check in [check_spectrum, check_trace] {
                let comparisons = check(Form::Stated, &instance).unwrap();
                assert!(comparisons.iter().all(|c| c.holds(TOLERANCE)), "{comparisons:?}");
            }
        }
        assert!(MatrixInstance::new(model, vec![0.0; 8], 1.0).is_err());
    }
}

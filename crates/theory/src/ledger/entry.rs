//! What each statement says, in words.

use super::{Domain, Statement};

/// The text of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its name in a few words.
    pub title: &'static str,
    /// The statement.
    pub words: &'static str,
    /// The formula.
    pub latex: &'static str,
    /// What it assumes.
    pub hypotheses: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// What is wrong in its mutant.
    pub mutant: &'static str,
    /// What it speaks about.
    pub domain: Domain,
}

const ZERO_LOSS: &str = "a zero-loss minimum, linearised; batches drawn independently, with or \
                         without replacement (not reshuffled by epoch)";
const RELU_INPUTS: &str =
    "inputs from the sphere of radius √d or N(0, I_d); w_j ≠ 0 wherever a_j ≠ 0";
const DIAGONAL_INPUTS: &str = "inputs with independent coordinates of mean 0 and variance s²";
const PAPER: &str = "Wu and Su (2023)";

impl Statement {
    /// The identifier, as in `S2`.
    pub fn id(self) -> &'static str {
        match self {
            Self::S1 => "S1",
            Self::S2 => "S2",
            Self::S3 => "S3",
            Self::S5 => "S5",
            Self::S6 => "S6",
            Self::S7 => "S7",
            Self::R1 => "R1",
            Self::R2 => "R2",
            Self::R3 => "R3",
            Self::R4 => "R4",
            Self::R5 => "R5",
            Self::D1 => "D1",
            Self::D2 => "D2",
            Self::D5 => "D5",
        }
    }

    /// What the statement says.
    #[expect(clippy::too_many_lines, reason = "a table")]
    pub fn entry(self) -> Entry {
        match self {
            Self::S1 => Entry {
                title: "Stability of gradient descent",
                words: "Gradient descent is stable at a minimum if and only if the largest \
                        eigenvalue of the Gauss–Newton matrix is at most 2/η.",
                latex: r"\text{GD stable} \iff \lambda_{\max}(G) \le 2/\eta",
                hypotheses: "a zero-loss minimum, linearised",
                source: PAPER,
                mutant: "4/η instead of 2/η",
                domain: Domain::Minimum,
            },
            Self::S2 => Entry {
                title: "Trace bound",
                words: "Where SGD is mean-square stable, the trace of the Gauss–Newton matrix is at \
                        most 2/(pη); with batches of one, 2/η.",
                latex: r"\text{SGD stable} \implies \operatorname{tr} G \le \frac{2}{p\eta}",
                hypotheses: ZERO_LOSS,
                source: PAPER,
                mutant: "1/(pη) instead of 2/(pη)",
                domain: Domain::Minimum,
            },
            Self::S3 => Entry {
                title: "Frobenius bound",
                words: "Where SGD is mean-square stable, the Frobenius norm of the Gauss–Newton \
                        matrix is at most 2/(√p η), and even at most 1/(η√(p(1−p))) for p ≤ ½ and \
                        2/η for p ≥ ½, which equal-norm tight frames of rank (1−p)/p attain.",
                latex: r"\text{SGD stable} \implies \|G\|_F \le \frac{1}{\eta\sqrt{q(1-q)}} \le \frac{2}{\eta\sqrt{p}},\quad q = \min(p, \tfrac12)",
                hypotheses: ZERO_LOSS,
                source: "flatmin, from S6",
                mutant: "both bounds halved",
                domain: Domain::Minimum,
            },
            Self::S5 => Entry {
                title: "SGD is no more stable than GD",
                words: "Where SGD is mean-square stable, the largest eigenvalue of the Gauss–Newton \
                        matrix is at most 2/η.",
                latex: r"\text{SGD stable} \implies \lambda_{\max}(G) \le 2/\eta",
                hypotheses: ZERO_LOSS,
                source: "standard: the mean must not diverge",
                mutant: "1/η instead of 2/η",
                domain: Domain::Minimum,
            },
            Self::S6 => Entry {
                title: "Spectral bound",
                words: "Where SGD is mean-square stable, the eigenvalues λ_k of the Gauss–Newton \
                        matrix satisfy (1−p)ηλ_max < 2 and p Σ ηλ_k/(2 − (1−p)ηλ_k) ≤ 1. This \
                        implies S2, S3 and S5.",
                latex: r"\text{SGD stable} \implies \sum_k \frac{\eta\lambda_k}{2-(1-p)\eta\lambda_k} \le \frac1p \ \text{ and } \ (1-p)\eta\lambda_{\max} < 2",
                hypotheses: ZERO_LOSS,
                source: "flatmin",
                mutant: "2 − ηλ_k instead of 2 − (1−p)ηλ_k",
                domain: Domain::Minimum,
            },
            Self::S7 => Entry {
                title: "Sufficient condition",
                words: "SGD is mean-square stable up to the learning rate \
                        2/((1−p)λ_max + p max‖g_i‖²).",
                latex: r"\eta \le \frac{2}{(1-p)\lambda_{\max}(G) + p\max_i\|g_i\|^2} \implies \text{SGD stable}",
                hypotheses: ZERO_LOSS,
                source: "flatmin",
                mutant: "the mean of ‖g_i‖² instead of the largest",
                domain: Domain::Minimum,
            },
            Self::R1 => Entry {
                title: "The trace is a weighted norm",
                words: "The trace of the population Gauss–Newton matrix is half the squared norm of \
                        the hidden weights plus d/2 times that of the output weights.",
                latex: r"\operatorname{tr}\bar G = \tfrac12\left(\|W\|_F^2 + d\|a\|^2\right)",
                hypotheses: RELU_INPUTS,
                source: PAPER,
                mutant: "without the factor d",
                domain: Domain::Relu,
            },
            Self::R2 => Entry {
                title: "The trace bounds the path norm",
                words: "The population trace is at least √d times the path norm; what it exceeds it \
                        by is ½ Σ (‖w_j‖ − √d|a_j|)², so they are equal if and only if every neuron \
                        is balanced.",
                latex: r"\operatorname{tr}\bar G = \sqrt d\,\|\theta\|_{\mathcal P} + \tfrac12\sum_j\left(\|w_j\| - \sqrt d\,|a_j|\right)^2 \ge \sqrt d\,\|\theta\|_{\mathcal P}",
                hypotheses: RELU_INPUTS,
                source: PAPER,
                mutant: "2√d instead of √d",
                domain: Domain::Relu,
            },
            Self::R3 => Entry {
                title: "The largest eigenvalue is equivalent to the unweighted norm",
                words: "The largest eigenvalue of the population matrix lies between \
                        max(‖W‖_F²/2π, ‖a‖²/4) and ½(‖W‖_F² + ‖a‖²), hence is at least \
                        ‖θ‖_P/(2√(2π)).",
                latex: r"\max\left(\tfrac{1}{2\pi}\|W\|_F^2, \tfrac14\|a\|^2\right) \le \lambda_{\max}(\bar G) \le \tfrac12\left(\|W\|_F^2 + \|a\|^2\right)",
                hypotheses: RELU_INPUTS,
                source: "flatmin, sharpening Wu and Su (2023)",
                mutant: "lower bounds doubled (the one on the path norm times four), the upper halved",
                domain: Domain::Relu,
            },
            Self::R4 => Entry {
                title: "The Frobenius norm lies between",
                words: "The Frobenius norm of the population matrix is at least its largest \
                        eigenvalue and its trace over the square root of its rank, and at most the \
                        geometric mean of largest eigenvalue and trace.",
                latex: r"\max\left(\lambda_{\max}, \operatorname{tr}/\sqrt{\operatorname{rank}}\right) \le \|\bar G\|_F \le \sqrt{\lambda_{\max}\operatorname{tr}}",
                hypotheses: RELU_INPUTS,
                source: "linear algebra",
                mutant: "lower bounds doubled, the upper halved",
                domain: Domain::Relu,
            },
            Self::R5 => Entry {
                title: "Stable networks have a small path norm",
                words: "Where the population condition of SGD with batches of one holds, tr Ḡ ≤ 2/η, \
                        the path norm is at most 2/(√d η); where that of gradient descent holds, \
                        λ_max(Ḡ) ≤ 2/η, it is at most 4√(2π)/η.",
                latex: r"\operatorname{tr}\bar G \le \tfrac2\eta \implies \|\theta\|_{\mathcal P} \le \frac{2}{\sqrt d\,\eta}, \qquad \lambda_{\max}(\bar G) \le \tfrac2\eta \implies \|\theta\|_{\mathcal P} \le \frac{4\sqrt{2\pi}}{\eta}",
                hypotheses: RELU_INPUTS,
                source: PAPER,
                mutant: "1/(√d η), and √(2π)/(2η)",
                domain: Domain::Relu,
            },
            Self::D1 => Entry {
                title: "Sharpness of diagonal networks is a norm of the coefficients",
                words: "The population trace is 2s² r(θ)‖β‖₁, at least 2s²‖β‖₁; the Frobenius norm \
                        is at least 2s²‖β‖₂ and the largest eigenvalue at least 2s²‖β‖_∞. If \
                        |a_j| = |b_j| for all j all three are equalities; for trace and Frobenius \
                        norm only then.",
                latex: r"\operatorname{tr}\bar G = 2s^2 r(\theta)\|\beta\|_1 \ge 2s^2\|\beta\|_1,\quad \|\bar G\|_F \ge 2s^2\|\beta\|_2,\quad \lambda_{\max}(\bar G) \ge 2s^2\|\beta\|_\infty",
                hypotheses: "inputs with independent coordinates of mean 0 and variance s²; β ≠ 0 \
                             where the balance ratio r(θ) enters",
                source: PAPER,
                mutant: "4s² instead of 2s²",
                domain: Domain::Diagonal,
            },
            Self::D2 => Entry {
                title: "Stable diagonal networks have small coefficients",
                words: "Where the population condition of SGD with batches of one holds, \
                        tr Ḡ ≤ 2/η, the l1 norm of the coefficients is at most 1/(s²η); where that \
                        of gradient descent holds, λ_max(Ḡ) ≤ 2/η, only the largest coefficient is.",
                latex: r"\operatorname{tr}\bar G \le \tfrac2\eta \implies \|\beta\|_1 \le \frac{1}{s^2\eta}, \qquad \lambda_{\max}(\bar G) \le \tfrac2\eta \implies \|\beta\|_\infty \le \frac{1}{s^2\eta}",
                hypotheses: DIAGONAL_INPUTS,
                source: PAPER,
                mutant: "1/(2s²η) instead of 1/(s²η)",
                domain: Domain::Diagonal,
            },
            Self::D5 => Entry {
                title: "A step shrinks the imbalance",
                words: "In a step of SGD the imbalance a_j² − b_j² of a coordinate is multiplied by \
                        1 − η²c_j², where c_j is the mean of residual times input over the batch.",
                latex: r"a_j'^2 - b_j'^2 = (a_j^2 - b_j^2)\left(1 - \eta^2 c_j^2\right),\quad c_j = \tfrac1B\sum_i r_i x_{ij}",
                hypotheses: "none: any batch, residuals and learning rate",
                source: "flatmin",
                mutant: "1 + η²c_j² instead of 1 − η²c_j²",
                domain: Domain::Step,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Statement;

    #[test]
    fn every_entry_is_complete() {
        for statement in Statement::ALL {
            let entry = statement.entry();
            assert_eq!(format!("{statement:?}"), statement.id());
            for text in [entry.title, entry.words, entry.latex, entry.hypotheses, entry.mutant] {
                assert!(!text.is_empty(), "{statement:?}");
            }
            assert_eq!(entry.latex.matches('{').count(), entry.latex.matches('}').count());
        }
    }
}

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
    /// What its check computes on an instance.
    pub check: &'static str,
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
const FLATMIN: &str = "flatmin";

impl Statement {
    /// The identifier, as in `S2`.
    pub fn id(self) -> &'static str {
        match self {
            Self::S1 => "S1",
            Self::S2 => "S2",
            Self::S3 => "S3",
            Self::S4 => "S4",
            Self::S5 => "S5",
            Self::S6 => "S6",
            Self::S7 => "S7",
            Self::S8 => "S8",
            Self::S9 => "S9",
            Self::S10 => "S10",
            Self::S11 => "S11",
            Self::S12 => "S12",
            Self::S13 => "S13",
            Self::S14 => "S14",
            Self::R1 => "R1",
            Self::R2 => "R2",
            Self::R3 => "R3",
            Self::R4 => "R4",
            Self::R5 => "R5",
            Self::R6 => "R6",
            Self::R7 => "R7",
            Self::D1 => "D1",
            Self::D2 => "D2",
            Self::D3 => "D3",
            Self::D4 => "D4",
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
                check: "The spectral radius of I − ηG, formed as a p × p matrix, at the bound and \
                        past it.",
                mutant: "4/η instead of 2/η",
                domain: Domain::Minimum,
            },
            Self::S2 => Entry {
                title: "Trace bound",
                words: "Where SGD is mean-square stable, the trace of the Gauss–Newton matrix is \
                        at most 2/(pη); with batches of one, 2/η.",
                latex: r"\text{SGD stable} \implies \operatorname{tr} G \le \frac{2}{p\eta}",
                hypotheses: ZERO_LOSS,
                source: PAPER,
                check: "The exact threshold by the dense operator against the bound.",
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
                check: "The exact threshold by the dense operator against both bounds.",
                mutant: "both bounds halved",
                domain: Domain::Minimum,
            },
            Self::S4 => Entry {
                title: "Bound by the alignment of the noise",
                words: "Where SGD is stable, the Frobenius norm of the Gauss–Newton matrix is at \
                        most 1/(η√(pμ)), where μ is the least alignment of the centred noise. \
                        With the uncentred alignment χ = min χ_i in its place, at most \
                        1/(η√(p(1−p)χ)) for p ≤ ½ and 2/(η√χ) for p ≥ ½.",
                latex: r"\text{SGD stable} \implies \|G\|_F \le \frac{1}{\eta\sqrt{p\mu}},\quad \mu = \inf_\delta \frac{\operatorname{tr}(S G)}{2R\,\|G\|_F^2} = \frac{\lambda_{\min}\left(U^\top\operatorname{diag}(g_i^\top G g_i)\,U - \Lambda^2\right)}{\|G\|_F^2}",
                hypotheses: ZERO_LOSS,
                source: "Wu and Su (2023), after Wu, Wang and Su (2022); closed form: flatmin",
                check: "The exact threshold by the dense operator against both bounds; and the \
                        alignment at random states, with G and S formed as they are defined, \
                        against its closed-form infimum.",
                mutant: "the uncentred alignment in place of the centred one, which is false for \
                        two equal rows",
                domain: Domain::Minimum,
            },
            Self::S5 => Entry {
                title: "SGD is no more stable than GD",
                words: "Where SGD is mean-square stable, the largest eigenvalue of the \
                        Gauss–Newton matrix is at most 2/η.",
                latex: r"\text{SGD stable} \implies \lambda_{\max}(G) \le 2/\eta",
                hypotheses: ZERO_LOSS,
                source: "standard: the mean must not diverge",
                check: "The exact threshold by the dense operator against the bound.",
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
                source: FLATMIN,
                check: "The exact threshold by the dense operator against the bound, and the \
                        bound against those of S2, S3 and S5.",
                mutant: "2 − ηλ_k instead of 2 − (1−p)ηλ_k",
                domain: Domain::Minimum,
            },
            Self::S7 => Entry {
                title: "Sufficient condition",
                words: "SGD is mean-square stable up to the learning rate 2/((1−p)λ_max + p \
                        max‖g_i‖²).",
                latex: r"\eta \le \frac{2}{(1-p)\lambda_{\max}(G) + p\max_i\|g_i\|^2} \implies \text{SGD stable}",
                hypotheses: ZERO_LOSS,
                source: FLATMIN,
                check: "The bound against the exact threshold by the dense operator.",
                mutant: "the mean of ‖g_i‖² instead of the largest",
                domain: Domain::Minimum,
            },
            Self::S8 => Entry {
                title: "The exact threshold",
                words: "SGD is mean-square stable if and only if the learning rate is at most η* \
                        = 2/λ_max(C†D), which does not fall when batches grow.",
                latex: r"\text{SGD stable} \iff \eta \le \eta^* = \frac{2}{\lambda_{\max}(C^\dagger D)},\quad C(X) = \tfrac12(GX+XG),\quad D(X) = (1-p)\,GXG + \frac pn\sum_i (g_i^\top X g_i)\, g_i g_i^\top",
                hypotheses: ZERO_LOSS,
                source: "Mulayoff and Michaeli (2024)",
                check: "The map of second moments, formed as a matrix from the Jacobian without \
                        an eigendecomposition, has no eigenvalue above 1 at the threshold and has \
                        one at 1.01 times it; the threshold for batches one larger is not smaller.",
                mutant: "1.96/λ_max(C†D) instead of 2/λ_max(C†D), and a threshold that falls as \
                        batches grow",
                domain: Domain::Minimum,
            },
            Self::S9 => Entry {
                title: "The Perron form of the threshold",
                words: "Below 2/((1−p)λ_max), a learning rate is stable if and only if the Perron \
                        root of the n × n matrix M(2/η) is at most 1. M is symmetric without \
                        negative entries, and its Perron root rises strictly with the learning \
                        rate.",
                latex: r"\eta \le \eta^* \iff \rho(M(2/\eta)) \le 1,\quad M(\mu)_{ij} = \frac pn\sum_{kl} \frac{\hat g_{ik}\hat g_{jk}\hat g_{il}\hat g_{jl}}{\mu(\lambda_k+\lambda_l)/2 - (1-p)\lambda_k\lambda_l}",
                hypotheses: "a zero-loss minimum, linearised, with G ≠ 0; p > 0",
                source: FLATMIN,
                check: "M formed entry by entry; its largest eigenvalue at the threshold of the \
                        dense operator, and at learning rates below.",
                mutant: "without the term (1−p)λ_kλ_l, and a Perron root that falls with the \
                        learning rate",
                domain: Domain::Minimum,
            },
            Self::S10 => Entry {
                title: "A certificate from any positive vector",
                words: "For every vector v > 0 the Perron root of M lies between the smallest and \
                        the largest quotient (Mv)_i/v_i, and is at least the Rayleigh quotient of \
                        v. For p = 1 the row sums of M(1) are ‖g_i‖².",
                latex: r"\min_i \frac{(Mv)_i}{v_i} \le \rho(M) \le \max_i \frac{(Mv)_i}{v_i},\qquad \frac{v^\top M v}{v^\top v} \le \rho(M)",
                hypotheses: "those of S9; v > 0",
                source: "Collatz and Wielandt",
                check: "At the threshold of the dense operator, where the Perron root is 1, the \
                        quotients of a vector of ones and of a random positive vector, with M \
                        formed entry by entry.",
                mutant: "lower bounds doubled, the upper one and the row sums' halved",
                domain: Domain::Minimum,
            },
            Self::S11 => Entry {
                title: "The order of the bounds",
                words: "For every minimum the learning rates at which the conditions turn are \
                        ordered: S7 ≤ η* ≤ S6 ≤ min(S2, S3 sharp, S5), S3 sharp ≤ S3, and η* ≤ \
                        S4.",
                latex: r"\text{S7} \le \eta^* \le \text{S6} \le \min(\text{S2}, \text{S3}^\sharp, \text{S5}),\quad \text{S3}^\sharp \le \text{S3},\quad \eta^* \le \text{S4}",
                hypotheses: ZERO_LOSS,
                source: FLATMIN,
                check: "All bounds and the threshold of the dense operator.",
                mutant: "the larger side of each comparison halved",
                domain: Domain::Minimum,
            },
            Self::S12 => Entry {
                title: "The threshold with momentum",
                words: "SGD with heavy-ball momentum β is strictly mean-square stable if and only \
                        if no 4 × 4 matrix L_kl = F_k⊗F_l − pη²λ_kλ_l (bcᵀ)⊗(bcᵀ) of a pair of \
                        modes has a real eigenvalue from 1 on and the Perron root of M, made of \
                        their responses to noise, is below 1; F_k = [[1−ηλ_k, β], [−ηλ_k, β]], b \
                        = (1, 1), c = (1, 0). β = 0 gives S9.",
                latex: r"\text{stable} \iff \text{no } L_{kl} \text{ has a real eigenvalue} \ge 1,\ \rho(M) < 1,\quad M_{ij} = \frac{p\eta^2}{n}\sum_{kl}\hat g_{ik}\hat g_{jk} W_{kl}\,\hat g_{il}\hat g_{jl},\quad W_{kl} = (c\otimes c)^\top (I - L_{kl})^{-1} (b\otimes b)",
                hypotheses: "those of S9, p = 0 included; 0 ≤ β < 1",
                source: FLATMIN,
                check: "The reported interval against bisection on the dense operator on second \
                        moments of (δ, v), which is stable just when X − T(X) = I has a positive \
                        solution; and the Perron form, by 4 × 4 systems, against the dense \
                        operator's verdicts around the threshold and the root 1 at it.",
                mutant: "(1 − β)η* of plain SGD for the threshold, and F_k⊗F_l alone for L_kl",
                domain: Domain::Momentum,
            },
            Self::S13 => Entry {
                title: "The threshold with several outputs",
                words: "For a network with k outputs, whose sample i has the k × p block J_i, D(X) = \
                        (1−p) GXG + (p/n) Σ J_iᵀJ_i X J_iᵀJ_i. Below 2/((1−p)λ_max) a learning rate \
                        is stable if and only if the spectral radius of Φ(2/η) is at most 1, where \
                        Φ(μ) maps n-tuples of symmetric k × k matrices, keeps those that are \
                        positive semidefinite, and falls with μ. For every positive definite tuple \
                        Q, αQ ⪯ Φ(Q) ⪯ βQ implies α ≤ ρ ≤ β. One output gives S9 and S10.",
                latex: r"\eta \le \eta^* \iff \rho(\Phi(2/\eta)) \le 1,\quad \Phi(Q)_i = \hat J_i\left[W(\mu)\circ\frac pn\sum_j \hat J_j^\top Q_j \hat J_j\right]\hat J_i^\top,\quad W_{kl} = \frac{1}{\mu(\lambda_k+\lambda_l)/2 - (1-p)\lambda_k\lambda_l}",
                hypotheses: "a zero-loss minimum, linearised, with G ≠ 0; the loss (1/2n) Σ ‖f(x_i) − \
                             y_i‖²; p > 0",
                source: FLATMIN,
                check: "The threshold of the dense operator against the reported interval and \
                        against Φ, formed block by block: its root is 1 there, at most 1 one \
                        per cent below and at least 1 one per cent past it; quotients of a \
                        random positive definite tuple enclose 1, and its image has no negative \
                        eigenvalue; D(Y*) = (2/η*) C(Y*) for the Y* of S14.",
                mutant: "the outputs of a sample as samples of their own, without what couples \
                         them; lower bounds doubled and upper ones halved",
                domain: Domain::Outputs,
            },
            Self::S14 => Entry {
                title: "A Lyapunov function that is exact up to the threshold",
                words: "There is a positive semidefinite Y*, with D(Y*) = (2/η*) C(Y*), such that \
                        V(δ) = δᵀY*δ changes in a step by −η(η* − η) δᵀD(Y*)δ on average, from \
                        every state and for every learning rate: V is a supermartingale exactly \
                        up to the threshold.",
                latex: r"\mathbb E\,V(\delta') - V(\delta) = -\eta(\eta^* - \eta)\,\delta^\top D(Y^*)\,\delta",
                hypotheses: "those of S2, and G ≠ 0",
                source: FLATMIN,
                check: "V after a step, averaged over every single batch, from random states at \
                        0.3, 1 and 1.7 times the threshold.",
                mutant: "2η* − η instead of η* − η",
                domain: Domain::Minimum,
            },
            Self::R1 => Entry {
                title: "The trace is a weighted norm",
                words: "The trace of the population Gauss–Newton matrix is half the squared norm \
                        of the hidden weights plus d/2 times that of the output weights.",
                latex: r"\operatorname{tr}\bar G = \tfrac12\left(\|W\|_F^2 + d\|a\|^2\right)",
                hypotheses: RELU_INPUTS,
                source: PAPER,
                check: "The trace of the population operator; and the mean of ‖∇f(x)‖² over \
                        random inputs, with rigorous confidence.",
                mutant: "without the factor d",
                domain: Domain::Relu,
            },
            Self::R2 => Entry {
                title: "The trace bounds the path norm",
                words: "The population trace is at least √d times the path norm; what it exceeds \
                        it by is ½ Σ (‖w_j‖ − √d|a_j|)², so they are equal if and only if every \
                        neuron is balanced.",
                latex: r"\operatorname{tr}\bar G = \sqrt d\,\|\theta\|_{\mathcal P} + \tfrac12\sum_j\left(\|w_j\| - \sqrt d\,|a_j|\right)^2 \ge \sqrt d\,\|\theta\|_{\mathcal P}",
                hypotheses: RELU_INPUTS,
                source: PAPER,
                check: "The trace of the population operator against the norms.",
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
                check: "The largest eigenvalue of the population matrix, formed dense, against \
                        the norms.",
                mutant: "lower bounds doubled (the one on the path norm times four), the upper \
                        halved",
                domain: Domain::Relu,
            },
            Self::R4 => Entry {
                title: "The Frobenius norm lies between",
                words: "The Frobenius norm of the population matrix is at least its largest \
                        eigenvalue and its trace over the square root of its rank, and at most \
                        the geometric mean of largest eigenvalue and trace.",
                latex: r"\max\left(\lambda_{\max}, \operatorname{tr}/\sqrt{\operatorname{rank}}\right) \le \|\bar G\|_F \le \sqrt{\lambda_{\max}\operatorname{tr}}",
                hypotheses: RELU_INPUTS,
                source: "linear algebra",
                check: "The sharpness of the population matrix, with its largest eigenvalue from \
                        the dense matrix.",
                mutant: "lower bounds doubled, the upper halved",
                domain: Domain::Relu,
            },
            Self::R5 => Entry {
                title: "Stable networks have a small path norm",
                words: "Where the population condition of SGD with batches of one holds, tr Ḡ ≤ \
                        2/η, the path norm is at most 2/(√d η); where that of gradient descent \
                        holds, λ_max(Ḡ) ≤ 2/η, it is at most 4√(2π)/η.",
                latex: r"\operatorname{tr}\bar G \le \tfrac2\eta \implies \|\theta\|_{\mathcal P} \le \frac{2}{\sqrt d\,\eta}, \qquad \lambda_{\max}(\bar G) \le \tfrac2\eta \implies \|\theta\|_{\mathcal P} \le \frac{4\sqrt{2\pi}}{\eta}",
                hypotheses: RELU_INPUTS,
                source: PAPER,
                check: "The path norm against both bounds at the largest learning rate that each \
                        condition admits.",
                mutant: "1/(√d η), and √(2π)/(2η)",
                domain: Domain::Relu,
            },
            Self::R6 => Entry {
                title: "The path norm bounds the Rademacher complexity",
                words: "The Rademacher complexity of the two-layer ReLU networks of any width \
                        with path norm at most Q, on n inputs, is at most 2Q√(mean ‖x_i‖²)/√n.",
                latex: r"\mathbb E_\sigma \sup_{\|\theta\|_{\mathcal P}\le Q} \frac1n\sum_i \sigma_i f(x_i;\theta) \le \frac{2Q\sqrt{\tfrac1n\sum_i\|x_i\|^2}}{\sqrt n}",
                hypotheses: "any inputs",
                source: PAPER,
                check: "The exact complexity of at most 8 inputs of dimension 1 or 2: for each of \
                        the 2ⁿ signs the best single neuron, found exactly on every arc of \
                        directions on which no input changes its sign.",
                mutant: "the constant ½ instead of 2",
                domain: Domain::Sample,
            },
            Self::R7 => Entry {
                title: "A step balances a neuron",
                words: "In a step on one sample with residual r, a_j² − ‖w_j‖² grows by \
                        η²r²((w_jᵀx)² − a_j²‖x‖²) if the neuron is active, and not at all \
                        otherwise.",
                latex: r"a_j'^2 - \|w_j'\|^2 = a_j^2 - \|w_j\|^2 + \eta^2 r^2\,\mathbf 1(w_j^\top x > 0)\left((w_j^\top x)^2 - a_j^2\|x\|^2\right)",
                hypotheses: "none: any input, residual and learning rate",
                source: FLATMIN,
                check: "Both sides for every neuron, after a step through the gradient of the \
                        model.",
                mutant: "+ a_j²‖x‖² instead of − a_j²‖x‖²",
                domain: Domain::ReluStep,
            },
            Self::D1 => Entry {
                title: "Sharpness of diagonal networks is a norm of the coefficients",
                words: "The population trace is 2s² r(θ)‖β‖₁, at least 2s²‖β‖₁; the Frobenius \
                        norm is at least 2s²‖β‖₂ and the largest eigenvalue at least 2s²‖β‖_∞. If \
                        |a_j| = |b_j| for all j all three are equalities; for trace and Frobenius \
                        norm only then.",
                latex: r"\operatorname{tr}\bar G = 2s^2 r(\theta)\|\beta\|_1 \ge 2s^2\|\beta\|_1,\quad \|\bar G\|_F \ge 2s^2\|\beta\|_2,\quad \lambda_{\max}(\bar G) \ge 2s^2\|\beta\|_\infty",
                hypotheses: "inputs with independent coordinates of mean 0 and variance s²; β ≠ 0 \
                             where the balance ratio r(θ) enters",
                source: PAPER,
                check: "The sharpness of the dense population matrix against the norms; and the \
                        mean of ‖∇f(x)‖² over random inputs, with rigorous confidence.",
                mutant: "4s² instead of 2s²",
                domain: Domain::Diagonal,
            },
            Self::D2 => Entry {
                title: "Stable diagonal networks have small coefficients",
                words: "Where the population condition of SGD with batches of one holds, tr Ḡ ≤ \
                        2/η, the l1 norm of the coefficients is at most 1/(s²η); where that of \
                        gradient descent holds, λ_max(Ḡ) ≤ 2/η, only the largest coefficient is.",
                latex: r"\operatorname{tr}\bar G \le \tfrac2\eta \implies \|\beta\|_1 \le \frac{1}{s^2\eta}, \qquad \lambda_{\max}(\bar G) \le \tfrac2\eta \implies \|\beta\|_\infty \le \frac{1}{s^2\eta}",
                hypotheses: DIAGONAL_INPUTS,
                source: PAPER,
                check: "The norms against both bounds at the largest learning rate that each \
                        condition admits.",
                mutant: "1/(2s²η) instead of 1/(s²η)",
                domain: Domain::Diagonal,
            },
            Self::D3 => Entry {
                title: "Recovery by stability",
                words: "At the learning rate 1/(s²‖β*‖₁) every interpolator β of the measurements \
                        of β* that the population condition of SGD admits, tr Ḡ ≤ 2/η, has ‖β‖₁ ≤ \
                        ‖β*‖₁; so it is β* itself wherever basis pursuit recovers β*.",
                latex: r"X\beta = X\beta^*,\ \operatorname{tr}\bar G \le \frac2\eta,\ \eta = \frac{1}{s^2\|\beta^*\|_1} \implies \|\beta\|_1 \le \|\beta^*\|_1",
                hypotheses: "inputs with independent coordinates of mean 0 and variance s²; β* ≠ 0",
                source: FLATMIN,
                check: "All basic interpolators, by elimination for every support, the shortest \
                        one and points between them and β*, with balanced and unbalanced layers: \
                        those that the trace admits against β*, and all of them against the \
                        optimum of basis pursuit.",
                mutant: "half the learning rate, 1/(2s²‖β*‖₁)",
                domain: Domain::Recovery,
            },
            Self::D4 => Entry {
                title: "The condition of gradient descent is too weak",
                words: "The interpolator of least ℓ2 norm, with balanced layers, is admitted by \
                        the population condition of gradient descent wherever the balanced β* is, \
                        as soon as its largest coefficient is not larger; yet its expected \
                        squared error is exactly (1 − n/d)‖β*‖², or 1 − E[rank X]/d of it for \
                        designs that can lose rank. SGD's condition excludes it at 1/(s²‖β*‖₁) \
                        where its ℓ1 norm is larger.",
                latex: r"\mathbb E\|\hat\beta - \beta^*\|^2 = \left(1 - \frac{\mathbb E\operatorname{rank} X}{d}\right)\|\beta^*\|^2",
                hypotheses: "n × d designs with independent entries of one symmetric law of variance s²",
                source: "Wu and Su (2023), made exact",
                check: "The error over independent random designs, uniform or of signs, against \
                        its expectation with rigorous confidence; and on single designs both \
                        conditions, from the dense population matrix.",
                mutant: "n/d instead of 1 − n/d, SGD's condition for that of gradient descent, and \
                        half the learning rate for SGD",
                domain: Domain::Interpolation,
            },
            Self::D5 => Entry {
                title: "A step shrinks the imbalance",
                words: "In a step of SGD the imbalance a_j² − b_j² of a coordinate is multiplied \
                        by 1 − η²c_j², where c_j is the mean of residual times input over the \
                        batch.",
                latex: r"a_j'^2 - b_j'^2 = (a_j^2 - b_j^2)\left(1 - \eta^2 c_j^2\right),\quad c_j = \tfrac1B\sum_i r_i x_{ij}",
                hypotheses: "none: any batch, residuals and learning rate",
                source: FLATMIN,
                check: "Both sides for every coordinate, after a step through the gradient of the \
                        model.",
                mutant: "1 + η²c_j² instead of 1 − η²c_j²",
                domain: Domain::DiagonalStep,
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
            for text in
                [entry.title, entry.words, entry.latex, entry.hypotheses, entry.check, entry.mutant]
            {
                assert!(!text.is_empty(), "{statement:?}");
            }
            assert_eq!(entry.latex.matches('{').count(), entry.latex.matches('}').count());
        }
    }
}

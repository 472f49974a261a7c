//! The benchmarks: names, sizes, how they are run, and what limits them.

use super::peers::{self, Work};
use crate::named::Names;

/// A benchmark.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bench {
    pub(crate) name: &'static str,
    /// The size of the problem, in words.
    pub(crate) size: &'static str,
    /// One of [`TABLES`].
    pub(crate) table: &'static str,
    pub(crate) how: How,
    pub(crate) limit: Option<Limit>,
    /// The work that other libraries do for comparison.
    pub(crate) work: Option<&'static Work>,
}

/// The tables of `docs/performance.md`, as the comments that mark them name them.
pub(crate) const TABLES: [&str; 6] =
    ["steps", "curvature", "thresholds", "large thresholds", "programs", "paper"];

/// How a benchmark is run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    /// A benchmark of a bench target, by criterion. The id is the full one.
    Criterion { target: &'static str, id: &'static str },
    /// The example `threshold_growth`, which times a threshold on all cores in a process of its
    /// own.
    Threshold { samples: &'static str, batch_size: &'static str },
    /// A fresh reproduction, as a process.
    Reproduce { profile: &'static str, threads: &'static str },
    /// `flatmin --version`.
    StartUp,
}

/// The least time that a benchmark can take here, from measured rates of the processor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) words: &'static str,
    /// Their times are added.
    pub(crate) terms: &'static [Term],
    /// The terms are for one product with the operator of a threshold, and all cores share them.
    pub(crate) is_per_product: bool,
}

/// Elements (steps or operations) at the fastest of some measured rates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term {
    pub(crate) elements: f64,
    /// Ids in the bench target `limits`.
    pub(crate) fastest_of: &'static [&'static str],
}

/// The bench target that measures the rates for the limits.
pub(crate) const LIMITS: &str = "limits";

/// The peak rate of the processor, for the record. No benchmark could reach it.
pub(crate) const PEAK: &str = "limit/fma";

/// The benchmarks by name.
pub(crate) const NAMES: Names<Bench> =
    Names { kind: "benchmarks", all: BENCHES, name: |bench| bench.name };

impl Bench {
    const fn new(name: &'static str, size: &'static str, table: &'static str, how: How) -> Self {
        Self { name, size, table, how, limit: None, work: None }
    }

    /// A step of training, timed by the bench target `steps`.
    const fn step(name: &'static str, size: &'static str, id: &'static str) -> Self {
        Self::new(name, size, "steps", How::Criterion { target: "steps", id })
    }

    const fn threshold(
        name: &'static str,
        size: &'static str,
        [samples, batch_size]: [&'static str; 2],
        terms: &'static [Term],
    ) -> Self {
        let words =
            "its products with M at the rate of dense products, all cores; no eigendecomposition";
        let limit = Some(Limit { words, terms, is_per_product: true });
        let how = How::Threshold { samples, batch_size };
        Self { limit, ..Self::new(name, size, "thresholds", how) }
    }

    const fn reproduce(
        name: &'static str,
        size: &'static str,
        table: &'static str,
        [profile, threads]: [&'static str; 2],
    ) -> Self {
        Self::new(name, size, table, How::Reproduce { profile, threads })
    }

    const fn at_most(self, words: &'static str, terms: &'static [Term]) -> Self {
        Self { limit: Some(Limit { words, terms, is_per_product: false }), ..self }
    }

    const fn with_peers(self, work: &'static Work) -> Self {
        Self { work: Some(work), ..self }
    }

    /// True if it takes minutes, and is left out unless it is named.
    pub(crate) fn is_long(&self) -> bool {
        ["large thresholds", "paper"].contains(&self.table)
    }
}

const fn term(elements: f64, fastest_of: &'static [&'static str]) -> Term {
    Term { elements, fastest_of }
}

/// The two ways to form a dense product, by flatmin and by faer.
macro_rules! product {
    ($size:literal) => {
        &[concat!("limit/product,", $size, "/own"), concat!("limit/product,", $size, "/faer")]
    };
}

const PRODUCT_300: &[&str] = product!("m=300,n=300,k=300");
const PRODUCT_1000: &[&str] = product!("m=1000,n=1000,k=1000");
const THRESHOLD_2000: &[Term] = &[term(16e9, PRODUCT_1000)];

const RELU: &str = "m = d = 100, n = 300";
const DIAGONAL: &str = "d = 1000, n = 300";

/// All benchmarks, in the order in which they run.
pub(crate) const BENCHES: &[Bench] = &[
    Bench::step("sgd_step_relu", RELU, "sgd_epoch_relu/n=300,m=100,d=100/fused")
        .at_most(
            "40·10³ operations, those of two dense products, at the rate of multiply-adds in registers",
            &[term(40e3, &[PEAK])],
        )
        .with_peers(&peers::RELU_SGD),
    // A bound for a step that sweeps over its weights, which lie in the second-level cache.
    Bench::new(
        "sweep_of_weights_a_step",
        RELU,
        "steps",
        How::Criterion { target: LIMITS, id: "limit/relu_step" },
    ),
    Bench::step("sgd_step_diagonal", DIAGONAL, "sgd_epoch_diagonal/n=300,d=1000/fused")
        .at_most(
            "its loads, stores and vector operations without waiting for a residual, as measured",
            &[term(1.0, &["limit/diagonal_step"])],
        )
        .with_peers(&peers::DIAGONAL_SGD),
    Bench::step(
        "sgd_step_mlp",
        "64-64-64-1, tanh, n = 300",
        "sgd_epoch_mlp/n=300,64-64-64-1,tanh/fused",
    ),
    Bench::step("gd_step_relu", RELU, "gd_step_relu/n=300,m=100,d=100/fused")
        .at_most(
            "12·10⁶ operations at the rate of its two dense products",
            &[
                term(6e6, product!("m=304,n=100,k=100")),
                term(6e6, product!("m=104,n=100,k=300")),
            ],
        )
        .with_peers(&peers::RELU_GD),
    Bench::step("gd_step_diagonal", DIAGONAL, "gd_step_diagonal/n=300,d=1000/fused")
        .with_peers(&peers::DIAGONAL_GD),
    Bench::step(
        "gd_step_mlp",
        "64-64-64-1, ReLU, n = 300",
        "gd_step_mlp/n=300,64-64-64-1,relu/fused",
    )
    .at_most(
        "12.4·10⁶ operations, those of its dense products, at the rate of multiply-adds in registers",
        &[term(12.4e6, &[PEAK])],
    ),
    Bench::step("sgd_step_relu_float32", RELU, "sgd_epoch_relu/n=300,m=100,d=100/float32"),
    Bench::step("sgd_step_diagonal_float32", DIAGONAL, "sgd_epoch_diagonal/n=300,d=1000/float32"),
    Bench::step("gd_step_relu_float32", RELU, "gd_step_relu/n=300,m=100,d=100/float32"),
    Bench::new(
        "metrics_relu_300",
        RELU,
        "curvature",
        How::Criterion { target: "metrics", id: "metrics/relu,m=100,d=100/n=300" },
    ),
    Bench::new(
        "metrics_relu_2000",
        "m = d = 100, n = 2000",
        "curvature",
        How::Criterion { target: "metrics", id: "metrics/relu,m=100,d=100/n=2000" },
    ),
    // An operation is a multiplication or an addition. With the passes at θ kept, a product takes
    // two dense products in the first layer (forward, gradient) and six in each of the others.
    Bench::new(
        "hessian_vector_product_mlp",
        "784-256-256-10, tanh, n = 1000",
        "curvature",
        How::Criterion {
            target: "products",
            id: "products,784-256-256-10,n=1000/tanh,hessian/1 thread",
        },
    )
    .at_most(
        "1.6·10⁹ operations at the rate of its dense products",
        &[
            term(2.0 * 1000.0 * 784.0 * 256.0, product!("m=1000,n=256,k=784")),
            term(2.0 * 1000.0 * 784.0 * 256.0, product!("m=784,n=256,k=1000")),
            term(
                4.0 * 2.0 * 1000.0 * 256.0 * 256.0 + 6.0 * 2.0 * 1000.0 * 256.0 * 10.0,
                product!("m=1000,n=256,k=256"),
            ),
            term(2.0 * 2.0 * 1000.0 * 256.0 * 256.0, product!("m=256,n=256,k=1000")),
        ],
    )
    .with_peers(&peers::PRODUCT),
    // The passes at θ, two for each block of samples, are not among the operations of the limit.
    Bench::new(
        "jacobian_products_mlp",
        "784-256-256-10, ReLU, n = 4096, 16 vectors",
        "curvature",
        How::Criterion {
            target: "products",
            id: "jacobian,784-256-256-10,n=4096/relu,both, 16 vectors/1 thread",
        },
    )
    .at_most(
        "88·10⁹ operations, of 16 products with J and 16 with Jᵀ, at the rate of dense products",
        &[
            term(16.0 * 2.0 * 4096.0 * 784.0 * 256.0, product!("m=1000,n=256,k=784")),
            term(16.0 * 2.0 * 4096.0 * 784.0 * 256.0, product!("m=784,n=256,k=1000")),
            term(
                16.0 * 2.0 * 4096.0 * (3.0 * 256.0 * 256.0 + 4.0 * 256.0 * 10.0),
                product!("m=1000,n=256,k=256"),
            ),
            term(16.0 * 2.0 * 4096.0 * 256.0 * 256.0, product!("m=256,n=256,k=1000")),
        ],
    ),
    // A product with the operator of a threshold takes 2n³ operations: both of its matrix products
    // are symmetric.
    Bench::threshold("threshold_300", "n = 300, B = 1", ["300", "1"], &[term(54e6, PRODUCT_300)]),
    Bench::threshold("threshold_1000", "n = 1000, B = 1", ["1000", "1"], &[term(2e9, PRODUCT_1000)]),
    Bench::threshold("threshold_2000", "n = 2000, B = 1", ["2000", "1"], THRESHOLD_2000),
    Bench::threshold("threshold_2000_batch_8", "n = 2000, B = 8", ["2000", "8"], THRESHOLD_2000),
    Bench {
        table: "large thresholds",
        ..Bench::threshold(
            "threshold_10000",
            "n = 10 000, B = 1",
            ["10000", "1"],
            &[term(2e12, PRODUCT_1000)],
        )
    },
    Bench::reproduce("reproduce_quick", "profile quick, 1 thread", "programs", ["quick", "1"]),
    Bench::reproduce("reproduce_quick_2_threads", "profile quick, 2 threads", "programs", ["quick", "2"]),
    Bench::reproduce("reproduce_paper", "profile paper, 1 thread", "paper", ["paper", "1"]),
    Bench::reproduce("reproduce_paper_2_threads", "profile paper, 2 threads", "paper", ["paper", "2"]),
    Bench::new("start_up", "flatmin --version", "programs", How::StartUp),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{BENCHES, How, Limit, TABLES};

    #[test]
    fn names_are_taken_once() {
        let names: BTreeSet<&str> = BENCHES.iter().map(|bench| bench.name).collect();
        assert_eq!(names.len(), BENCHES.len());
        assert!(BENCHES.iter().all(|bench| TABLES.contains(&bench.table)));
    }

    /// Ids are given to criterion as regular expressions.
    #[test]
    fn ids_are_regular_expressions_for_themselves() {
        let limits = BENCHES.iter().filter_map(|bench| bench.limit.as_ref());
        let limits = limits.flat_map(|Limit { terms, .. }| terms.iter());
        let limits = limits.flat_map(|term| term.fastest_of.iter().copied());
        let ids = BENCHES.iter().filter_map(|bench| match &bench.how {
            How::Criterion { id, .. } => Some(*id),
            _ => None,
        });
        for id in ids.chain(limits) {
            assert!(!id.contains(|c| r"\.+*?()|[]{}^$".contains(c)), "{id}");
        }
    }
}

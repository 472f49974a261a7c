//! Every benchmark: its name, what it works on, how it is run, and what limits it.

/// A benchmark.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) name: &'static str,
    /// What it works on, in words.
    pub(crate) size: &'static str,
    pub(crate) table: Table,
    pub(crate) how: How,
    pub(crate) limit: Option<Limit>,
    /// What other libraries are given to do the same.
    pub(crate) work: Option<Work>,
    /// Left out unless it is named: it takes minutes.
    pub(crate) only_when_named: bool,
}

/// The tables of `docs/performance.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Steps,
    Curvature,
    Thresholds,
    LargeThresholds,
    Programs,
    Paper,
}

impl Table {
    pub(crate) const ALL: [Self; 6] = [
        Self::Steps,
        Self::Curvature,
        Self::Thresholds,
        Self::LargeThresholds,
        Self::Programs,
        Self::Paper,
    ];

    /// Its name in the comments that mark it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Curvature => "curvature",
            Self::Thresholds => "thresholds",
            Self::LargeThresholds => "large thresholds",
            Self::Programs => "programs",
            Self::Paper => "paper",
        }
    }
}

/// How a benchmark is run.
#[derive(Debug)]
pub(crate) enum How {
    /// By criterion: one of the benchmarks of a target.
    Criterion(Criterion),
    /// The example `threshold_growth`, a process of its own on all cores that times the threshold itself.
    Threshold { samples: &'static str, batch_size: &'static str },
    /// A fresh reproduction, as a process.
    Reproduce { profile: &'static str, threads: &'static str },
    /// `flatmin --version`.
    StartUp,
}

/// A benchmark of criterion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Criterion {
    /// The bench target.
    pub(crate) target: &'static str,
    /// The full id.
    pub(crate) id: &'static str,
}

/// The least time that a benchmark can take here, from what the processor was seen to do.
#[derive(Debug)]
pub(crate) struct Limit {
    pub(crate) words: &'static str,
    /// They add up.
    pub(crate) terms: &'static [Term],
    /// The terms are of one product with the operator of a threshold, and all cores share them.
    pub(crate) is_per_product: bool,
}

/// So many elements (steps, operations) at the rate of the fastest of the measured ways.
#[derive(Debug)]
pub(crate) struct Term {
    pub(crate) elements: f64,
    /// Ids in the bench target `limits`.
    pub(crate) fastest_of: &'static [&'static str],
}

/// What is handed to other libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    ReluSgd,
    ReluGd,
    DiagonalSgd,
    DiagonalGd,
    Product,
}

/// The bench target that measures the limits.
pub(crate) const LIMITS: &str = "limits";

/// The most that the processor can do, for the record: no benchmark could reach it.
pub(crate) const PEAK: &str = "limit/fma";

/// The benchmark of this name.
pub(crate) fn find(name: &str) -> Option<&'static Bench> {
    BENCHES.iter().find(|bench| bench.name == name)
}

const RELU: &str = "m = d = 100, n = 300";
const DIAGONAL: &str = "d = 1000, n = 300";

const fn criterion(
    name: &'static str,
    size: &'static str,
    table: Table,
    target: &'static str,
    id: &'static str,
) -> Bench {
    let how = How::Criterion(Criterion { target, id });
    Bench { name, size, table, how, limit: None, work: None, only_when_named: false }
}

const fn threshold(
    name: &'static str,
    size: &'static str,
    samples: &'static str,
    batch_size: &'static str,
    terms: &'static [Term],
) -> Bench {
    let words =
        "its products with M at the rate of dense products, all cores; no eigendecomposition";
    Bench {
        name,
        size,
        table: Table::Thresholds,
        how: How::Threshold { samples, batch_size },
        limit: Some(Limit { words, terms, is_per_product: true }),
        work: None,
        only_when_named: false,
    }
}

const fn reproduce(
    name: &'static str,
    size: &'static str,
    table: Table,
    profile: &'static str,
    threads: &'static str,
) -> Bench {
    let only_when_named = matches!(table, Table::Paper);
    let how = How::Reproduce { profile, threads };
    Bench { name, size, table, how, limit: None, work: None, only_when_named }
}

const fn at_most(words: &'static str, terms: &'static [Term]) -> Limit {
    Limit { words, terms, is_per_product: false }
}

const PRODUCT_300: &[&str] =
    &["limit/product,m=300,n=300,k=300/own", "limit/product,m=300,n=300,k=300/faer"];
const PRODUCT_1000: &[&str] =
    &["limit/product,m=1000,n=1000,k=1000/own", "limit/product,m=1000,n=1000,k=1000/faer"];
const PRODUCT_1000_256_256: &[&str] =
    &["limit/product,m=1000,n=256,k=256/own", "limit/product,m=1000,n=256,k=256/faer"];

/// All of them, in the order in which they run.
pub(crate) const BENCHES: &[Bench] = &[
    Bench {
        limit: Some(at_most(
            "40·10³ operations, those of two dense products, at the rate of multiply-adds in registers",
            &[Term { elements: 40e3, fastest_of: &[PEAK] }],
        )),
        work: Some(Work::ReluSgd),
        ..criterion(
            "sgd_step_relu",
            RELU,
            Table::Steps,
            "steps",
            "sgd_epoch_relu/n=300,m=100,d=100/fused",
        )
    },
    // What such a step could not be faster than if it swept over its weights: they lie in the
    // second-level cache.
    criterion("sweep_of_weights_a_step", RELU, Table::Steps, LIMITS, "limit/relu_step"),
    Bench {
        limit: Some(at_most(
            "its loads, stores and vector operations without waiting for a residual, as measured",
            &[Term { elements: 1.0, fastest_of: &["limit/diagonal_step"] }],
        )),
        work: Some(Work::DiagonalSgd),
        ..criterion(
            "sgd_step_diagonal",
            DIAGONAL,
            Table::Steps,
            "steps",
            "sgd_epoch_diagonal/n=300,d=1000/fused",
        )
    },
    criterion(
        "sgd_step_mlp",
        "64-64-64-1, tanh, n = 300",
        Table::Steps,
        "steps",
        "sgd_epoch_mlp/n=300,64-64-64-1,tanh/fused",
    ),
    Bench {
        limit: Some(at_most(
            "12·10⁶ operations at the rate of its two dense products",
            &[
                Term {
                    elements: 6e6,
                    fastest_of: &[
                        "limit/product,m=304,n=100,k=100/own",
                        "limit/product,m=304,n=100,k=100/faer",
                    ],
                },
                Term {
                    elements: 6e6,
                    fastest_of: &[
                        "limit/product,m=104,n=100,k=300/own",
                        "limit/product,m=104,n=100,k=300/faer",
                    ],
                },
            ],
        )),
        work: Some(Work::ReluGd),
        ..criterion(
            "gd_step_relu",
            RELU,
            Table::Steps,
            "steps",
            "gd_step_relu/n=300,m=100,d=100/fused",
        )
    },
    Bench {
        work: Some(Work::DiagonalGd),
        ..criterion(
            "gd_step_diagonal",
            DIAGONAL,
            Table::Steps,
            "steps",
            "gd_step_diagonal/n=300,d=1000/fused",
        )
    },
    Bench {
        limit: Some(at_most(
            "12.4·10⁶ operations, those of its dense products, at the rate of multiply-adds in registers",
            &[Term { elements: 12.4e6, fastest_of: &[PEAK] }],
        )),
        ..criterion(
            "gd_step_mlp",
            "64-64-64-1, ReLU, n = 300",
            Table::Steps,
            "steps",
            "gd_step_mlp/n=300,64-64-64-1,relu/fused",
        )
    },
    criterion(
        "sgd_step_relu_float32",
        RELU,
        Table::Steps,
        "steps",
        "sgd_epoch_relu/n=300,m=100,d=100/float32",
    ),
    criterion(
        "sgd_step_diagonal_float32",
        DIAGONAL,
        Table::Steps,
        "steps",
        "sgd_epoch_diagonal/n=300,d=1000/float32",
    ),
    criterion(
        "gd_step_relu_float32",
        RELU,
        Table::Steps,
        "steps",
        "gd_step_relu/n=300,m=100,d=100/float32",
    ),
    criterion(
        "metrics_relu_300",
        RELU,
        Table::Curvature,
        "metrics",
        "metrics/relu,m=100,d=100/n=300",
    ),
    criterion(
        "metrics_relu_2000",
        "m = d = 100, n = 2000",
        Table::Curvature,
        "metrics",
        "metrics/relu,m=100,d=100/n=2000",
    ),
    // An operation is a multiplication or an addition. With the passes at θ kept, a product takes two dense
    // products in the first layer (forward, gradient) and six in each of the others.
    Bench {
        limit: Some(at_most(
            "1.6·10⁹ operations at the rate of its dense products",
            &[
                Term {
                    elements: 2.0 * 1000.0 * 784.0 * 256.0,
                    fastest_of: &[
                        "limit/product,m=1000,n=256,k=784/own",
                        "limit/product,m=1000,n=256,k=784/faer",
                    ],
                },
                Term {
                    elements: 2.0 * 1000.0 * 784.0 * 256.0,
                    fastest_of: &[
                        "limit/product,m=784,n=256,k=1000/own",
                        "limit/product,m=784,n=256,k=1000/faer",
                    ],
                },
                Term {
                    elements: 4.0 * 2.0 * 1000.0 * 256.0 * 256.0
                        + 6.0 * 2.0 * 1000.0 * 256.0 * 10.0,
                    fastest_of: PRODUCT_1000_256_256,
                },
                Term {
                    elements: 2.0 * 2.0 * 1000.0 * 256.0 * 256.0,
                    fastest_of: &[
                        "limit/product,m=256,n=256,k=1000/own",
                        "limit/product,m=256,n=256,k=1000/faer",
                    ],
                },
            ],
        )),
        work: Some(Work::Product),
        ..criterion(
            "hessian_vector_product_mlp",
            "784-256-256-10, tanh, n = 1000",
            Table::Curvature,
            "products",
            "products,784-256-256-10,n=1000/tanh,hessian/1 thread",
        )
    },
    // 2n³ operations a product: both of its products of matrices are symmetric.
    threshold(
        "threshold_300",
        "n = 300, B = 1",
        "300",
        "1",
        &[Term { elements: 2.0 * 300.0 * 300.0 * 300.0, fastest_of: PRODUCT_300 }],
    ),
    threshold(
        "threshold_1000",
        "n = 1000, B = 1",
        "1000",
        "1",
        &[Term { elements: 2.0 * 1000.0 * 1000.0 * 1000.0, fastest_of: PRODUCT_1000 }],
    ),
    threshold(
        "threshold_2000",
        "n = 2000, B = 1",
        "2000",
        "1",
        &[Term { elements: 2.0 * 2000.0 * 2000.0 * 2000.0, fastest_of: PRODUCT_1000 }],
    ),
    threshold(
        "threshold_2000_batch_8",
        "n = 2000, B = 8",
        "2000",
        "8",
        &[Term { elements: 2.0 * 2000.0 * 2000.0 * 2000.0, fastest_of: PRODUCT_1000 }],
    ),
    Bench {
        table: Table::LargeThresholds,
        only_when_named: true,
        ..threshold(
            "threshold_10000",
            "n = 10 000, B = 1",
            "10000",
            "1",
            &[Term { elements: 2.0 * 1e4 * 1e4 * 1e4, fastest_of: PRODUCT_1000 }],
        )
    },
    reproduce("reproduce_quick", "profile quick, 1 thread", Table::Programs, "quick", "1"),
    reproduce(
        "reproduce_quick_2_threads",
        "profile quick, 2 threads",
        Table::Programs,
        "quick",
        "2",
    ),
    reproduce("reproduce_paper", "profile paper, 1 thread", Table::Paper, "paper", "1"),
    reproduce("reproduce_paper_2_threads", "profile paper, 2 threads", Table::Paper, "paper", "2"),
    Bench {
        name: "start_up",
        size: "flatmin --version",
        table: Table::Programs,
        how: How::StartUp,
        limit: None,
        work: None,
        only_when_named: false,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{BENCHES, How, Limit};

    #[test]
    fn names_are_taken_once() {
        let names: BTreeSet<&str> = BENCHES.iter().map(|bench| bench.name).collect();
        assert_eq!(names.len(), BENCHES.len());
    }

    /// Ids are given to criterion as regular expressions.
    #[test]
    fn ids_are_regular_expressions_for_themselves() {
        let limits = BENCHES.iter().filter_map(|bench| bench.limit.as_ref());
        let limits = limits.flat_map(|Limit { terms, .. }| terms.iter());
        let limits = limits.flat_map(|term| term.fastest_of.iter().copied());
        let ids = BENCHES.iter().filter_map(|bench| match &bench.how {
            How::Criterion(criterion) => Some(criterion.id),
            _ => None,
        });
        for id in ids.chain(limits) {
            assert!(!id.contains(|c| r"\.+*?()|[]{}^$".contains(c)), "{id}");
        }
    }
}

//! The teacher–student problems of shallow networks.

use flatmin_linalg::named;
use flatmin_models::Dataset;
use flatmin_models::data::{self, DatasetError, Split};
use serde::{Deserialize, Serialize};

/// Variance of one coordinate of `Unif[−1, 1]^d`.
pub(crate) const CUBE_VARIANCE: f64 = 1.0 / 3.0;

/// The architectures of shallow networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkFamily {
    /// Two-layer ReLU networks.
    Relu,
    /// Diagonal linear networks.
    Diagonal,
}

// The names are those in tables.
named!(NetworkFamily, ["relu" => Relu, "diagonal" => Diagonal]);

impl NetworkFamily {
    /// The name for a reader.
    pub fn title(self) -> &'static str {
        match self {
            Self::Relu => "ReLU",
            Self::Diagonal => "diagonal",
        }
    }
}

/// The sizes of a two-layer ReLU teacher–student problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReluProblem {
    /// Neurons of the teacher.
    pub teacher_width: usize,
    /// Neurons m of the student.
    pub width: usize,
    /// Input dimension d.
    pub input_dim: usize,
    /// Number n of training inputs.
    pub sample_count: usize,
    /// Number of test inputs.
    pub test_count: usize,
}

/// The sizes of a sparse linear problem for a diagonal network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DiagonalProblem {
    /// Input dimension d.
    pub input_dim: usize,
    /// Number of ones in `β* = (1, …, 1, 0, …, 0)`.
    pub nonzero: usize,
    /// Number n of training inputs.
    pub sample_count: usize,
    /// Number of test inputs.
    pub test_count: usize,
    /// The point at which training starts.
    pub initial: DiagonalInitial,
}

/// Initial parameters of a diagonal network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiagonalInitial {
    /// `a_j, b_j ~ N(0, 1)`.
    Gaussian,
    /// See [`unbalanced_parameters`](flatmin_models::DiagonalLinear::unbalanced_parameters).
    Unbalanced {
        /// The balance ratio r ≥ 1.
        ratio: f64,
    },
}

/// The problem that a shallow network learns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// Two-layer ReLU network, teacher and student.
    Relu(ReluProblem),
    /// Diagonal linear network, sparse teacher.
    Diagonal(DiagonalProblem),
}

impl Problem {
    /// The architecture of the student.
    pub fn family(&self) -> NetworkFamily {
        match self {
            Self::Relu(_) => NetworkFamily::Relu,
            Self::Diagonal(_) => NetworkFamily::Diagonal,
        }
    }

    /// Number n of training inputs.
    pub fn sample_count(&self) -> usize {
        match self {
            Self::Relu(problem) => problem.sample_count,
            Self::Diagonal(problem) => problem.sample_count,
        }
    }

    /// The balance ratio that a diagonal network is made to start with.
    pub fn initial_balance_ratio(&self) -> Option<f64> {
        match self {
            Self::Diagonal(DiagonalProblem {
                initial: DiagonalInitial::Unbalanced { ratio },
                ..
            }) => Some(*ratio),
            Self::Diagonal(_) | Self::Relu(_) => None,
        }
    }
}

impl DiagonalProblem {
    /// `count` samples of the problem.
    pub(super) fn dataset(
        &self,
        count: usize,
        split: Split,
        seed: u64,
    ) -> Result<Dataset, DatasetError> {
        data::sparse_linear_dataset(self.nonzero, self.input_dim, count, split, seed)
    }
}

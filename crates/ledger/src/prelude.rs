//! The names that the files of the statements and of the families of instances share.

pub(crate) use faer::Mat;
pub(crate) use flatmin_linalg::{RowMatrix, simd, stream, symmetric_eigen, symmetric_eigenvalues};
pub(crate) use flatmin_theory::{Batch, Minimum, Optimizer, threshold};
pub(crate) use rand::{Rng, RngExt as _};
pub(crate) use rand_distr::{Distribution as _, StandardNormal};

pub(crate) use crate::comparison::Comparison;
pub(crate) use crate::error::{InstanceError, LedgerError, expect_at_most, expect_length};
pub(crate) use crate::families::draw::*;
pub(crate) use crate::families::minimum::{MinimumInstance, ZERO_LOSS, batch_words, random_batch};
pub(crate) use crate::families::second_moments::*;
pub(crate) use crate::families::small::*;
pub(crate) use crate::families::{FLATMIN, PAPER};
pub(crate) use crate::statement::{Checked, Form, Instance, Statement, Trial};

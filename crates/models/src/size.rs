//! Sizes of models.

/// A size of a model that is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be at least 1")]
pub struct SizeError {
    pub(crate) what: &'static str,
}

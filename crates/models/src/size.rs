//! Sizes of models.

/// The error for a model with a size of zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be at least 1")]
pub struct SizeError {
    pub(crate) what: &'static str,
}

//! The dynamics of every optimizer and sampling compared with naive definitions.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod epochs;
mod exponents;
mod moments;
mod naive;

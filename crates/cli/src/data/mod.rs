//! Data sets, models, parameters and orders of samples, from a configuration and its files.

mod arrays;
mod labelled;
mod source;

pub(crate) use self::arrays::{dataset, order, parameters};
pub(crate) use self::source::{Data, data_and_model};

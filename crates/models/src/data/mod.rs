//! Data sets: synthetic ones with the teachers that label them, and labelled images.

#[cfg(feature = "digits")]
pub mod digits;
mod labelled;
mod synthetic;

pub use self::labelled::{ClassTargets, InputScaling, Labelled, LabelledError, SampleSplit};
pub use self::synthetic::{
    cube_inputs, linear_targets, relu_dataset, relu_teacher, sparse_coefficients,
    sparse_linear_blocks, sparse_linear_dataset, sphere_inputs,
};
pub use crate::dataset::{Dataset, DatasetError, Split};

//! The names that the file of every statement imports.

pub(crate) use crate::comparison::Comparison;
pub(crate) use crate::error::LedgerError;
pub(crate) use crate::families::minimum::{MinimumInstance, ZERO_LOSS};
pub(crate) use crate::families::{FLATMIN, PAPER};
pub(crate) use crate::statement::{Checked, Form, Instance, Statement, Trial};

//! The names that the modules of the experiments share.

pub(crate) use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, Series, Style};
pub(crate) use flatmin_optim::Method;

pub(crate) use crate::cell::*;
pub(crate) use crate::finished::*;
pub(crate) use crate::framework::{ClaimRule, Experiment, Presentation};
pub(crate) use crate::judgement::{Judgement, Requirement};
pub(crate) use crate::profile::{Profile, Settings};
pub(crate) use crate::protocol::{GD, SGD};
pub(crate) use crate::runs::*;
pub(crate) use crate::statistics::*;
pub(crate) use crate::table::{Table, short_number, table};

//! The optimizer in the arguments of a command.

use clap::Args;
use flatmin_theory::{Optimizer, OptimizerError};
use serde::Serialize;

use crate::failure::Failure;
use crate::values;

/// The optimizer, in the words of PyTorch.
#[derive(Debug, Args)]
pub(crate) struct OptimizerArguments {
    /// Momentum β of SGD, as in torch.optim.SGD.
    #[arg(long, value_name = "β", default_value = "0", value_parser = values::momentum)]
    pub(crate) momentum: f64,
    /// Dampening τ of the gradient in the momentum buffer.
    #[arg(long, value_name = "τ", default_value = "0", value_parser = values::momentum)]
    pub(crate) dampening: f64,
    /// Nesterov's momentum in place of the heavy ball.
    #[arg(long)]
    pub(crate) nesterov: bool,
    /// Weight decay w that is added to the gradient, as in torch.optim.SGD.
    #[arg(long, value_name = "w", default_value = "0", value_parser = values::not_negative)]
    pub(crate) weight_decay: f64,
    #[arg(
        long,
        help = "Weight decay w past the momentum, as in AdamW: a step also subtracts η w θ",
        value_name = "w",
        default_value = "0",
        value_parser = values::not_negative,
        conflicts_with = "weight_decay"
    )]
    pub(crate) decoupled_weight_decay: f64,
}

impl OptimizerArguments {
    /// The optimizer of the options.
    pub(crate) fn optimizer(&self) -> Result<Optimizer, Failure> {
        let build = || -> Result<Optimizer, OptimizerError> {
            let optimizer = Optimizer::sgd().momentum(self.momentum)?.dampening(self.dampening)?;
            let optimizer = if self.nesterov { optimizer.nesterov()? } else { optimizer };
            let optimizer = optimizer.weight_decay(self.weight_decay)?;
            optimizer.decoupled_weight_decay(self.decoupled_weight_decay)
        };
        build().map_err(|error| Failure::Usage(error.to_string()))
    }
}

/// An optimizer as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct OptimizerReport {
    momentum: f64,
    dampening: f64,
    nesterov: bool,
    weight_decay: f64,
    decoupled_weight_decay: f64,
    preconditioned: bool,
}

impl OptimizerReport {
    pub(crate) fn new(optimizer: &Optimizer, is_preconditioned: bool) -> Self {
        Self {
            momentum: optimizer.momentum_coefficient(),
            dampening: optimizer.dampening_coefficient(),
            nesterov: optimizer.is_nesterov(),
            weight_decay: optimizer.coupled_decay(),
            decoupled_weight_decay: optimizer.decoupled_decay(),
            preconditioned: is_preconditioned,
        }
    }
}

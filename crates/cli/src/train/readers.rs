//! The readers of a run's folder by themselves, for [`crate::readers`].

use std::error::Error;

use flatmin_linalg::{RowMatrix, stream};
use flatmin_models::{Dataset, DiagonalLinear};
use flatmin_optim::{Method, Sampling, Schedule, TrainOptions, Trainer};

use super::{folder, summary};

/// Reads a summary, and returns it in words.
pub(crate) fn summary(bytes: &[u8]) -> Result<String, String> {
    summary::read(bytes.to_vec()).map(|(_, run)| summary::describe(&run))
}

/// Reads a checkpoint, whatever its checksum, and goes on with a small run from there.
pub(crate) fn checkpoint(bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let state = folder::state(bytes)?;
    let model = DiagonalLinear::new(2)?;
    let inputs = RowMatrix::new(3, 2, vec![1.0, 0.0, 0.0, 1.0, 1.0, 1.0])?;
    let data = Dataset::new(inputs, vec![1.0, 0.5, 0.0])?;
    let method = Method::Sgd { batch_size: 1, sampling: Sampling::Reshuffling };
    let options = TrainOptions {
        schedule: Schedule::Cosine,
        clip_norm: 1.0,
        checkpoints: vec![0, 5, 30],
        ..TrainOptions::new(method, 0.1, 30)
    };
    let rng = stream(0, "batches", 0);
    let mut trainer = Trainer::new(&model, &data, &[0.5; 4], &options, rng)?;
    trainer.restore(&state)?;
    while trainer.outcome().is_none() {
        let _ = trainer.observe();
        trainer.advance();
    }
    Ok(())
}

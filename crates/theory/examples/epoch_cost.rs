//! Prints the edge of reshuffled epochs beside the threshold of independent batches, with the time
//! that each takes, for Jacobians whose spectra decay like those of trained networks.
//!
//! ```text
//! cargo run --release -p flatmin-theory --features parallel --example epoch_cost
//! ```

#![expect(clippy::print_stdout, reason = "the answer of the program")]

use std::error::Error;
use std::time::Instant;

use flatmin_linalg::{Parallelism, RowMatrix, stream};
use flatmin_theory::{
    Batch, EpochOptions, ExactEdges, Minimum, Optimizer, Sampling, ThresholdOptions, epoch_edge,
    threshold_with,
};
use rand_distr::{Distribution as _, StandardNormal};

fn main() -> Result<(), Box<dyn Error>> {
    let parallelism = Parallelism::Rayon;
    println!("  n   k   B  momentum  independent  seconds  epochs  interval            seconds");
    for (samples, outputs, size) in
        [(20, 3, 5), (60, 3, 8), (300, 1, 10), (60, 10, 6), (150, 10, 15), (300, 10, 30)]
    {
        let mut rng = stream(0, "epoch cost", 0);
        let rows = samples * outputs;
        let jacobian = RowMatrix::from_fn(rows, rows, |_, column| {
            let value: f64 = StandardNormal.sample(&mut rng);
            value / (1.0 + column as f64 / 5.0)
        });
        let minimum = Minimum::with_outputs(&jacobian, outputs)?;
        for momentum in [0.0, 0.9] {
            let optimizer = Optimizer::sgd().momentum(momentum)?;
            let options = ThresholdOptions { parallelism, ..ThresholdOptions::default() };
            let independent = Batch::new(size, Sampling::WithoutReplacement)?;
            let start = Instant::now();
            let found = threshold_with(&minimum, &optimizer, &independent, &options)?.midpoint();
            let first = start.elapsed().as_secs_f64();
            let options =
                EpochOptions { exact: ExactEdges::Never, parallelism, ..EpochOptions::default() };
            let epochs = Batch::new(size, Sampling::Reshuffling)?;
            let start = Instant::now();
            let edge = epoch_edge(&minimum, &optimizer, &epochs, &options)?;
            let second = start.elapsed().as_secs_f64();
            println!(
                "{samples:3} {outputs:3} {size:3}  {momentum:8}  {found:11.5}  {first:7.2}  \
                 {:.5}  [{:.5}, {:.5}]  {second:7.2}",
                edge.estimate, edge.lower, edge.upper
            );
        }
    }
    Ok(())
}

//! Prints how many 95 % intervals of the estimator hold the exact edge of reshuffled epochs, on
//! random minima that are small enough for both.
//!
//! ```text
//! cargo run --release -p flatmin-theory --features parallel --example epoch_coverage \
//!     [-- COUNT [MOMENTUM]]
//! ```

#![expect(clippy::print_stdout, reason = "the answer of the program")]

use std::error::Error;

use flatmin_linalg::{Parallelism, RowMatrix, stream};
use flatmin_theory::{Batch, EpochOptions, ExactEdges, Minimum, Optimizer, Sampling, epoch_edge};
use rand::RngExt as _;

fn main() -> Result<(), Box<dyn Error>> {
    let count: usize = std::env::args().nth(1).map_or(Ok(200), |text| text.parse())?;
    let momentum: f64 = std::env::args().nth(2).map_or(Ok(0.0), |text| text.parse())?;
    let optimizer = Optimizer::sgd().momentum(momentum)?;
    let (mut covered, mut standardised, mut largest) = (0, Vec::new(), 0.0_f64);
    for index in 0..count {
        let (samples, columns, size) = (5 + index % 6, 2 + index % 4, 1 + index % 3);
        let mut rng = stream(21, "random minimum", 100 + index as u64);
        let entry = |_, _| rng.random_range(-1.0..1.0);
        let minimum = Minimum::new(&RowMatrix::from_fn(samples, columns, entry))?;
        let batch = Batch::new(size, Sampling::Reshuffling)?;
        let edge = |options: EpochOptions| epoch_edge(&minimum, &optimizer, &batch, &options);
        let exact = edge(EpochOptions::default())?.estimate;
        let found = edge(EpochOptions {
            seed: index as u64,
            exact: ExactEdges::Never,
            parallelism: Parallelism::Rayon,
            ..EpochOptions::default()
        })?;
        covered += usize::from(found.lower <= exact && exact <= found.upper);
        largest = largest.max((found.estimate / exact - 1.0).abs());
        standardised.push(3.92 * (found.estimate - exact) / (found.upper - found.lower));
    }
    let mean = standardised.iter().sum::<f64>() / count as f64;
    println!("{covered} of {count} intervals hold the exact edge");
    let square = standardised.iter().map(|error| error * error).sum::<f64>() / count as f64;
    println!("standardised errors: mean {mean:.3}, root mean square {:.3}", square.sqrt());
    println!("largest error: {:.2} % of the edge", 100.0 * largest);
    Ok(())
}

//! SGD linearised at a minimum as a random dynamical system: exact second moments, simulated runs,
//! and the growth of single runs.

mod edge;
mod exponent;
mod linearised;
mod moments;
mod replicas;
mod sampler;
mod stepper;
mod tally;

pub use self::edge::{AlmostSureEdge, EdgeOptions, EdgePoint, EdgeStatus, almost_sure_edge};
pub use self::exponent::{LyapunovExponent, LyapunovOptions, lyapunov_exponent};
pub use self::linearised::LinearisedSgd;
pub use self::moments::SecondMoments;
pub use self::replicas::{SimulationOptions, Snapshot, Start, simulate, simulate_at};
pub use self::tally::ReplicaMean;

//! Named random streams.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

/// The generator behind every random number of flatmin: ChaCha with 8 rounds.
pub type Stream = ChaCha8Rng;

/// The random stream of `(seed, purpose, index)`.
///
/// Streams of different triples are independent, so neither the order of work nor the number of
/// threads can change a random number. The ChaCha key is the BLAKE3 hash of the seed and the
/// purpose; `index` is the ChaCha stream number, for families such as replicas.
///
/// The purpose determines the numbers, so that two uses of one name would draw the same ones. A
/// crate therefore declares its purposes as constants in one module, `streams`, where a repeated
/// name is seen.
///
/// ```
/// use rand::RngExt as _;
/// mod streams {
///     /// The stream that initial parameters are drawn from.
///     pub const INITIAL_PARAMETERS: &str = "initial parameters";
/// }
/// let mut first = flatmin_linalg::stream(0, streams::INITIAL_PARAMETERS, 0);
/// let mut again = flatmin_linalg::stream(0, streams::INITIAL_PARAMETERS, 0);
/// assert_eq!(first.random::<u64>(), again.random::<u64>());
/// ```
pub fn stream(seed: u64, purpose: &str, index: u64) -> Stream {
    let mut hasher = blake3::Hasher::new_derive_key("flatmin random stream 1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(purpose.as_bytes());
    let mut generator = ChaCha8Rng::from_seed(*hasher.finalize().as_bytes());
    generator.set_stream(index);
    generator
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::stream;

    #[test]
    fn streams_differ_by_seed_purpose_and_index() {
        let values = [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]
            .map(|(seed, purpose, index)| stream(seed, purpose, index).next_u64());
        for (i, left) in values.iter().enumerate() {
            assert!(values[i + 1..].iter().all(|right| left != right));
        }
    }
}

//! Work on the calling thread, or on several.

#[cfg(feature = "parallel")]
use rayon::prelude::*;

/// The threads that one large problem may use. The choice never changes a bit of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parallelism {
    /// The calling thread only.
    #[default]
    Sequential,
    /// The current rayon thread pool; the calling thread only without the feature `parallel`.
    Rayon,
}

impl Parallelism {
    /// The values of `work` at every item, in the order of the items.
    pub fn map<T: Send, R: Send>(
        self,
        items: Vec<T>,
        work: impl Fn(T) -> R + Sync + Send,
    ) -> Vec<R> {
        match self {
            #[cfg(feature = "parallel")]
            Self::Rayon => items.into_par_iter().with_max_len(1).map(work).collect(),
            _ => items.into_iter().map(work).collect(),
        }
    }

    /// Calls `work` with every item.
    pub fn for_each<T: Send>(self, items: Vec<T>, work: impl Fn(T) + Sync + Send) {
        match self {
            #[cfg(feature = "parallel")]
            Self::Rayon => items.into_par_iter().with_max_len(1).for_each(work),
            _ => items.into_iter().for_each(work),
        }
    }

    /// Cuts `values` into chunks of `len`, of which the last may be shorter, and calls `work` with
    /// the index of each and the chunk.
    ///
    /// # Panics
    /// When `len` is zero.
    pub fn for_each_chunk(
        self,
        values: &mut [f64],
        len: usize,
        work: impl Fn(usize, &mut [f64]) + Sync + Send,
    ) {
        let work = |(index, chunk): (usize, &mut [f64])| work(index, chunk);
        match self {
            #[cfg(feature = "parallel")]
            Self::Rayon => values.par_chunks_mut(len).enumerate().with_max_len(1).for_each(work),
            _ => values.chunks_mut(len).enumerate().for_each(work),
        }
    }

    /// Cuts `values` into chunks of `len`, of which the last may be shorter, and calls `work` with
    /// each chunk and with storage that consecutive chunks on one thread share.
    pub(crate) fn for_each_chunk_with<S>(
        self,
        values: &mut [f64],
        len: usize,
        storage: impl Fn() -> S + Sync + Send,
        work: impl Fn(&mut S, &mut [f64]) + Sync + Send,
    ) {
        match self {
            #[cfg(feature = "parallel")]
            Self::Rayon => {
                // Fewer chunks at a time would make storage more often than they use it.
                values.par_chunks_mut(len).with_min_len(4).for_each_init(storage, work);
            }
            _ => {
                let mut storage = storage();
                values.chunks_mut(len).for_each(|chunk| work(&mut storage, chunk));
            }
        }
    }
}

//! An explicit sequence of batches.

/// The samples of every step of a run: T × B indices, a row per step, or
/// [batches of any number of samples](BatchOrder::drawn).
///
/// ```
/// use flatmin_optim::BatchOrder;
/// let order = BatchOrder::new(2, vec![0, 1, 1, 2], 3)?;
/// assert_eq!((order.steps(), order.batch_size()), (2, 2));
/// let error = BatchOrder::new(2, vec![0, 1, 1, 3], 3).unwrap_err();
/// let expected = "entry (1, 1) is 3, expected the index of one of 3 samples, 0 to 2";
/// assert_eq!(error.to_string(), expected);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOrder {
    batch_size: usize,
    sample_count: usize,
    indices: Vec<u32>,
    /// The ends of the batches among the indices; `None` if every batch has `batch_size` samples.
    ends: Option<Vec<usize>>,
}

/// The reason why indices do not make an order of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// There is no step, or a step without a sample.
    #[error("an order needs at least one step of at least one sample")]
    Empty,
    /// The last step is not full.
    #[error("{indices} indices do not make whole batches of {batch_size}")]
    Ragged {
        /// Number of indices.
        indices: usize,
        /// Batch size.
        batch_size: usize,
    },
    /// An index does not belong to a sample.
    #[error(
        "entry ({step}, {position}) is {index}, expected the index of one of {sample_count} samples, \
         0 to {}",
        sample_count.saturating_sub(1)
    )]
    OutOfRange {
        /// Step of the first such entry, from 0.
        step: usize,
        /// Its position in the batch, from 0.
        position: usize,
        /// The entry.
        index: u32,
        /// Number of samples.
        sample_count: usize,
    },
}

impl BatchOrder {
    /// The order with these indices, row by row, into `sample_count` samples.
    ///
    /// # Errors
    /// [`OrderError`] when there is no index, the rows are not whole, or an index is out of range.
    pub fn new(
        batch_size: usize,
        indices: Vec<u32>,
        sample_count: usize,
    ) -> Result<Self, OrderError> {
        if batch_size == 0 || indices.is_empty() {
            return Err(OrderError::Empty);
        }
        if !indices.len().is_multiple_of(batch_size) {
            return Err(OrderError::Ragged { indices: indices.len(), batch_size });
        }
        if let Some(k) = indices.iter().position(|index| *index as usize >= sample_count) {
            let (step, position) = (k / batch_size, k % batch_size);
            return Err(OrderError::OutOfRange { step, position, index: indices[k], sample_count });
        }
        Ok(Self { batch_size, sample_count, indices, ends: None })
    }

    /// The order of batches that were drawn by [Poisson](crate::Sampling::Poisson) sampling: each
    /// has any number of samples, also none, and its sums are divided by `batch_size`.
    ///
    /// ```
    /// use flatmin_optim::BatchOrder;
    /// let order = BatchOrder::drawn(2, &[vec![0, 1, 2], vec![], vec![2]], 3)?;
    /// assert_eq!((order.steps(), order.batch_size()), (3, 2));
    /// # Ok::<(), flatmin_optim::OrderError>(())
    /// ```
    ///
    /// # Errors
    /// [`OrderError`] when there is no batch, the batch size is zero, or an index is out of range.
    pub fn drawn(
        batch_size: usize,
        batches: &[Vec<u32>],
        sample_count: usize,
    ) -> Result<Self, OrderError> {
        if batch_size == 0 || batches.is_empty() {
            return Err(OrderError::Empty);
        }
        let (mut indices, mut ends) = (Vec::new(), Vec::with_capacity(batches.len()));
        for (step, batch) in batches.iter().enumerate() {
            if let Some(position) = batch.iter().position(|i| *i as usize >= sample_count) {
                let index = batch[position];
                return Err(OrderError::OutOfRange { step, position, index, sample_count });
            }
            indices.extend_from_slice(batch);
            ends.push(indices.len());
        }
        Ok(Self { batch_size, sample_count, indices, ends: Some(ends) })
    }

    /// True if the batches may have any number of samples, see [`drawn`](Self::drawn).
    pub fn is_drawn(&self) -> bool {
        self.ends.is_some()
    }

    /// Number T of steps.
    pub fn steps(&self) -> u64 {
        match &self.ends {
            Some(ends) => ends.len() as u64,
            None => (self.indices.len() / self.batch_size) as u64,
        }
    }

    /// Samples B of each step, or the number that its sums are divided by.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Number n of samples that the indices refer to.
    pub fn sample_count(&self) -> usize {
        self.sample_count
    }

    /// All indices, batch by batch.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The samples of step `step`, which must be below [`steps`](Self::steps).
    pub(crate) fn batch(&self, step: u64) -> &[u32] {
        #[expect(clippy::cast_possible_truncation, reason = "a step of an order in memory")]
        let step = step as usize;
        if let Some(ends) = &self.ends {
            let start = step.checked_sub(1).map_or(0, |before| ends[before]);
            return &self.indices[start..ends[step]];
        }
        &self.indices[step * self.batch_size..][..self.batch_size]
    }
}

#[cfg(test)]
mod tests {
    use super::BatchOrder;

    #[track_caller]
    fn check(batch_size: usize, indices: &[u32], message: &str) {
        let error = BatchOrder::new(batch_size, indices.to_vec(), 4).unwrap_err();
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn what_is_no_order_is_refused() {
        check(0, &[1], "an order needs at least one step of at least one sample");
        check(2, &[], "an order needs at least one step of at least one sample");
        check(2, &[0, 1, 2], "3 indices do not make whole batches of 2");
        check(1, &[3, 4], "entry (1, 0) is 4, expected the index of one of 4 samples, 0 to 3");
        let error = BatchOrder::drawn(2, &[vec![0], vec![], vec![1, 7]], 4).unwrap_err();
        let message = "entry (2, 1) is 7, expected the index of one of 4 samples, 0 to 3";
        assert_eq!(error.to_string(), message);
        assert!(BatchOrder::drawn(0, &[vec![0]], 4).is_err());
        assert!(BatchOrder::drawn(1, &[], 4).is_err());
    }

    #[test]
    fn batches_of_any_size_are_found_by_their_step() {
        let batches = [vec![2, 0], vec![], vec![1]];
        let order = BatchOrder::drawn(1, &batches, 3).unwrap();
        for (step, batch) in (0..).zip(&batches) {
            assert_eq!(order.batch(step), batch);
        }
    }
}

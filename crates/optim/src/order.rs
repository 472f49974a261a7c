//! An explicit sequence of batches.

/// The samples of every step of a run: T × B indices, a row per step, or batches of other numbers
/// of samples, [each with its own mean](BatchOrder::ragged) or [drawn](BatchOrder::drawn).
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
    /// True if the sums of all batches are divided by `batch_size`.
    is_drawn: bool,
}

/// The reason why indices do not make an order of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// There is no step, or a step without a sample.
    #[error("an order needs at least one step of at least one sample")]
    Empty,
    /// A step has no sample to take the mean of.
    #[error("step {step} has no sample")]
    NoSample {
        /// The first such step, from 0.
        step: usize,
    },
    /// The sizes of the batches do not add up to the number of indices.
    #[error("the sizes of the batches add up to {total}, but there are {indices} indices")]
    Sizes {
        /// Number of indices.
        indices: usize,
        /// Sum of the sizes.
        total: usize,
    },
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
        Ok(Self { batch_size, sample_count, indices, ends: None, is_drawn: false })
    }

    /// The order of batches of these sizes, such as those of epochs with a short last batch: the
    /// gradient of a batch is the mean over its own samples.
    ///
    /// The [batch size](Self::batch_size) is the largest one.
    ///
    /// ```
    /// use flatmin_optim::BatchOrder;
    /// let order = BatchOrder::ragged(vec![0, 2, 1], &[2, 1], 3)?;
    /// assert_eq!((order.steps(), order.batch_size()), (2, 2));
    /// # Ok::<(), flatmin_optim::OrderError>(())
    /// ```
    ///
    /// # Errors
    /// [`OrderError`] when there is no batch, a batch has no sample, the sizes do not add up to the
    /// number of indices, or an index is out of range.
    pub fn ragged(
        indices: Vec<u32>,
        sizes: &[usize],
        sample_count: usize,
    ) -> Result<Self, OrderError> {
        let Some(&batch_size) = sizes.iter().max() else { return Err(OrderError::Empty) };
        if let Some(step) = sizes.iter().position(|size| *size == 0) {
            return Err(OrderError::NoSample { step });
        }
        let total = sizes.iter().fold(0_usize, |total, size| total.saturating_add(*size));
        if total != indices.len() {
            return Err(OrderError::Sizes { indices: indices.len(), total });
        }
        if indices.len() == batch_size * sizes.len() {
            return Self::new(batch_size, indices, sample_count);
        }
        let mut ends = Vec::with_capacity(sizes.len());
        let mut start = 0;
        for (step, size) in sizes.iter().enumerate() {
            let batch = &indices[start..start + size];
            if let Some(position) = batch.iter().position(|i| *i as usize >= sample_count) {
                let index = batch[position];
                return Err(OrderError::OutOfRange { step, position, index, sample_count });
            }
            start += size;
            ends.push(start);
        }
        Ok(Self { batch_size, sample_count, indices, ends: Some(ends), is_drawn: false })
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
        Ok(Self { batch_size, sample_count, indices, ends: Some(ends), is_drawn: true })
    }

    /// True if the sums of all batches are divided by the batch size, see [`drawn`](Self::drawn).
    pub fn is_drawn(&self) -> bool {
        self.is_drawn
    }

    /// The ends of the batches among the [indices](Self::indices); `None` if every batch has
    /// [`batch_size`](Self::batch_size) samples.
    pub fn ends(&self) -> Option<&[usize]> {
        self.ends.as_deref()
    }

    /// Number T of steps.
    pub fn steps(&self) -> u64 {
        match &self.ends {
            Some(ends) => ends.len() as u64,
            None => (self.indices.len() / self.batch_size) as u64,
        }
    }

    /// Samples B of each step, the most of any step, or the number that its sums are divided by.
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
        let ragged = |indices: &[u32], sizes: &[usize], message: &str| {
            let error = BatchOrder::ragged(indices.to_vec(), sizes, 4).unwrap_err();
            assert_eq!(error.to_string(), message);
        };
        ragged(&[], &[], "an order needs at least one step of at least one sample");
        ragged(&[0, 1], &[2, 0], "step 1 has no sample");
        ragged(&[0, 1], &[2, 1], "the sizes of the batches add up to 3, but there are 2 indices");
        let wrapped =
            "the sizes of the batches add up to 18446744073709551615, but there are 2 indices";
        ragged(&[0, 1], &[usize::MAX, 3], wrapped);
        let message = "entry (1, 0) is 4, expected the index of one of 4 samples, 0 to 3";
        ragged(&[0, 1, 4], &[2, 1], message);
    }

    #[test]
    fn batches_of_any_size_are_found_by_their_step() {
        let batches = [vec![2, 0], vec![], vec![1]];
        let order = BatchOrder::drawn(1, &batches, 3).unwrap();
        for (step, batch) in (0..).zip(&batches) {
            assert_eq!(order.batch(step), batch);
        }
        assert_eq!(order.ends(), Some(&[2, 2, 3][..]));
        let order = BatchOrder::ragged(vec![2, 0, 1], &[2, 1], 3).unwrap();
        assert_eq!((order.batch(0), order.batch(1)), (&[2, 0][..], &[1][..]));
        assert_eq!(order.ends(), Some(&[2, 3][..]));
        let even = BatchOrder::ragged(vec![2, 0, 1, 1], &[2, 2], 3).unwrap();
        assert_eq!(even, BatchOrder::new(2, vec![2, 0, 1, 1], 3).unwrap());
        assert_eq!(even.ends(), None);
    }
}

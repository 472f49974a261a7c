//! Conversions between the operators of this crate and the operators of faer.

use std::fmt;

use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::matrix_free::LinOp;
use faer::{Mat, MatMut, MatRef, Par};

use crate::Operator;

/// An [`Operator`] as a faer [`LinOp`], for faer's iterative solvers.
///
/// The parallelism that faer requests is ignored, because an operator decides that itself.
pub struct AsLinOp<'a, O: ?Sized>(pub &'a O);

impl<O: Operator + ?Sized> fmt::Debug for AsLinOp<'_, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsLinOp").field("dim", &self.0.dim()).finish_non_exhaustive()
    }
}

impl<O: Operator + ?Sized> LinOp<f64> for AsLinOp<'_, O> {
    fn apply_scratch(&self, _rhs_ncols: usize, _par: Par) -> StackReq {
        StackReq::EMPTY
    }

    fn nrows(&self) -> usize {
        self.0.dim()
    }

    fn ncols(&self) -> usize {
        self.0.dim()
    }

    fn apply(
        &self,
        mut out: MatMut<'_, f64>,
        rhs: MatRef<'_, f64>,
        _par: Par,
        _stack: &mut MemStack,
    ) {
        // Operators rely on contiguous columns, which faer's views need not have.
        let vectors = rhs.to_owned();
        let mut images = Mat::zeros(out.nrows(), out.ncols());
        self.0.apply(vectors.as_ref(), images.as_mut());
        out.copy_from(&images);
    }

    fn conj_apply(
        &self,
        out: MatMut<'_, f64>,
        rhs: MatRef<'_, f64>,
        par: Par,
        stack: &mut MemStack,
    ) {
        // Real numbers are their own conjugates.
        self.apply(out, rhs, par, stack);
    }
}

/// A symmetric faer [`LinOp`], such as a dense or sparse matrix, as an [`Operator`].
///
/// ```
/// use faer::mat;
/// use flatmin_linalg::{FromLinOp, Operator as _};
/// let matrix = mat![[2.0, 1.0], [1.0, 2.0]];
/// let operator = FromLinOp::new(matrix.as_ref()).expect("square");
/// assert_eq!(operator.dim(), 2);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct FromLinOp<L>(L);

impl<L: LinOp<f64>> FromLinOp<L> {
    /// Wraps a faer operator; `None` unless it is square.
    ///
    /// Symmetry is not checked here: see [`probe`](crate::probe).
    pub fn new(operator: L) -> Option<Self> {
        (operator.nrows() == operator.ncols()).then_some(Self(operator))
    }
}

impl<L: LinOp<f64>> Operator for FromLinOp<L> {
    fn dim(&self) -> usize {
        self.0.nrows()
    }

    fn apply(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) {
        let scratch = self.0.apply_scratch(vectors.ncols(), Par::Seq);
        let mut memory = MemBuffer::new(scratch);
        self.0.apply(images, vectors, Par::Seq, MemStack::new(&mut memory));
    }
}

#[cfg(test)]
mod tests {
    use faer::dyn_stack::{MemBuffer, MemStack};
    use faer::matrix_free::LinOp as _;
    use faer::{Mat, Par, mat};

    use super::{AsLinOp, FromLinOp};

    #[test]
    fn there_and_back_gives_the_same_products() {
        let matrix = mat![[2.0, 1.0, 0.0], [1.0, 3.0, -1.0], [0.0, -1.0, 1.0]];
        let operator = FromLinOp::new(matrix.as_ref()).unwrap();
        let back = AsLinOp(&operator);
        assert_eq!((back.nrows(), back.ncols()), (3, 3));
        // A transposed view: its columns are not contiguous.
        let rows = mat![[1.0, 2.0, 3.0], [-1.0, 0.5, 4.0]];
        let mut memory = MemBuffer::new(back.apply_scratch(2, Par::Seq));
        let mut out = Mat::zeros(3, 2);
        back.apply(out.as_mut(), rows.transpose(), Par::Seq, MemStack::new(&mut memory));
        assert_eq!(out, &matrix * rows.transpose());
        let mut conjugate = Mat::zeros(3, 2);
        let stack = MemStack::new(&mut memory);
        back.conj_apply(conjugate.as_mut(), rows.transpose(), Par::Seq, stack);
        assert_eq!(out, conjugate);
    }

    #[test]
    fn only_square_operators_are_taken() {
        assert!(FromLinOp::new(Mat::<f64>::zeros(2, 3)).is_none());
    }
}

//! A model refuses slices of the wrong length instead of reading a part of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use flatmin_models::{
    Activation, DiagonalLinear, MatrixSensing, Mlp, Model, TwoLayerRelu, UnivariateRelu,
};

/// Deviations of the lengths of parameters, of the input, of outputs or weights, and of a vector or
/// gradient.
type Off = [usize; 4];

/// Calls every method about one input with slices that are longer by `more` and shorter by `less`,
/// and says which of them panicked.
fn refused(model: &dyn Model, more: Off, less: Off) -> [bool; 3] {
    let (p, d, k) = (model.parameter_count(), model.input_dim(), model.output_dim());
    let slice = |length: usize, which: usize| vec![0.5; length + more[which] - less[which]];
    let (parameters, input) = (slice(p, 0), slice(d, 1));
    let is_refused = |call: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(call)).is_err();
    [
        is_refused(&mut || model.output(&parameters, &input, &mut slice(k, 2))),
        is_refused(&mut || model.gradient(&parameters, &input, &mut slice(k * p, 3))),
        is_refused(&mut || {
            let (weights, vector) = (slice(k, 2), slice(p, 3));
            model.add_second_derivative(&parameters, &input, &weights, &vector, &mut vec![0.0; p]);
        }),
    ]
}

#[test]
fn slices_of_other_lengths_are_refused() {
    let models: [Box<dyn Model>; 5] = [
        Box::new(MatrixSensing::new(2, 3, 2).unwrap()),
        Box::new(UnivariateRelu::new(3).unwrap()),
        Box::new(TwoLayerRelu::new(3, 2).unwrap()),
        Box::new(DiagonalLinear::new(4).unwrap()),
        Box::new(Mlp::new(&[3, 4, 2], Activation::Tanh, true).unwrap()),
    ];
    let none = [0; 4];
    for model in models {
        let model = model.as_ref();
        assert_eq!(refused(model, none, none), [false; 3], "{model:?}");
        for which in 0..4 {
            let mut off = none;
            off[which] = 1;
            // The gradient does not read outputs or weights, and the output does not read a vector.
            // A second derivative that does not depend on the parameters need not read them.
            for (found, what) in
                [(refused(model, off, none), "long"), (refused(model, none, off), "short")]
            {
                if which != 3 {
                    assert!(found[0], "{model:?}: output, {what} {which}");
                }
                if which != 2 {
                    assert!(found[1], "{model:?}: gradient, {what} {which}");
                }
                if which != 0 {
                    assert!(found[2], "{model:?}: second derivative, {what} {which}");
                }
            }
        }
    }
}

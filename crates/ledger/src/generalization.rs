//! Generalisation bounds from parameter norms.

/// Rademacher complexity of two-layer ReLU networks with path norm at most `path_norm`, bounded by
/// `2 ‖θ‖_P √(mean ‖x_i‖²) / √n` (R6).
///
/// In the units of the output f. It bounds, up to constants and the Lipschitz constant of the loss,
/// the gap between test and training error of every network in the class; a value above the scale
/// of the targets says nothing.
pub fn rademacher_bound(path_norm: f64, mean_input_norm_squared: f64, sample_count: usize) -> f64 {
    2.0 * path_norm * (mean_input_norm_squared / sample_count as f64).sqrt()
}

"""Writes inputs.npz and cases.json: inputs that are wrong in some way, and right ones.

    python generate.py [FOLDER]

Each case is an array (or a list of arrays), arguments of `flatmin analyze`, and what must come: a
kind of doubt, words of a refusal, or, for a right input, the largest stable learning rate by a dense
operator (networks.threshold), which shares no code with the program.
"""

import json
import sys

import numpy as np

import structures
from networks import (bfloat16, by_parameter, fit, flattened, gram, joined, perceptron, threshold)

ARRAYS, CASES = {}, []


def keep(name, values):
    assert name not in ARRAYS, name
    ARRAYS[name] = np.ascontiguousarray(values)
    return name


def wrong(name, values, expect, *arguments, **beside):
    """An input that must be doubted (`kind`) or refused (`refused: words`)."""
    case = {"name": name, "array": keep(name, values), "arguments": list(arguments)}
    case["expect"] = expect
    add(case, beside)


def right(name, values, jacobian, *arguments, batch_size=1, scale=1.0, tolerance=1e-9, **beside):
    """An input that must be answered without a doubt: with the threshold of `jacobian`."""
    case = {"name": name, "array": keep(name, values), "arguments": list(arguments)}
    if batch_size > 1:
        case["arguments"] += ["--batch-size", str(batch_size)]
    if jacobian is not None:
        jacobian = np.asarray(jacobian, float)
        jacobian = jacobian[:, None] if jacobian.ndim == 2 else jacobian
        case["threshold"] = threshold(jacobian, batch_size, scale)
        case["tolerance"] = tolerance
    add(case, beside)


def add(case, beside):
    blocks = beside.pop("blocks", None)
    if blocks is not None:
        case["blocks"] = blocks
    layers = beside.pop("layers", None)
    if layers is not None:
        case["layers"] = {key: keep(f"{case['name']}/{key}", value) for key, value in layers.items()}
    for option, values in beside.items():
        case.setdefault("beside", {})[option] = keep(f"{case['name']}/{option}", values)
    CASES.append(case)


def network(seed, n, widths, activation="tanh", **settings):
    rng = np.random.default_rng(seed)
    layers = perceptron(rng, widths, **settings)
    x = rng.normal(size=(n, widths[0]))
    return by_parameter(layers, x, activation)


def trained(seed, n, widths, loss, activation="tanh"):
    """A network at this loss: its derivatives by parameter, and the residuals n x k."""
    rng = np.random.default_rng(seed)
    layers = perceptron(rng, widths)
    x = rng.normal(size=(n, widths[0]))
    y = np.sin(x @ rng.normal(size=(widths[0], widths[-1])))
    r = fit(rng, layers, x, y, activation, until=2 * loss)
    return by_parameter(layers, x, activation), r


def of_loss(parts, r):
    """Rows of the loss: the residuals times the gradients."""
    return np.einsum("nk,nkp->np", r, joined(parts))


def wrong_inputs():
    # Jacobians of the loss.
    for index, loss in enumerate([1e-3, 1e-8, 1e-16]):
        kind = "jacobian_of_the_loss" if loss == 1e-3 else "vanishing_jacobian"
        parts, r = trained(10 + index, 12, [4, 8, 1], loss, "relu")
        wrong(f"loss_relu_{loss:.0e}", of_loss(parts, r), kind)
        parts, r = trained(20 + index, 14, [5, 7, 1], loss, "tanh")
        wrong(f"loss_tanh_{loss:.0e}", of_loss(parts, r), kind)
    parts, r = trained(30, 12, [3, 6, 6, 1], 1e-3, "tanh")
    wrong("loss_deep", of_loss(parts, r), "jacobian_of_the_loss")
    wrong("loss_gram", gram(of_loss(parts, r)[:, None]), "jacobian_of_the_loss", "--gram")
    wrong("loss_with_residuals", of_loss(parts, r), "jacobian_of_the_loss", residuals=r[:, 0])
    rng = np.random.default_rng(31)
    r = 0.03 * rng.normal(size=12)
    random = rng.normal(size=(12, 30))
    wrong("loss_random", r[:, None] * random, "jacobian_of_the_loss")
    wrong("loss_random_with_residuals", 30 * r[:, None] * random, "jacobian_of_the_loss",
          residuals=30 * r)
    wrong("loss_zero", np.zeros((6, 9)), "vanishing_jacobian")
    wrong("loss_below_underflow", np.full((6, 9), 1e-200), "vanishing_jacobian")
    parts = network(33, 16, [6, 40, 1], "relu")
    r = np.sqrt(2e-3) * rng.normal(size=(16, 1))
    wrong("loss_wide", of_loss(parts, r), "jacobian_of_the_loss")
    parts = network(34, 16, [4, 10, 1], "tanh", bias=False)
    wrong("loss_without_bias", of_loss(parts, r), "jacobian_of_the_loss")
    wrong("loss_of_a_slow_run", 1e-2 * of_loss(parts, r), "vanishing_jacobian",
          "--learning-rate", "0.01")
    parts, r = trained(32, 10, [4, 6, 3], 1e-2, "relu")
    wrong("loss_of_three_outputs", of_loss(parts, r), "refused: --residuals of shape (10 × 3)",
          residuals=r)

    # Outputs flattened into the columns.
    for activation, k in [("relu", 3), ("tanh", 2)]:
        parts = network(40 + k, 8, [3, 5, k], activation)
        wrong(f"flattened_{activation}_{k}", flattened(parts), "flattened_outputs")
    parts = network(44, 8, [3, 5, 4], "relu", last_bias=False)
    wrong("flattened_without_bias", flattened(parts), "flattened_outputs")
    j = joined(network(45, 8, [3, 5, 3]))
    wrong("flattened_whole", j.reshape(8, -1), "flattened_outputs")
    wrong("flattened_inner", j.transpose(0, 2, 1).reshape(8, -1), "flattened_outputs")
    parts = network(46, 8, [3, 7, 2], "relu")
    wrong("flattened_by_parameter_read_whole", flattened(parts), "flattened_outputs", "--axes",
          "n,kp", "--outputs", "2")
    rng = np.random.default_rng(47)
    wrong("flattened_with_residuals", rng.normal(size=(10, 60)), "refused: --axes n,kp",
          residuals=rng.normal(size=(10, 3)))
    wrong("flattened_with_outputs", rng.normal(size=(10, 60)), "refused: --axes n,kp", "--outputs",
          "3")
    wrong("flattened_with_logits", rng.normal(size=(10, 60)), "refused: --axes n,kp",
          logits=rng.normal(size=(10, 3)))

    # Axes in another order.
    j = joined(network(50, 6, [3, 5, 3], "relu"))
    wrong("axes_knp", j.transpose(1, 0, 2), "axes_in_another_order")
    wrong("axes_npk", j.transpose(0, 2, 1), "axes_in_another_order")
    wrong("axes_pkn", j.transpose(2, 1, 0), "transposed")
    wrong("axes_kpn", j.transpose(1, 2, 0), "transposed")
    wrong("axes_pnk", j.transpose(2, 0, 1), "axes_in_another_order")
    square = joined(network(51, 4, [3, 5, 4]))
    wrong("axes_knp_with_n_equal_k", square.transpose(1, 0, 2), "axes_in_another_order")
    wrong("axes_knp_with_residuals", j.transpose(1, 0, 2), "refused: --axes knp",
          residuals=np.zeros((6, 3)))
    wrong("axes_knp_with_samples", j.transpose(1, 0, 2), "refused: --axes knp", "--samples", "6")
    one = joined(network(52, 12, [3, 6, 1]))
    wrong("axes_k_equal_one", one.transpose(1, 0, 2), "axes_in_another_order")
    wrong("axes_k_equal_one_random", rng.normal(size=(1, 7, 20)), "axes_in_another_order")
    wrong("axes_npk_of_one", one.transpose(0, 2, 1), "axes_in_another_order")
    wrong("transposed_network", one[:, 0].T, "transposed")
    square = joined(network(53, 31, [3, 6, 1]))[:, 0]
    assert square.shape == (31, 31)
    wrong("transposed_square", square.T, "transposed")
    wrong("transposed_with_samples", one[:, 0].T, "refused: --axes pn", "--samples", "12")
    ends = {"w": [0, 18], "b": [18, 24], "head": [24, 31]}
    wrong("transposed_with_blocks", one[:, 0].T, "refused: --axes pn", blocks=ends)

    # Outputs among the samples.
    parts = network(60, 6, [3, 5, 3], "relu")
    j = joined(parts)
    wrong("rows_by_sample", j.reshape(18, -1), "outputs_as_samples")
    wrong("rows_by_output", j.transpose(1, 0, 2).reshape(18, -1), "outputs_as_samples")
    wrong("rows_by_output_as_by_sample", j.transpose(1, 0, 2).reshape(18, -1),
          "axes_in_another_order", "--outputs", "3")
    wrong("rows_by_sample_as_by_output", j.reshape(18, -1), "axes_in_another_order", "--axes",
          "kn,p", "--outputs", "3")
    wrong("rows_by_sample_transposed", j.reshape(18, -1).T, "transposed")
    wrong("rows_by_output_transposed", j.transpose(1, 0, 2).reshape(18, -1).T, "transposed")
    wrong("rows_by_sample_with_wrong_outputs", j.reshape(18, -1), "axes_in_another_order",
          "--outputs", "6")
    wrong("rows_by_sample_with_samples", j.reshape(18, -1), "refused: give --outputs 3", "--samples",
          "6")
    tiled = joined(network(65, 4, [3, 5, 1]))[:, 0]
    wrong("rows_tiled", np.tile(tiled, (3, 1)), "repeated_rows")
    wrong("rows_all_equal", np.tile(tiled[:1], (8, 1)), "repeated_rows")
    wrong("rows_repeated", np.repeat(joined(network(61, 6, [3, 5, 1]))[:, 0], 2, axis=0),
          "repeated_rows")

    # Tangent kernels.
    wide = joined(network(62, 12, [8, 60, 3]))
    kernel = gram(wide)
    wrong("kernel_without_outputs", kernel, "outputs_as_samples", "--gram")
    by_output = gram(wide.transpose(1, 0, 2))
    wrong("kernel_by_output", by_output, "outputs_as_samples", "--gram")
    wrong("kernel_by_output_as_by_sample", by_output, "axes_in_another_order", "--gram",
          "--outputs", "3")
    mean = np.einsum("nap,map->nm", wide, wide) / 3
    wrong("kernel_mean", mean, "mean_over_outputs", "--gram", "--outputs", "3")
    wrong("kernel_mean_with_samples", mean, "refused: mean or the sum over the 3", "--gram",
          "--outputs", "3", "--samples", "12")
    wrong("kernel_mean_with_logits", mean, "refused: mean or the sum over the 3", "--gram",
          logits=np.zeros((12, 3)))
    diagonal = np.einsum("nap,map->nma", wide, wide)
    wrong("kernel_of_same_outputs", diagonal, "refused: without the products of different",
          "--gram")
    four = kernel.reshape(12, 3, 12, 3)
    wrong("kernel_against_test_samples", four.transpose(0, 2, 1, 3)[:, :5],
          "refused: no kernel", "--gram")

    # Gram matrices without --gram.
    alone = joined(network(66, 12, [3, 8, 1]))
    wrong("kernel_without_gram", gram(alone), "gram_without_flag")
    wrong("kernel_without_gram_in_single_precision", gram(alone.astype(np.float32)),
          "gram_without_flag")
    wrong("kernel_without_gram_of_three_outputs", kernel, "gram_without_flag", "--outputs", "3")
    wrong("kernel_without_gram_and_outputs", kernel, "gram_without_flag")
    wrong("kernel_of_relu_without_gram", gram(joined(network(67, 9, [3, 4, 1], "relu", bias=False))),
          "gram_without_flag")
    # Nothing tells such a design from a Gram matrix: --trust-input is for it.
    points = rng.normal(size=(9, 2))
    distances = ((points[:, None] - points[None]) ** 2).sum(-1)
    wrong("kernel_regression", np.exp(-distances), "gram_without_flag")

    # Derivatives of the sum and the mean over outputs.
    for activation, k in [("relu", 3), ("tanh", 2)]:
        j = joined(network(70 + k, 10, [4, 6, k], activation))
        wrong(f"sum_of_outputs_{k}", j.sum(1), "outputs_summed")
        wrong(f"mean_of_outputs_{k}", j.mean(1), "outputs_summed")

    # Lower precision.
    one = joined(network(63, 10, [3, 8, 1]))
    single = gram(one.astype(np.float32))
    for name, matrix in [("single_gram", single), ("single_gram_widened", single.astype(float)),
                         ("brain_gram_widened", bfloat16(gram(one))),
                         ("half_gram", gram(one).astype(np.float16))]:
        wrong(name, matrix, "single_precision_gram", "--gram")
        CASES[-1]["exact"] = threshold(one)

    # Blocks, and points that are not stationary.
    j = one[:, 0]
    wrong("blocks_partial", j, "incomplete_blocks", blocks={"first": [0, 20]})
    wrong("blocks_with_a_gap", j, "incomplete_blocks", blocks={"a": [0, 20], "b": [24, 41]})
    wrong("blocks_that_overlap", j, "overlapping_blocks", blocks={"a": [0, 21], "b": [20, 41]})
    wrong("blocks_beyond", j, "refused: expected first < end", blocks={"a": [0, 20], "b": [20, 50]})
    wrong("not_stationary", joined(network(64, 30, [3, 4, 1]))[:, 0], "not_stationary",
          residuals=np.full(30, 0.2))


def right_inputs():
    rng = np.random.default_rng(100)
    # Networks of all kinds.
    for activation in ["relu", "tanh", "sin"]:
        j = joined(network(101, 9, [3, 6, 1], activation))
        right(f"network_{activation}", j[:, 0], j)
    j = joined(network(102, 9, [3, 6, 1], "relu", bias=False))
    right("network_relu_without_bias", j[:, 0], j)
    j = joined(network(103, 9, [4, 6, 1], "tanh", bias=False))
    right("network_tanh_without_bias", j[:, 0], j)
    j = joined(network(104, 9, [3, 5, 5, 1], "relu"))
    right("network_deep", j[:, 0], j, batch_size=3)
    j = joined(network(105, 9, [3, 6, 1], "relu", last_bias=False))
    right("head_without_bias", j[:, 0], j)
    layers = perceptron(np.random.default_rng(106), [3, 8, 1])
    layers[0] = (layers[0][0], np.where(np.arange(8) < 3, -50.0, layers[0][1]))
    j = joined(by_parameter(layers, rng.normal(size=(9, 3)), "relu"))
    right("dead_units", j[:, 0], j)
    j = joined(network(107, 9, [1, 8, 1], "tanh"))
    right("one_input", j[:, 0], j)
    j = joined(network(108, 8, [1, 9, 1], "tanh", bias=False))
    right("odd_network_of_one_input", j[:, 0], j)
    j = joined(network(109, 9, [3, 4, 1], "linear"))
    right("linear_network", j[:, 0], j)
    j = joined(network(110, 3, [2, 2, 1]))
    right("tiny_network", j[:, 0], j)
    right("single_sample", j[:1, 0], None)
    # Several outputs.
    for k in [2, 3, 10]:
        j = joined(network(120 + k, 2 if k == 10 else 6, [3, 4, k], "relu"))
        right(f"outputs_{k}", j, j if k < 10 else None)
    j = joined(network(124, 3, [3, 4, 3]))
    right("outputs_n_equal_k", j, j)
    j = joined(network(125, 6, [3, 4, 2], "relu", bias=False))
    right("outputs_without_bias", j, j, batch_size=2)
    j = joined(network(126, 1, [3, 4, 3]))
    right("outputs_of_single_sample", j, None)
    j = joined(network(127, 8, [3, 4, 1]))
    right("outputs_one", j, j)
    # Linear models.
    x = rng.normal(size=(40, 4))
    right("regression_tall", x, x)
    x = x - x.mean(0)
    right("regression_centred", x / x.std(0), x / x.std(0))
    x = rng.normal(size=(30, 1)) @ rng.normal(size=(1, 10)) + 0.3 * rng.normal(size=(30, 10))
    x = (x - x.mean(0)) / x.std(0)
    right("regression_correlated", x, x)
    x = rng.normal(size=(50, 1))
    right("regression_of_one_feature", x - x.mean(), x - x.mean())
    right("regression_with_intercept", np.c_[x, np.ones(50)], np.c_[x, np.ones(50)])
    x = rng.normal(size=(12, 12))
    right("square", x, x)
    right("one_hot_sorted", np.repeat(np.eye(4), 3, axis=0), np.repeat(np.eye(4), 3, axis=0))
    right("one_hot_cyclic", np.tile(np.eye(4), (3, 1)), np.tile(np.eye(4), (3, 1)))
    x = np.c_[np.tile(np.eye(3), (4, 1)), rng.normal(size=(12, 3))]
    right("analysis_of_covariance", x, x)
    x = np.c_[np.tile(np.eye(3), (4, 1)) * rng.normal(size=(12, 1)), rng.normal(size=(12, 1))]
    right("interactions", x, x)
    x = rng.integers(0, 2, size=(40, 5)).astype(float)
    x[3] = 1
    right("binary_features", x, x)
    x = rng.integers(1, 6, size=(30, 5)).astype(float)
    x[3] = 4
    right("answers_to_questions", x, x)
    x = np.array([[a, b] for a in (1.0, 2, 3) for b in (1.0, 2)])
    right("factorial_design_twice", np.tile(x, (2, 1)), np.tile(x, (2, 1)))
    right("identity", np.eye(8), np.eye(8))
    own = np.random.default_rng(142)
    x = np.diag(own.uniform(0.5, 2, size=8))
    right("diagonal", x, x)
    x = own.normal(size=(8, 8))
    x = x + x.T
    np.fill_diagonal(x, np.abs(np.diag(x)))
    right("symmetric_but_no_gram_matrix", x, x)
    x = 2 * np.eye(8) + 1
    right("symmetric_whole_numbers", x, x)
    # A constant input beside biases: equal columns, and two that are constant.
    x = np.c_[own.normal(size=(12, 2)), np.ones(12)]
    j = joined(by_parameter(perceptron(own, [3, 6, 1]), x, "tanh"))
    x = np.c_[x[:, 2:], x, j[:, 0]]
    right("constant_input_beside_biases", x, x)
    small = 0.1 * rng.normal(size=(20, 8))
    right("regression_of_small_features", small, small)
    x = (rng.normal(size=(12, 1)) * 2 @ rng.normal(size=(1, 30))) + rng.normal(size=(12, 30))
    right("regression_wide_with_one_direction", x - x.mean(0), x - x.mean(0))
    j = joined(network(140, 12, [2, 10, 1], "tanh", bias=False)) * 0.5
    right("small_network_without_bias", j[:, 0], j)
    j = joined(network(141, 10, [3, 40, 1], "relu")) / 40
    right("mean_field", j[:, 0], j)
    # Other models.
    x = rng.normal(size=(10, 6))
    x = np.c_[2 * x * rng.normal(size=6), -2 * x * rng.normal(size=6)]
    right("diagonal_linear", x, x)
    words = rng.integers(0, 12, size=(10, 3))
    e = np.zeros((10, 12, 2))
    for i, sentence in enumerate(words):
        for word in sentence:
            e[i, word] += rng.normal(size=2)
    right("embedding", e.reshape(10, 24), e.reshape(10, 24))
    # Two words occur in the same samples, and three in none.
    own = np.random.default_rng(137)
    e = own.normal(size=(10, 12, 2)) * (own.uniform(size=(10, 12, 1)) < 0.5)
    e[:, 9] = e[:, 2]
    e[:, [3, 6, 11]] = 0
    right("embedding_of_words_that_occur_together", e.reshape(10, 24), e.reshape(10, 24))
    signal, kernel = rng.normal(size=(8, 12)), rng.normal(size=(2, 3))
    windows = np.stack([signal[:, s : s + 10] for s in range(3)], axis=2)
    z = np.einsum("nts,cs->nct", windows, kernel)
    head = rng.normal(size=2)
    j = np.concatenate([np.einsum("c,nct,nts->ncs", head, (z > 0) / 10, windows).reshape(8, -1),
                        np.maximum(z, 0).mean(2), np.ones((8, 1))], axis=1)
    right("convolution", j, j)
    j = joined(network(130, 10, [3, 6, 1]))[:, 0]
    some = j[[0, 0, 1, 2, 3, 3, 4, 5, 6, 7]]
    right("some_duplicates", some, some)
    scales = np.exp(1.5 * rng.normal(size=(12, 1)))
    j = scales * rng.normal(size=(12, 15))
    right("heavy_tails", j, j)
    # Precision and what is known.
    j = joined(network(131, 9, [3, 6, 1])).astype(np.float32)
    right("single_jacobian", j[:, 0], j)
    right("half_jacobian", j[:, 0].astype(np.float16), j.astype(np.float16))
    right("all_is_known", j, j, "--samples", "9", "--outputs", "1")
    j = joined(network(132, 6, [3, 4, 3], "relu"))
    right("recovered_knp", j.transpose(1, 0, 2), j, "--axes", "knp", "--samples", "6")
    right("recovered_npk", j.transpose(0, 2, 1), j, "--axes", "npk")
    right("recovered_pkn", j.transpose(2, 1, 0), j, "--axes", "pkn", batch_size=2)
    right("recovered_rows_by_sample", j.reshape(18, -1), j, "--outputs", "3")
    right("recovered_rows_by_output", j.transpose(1, 0, 2).reshape(18, -1), j, "--axes", "kn,p",
          "--outputs", "3")
    right("recovered_whole", j.reshape(6, -1), j, "--axes", "n,kp", "--outputs", "3")
    right("recovered_inner", j.transpose(0, 2, 1).reshape(6, -1), j, "--axes", "n,pk", "--outputs",
          "3")
    right("recovered_transposed", j[:, 0].T, j[:, 0], "--axes", "pn")
    parts = network(132, 6, [3, 4, 3], "relu")
    ends, end = {}, 0
    for name, part in parts.items():
        ends[name] = [end, end + part[0].size]
        end = ends[name][1]
    right("recovered_by_parameter", flattened(parts), joined(parts), "--axes", "n,kp", "--outputs",
          "3", blocks=ends)
    right("known_by_residuals", j.reshape(18, -1), j, residuals=1e-9 * rng.normal(size=(6, 3)))
    right("known_by_logits", j, j, logits=rng.normal(size=(6, 3)))
    right("mean_of_three_outputs", j, j, "--loss-scale", "2/3", scale=2 / 3)
    right("blocks_with_rest", j[:, 0], j[:, 0], blocks={"first": [0, 10], "rest": True})
    right("layers_of_three_outputs", np.zeros(1), joined(parts), "--sum-arrays", layers=parts)
    one = network(133, 7, [3, 4, 1])
    layers = {name: part[:, 0] for name, part in one.items()}
    right("layers_of_one_output", np.zeros(1), joined(one), "--sum-arrays", layers=layers)
    # Kernels.
    kernel = gram(j)
    four = kernel.reshape(6, 3, 6, 3)
    right("kernel", kernel, j, "--gram", "--outputs", "3")
    right("kernel_nnkk", four.transpose(0, 2, 1, 3), j, "--gram")
    right("kernel_nknk", four, j, "--gram", batch_size=2)
    right("kernel_nkkn", four.transpose(0, 1, 3, 2), j, "--gram")
    right("kernel_kn", gram(j.transpose(1, 0, 2)), j, "--gram", "--axes", "kn", "--outputs", "3")
    equal = joined(network(134, 3, [3, 4, 3]))
    four = gram(equal).reshape(3, 3, 3, 3)
    right("kernel_n_equal_k_nnkk", four.transpose(0, 2, 1, 3), equal, "--gram")
    right("kernel_n_equal_k_nkkn", four.transpose(0, 1, 3, 2), equal, "--gram")
    j = joined(network(135, 12, [3, 6, 1]))
    right("kernel_of_one_output", gram(j), j, "--gram")
    counts = rng.integers(0, 5, size=(8, 6)).astype(np.float32)
    right("kernel_of_integers", counts @ counts.T, counts.astype(float), "--gram")
    # Stationary points.
    x = rng.normal(size=(30, 5))
    y = rng.normal(size=30)
    r = x @ np.linalg.lstsq(x, y, rcond=None)[0] - y
    right("stationary_regression", x, x, residuals=r)
    j = joined(network(136, 10, [3, 6, 1]))
    right("interpolating", j[:, 0], j, residuals=1e-9 * rng.normal(size=10))
    right("noisy_residuals", j[:, 0], j, residuals=0.1 * rng.normal(size=10))


def four(jacobian):
    """The kernel n x k x n x k."""
    n, k, _ = jacobian.shape
    return gram(jacobian).reshape(n, k, n, k)


def kernel_mean(jacobian):
    return np.einsum("nap,map->nm", jacobian, jacobian) / jacobian.shape[1]


def wrong_inputs_that_hidden_layers_hide():
    """Networks whose hidden layers are strong beside the last one, or that have no biases."""
    j = joined(network(203, 12, [6, 6, 5, 2], "tanh", bias=False))
    wrong("kernel_of_two_by_output", gram(j.transpose(1, 0, 2)), "axes_in_another_order", "--gram",
          "--outputs", "2")
    j = joined(network(202, 8, [6, 5, 5, 5], "relu", bias=False))
    wrong("kernel_of_five_by_output", gram(j.transpose(1, 0, 2)), "axes_in_another_order", "--gram",
          "--outputs", "5")
    j = joined(network(204, 5, [6, 6, 6, 5]))
    wrong("kernel_by_output_with_n_equal_k", gram(j.transpose(1, 0, 2)), "axes_in_another_order",
          "--gram", "--outputs", "5")
    wrong("kernel_kknn_with_n_equal_k", four(j).transpose(1, 3, 0, 2), "axes_in_another_order",
          "--gram")
    j = joined(network(200, 12, [6, 6, 5, 3], "relu", bias=False))
    wrong("kernel_kknn", four(j).transpose(1, 3, 0, 2), "axes_in_another_order", "--gram")
    wrong("kernel_knkn", four(j).transpose(1, 0, 3, 2), "axes_in_another_order", "--gram")
    for seed in [201, 206]:
        j = joined(network(seed, 14, [4, 8, 2], "relu"))
        wrong(f"kernel_mean_of_two_{seed}", kernel_mean(j), "mean_over_outputs", "--gram",
              "--outputs", "2")
    for seed in [204, 210]:
        j = joined(network(seed, 8, [6, 5, 5, 5, 3]))
        wrong(f"kernel_deep_without_outputs_{seed}", gram(j), "outputs_as_samples", "--gram")
    for activation, k in [("tanh", 3), ("relu", 4)]:
        parts = network(201, 12, [4, 6, k], activation, bias=activation == "tanh", last_bias=False)
        j = joined(parts)
        wrong(f"sum_of_outputs_without_bias_{k}", j.sum(1), "outputs_summed")
        # The weights of the last layer stored input by input.
        *parts, last = parts.values()
        parts = [part.reshape(*part.shape[:2], -1) for part in [*parts, last.swapaxes(2, 3)]]
        j = np.concatenate(parts, axis=2)
        wrong(f"mean_of_outputs_without_bias_{k}", j.mean(1), "outputs_summed")
    j = joined(network(212, 5, [4, 6, 6, 5], "relu", bias=False))
    wrong("axes_knp_of_relu_with_n_equal_k", j.transpose(1, 0, 2), "axes_in_another_order")
    j = joined(network(201, 12, [4, 6, 6, 1], "relu", bias=False))
    wrong("axes_1np_of_relu", j.transpose(1, 0, 2), "axes_in_another_order")
    for seed in [204, 213]:
        parts, r = trained(seed, 12, [4, 8, 3], 1e-6)
        wrong(f"loss_of_three_outputs_{seed}", of_loss(parts, r), "jacobian_of_the_loss")
    own = np.random.default_rng(205)
    parts, r = network(205, 14, [4, 10, 1]), 0.25 * own.normal(size=(14, 1))
    wrong("loss_of_large_residuals", of_loss(parts, r), "jacobian_of_the_loss")
    # Gradients differ as much as residuals do.
    r = 0.3 * own.normal(size=14)
    steep = np.exp(0.5 * own.normal(size=(14, 1))) * own.normal(size=(14, 20))
    wrong("loss_of_steep_gradients_with_residuals", r[:, None] * steep, "jacobian_of_the_loss",
          residuals=r)
    j = joined(network(203, 8, [3, 4, 1]))
    wrong("half_gram_of_one_size", gram(1 + 0.1 * j).astype(np.float16), "single_precision_gram",
          "--gram")
    # Gram matrices of whole numbers.
    counts = own.integers(0, 6, size=(12, 8))
    wrong("kernel_of_counts_without_gram", (counts @ counts.T).astype(float), "gram_without_flag")
    signs = own.choice([-1, 1], size=(10, 30))
    wrong("kernel_of_signs_without_gram", signs @ signs.T, "gram_without_flag")


def right_inputs_that_are_regular():
    own = np.random.default_rng(300)
    for rows, columns in [(4, 6), (2, 9)]:
        j = structures.network_at(301, structures.lines(rows, columns), [5, 5])
        right(f"grid_{rows}_{columns}", j, j)
        right(f"grid_{rows}_{columns}_kernel", gram(j), j, "--gram")
    line = np.linspace(0, 1, 20)[:, None]
    kernel = structures.gaussian_kernel(line, 0.01)
    right("kernel_on_a_line", kernel, structures.root(kernel), "--gram", tolerance=1e-6)
    kernel = structures.gaussian_kernel(structures.lines(4, 5), 0.5)
    right("kernel_on_a_grid", kernel, structures.root(kernel), "--gram", tolerance=1e-6)
    season = np.sin(np.arange(29) * np.pi / 2) + 0.2 * own.normal(size=29)
    j = structures.network_at(302, structures.windows(season, 6), [6], "relu")
    right("seasonal_series", gram(j), j, "--gram")
    for name, stencil in [("first", [-1, 1, 0]), ("second", [-1, 2, -1])]:
        for n in [8, 12, 15]:
            x = structures.difference(n, stencil)
            right(f"{name}_differences_{n}", x, x)
    x = structures.difference(15, [1.4, -2.8, 1.4])
    right("scaled_differences", gram(x[:, None]), x, "--gram")
    right("scaled_differences_inside", x[1:-1], x[1:-1])
    x = structures.difference(14, own.normal(size=3))
    right("filter", x, x)
    x = 1.7 * structures.haar(4)
    right("wavelets", x, x)
    x = structures.hats(np.sort(own.uniform(size=20)), 6)
    right("hat_functions", x, x)
    x = structures.difference(12, [1, 0, 1])
    right("path_of_a_graph", x, x)
    j = structures.network_at(303, own.normal(size=(9, 3)), [5])
    right("data_twice", np.tile(j, (2, 1)), np.tile(j, (2, 1)))
    right("data_twice_kernel", gram(np.tile(j, (2, 1))), np.tile(j, (2, 1)), "--gram")
    j = joined(network(304, 4, [3, 4, 2]))
    right("data_three_times_of_two_outputs", np.tile(j, (3, 1, 1)), np.tile(j, (3, 1, 1)))
    for seed, d in [(305, 1), (306, 2), (307, 2), (308, 3)]:
        for activation in ["tanh", "linear"]:
            x = 0.2 * np.random.default_rng(seed).normal(size=(14, d))
            j = structures.network_at(seed, x, [8, 8], activation, bias=False)
            right(f"no_bias_{d}_{activation}_{seed}", j, j)
            right(f"no_bias_{d}_{activation}_{seed}_kernel", gram(j), j, "--gram", tolerance=1e-7)
    for index in range(2):
        x = structures.one_factor(own, 16, 30, 0.3)
        right(f"one_factor_{index}", x, x)
    x = structures.returns(own, 40, 6)
    right("returns", x, x)
    j = joined(network(309, 4, [3, 8, 6]))
    right("kernel_of_few_samples", four(j).transpose(0, 2, 1, 3), j, "--gram")


def softmax_residuals(rng, outputs):
    """The derivatives of the cross-entropy in the logits, with labels drawn from the model."""
    p = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    labels = [rng.choice(p.shape[1], p=row) for row in p]
    return p - np.eye(p.shape[1])[labels]


def residuals_of_the_last_layer():
    for k in [3, 5]:
        rng = np.random.default_rng(400 + k)
        parts = network(400 + k, 14, [4, 7, k], "relu")
        r = softmax_residuals(rng, 2 * rng.normal(size=(14, k)))
        wrong(f"loss_of_{k}_classes", of_loss(parts, r), "jacobian_of_the_loss")
        wrong(f"loss_of_{k}_classes_in_single_precision", of_loss(parts, r).astype(np.float32),
              "jacobian_of_the_loss")
        wrong(f"loss_of_{k}_logits", r[..., None] * joined(parts), "jacobian_of_the_loss")
    for k, bias in [(2, True), (3, False)]:
        rng = np.random.default_rng(410 + k)
        parts = network(410 + k, 14, [4, 7, k], "tanh", bias=bias)
        r = 0.3 * rng.normal(size=(14, k))
        wrong(f"loss_of_{k}_outputs", r[..., None] * joined(parts), "jacobian_of_the_loss")
    rng = np.random.default_rng(420)
    rows = 1e-3 * rng.normal(size=(14, 2, 1)) * rng.normal(size=(14, 2, 40))
    wrong("loss_without_a_rate", rows, "vanishing_jacobian")
    # What looks a little like these.
    j = joined(network(421, 14, [4, 7, 3], "sin"))
    slopes = rng.uniform(0.05, 0.25, size=(14, 3, 1))
    right("outputs_of_a_sigmoid", slopes * j, None)
    p = rng.dirichlet(np.ones(4), size=20)
    x = np.log(p) - np.log(p).mean(axis=1, keepdims=True)
    right("log_ratios", x, x)
    x = np.eye(4)[rng.integers(0, 4, size=20)] - 0.25
    right("contrasts", -x, x)


def right_inputs_that_were_doubted():
    j = structures.network_at(322, structures.crossed(np.random.default_rng(322), 4, 5), [12])
    right("crossed_kernel", gram(j), j, "--gram")
    x = np.random.default_rng(359).normal(size=(12, 4))
    j = structures.network_at(359, np.concatenate([x, -x]), [10])
    right("kernel_of_data_and_their_negatives", gram(j), j, "--gram")
    j = joined(network(320, 7, [3, 8, 8, 10], "relu", bias=False))
    right("kernel_of_few_samples_without_bias", four(j).transpose(0, 2, 1, 3), None, "--gram")
    layers = perceptron(np.random.default_rng(389), [3, 10, 10, 1], bias=False, scale=0.6)
    x = 0.3 * np.random.default_rng(389).normal(size=(14, 3))
    j = joined(by_parameter(layers, x, "relu"))
    right("small_kernel_without_bias", gram(j), j, "--gram", tolerance=1e-7)


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else "."
    wrong_inputs()
    right_inputs()
    wrong_inputs_that_hidden_layers_hide()
    right_inputs_that_are_regular()
    residuals_of_the_last_layer()
    right_inputs_that_were_doubted()
    np.savez_compressed(f"{folder}/inputs.npz", **{f"a{i}": a for i, a in enumerate(ARRAYS.values())})
    place = {name: f"a{i}" for i, name in enumerate(ARRAYS)}
    for case in CASES:
        case["array"] = place[case["array"]]
        for key in ("beside", "layers"):
            if key in case:
                case[key] = {name: place[value] for name, value in case[key].items()}
    with open(f"{folder}/cases.json", "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in CASES) + "\n]\n")
    counts = [sum(("expect" in case) == kind for case in CASES) for kind in (True, False)]
    print(f"{counts[0]} wrong and {counts[1]} right inputs, numpy {np.__version__}", file=sys.stderr)


if __name__ == "__main__":
    main()

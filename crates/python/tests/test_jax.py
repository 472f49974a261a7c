"""The layer for JAX: derivatives, losses, optimizers, and the one-liner."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import flatmin

jax = pytest.importorskip("jax")
jnp = jax.numpy
optax = pytest.importorskip("optax")


def network(sizes=(3, 5, 2), seed=0):
    """A perceptron as a pytree, and its function."""
    rng = np.random.default_rng(seed)
    params = [
        {"w": jnp.asarray(rng.standard_normal((a, b)) / np.sqrt(a)), "b": jnp.zeros(b)}
        for a, b in pairwise(sizes)
    ]

    def apply(params, x):
        for layer in params[:-1]:
            x = jnp.tanh(x @ layer["w"] + layer["b"])
        return x @ params[-1]["w"] + params[-1]["b"]

    return apply, params


@pytest.fixture
def problem():
    apply, params = network()
    x = jnp.asarray(np.random.default_rng(1).standard_normal((7, 3)), jnp.float32)
    return apply, params, x


def plain_jacobian(apply, params, x):
    """Row by row, by reverse differentiation of one output."""
    leaves, tree = jax.tree_util.tree_flatten(params)
    rows = []
    for i in range(len(x)):
        outputs = apply(params, x[i : i + 1])[0].reshape(-1)
        for a in range(outputs.size):

            def output(leaves, i=i, a=a):
                full = jax.tree_util.tree_unflatten(tree, leaves)
                return apply(full, x[i : i + 1])[0].reshape(-1)[a]

            parts = jax.grad(output)(leaves)
            rows.append(np.concatenate([np.ravel(part) for part in parts]))
    return np.array(rows, dtype=np.float64)


def test_jacobian_and_gram_are_those_of_plain_loops(problem):
    apply, params, x = problem
    expected = plain_jacobian(apply, params, x)
    for chunk in (None, 1, 3):
        found = flatmin.jax.jacobian(apply, params, x, chunk_size=chunk)
        assert found.shape == (7, 2, 32)
        np.testing.assert_allclose(found.reshape(14, 32), expected, rtol=2e-5, atol=1e-6)
    products = flatmin.jax.gram(apply, params, x, chunk_size=2)
    assert products.dtype == np.float64
    np.testing.assert_allclose(products, expected @ expected.T, rtol=2e-5, atol=1e-5)
    # Some bytes hold a few columns, and so the parameters in several groups.
    grouped = flatmin.jax.gram(apply, params, x, memory_limit=6e-6)
    np.testing.assert_allclose(grouped, products, rtol=1e-6, atol=1e-6)


def test_inputs_and_parameters_may_be_trees():
    def apply(params, x):
        return params["a"] * x["u"] + params["deep"][0] * x["v"] + params["count"]

    params = {"a": jnp.float32(2.0), "deep": [jnp.float32(3.0)], "count": jnp.int32(1)}
    x = {"u": jnp.arange(4.0), "v": jnp.ones(4)}
    found = flatmin.jax.jacobian(apply, params, x)
    np.testing.assert_array_equal(found[:, 0], np.stack([np.arange(4.0), np.ones(4)], axis=1))


def test_double_precision_is_kept():
    apply, params = network()
    with jax.enable_x64(True):
        wide = jax.tree_util.tree_map(lambda leaf: leaf.astype(jnp.float64), params)
        x = np.random.default_rng(1).standard_normal((5, 3))
        found = flatmin.jax.jacobian(apply, wide, x)
        assert found.dtype == np.float64
        expected = plain_jacobian(apply, wide, jnp.asarray(x))
    np.testing.assert_allclose(found.reshape(10, -1), expected, rtol=1e-12, atol=1e-14)


def mse(f, y):
    return jnp.mean((f - y) ** 2)


def half(f, y):
    return 0.5 * jnp.mean(jnp.sum((f - y) ** 2, axis=-1))


@pytest.mark.parametrize(
    ("loss", "scale"), [("mse", 1.0), (mse, 1.0), ("squared", 1.0), (half, 1.0)], ids=str
)
def test_squared_losses_are_recognised(loss, scale, problem):
    apply, params, x = problem
    y = apply(params, x)
    found = flatmin.jax.analyze(apply, params, (x, y), loss)
    # With two outputs the mean over them divides by as much as the missing half multiplies.
    assert found.to_dict()["loss"] == "squared"
    assert found.to_dict()["loss_scale"] == scale
    expected = plain_jacobian(apply, params, x).reshape(7, 2, -1)
    edge = flatmin.threshold(expected, trust_input=True, residuals=np.zeros((7, 2)))
    assert found.threshold().estimate == pytest.approx(edge.estimate, rel=1e-4)


def test_the_factor_of_a_mean_squared_error():
    apply, params = network((3, 5, 1))
    x = jnp.asarray(np.random.default_rng(1).standard_normal((6, 3)), jnp.float32)
    y = apply(params, x)
    assert flatmin.jax.analyze(apply, params, (x, y), mse).to_dict()["loss_scale"] == 2.0
    apply, params = network((3, 5, 4))
    y = apply(params, x)
    assert flatmin.jax.analyze(apply, params, (x, y), mse).to_dict()["loss_scale"] == 0.5


def test_cross_entropy_is_that_of_the_command(problem):
    apply, params, x = problem
    labels = jnp.asarray([0, 1, 0, 1, 1, 0, 0])
    loss = optax.softmax_cross_entropy_with_integer_labels
    found = flatmin.jax.analyze(apply, params, (x, labels), loss, batch_size=2)
    logits = np.asarray(apply(params, x), dtype=np.float64)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    gradients = shifted / shifted.sum(axis=1, keepdims=True) - np.eye(2)[np.asarray(labels)]
    expected = flatmin.analyze(
        plain_jacobian(apply, params, x).reshape(7, 2, -1),
        loss="cross-entropy",
        logits=logits,
        residuals=gradients,
        batch_size=2,
    )
    assert found.threshold().estimate == pytest.approx(expected.threshold().estimate, rel=1e-4)
    mean = found.to_dict()["residual_gradients"]["mean"]
    assert mean == pytest.approx(expected.to_dict()["residual_gradients"]["mean"], rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("hinge", 'expected "mse"'),
        (3, "expected a function"),
        (lambda f, y: (f - y) ** 2, "loss of one sample has the shape"),
        (lambda f, y: jnp.sum((f - y) ** 2), "is the sum over its samples"),
        (lambda f, y: jnp.mean((f - y) ** 2) ** 2, "is no mean over samples"),
        (lambda f, y: jnp.mean(jnp.sum(f, axis=-1)), "has no curvature"),
        (lambda f, y: -jnp.mean((f - y) ** 2), "is not convex"),
    ],
)
def test_other_losses_are_refused(loss, message, problem):
    apply, params, x = problem
    y = apply(params, x) + 0.1
    with pytest.raises(flatmin.InputError, match=message):
        flatmin.jax.analyze(apply, params, (x, y), loss)


def steps(transformation, params, count=4):
    """The optimizer after some steps with random gradients."""
    state = transformation.init(params)
    rng = np.random.default_rng(5)
    for _ in range(count):
        gradient = jax.tree_util.tree_map(
            lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), jnp.float32), params
        )
        update, state = transformation.update(gradient, state, params)
        params = optax.apply_updates(params, update)
    return transformation, state


OPTIMIZERS = {
    "sgd": (optax.sgd(0.1), {"learning_rate": 0.1}),
    "momentum": (optax.sgd(0.2, momentum=0.9), {"learning_rate": 0.2, "momentum": 0.9}),
    "nesterov": (
        optax.sgd(0.3, momentum=0.8, nesterov=True),
        {"learning_rate": 0.3, "momentum": 0.8, "nesterov": True},
    ),
    "coupled decay": (
        optax.chain(optax.add_decayed_weights(1e-2), optax.sgd(0.1, momentum=0.9)),
        {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-2},
    ),
    "decay without momentum": (
        optax.chain(optax.add_decayed_weights(1e-2), optax.sgd(0.1)),
        {"learning_rate": 0.1, "weight_decay": 1e-2},
    ),
    "schedule": (
        optax.sgd(optax.linear_schedule(1.0, 0.0, 8)),
        {"learning_rate": 0.5},
    ),
    "clipping": (
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
        {"learning_rate": 0.1},
    ),
    "injected": (
        optax.inject_hyperparams(optax.sgd)(learning_rate=0.25, momentum=0.5),
        {"learning_rate": 0.25, "momentum": 0.5},
    ),
    "adam": (
        optax.adam(1e-3, b1=0.8),
        {"learning_rate": 1e-3, "momentum": 0.8, "dampening": 0.8},
    ),
    "adamw": (
        optax.adamw(1e-2, weight_decay=0.05),
        {
            "learning_rate": 1e-2,
            "momentum": 0.9,
            "dampening": 0.9,
            "decoupled_weight_decay": 0.05,
        },
    ),
    "rmsprop": (optax.rmsprop(1e-2, eps=1e-5), {"learning_rate": 1e-2}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_are_read(name):
    from flatmin.jax._optimizer import read_optimizer

    _, params = network()
    transformation, expected = OPTIMIZERS[name]
    found = read_optimizer(steps(transformation, params), params)
    found.pop("preconditioner", None)
    defaults = {"momentum": 0.0, "dampening": 0.0, "nesterov": False}
    found = {key: value for key, value in found.items() if value != defaults.get(key, None)}
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_preconditioner_of_adam():
    from flatmin.jax._optimizer import read_optimizer

    _, params = network()
    transformation, state = steps(optax.adam(1e-3, eps=1e-4), params, count=6)
    found = read_optimizer((transformation, state), params)["preconditioner"]
    moments = np.concatenate([np.ravel(leaf) for leaf in jax.tree_util.tree_leaves(state[0].nu)])
    # The next step is the seventh.
    expected = (np.sqrt(moments / (1 - 0.999**7)) + 1e-4) * (1 - 0.9**7)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "transformation",
    [
        optax.lion(1e-3),
        optax.adagrad(1e-3),
        optax.chain(optax.trace(0.9), optax.scale_by_adam(), optax.scale(-0.1)),
        optax.chain(optax.scale_by_sign(), optax.scale(-0.1)),
    ],
    ids=["lion", "adagrad", "two moments", "sign"],
)
def test_other_optimizers_are_refused(transformation):
    from flatmin.jax._optimizer import read_optimizer

    _, params = network()
    with pytest.raises(flatmin.InputError, match="give learning_rate="):
        read_optimizer(steps(transformation, params), params)


def test_the_one_liner_reads_the_optimizer(problem):
    apply, params, x = problem
    y = apply(params, x)
    optimizer = steps(optax.sgd(0.05, momentum=0.9), params)
    found = flatmin.jax.analyze(apply, params, (x, y), optimizer=optimizer, batch_size=[1, 3])
    report = found.to_dict()
    assert report["batches"][0]["optimizer"]["momentum"] == 0.9
    assert report["batches"][0]["learning_rates"][0]["learning_rate"] == 0.05


def test_the_gram_matrix_gives_the_same_answer(problem):
    apply, params, x = problem
    y = apply(params, x)
    optimizer = steps(optax.adam(1e-3), params)
    whole = flatmin.jax.analyze(apply, params, (x, y), optimizer=optimizer)
    pieces = flatmin.jax.analyze(apply, params, (x, y), optimizer=optimizer, memory_limit=6e-6)
    assert pieces.threshold().estimate == pytest.approx(whole.threshold().estimate, rel=1e-4)
    assert pieces.parameters == whole.parameters == 32
    assert pieces.to_dict()["batches"][0]["optimizer"]["preconditioned"]
    assert "Gram matrix" in repr(pieces)


def test_a_function_that_mixes_samples_is_noticed(problem):
    apply, params, x = problem

    def normalised(params, x):
        outputs = apply(params, x)
        return (outputs - outputs.mean(axis=0)) / outputs.std(axis=0)

    with pytest.raises(flatmin.InputError, match="mixes samples"):
        flatmin.jax.jacobian(normalised, params, x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, p, x, y: (3, p, (x, y)), "expected a function"),
        (lambda a, p, x, y: (a, {}, (x, y)), "no array"),
        (lambda a, p, x, y: (a, p, x), "no pair"),
        (lambda a, p, x, y: (a, p, (x[:, :2], y)), "fails"),
        (lambda a, p, x, y: (a, p, (x, y[:3])), "rows"),
        (lambda a, p, x, y: (lambda p, x: (a(p, x), 1), p, (x, y)), "expected an array"),
        (lambda a, p, x, y: (lambda p, x: a(p, x) * jnp.nan, p, (x, y)), "NaN"),
        (lambda a, p, x, y: (a, p, (x, None)), "no targets"),
    ],
)
def test_bad_input_is_refused(change, message, problem):
    apply, params, x = problem
    with pytest.raises(flatmin.InputError, match=message):
        flatmin.jax.analyze(*change(apply, params, x, apply(params, x)))


def test_too_large_problems_are_refused(problem):
    apply, params, x = problem
    with pytest.raises(flatmin.InputError, match=r"need 4\.38e-06 GiB, more than memory_limit"):
        flatmin.jax.gram(apply, params, x, memory_limit=1e-6)


def test_life_with_optax():
    """SGD of optax stays below and leaves above the edge that is named."""
    apply, params = network((4, 8, 1), seed=3)
    with jax.enable_x64(True):
        params = jax.tree_util.tree_map(lambda leaf: leaf.astype(jnp.float64), params)
        x = jnp.asarray(np.random.default_rng(2).standard_normal((10, 4)))
        y = apply(params, x)
        edge = flatmin.jax.analyze(
            apply, params, (x, y), mse, momentum=0.9, sampling="with_replacement"
        ).threshold()

        @jax.jit
        def run(rate, key):
            transformation = optax.sgd(rate, momentum=0.9)
            shift = jax.random.normal(key, (64,))
            leaves, tree = jax.tree_util.tree_flatten(params)
            ends = np.cumsum([leaf.size for leaf in leaves])
            shift = jnp.resize(shift, ends[-1])
            moved = [
                leaf + 1e-6 * shift[end - leaf.size : end].reshape(leaf.shape)
                for leaf, end in zip(leaves, ends, strict=True)
            ]
            start = jax.tree_util.tree_unflatten(tree, moved)

            def step(carry, key):
                params, state = carry
                i = jax.random.randint(key, (), 0, len(x))
                gradient = jax.grad(lambda p: mse(apply(p, x[i][None]), y[i][None]))(params)
                update, state = transformation.update(gradient, state, params)
                return (optax.apply_updates(params, update), state), None

            keys = jax.random.split(key, 4000)
            (end, _), _ = jax.lax.scan(step, (start, transformation.init(start)), keys)
            return mse(apply(end, x), y) / mse(apply(start, x), y)

        keys = jax.random.split(jax.random.PRNGKey(0), 5)
        below = [float(run(0.8 * edge.estimate, key)) for key in keys]
        above = [float(run(2.0 * edge.estimate, key)) for key in keys]
    assert all(ratio < 1 for ratio in below), below
    assert all(not ratio < 10 for ratio in above), above


def test_products_are_those_of_the_jacobian(problem):
    apply, params, x = problem
    rows = flatmin.jax.jacobian(apply, params, x).reshape(14, 32).astype(np.float64)
    found = flatmin.jax.products(apply, params, x, chunk_size=3)
    rng = np.random.default_rng(4)
    v, u = rng.standard_normal((32, 3)), rng.standard_normal((14, 3))
    np.testing.assert_allclose(found.jvp(v), rows @ v, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.vjp(u), rows.T @ u, rtol=1e-4, atol=1e-4)
    blocks = rows.reshape(7, 2, 32)
    expected = np.einsum("iap,ibp->iab", blocks, blocks)
    np.testing.assert_allclose(found.sample_grams(), expected, rtol=1e-5, atol=1e-5)


def test_a_bracket_can_be_asked_for():
    apply, params = network((3, 20, 2))
    with jax.enable_x64(True):
        params = jax.tree_util.tree_map(lambda leaf: leaf.astype(jnp.float64), params)
        x = jnp.asarray(np.random.default_rng(1).standard_normal((30, 3)))
        y = apply(params, x)
        optimizer = steps(optax.adam(1e-3), params)
        exact = flatmin.jax.analyze(apply, params, (x, y), optimizer=optimizer)
        found = flatmin.jax.analyze(apply, params, (x, y), optimizer=optimizer, relative_width=0.1)
    bracket = found.threshold()
    assert bracket.lower <= exact.threshold().estimate <= bracket.upper
    assert bracket.kind == "bracket"
    assert found.to_dict()["batches"][0]["optimizer"]["preconditioned"]


def test_what_is_taken_for_granted_is_said(problem):
    apply, params, x = problem
    y = apply(params, x)
    found = flatmin.jax.analyze(apply, params, (x, y))
    assert [note.split(":")[0] for note in found.notes] == [
        "no optimizer was given",
        "no batch size was given, and the data have none",
    ]
    assert all(f"Note: {note}." in repr(found) for note in found.notes)
    tx = optax.sgd(0.1)
    given = {"optimizer": (tx, tx.init(params)), "batch_size": 1}
    assert flatmin.jax.analyze(apply, params, (x, y), **given).notes == []
    assert flatmin.jax.analyze(apply, params, (x, y), batch_size=1, momentum=0.9).notes == []


def test_what_is_not_an_object_of_training_is_refused(problem):
    apply, params, x = problem
    y = apply(params, x)
    with pytest.raises(TypeError, match="no keyword lr; is learning_rate=… meant"):
        flatmin.jax.analyze(apply, params, (x, y), lr=0.1)
    with pytest.raises(flatmin.InputError, match=r"optimizer=\(tx, state\)"):
        flatmin.jax.analyze(apply, params, (x, y), optimizer=optax.sgd(0.1))
    with pytest.raises(flatmin.InputError, match="predictions do not do"):
        flatmin.jax.analyze(apply, params, y)
    with pytest.raises(flatmin.InputError, match="apply is the class Classes"):

        class Classes:
            pass

        flatmin.jax.analyze(Classes, params, (x, y))
    three = {"w": jnp.ones((x.shape[1], 3))}
    classes = jnp.arange(len(x)) % 3
    with pytest.raises(flatmin.InputError, match="softmax_cross_entropy_with_integer_labels"):
        flatmin.jax.analyze(lambda p, x: x @ p["w"], three, (x, classes))

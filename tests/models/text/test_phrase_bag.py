import jax
import jax.numpy as jnp
import numpy as np

from fgmm.models.heads import pooled
from fgmm.models.text.phrase_bag import Encoder

TOKENS = jnp.array([[[5, 6, 7, 8, 0, 0]], [[9, 5, 6, 7, 8, 9]]], jnp.int32)
PHRASES = jnp.array([[[1, 1, 2, 2, 0, 0]], [[1, 2, 2, 3, 3, 3]]], jnp.int32)


def run(tokens=TOKENS, phrases=PHRASES, **options):
    encoder = Encoder(vocabulary=10, phrases=3, width=4, hidden=8, **options)
    variables = encoder.init(jax.random.key(0), tokens, phrases, False)
    return encoder.apply(variables, tokens, phrases, False), variables["params"]


def features(params, tokens):
    """ReLU of the first layer, word by word."""
    words = np.asarray(params["word_embd"]["embedding"])[np.asarray(tokens)]
    kernel, bias = (np.asarray(params["fc1"][name]) for name in ("kernel", "bias"))
    return np.maximum(words @ kernel + bias, 0)


def test_a_phrase_is_the_maximum_of_its_words():
    tokens, params = run()
    words = features(params, TOKENS)[:, 0]
    assert tokens.grid == (1, 3)
    np.testing.assert_array_equal(tokens.mask, [[True, True, False], [True, True, True]])
    np.testing.assert_allclose(tokens.local[0, 0], words[0, :2].max(axis=0), rtol=1e-5)
    np.testing.assert_allclose(tokens.local[1, 2], words[1, 3:].max(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(tokens.local[0, 2], np.zeros(8))


def test_the_maximum_of_phrases_is_the_published_one_of_words():
    """Where padding counts, and in a caption without padding, where there is none to count."""
    tokens, params = run(padding_counts=True)
    params["fc1"]["bias"] += 0.3  # so that padding has features of its own
    encoder = Encoder(vocabulary=10, phrases=3, width=4, hidden=8, padding_counts=True)
    tokens = encoder.apply({"params": params}, TOKENS, PHRASES, False)
    published = features(params, TOKENS)[:, 0].max(axis=1)
    np.testing.assert_allclose(pooled(tokens.local, tokens.mask, "max"), published, rtol=1e-5)
    without = features(params, TOKENS)[0, 0, :4].max(axis=0)
    assert np.abs(published[0] - without).max() > 1e-3
    np.testing.assert_array_equal(tokens.mask, [[True, True, False], [True, True, True]])


def test_the_order_of_words_does_not_matter():
    order = jnp.array([1, 0, 3, 2, 4, 5])
    np.testing.assert_array_equal(run()[0].local[0], run(tokens=TOKENS[..., order])[0].local[0])


def test_words_are_dropped_in_training_only():
    encoder = Encoder(vocabulary=10, phrases=3, width=4, hidden=8, dropout=0.5)
    variables = encoder.init(jax.random.key(0), TOKENS, PHRASES, False)
    calm = encoder.apply(variables, TOKENS, PHRASES, False).local
    np.testing.assert_array_equal(calm, run()[0].local)
    rngs = {"dropout": jax.random.key(1)}
    assert np.abs(encoder.apply(variables, TOKENS, PHRASES, True, rngs=rngs).local - calm).max() > 0


def test_without_a_layer_a_phrase_is_pooled_from_embeddings():
    for pool, reduced in (("mean", np.mean), ("max", np.max)):
        encoder = Encoder(vocabulary=10, phrases=3, width=4, hidden=0, pool=pool)
        variables = encoder.init(jax.random.key(0), TOKENS, PHRASES, False)
        assert set(variables["params"]) == {"word_embd"}
        words = np.asarray(variables["params"]["word_embd"]["embedding"])
        tokens = encoder.apply(variables, TOKENS, PHRASES, False)
        np.testing.assert_allclose(tokens.local[0, 1], reduced(words[[7, 8]], axis=0), rtol=1e-5)
        np.testing.assert_array_equal(tokens.local[0, 2], np.zeros(4))


def test_memory_does_not_grow_with_the_number_of_phrases():
    tokens = jax.ShapeDtypeStruct((8, 1, 64), jnp.int32)

    def bytes_of_a_gradient(phrases: int) -> int:
        encoder = Encoder(vocabulary=10, phrases=phrases, width=4, hidden=128)

        def total(params, ids):
            return encoder.apply({"params": params}, ids, ids, False).local.sum()

        params = jax.eval_shape(
            lambda ids: encoder.init(jax.random.key(0), ids, ids, False)["params"], tokens
        )
        lowered = jax.jit(jax.grad(total)).lower(params, tokens)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert bytes_of_a_gradient(phrases=16) < 1.5 * bytes_of_a_gradient(phrases=2)

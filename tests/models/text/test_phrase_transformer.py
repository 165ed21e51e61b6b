import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.models.text.phrase_transformer import Encoder

TOKENS = jnp.array([[[5, 6, 7, 8, 0, 0]], [[9, 5, 6, 7, 8, 9]]], jnp.int32)
PHRASES = jnp.array([[[1, 1, 2, 2, 0, 0]], [[1, 2, 2, 3, 3, 3]]], jnp.int32)


def make(**options):
    encoder = Encoder(vocabulary=10, phrases=3, width=16, heads=2, **options)
    return encoder, encoder.init(jax.random.key(0), TOKENS, PHRASES, False)


def test_phrases_are_masked_where_a_caption_has_fewer():
    encoder, variables = make()
    tokens = encoder.apply(variables, TOKENS, PHRASES, False)
    assert tokens.grid == (1, 3)
    np.testing.assert_array_equal(tokens.mask, [[True, True, False], [True, True, True]])
    np.testing.assert_array_equal(tokens.local[0, 2], np.zeros(16))


def test_padding_does_not_matter():
    encoder, variables = make()
    garbage = TOKENS.at[0, 0, 4:].set(3)
    np.testing.assert_allclose(
        encoder.apply(variables, TOKENS, PHRASES, False).local,
        encoder.apply(variables, garbage, PHRASES, False).local,
        atol=1e-6,
    )


@pytest.mark.parametrize(("context", "changes"), [("phrase", False), ("caption", True)])
def test_what_a_phrase_knows_of_its_neighbours(context, changes):
    encoder, variables = make(context=context)
    other = TOKENS.at[0, 0, 2].set(1)
    before = encoder.apply(variables, TOKENS, PHRASES, False).local[0, 0]
    after = encoder.apply(variables, other, PHRASES, False).local[0, 0]
    assert (np.abs(before - after).max() > 1e-4) == changes


@pytest.mark.parametrize(
    ("options", "message"),
    [({"heads": 3}, "width=16 must be a multiple of 2 x heads=3"), ({"context": "x"}, "allowed")],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        Encoder(**{"vocabulary": 10, "phrases": 3, "width": 16, "heads": 2, **options})

"""The base class of transformers over whole captions, with learned positions."""

from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Bool, Float, Int32

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.text.phrase_pooling import of_captions, phrase_means
from fgmm.models.transformer import PublishedTransformer


class CaptionTransformer(PublishedTransformer, kw_only=True):
    """The options of transformers over all tokens of a caption, including tokens in no phrase.

    The feature of a phrase is the mean of the normalised output over its tokens.

    Attributes:
      vocabulary: how many ids the tokenizer has; set from the tokenizer, not by a config.
      phrases: P; set from ``config.data.phrases``.
      length: number of learned positions, which is the most tokens of a caption.
      gives_coarse: marks encoders with a coarse feature of their own.
    """

    vocabulary: int
    phrases: int
    length: int = option(low=1)
    gives_coarse: ClassVar[bool] = True

    def embedded(self, tokens: Int32[Array, "M L"]) -> Float[Array, "M L E"]:
        """Embedded tokens with their positions added, as layers of this module.

        Raises:
          ValueError: there are more tokens than positions.
        """
        count = tokens.shape[1]
        if count > self.length:
            raise ValueError(f"{count} tokens of a caption are more than length={self.length}")
        x = nn.Embed(self.vocabulary, self.width, dtype=self.dtype, name="words")(tokens)
        normal = nn.initializers.normal(0.02)
        table = self.param("positions", normal, (self.length, self.width))
        return x + table[None, :count].astype(x.dtype)

    def states(
        self, x: Float[Array, "M L E"], attend: Bool[Array, "M L L"] | None, train: bool
    ) -> Float[Array, "M L E"]:
        """The normalised output of the blocks, as layers of this module."""
        return self.normalised(self.through_blocks(x, attend, train), "norm")

    def of_phrases(
        self,
        x: Float[Array, "M L E"],
        coarse: Float[Array, "M E"],
        phrase_ids: Int32[Array, "B K L"],
    ) -> Tokens:
        """The output of the encoder, from states of tokens and the captions' coarse feature."""
        means = phrase_means(x, phrase_ids, self.phrases)
        return of_captions(*means, phrase_ids.shape[1], coarse)

"""The whole model: an encoder for each modality and a head for each space it takes part in."""

from collections.abc import Mapping

import flax.linen as nn
from jaxtyping import Array

from fgmm.models.embeddings import Embeddings, Tokens
from fgmm.models.heads import Head, segmented

MODALITIES = ("video", "audio", "text")


class MultiModal(nn.Module):
    """Encoders and heads.

    Attributes:
      encoders: a module for each modality that the model has.
      spaces: for each space the modalities in it and the options of their heads:
        ``{"joint": {"modalities": ("video", "text"), "width": 64, "hidden": 0, "pool": "mean"}}``.
      phrases: P; audio is also pooled to as many time segments, as the counterpart of phrases.
    """

    encoders: Mapping[str, nn.Module]
    spaces: Mapping[str, Mapping]
    phrases: int

    def setup(self):
        self.heads = {
            f"{space}_{modality}": Head(entry["width"], entry["hidden"], entry["pool"])
            for space, entry in self.spaces.items()
            for modality in entry["modalities"]
        }

    def encode(self, inputs: Mapping[str, Array], train: bool = False) -> dict[str, Tokens]:
        """Encoder outputs of the modalities present in ``inputs``, before any head.

        Args:
          inputs: ``video`` [B,T,H,W,3] and ``log_mel`` [B,T,F] as floats with their masks [B],
            ``tokens`` and ``phrase_ids`` [B,K,L]; see ``fgmm.data.transforms``.
        """
        tokens = {}
        if "video" in self.encoders and "video" in inputs:
            tokens["video"] = self.encoders["video"](inputs["video"], inputs["video_mask"], train)
        if "audio" in self.encoders and "log_mel" in inputs:
            tokens["audio"] = self.encoders["audio"](inputs["log_mel"], inputs["audio_mask"], train)
        if "text" in self.encoders and "tokens" in inputs:
            tokens["text"] = self.encoders["text"](inputs["tokens"], inputs["phrase_ids"], train)
        return tokens

    def __call__(
        self, inputs: Mapping[str, Array], train: bool = False
    ) -> dict[str, dict[str, Embeddings]]:
        """Embeddings as ``result[space][modality]``.

        Text, and ``audio_segments``, which is audio in the place of text, have axes [B,K,P,D].
        """
        encoded = self.encode(inputs, train)
        embeddings = {}
        for space, entry in self.spaces.items():
            members = embeddings.setdefault(space, {})
            for modality in entry["modalities"]:
                if modality not in encoded:
                    continue
                head, tokens = self.heads[f"{space}_{modality}"], encoded[modality]
                if modality == "text":
                    members[modality] = head(*_by_caption(tokens))
                    continue
                members[modality] = head(tokens.local, tokens.mask)
                if modality == "audio":
                    segments = segmented(tokens, self.phrases)
                    members["audio_segments"] = head(*_by_caption(segments))
        return embeddings


def _by_caption(tokens: Tokens):
    shape = (tokens.local.shape[0], *tokens.grid)
    return tokens.local.reshape(*shape, -1), tokens.mask.reshape(shape)

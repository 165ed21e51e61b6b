"""The whole model: an encoder for each modality, and a route from it to each of its spaces."""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
from jaxtyping import Array

from fgmm.models.classifiers import ClassifierHead
from fgmm.models.embeddings import Embeddings, Tokens
from fgmm.models.heads import Gate, Head, Route, segmented

MODALITIES = ("video", "audio", "text")


class MultiModal(nn.Module):
    """Encoders and heads.

    Attributes:
      encoders: a module for each modality that the model has.
      spaces: the options of each space (``fgmm.config.sections.Space``), as
        ``fgmm.models.spaces.checked`` returns them.
      phrases: P. Audio is also pooled to at most P time segments, which take the place of phrases.
      classifiers: heads by name, each of which predicts classes from the features of one encoder.
    """

    encoders: Mapping[str, nn.Module]
    spaces: Mapping[str, Mapping]
    phrases: int
    classifiers: Mapping[str, ClassifierHead] = dataclasses.field(default_factory=dict)

    def setup(self):
        heads = {}
        for space, entry in self.spaces.items():
            for modality in entry["modalities"]:
                name = self._last_head(space, modality)
                if name not in heads:
                    heads[name] = Head(entry["width"], entry["hidden"][modality], entry["bias"])
        self.heads = heads
        self.gates = {
            f"{space}_{modality}": Gate(hidden=entry["gate"] == "hidden")
            for space, entry in self.spaces.items()
            for modality in entry["modalities"]
            if entry["gate"] != "none"
        }

    def _earlier(self, space: str, modality: str) -> str:
        """The space through which a modality reaches ``space``; empty if there is none."""
        through = self.spaces[space]["through"]
        return through if through and modality in self.spaces[through]["modalities"] else ""

    def _last_head(self, space: str, modality: str) -> str:
        earlier = self._earlier(space, modality)
        return f"{earlier}_to_{space}" if earlier else f"{space}_{modality}"

    def route(self, space: str, modality: str) -> Route:
        """The route from an encoder to a space. Modalities share the heads that lead from one space
        to another.
        """
        heads, at = [], space
        while earlier := self._earlier(at, modality):
            heads.append(self.heads[self._last_head(at, modality)])
            at = earlier
        heads.append(self.heads[self._last_head(at, modality)])
        entry = self.spaces[space]
        return Route(
            heads=tuple(reversed(heads)),
            pool=self.spaces[at]["pool"],
            unit_length=entry["unit_length"],
            dtype=entry["dtype"],
            gate=self._gate(space, modality),
            pool_gate=self._gate(at, modality),
        )

    def _gate(self, space: str, modality: str) -> Gate | None:
        return self.gates.get(f"{space}_{modality}")

    def encode(self, inputs: Mapping[str, Array], train: bool = False) -> dict[str, Tokens]:
        """The outputs of the encoders, before any head, for the modalities in ``inputs``.

        Args:
          inputs: ``video`` [B,T,H,W,3] and ``log_mel`` [B,T,F] as floats with their masks [B],
            ``tokens`` and ``phrase_ids`` [B,K,L]; see ``fgmm.data.augmentation.transforms``.
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
    ) -> dict[str, dict[str, Embeddings | Array]]:
        """Embeddings as ``result[space][modality]``. If there are classifiers, the logits
        [B,classes] of each are ``result["classifiers"][name]``.

        Text has axes [B,K,P,D]. So has the modality ``audio_segments``, with K = 1, which takes the
        place of text. The gate of audio, applied to the mean of a segment's patches, is the gate of
        the segment.
        """
        return self.embeddings(self.encode(inputs, train), train)

    def embeddings(
        self, encoded: Mapping[str, Tokens], train: bool = False
    ) -> dict[str, dict[str, Embeddings | Array]]:
        """As ``__call__``, from the result of ``encode``."""
        embeddings = {}
        for space, entry in self.spaces.items():
            members = embeddings.setdefault(space, {})
            for modality in entry["modalities"]:
                if modality not in encoded:
                    continue
                route, tokens = self.route(space, modality), encoded[modality]
                if modality == "text":
                    members[modality] = route(*_by_caption(tokens))
                    continue
                members[modality] = route(tokens.local, tokens.mask, tokens.coarse)
                if modality == "audio":
                    segments = segmented(tokens, self.phrases)
                    members["audio_segments"] = route(*_by_caption(segments))
        if self.classifiers:
            embeddings["classifiers"] = {
                name: head(encoded[head.modality], train)
                for name, head in self.classifiers.items()
                if head.modality in encoded
            }
        return embeddings


def _by_caption(tokens: Tokens):
    shape = (tokens.local.shape[0], *tokens.grid)
    return tokens.local.reshape(*shape, -1), tokens.mask.reshape(shape), tokens.coarse

"""What happens to a batch on the device, inside jit: augmentation, normalisation, log-mel."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from fgmm.config import ConfigError
from fgmm.config.option import check_given, declared, option
from fgmm.config.sections import TransformsSection
from fgmm.data.augmentation import colour, spec_augment
from fgmm.data.augmentation.spectrogram import log_mel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transforms(TransformsSection):
    """Turns a raw batch into the inputs of a model, by the options of ``config.transforms``.

    Raises:
      ConfigError: an option is wrong.
    """

    sample_rate: int = option(low=1, help="Of the sound, in Hz.")

    def __post_init__(self):
        check_given(declared(type(self)), vars(self), key="transforms")
        if self.window < 2 or self.hop < 1:
            raise ConfigError(
                "transforms.mel_window must be at least 2 samples and mel_hop at least 1: "
                f"{self.mel_window} s and {self.mel_hop} s at {self.sample_rate} Hz"
            )

    @property
    def window(self) -> int:
        """The window of the spectrogram, in samples."""
        return round(self.mel_window * self.sample_rate)

    @property
    def hop(self) -> int:
        """The step from window to window of the spectrogram, in samples."""
        return round(self.mel_hop * self.sample_rate)

    def draw(self, key: PRNGKeyArray, clips: int) -> dict[str, Array]:
        """Draws the augmentation of each of ``clips`` clips: ``corner`` and ``extent`` [B,2] of the
        crop in fractions of the picture, ``mirror`` [B], the colours (``colour.drawn``), and the
        hidden ``times`` and ``bands`` [B,M,2]. What is not in use is left out.
        """
        area_key, aspect_key, place_key, flip_key = jax.random.split(key, 4)
        draws = {}
        if self.crop_area < 1:
            area = jax.random.uniform(area_key, (clips,), minval=self.crop_area)
            bound = np.log(self.crop_aspect)
            aspect = jnp.exp(jax.random.uniform(aspect_key, (clips,), minval=bound, maxval=-bound))
            extent = jnp.minimum(
                jnp.stack([jnp.sqrt(area / aspect), jnp.sqrt(area * aspect)], axis=1), 1.0
            )
            corner = jax.random.uniform(place_key, (clips, 2)) * (1 - extent)
            draws |= {"corner": corner, "extent": extent}
        if self.flip:
            draws["mirror"] = jax.random.bernoulli(flip_key, shape=(clips,))
        changes = {
            name: getattr(self, name) for name in ("brightness", "contrast", "saturation", "hue")
        }
        colour_key, time_key, band_key = jax.random.split(jax.random.fold_in(key, 1), 3)
        if any(changes.values()) or self.grey_chance:
            chances = {"chance": self.colour_chance, "grey": self.grey_chance}
            draws |= colour.drawn(colour_key, clips, **changes, **chances)
        if self.time_masks:
            draws["times"] = spec_augment.drawn(time_key, clips, self.time_masks, self.time_mask)
        if self.band_masks:
            draws["bands"] = spec_augment.drawn(band_key, clips, self.band_masks, self.band_mask)
        return draws

    def __call__(
        self, batch: Mapping[str, Array], draws: Mapping[str, Array] = MappingProxyType({})
    ) -> dict[str, Array]:
        """The inputs of ``fgmm.models.multimodal.MultiModal``, augmented by ``draws``, if given."""
        inputs = {name: x for name, x in batch.items() if name not in ("video", "audio")}
        if "video" in batch:
            video = batch["video"]
            # Stored features, which are floats, stay as they are.
            stored = jnp.issubdtype(video.dtype, jnp.floating)
            inputs["video"] = video.astype(jnp.float32) if stored else self._pixels(video, draws)
        if "audio" in batch:
            spectrogram = self._spectrogram(batch["audio"])
            for name, axis in (("times", 1), ("bands", 2)):
                if name in draws:
                    spectrogram = spec_augment.masked(spectrogram, draws[name], axis)
            inputs["log_mel"] = spectrogram
        return inputs

    def _spectrogram(self, audio: Float[Array, "B S"]) -> Float[Array, "B T F"]:
        """The normalised spectrogram, cut or padded to ``mel_length`` windows if that is set."""
        found = log_mel(
            audio,
            rate=self.sample_rate,
            window=self.window,
            hop=self.hop,
            bands=self.mel_bands,
            filterbank=self.mel_filterbank,
        )
        if self.mel_length:
            missing = max(0, self.mel_length - found.shape[1])
            found = jnp.pad(found[:, : self.mel_length], ((0, 0), (0, missing), (0, 0)))
        return (found - self.mel_mean) / self.mel_spread

    def _pixels(
        self, video: UInt8[Array, "B T H W 3"], draws: Mapping[str, Array]
    ) -> Float[Array, "B T H W 3"]:
        """Pictures augmented and normalised."""
        if "extent" in draws:
            video = cropped(video, draws["corner"], draws["extent"])
        if "mirror" in draws:
            mirror = draws["mirror"][:, None, None, None, None]
            video = jnp.where(mirror, video[..., ::-1, :], video)
        video = video.astype(jnp.float32)
        if "palette" in draws:
            video = colour.recoloured(video, draws["shift"], draws["contrast"], draws["palette"])
        mean, factor = np.float32(self.pixel_mean), np.float32(1 / np.array(self.pixel_spread))
        every = (None,) * 4
        return (video - mean[every]) * factor[every]


def cropped(
    video: UInt8[Array, "B T H W 3"],
    corner: Float[Array, "B 2"],
    extent: Float[Array, "B 2"],
) -> Float[Array, "B T H W 3"]:
    """Cuts one window out of each clip and scales it, bilinearly, to the clip's size.

    Each axis is one matrix product with two weights a row, which is fast on any accelerator.

    Args:
      corner: top and left of the window, in fractions of the picture.
      extent: height and width of the window, in fractions of the picture.
    """

    def weights(size, corner, extent):
        share = extent[:, None] * (jnp.arange(size)[None] + 0.5) / size
        centre = (corner[:, None] + share) * size - 0.5
        centre = jnp.clip(centre, 0, size - 1)
        return jnp.maximum(0.0, 1.0 - jnp.abs(centre[:, :, None] - jnp.arange(size)[None, None]))

    height, width = video.shape[2:4]
    rows = weights(height, corner[:, 0], extent[:, 0])
    columns = weights(width, corner[:, 1], extent[:, 1])
    x = jnp.einsum("bhi,btiwc->bthwc", rows, video.astype(jnp.float32))
    return jnp.einsum("bwj,bthjc->bthwc", columns, x)

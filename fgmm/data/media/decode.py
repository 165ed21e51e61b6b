"""Converts encoded images, frames and sound to the fixed shapes of a batch."""

import contextlib
import io
import math

import numpy as np
from jaxtyping import Float16, Float32, Int, UInt8
from PIL import Image, ImageOps

from fgmm.data.schema import CROPPED, BadInput, FrameReader, FrameWriter, Resizing, Waveform

# Formats that Pillow decodes by itself, in-process.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MAX_PIXELS = 1 << 26
# The largest area of a picture resized to cover the target, in areas of the target. A long thin
# picture would fill the memory.
MOST_CUT_OFF = 32
# EXIF's orientation tag, and its values for pictures whose rows and columns change places.
_ORIENTATION = 0x0112
_ON_ITS_SIDE = (5, 6, 7, 8)
# Seconds of sound after the end that are resampled with it.
_RESAMPLING_MARGIN = 0.05


def read_image(
    data: bytes,
    height: int,
    width: int,
    resizing: Resizing = CROPPED,
    out: UInt8[np.ndarray, "T H W 3"] | None = None,
) -> UInt8[np.ndarray, "T H W 3"]:
    """Decodes an image as a clip of one frame, or of as many as ``out`` has.

    The picture is made upright (EXIF), put on white if it is transparent, and brought to its size
    by ``resizing``. Only the first picture of an animation is used.

    Args:
      data: contents of an image file.
      height, width: H and W.
      resizing: of pictures of another size.
      out: written and returned; without it T is 1.

    Raises:
      BadInput: ``unreadable_video``; the data are empty, damaged, cut short, of a format not
        among ``BMP GIF JPEG PNG PPM TIFF WEBP``, or larger than 67 million pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            if resizing == CROPPED:  # the published ways of resizing use all pixels
                _shrink_in_decoder(image, height, width)
            _turn_upright(image)
            pixels = _fit(_rgb(image), height, width, resizing)
            if out is None:
                return np.array(pixels)[None]
            out[...] = pixels
            return out
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise BadInput("unreadable_video", f"{type(error).__name__}: {error}") from error


def upright(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a picture: turned as EXIF says, and on white where it is transparent."""
    image = image.copy()
    _turn_upright(image)
    return np.array(_rgb(image))


def _turn_upright(image: Image.Image) -> None:
    """Decodes a picture and turns it, in place, as EXIF says."""
    image.load()
    with contextlib.suppress(Exception):  # a damaged EXIF block says nothing about the picture
        ImageOps.exif_transpose(image, in_place=True)


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # a damaged EXIF block says nothing about the picture
        return None


def _shrink_in_decoder(image: Image.Image, height: int, width: int) -> None:
    """Lets JPEG decode at a half, a quarter or an eighth, but no smaller than the target."""
    if image.format != "JPEG":
        return
    if _orientation(image) in _ON_ITS_SIDE:
        height, width = width, height
    scale = max(height / image.height, width / image.width)
    if scale < 1:
        image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale)))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I;16"):  # 16-bit grey, which Pillow would clip and not scale
        grey = np.asarray(image).astype(np.uint16) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _fit(
    image: Image.Image, height: int, width: int, resizing: Resizing
) -> UInt8[np.ndarray, "H W 3"]:
    """Brings a picture to a size. The pixels may be read, not written."""
    ratio = resizing.ratio
    if image.size == (width, height) and ratio == 1:
        return np.asarray(image)
    resample = Image.Resampling[resizing.filter.upper()]
    if resizing.fit == "stretch":
        return np.asarray(image.resize((width, height), resample))
    if resizing.fit == "cover":
        rows, columns = _covering(image, round(ratio * height), round(ratio * width))
        if rows * columns <= MOST_CUT_OFF * ratio**2 * height * width:
            top, left = (rows - height) // 2, (columns - width) // 2
            whole = np.asarray(image.resize((columns, rows), resample))
            return whole[top : top + height, left : left + width]
    scale = min(image.width / width, image.height / height) / ratio
    left = max(0.0, (image.width - scale * width) / 2)
    top = max(0.0, (image.height - scale * height) / 2)
    box = (left, top, image.width - left, image.height - top)
    return np.asarray(image.resize((width, height), resample, box=box))


def _covering(image: Image.Image, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a picture resized to cover a size, rounded down as torchvision does."""
    if image.width * height <= image.height * width:
        return max(height, image.height * width // image.width), width
    return height, max(width, image.width * height // image.height)


def chosen_frames(available: int, count: int) -> Int[np.ndarray, "T"]:
    """The indices of the frames that ``fit_frames`` takes for T = ``count`` of ``available``."""
    if available > count:
        return (np.arange(count) * 2 + 1) * available // (2 * count)
    return np.minimum(np.arange(count), available - 1)


def fit_frames(
    frames: UInt8[np.ndarray, "t h w 3"],
    count: int,
    height: int,
    width: int,
    out: UInt8[np.ndarray, "T H W 3"] | None = None,
    resizing: Resizing = CROPPED,
) -> UInt8[np.ndarray, "T H W 3"]:
    """Brings a clip to a fixed number and size of frames.

    Args:
      frames: any number of frames of any size.
      count: T. A longer clip gives the frames in the middle of T equal stretches; the last frame of
        a shorter one is repeated.
      height, width: H and W.
      out: written and returned; without it ``frames`` themselves are returned if they fit.
      resizing: of frames of another size.

    Raises:
      BadInput: ``no_video``; there is no frame, or frames have no pixels.
    """
    if frames.size == 0:
        raise BadInput("no_video", f"frames of shape {frames.shape}")
    fits = frames.shape[1:3] == (height, width) and resizing.ratio == 1
    if out is None:
        if fits and len(frames) == count:
            return frames
        out = np.empty((count, height, width, 3), np.uint8)
    distinct, starts = np.unique(chosen_frames(len(frames), count), return_index=True)
    for i, start, past in zip(distinct, starts, [*starts[1:], count], strict=True):
        picture = frames[i]
        out[start:past] = (
            picture if fits else _fit(Image.fromarray(picture), height, width, resizing)
        )
    return out


def fill_frames(
    out: UInt8[np.ndarray, "T H W 3"] | Float16[np.ndarray, "T H W E"],
    video: bytes | FrameWriter | FrameReader | None,
    resizing: Resizing = CROPPED,
    name: str = "",
) -> None:
    """Reads the pictures of a clip, in whatever form it has them.

    Args:
      out: written.
      video: as in ``Clip.video``.
      resizing: of pictures of another size.
      name: of the clip, for errors.

    Raises:
      BadInput: ``no_video``, or what reading raises.
    """
    if video is None:
        raise BadInput("no_video", name)
    if isinstance(video, bytes):
        read_image(video, *out.shape[1:3], resizing, out)
    elif isinstance(video, FrameWriter):
        video.fill(out, resizing)
    else:
        fit_frames(video(), *out.shape[:3], out, resizing)


def fit_sound(waveform: Waveform, samples: int, rate: int) -> Float32[np.ndarray, "S"]:
    """Brings sound to a fixed rate and number of samples, cut or padded with zeros at the end.

    Resampling is band-limited: the spectrum of the whole sound, padded with silence, is cut off or
    padded with zeros at the lower of the two Nyquist frequencies.

    Args:
      waveform: mono sound.
      samples: S.
      rate: of the result, in Hz.

    Raises:
      BadInput: ``no_audio`` if there is no sample, ``unreadable_audio`` if a sample is not finite
        or the rate is not positive.
    """
    sound = np.asarray(waveform.samples, np.float32)
    if sound.size == 0:
        raise BadInput("no_audio", "no samples")
    if waveform.rate <= 0:
        raise BadInput("unreadable_audio", f"rate of {waveform.rate} Hz")
    margin = math.ceil(_RESAMPLING_MARGIN * waveform.rate)
    sound = sound[: math.ceil(samples * waveform.rate / rate) + margin]
    if not np.isfinite(sound).all():
        raise BadInput("unreadable_audio", "samples that are not finite")
    if waveform.rate != rate:
        sound = _resample(sound, waveform.rate, rate, margin)
    fitted = np.zeros(samples, np.float32)
    fitted[: len(sound)] = sound[:samples]
    return fitted


def _resample(
    sound: Float32[np.ndarray, "s"], old_rate: int, new_rate: int, margin: int
) -> Float32[np.ndarray, "S"]:
    divisor = math.gcd(old_rate, new_rate)
    old_step, new_step = old_rate // divisor, new_rate // divisor
    # A whole number of steps keeps both grids aligned. The Fourier transform joins the end to the
    # start; silence keeps them apart.
    steps = math.ceil((len(sound) + margin) / old_step)
    spectrum = np.fft.rfft(sound.astype(np.float64), steps * old_step)
    kept = np.zeros(steps * new_step // 2 + 1, complex)
    shared = (steps * min(old_step, new_step) + 1) // 2  # below the lower Nyquist frequency
    kept[:shared] = spectrum[:shared]
    resampled = np.fft.irfft(kept, steps * new_step) * (new_step / old_step)
    return resampled[: math.ceil(len(sound) * new_step / old_step)].astype(np.float32)

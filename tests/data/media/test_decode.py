import contextlib
import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fgmm.data.media.decode import fit_frames, fit_sound, read_image, upright
from fgmm.data.schema import CROPPED, BadInput, Resizing, Waveform

FITS, FILTERS = ("crop", "cover", "stretch"), ("bilinear", "bicubic")
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(height: int = 40, width: int = 40) -> Image.Image:
    """An image whose quarters are red, green / blue, white."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = RED
    pixels[: height // 2, width // 2 :] = GREEN
    pixels[height // 2 :, : width // 2] = BLUE
    pixels[height // 2 :, width // 2 :] = WHITE
    return Image.fromarray(pixels)


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def close(pixels, expected, tolerance=6) -> bool:
    return bool((np.abs(np.asarray(pixels, int) - np.asarray(expected, int)) <= tolerance).all())


def quarters(frames: np.ndarray) -> list[list[int]]:
    """The pixels amid the four quarters of a picture, row by row."""
    _, height, width, _ = frames.shape
    rows, columns = (height // 4, 3 * height // 4), (width // 4, 3 * width // 4)
    return [frames[0, y, x].tolist() for y in rows for x in columns]


def assert_corners(frames: np.ndarray, tolerance: int = 6) -> None:
    assert close(quarters(frames), [RED, GREEN, BLUE, WHITE], tolerance), quarters(frames)


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("size", [(16, 16), (40, 40), (80, 64)])
def test_formats_and_sizes(format, size):
    options = {"lossless": True} if format == "WEBP" else {}
    frames = read_image(encoded(corners(), format, **options), *size)
    assert frames.shape == (1, *size, 3)
    assert frames.dtype == np.uint8
    assert_corners(frames, tolerance=12)


def test_an_image_of_the_asked_size_is_untouched():
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(pixels)), 24, 32)[0], pixels)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3)])
def test_tiny_and_thin_images(size):
    frames = read_image(encoded(Image.new("RGB", size, RED)), 32, 48)
    assert close(frames, RED)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_crop_is_central_and_keeps_the_aspect(format):
    wide = Image.new("RGB", (480, 160), BLUE)
    wide.paste(RED, (160, 0, 320, 160))
    frames = read_image(encoded(wide, format), 32, 32)
    assert close(frames[:, :, 1:-1], RED)
    tall = read_image(encoded(wide.transpose(Image.Transpose.ROTATE_90), format), 32, 32)
    assert close(tall[:, 1:-1], RED)


def test_resizing_is_antialiased():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    frames = read_image(encoded(Image.fromarray(stripes)), 32, 32)
    assert close(frames[:, :, 2:-2], 127, tolerance=3)


def test_decoding_at_reduced_size_looks_the_same():
    ramp = np.linspace(0, 255, 512)[:, None, None] * np.ones((1, 512, 3))
    image = Image.fromarray(ramp.astype(np.uint8))
    assert close(
        read_image(encoded(image, "JPEG", quality=95), 32, 32),
        read_image(encoded(image), 32, 32),
        tolerance=4,
    )


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "P", "RGBA", "LA"])
def test_modes_become_rgb(mode):
    format = "JPEG" if mode == "CMYK" else "PNG"
    frames = read_image(encoded(Image.new("RGB", (20, 20), WHITE).convert(mode), format), 8, 8)
    assert close(frames, 255)
    colour = corners() if mode not in ("L", "1", "LA") else Image.new("RGB", (20, 20), "black")
    frames = read_image(encoded(colour.convert(mode), format), 40, 40)
    if mode in ("L", "1", "LA"):
        assert close(frames, 0)
    else:
        assert_corners(frames, tolerance=20)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_becomes_white(mode):
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 10, 20))
    frames = read_image(encoded(image.convert(mode)), 20, 20)
    assert close(frames[:, :, :9], 0)
    assert close(frames[:, :, 11:], 255)


def test_transparent_colours_of_palette_and_rgb():
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert close(read_image(encoded(palette, transparency=0), 8, 8), 255)
    black = Image.new("RGB", (8, 8), 0)
    assert close(read_image(encoded(black, transparency=(0, 0, 0)), 8, 8), 255)


def test_sixteen_bits_are_scaled():
    grey = np.full((8, 8), 0x8000, np.uint16)
    assert close(read_image(encoded(Image.fromarray(grey)), 8, 8), 128, tolerance=1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_exif_orientation_turns_the_picture_upright(orientation, format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(corners(64, 160), format, exif=exif)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    for size in [(40, 40), (16, 40)]:
        expected = quarters(read_image(encoded(turned), *size))
        assert close(quarters(read_image(data, *size)), expected)
        assert close(expected, [RED, GREEN, BLUE, WHITE]) == (orientation == 1)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_an_opened_picture_is_turned_upright_once_and_stays_as_it_is(format):
    exif = Image.Exif()
    exif[0x0112] = 6
    opened = Image.open(io.BytesIO(encoded(corners(64, 160), format, exif=exif)))
    for _ in range(2):
        assert upright(opened).shape == (160, 64, 3)


def test_damaged_exif_is_ignored():
    exif = b"Exif\0\0II*\0\xff\xff\xff\x7f garbage"
    assert_corners(read_image(encoded(corners(), "JPEG", exif=exif), 40, 40), tolerance=12)


def test_first_picture_of_an_animation():
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert close(read_image(data, 8, 8), RED)


def png_claiming(width: int, height: int) -> bytes:
    """A small PNG file whose header promises a larger picture."""
    data = bytearray(encoded(Image.new("L", (8, 8))))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


BROKEN = {
    "empty": b"",
    "text": b"this is no picture",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    "jpeg header": encoded(corners(), "JPEG")[:20],
    "truncated jpeg": encoded(corners(400, 400), "JPEG")[:-2000],
    "truncated png": encoded(corners())[:-40],
    "png without its picture": encoded(corners())[:40],
    "zeros": bytes(1000),
    "bomb": png_claiming(60_000, 60_000),
    "many pixels": png_claiming(9_000, 9_000),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", BROKEN)
def test_broken_images_are_bad_input(name):
    with pytest.raises(BadInput) as caught:
        read_image(BROKEN[name], 16, 16)
    assert caught.value.reason == "unreadable_video"


@given(data=st.data())
def test_no_damage_raises_anything_else(data):
    image = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]))
    whole = bytearray(encoded(corners(), image))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(whole)))
    with contextlib.suppress(BadInput):
        assert read_image(bytes(whole[:cut]), 16, 16).shape == (1, 16, 16, 3)


def numbered(count: int, height: int = 4, width: int = 4) -> np.ndarray:
    frames = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(frames, (count, height, width, 3)).copy()


@pytest.mark.parametrize(
    ("available", "count", "expected"),
    [
        (1, 1, [0]),
        (1, 4, [0, 0, 0, 0]),
        (3, 5, [0, 1, 2, 2, 2]),
        (4, 4, [0, 1, 2, 3]),
        (8, 4, [1, 3, 5, 7]),
        (9, 3, [1, 4, 7]),
        (100, 1, [50]),
        (7, 5, [0, 2, 3, 4, 6]),
    ],
)
def test_frames_are_sampled_evenly_and_the_last_is_repeated(available, count, expected):
    for size in [(4, 4), (6, 10)]:
        frames = fit_frames(numbered(available), count, *size)
        assert frames.shape == (count, *size, 3)
        assert frames[:, 0, 0, 0].tolist() == expected


def test_frames_are_cropped_and_resized_as_images_are():
    image = corners(48, 80)
    frames = np.stack([np.asarray(image)] * 2)
    expected = read_image(encoded(image), 20, 20)
    np.testing.assert_array_equal(fit_frames(frames, 3, 20, 20), np.repeat(expected, 3, axis=0))


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 0, 4, 3)])
def test_no_frames_are_bad_input(shape):
    with pytest.raises(BadInput, match="no_video"):
        fit_frames(np.zeros(shape, np.uint8), 2, 4, 4)


def tone(frequency: float, rate: int, seconds: float) -> Waveform:
    time = np.arange(round(rate * seconds)) / rate
    return Waveform(np.sin(2 * np.pi * frequency * time).astype(np.float32), rate)


@pytest.mark.parametrize(
    ("old", "new"), [(44100, 16000), (8000, 16000), (48000, 8000), (22050, 16000), (7919, 8000)]
)
def test_resampling_keeps_a_tone(old, new):
    fitted = fit_sound(tone(440, old, 1.0), new, new)
    expected = tone(440, new, 1.0).samples
    middle = slice(new // 20, -new // 20)
    np.testing.assert_allclose(fitted[middle], expected[middle], atol=2e-3)


def test_resampling_drops_what_the_new_rate_cannot_hold():
    fitted = fit_sound(tone(6000, 44100, 1.0), 8000, 8000)
    assert np.abs(fitted[400:-400]).max() < 2e-3


def test_start_and_end_do_not_leak_into_each_other():
    samples = np.zeros(44100, np.float32)
    samples[-2000:] = tone(440, 44100, 2000 / 44100).samples
    assert np.abs(fit_sound(Waveform(samples, 44100), 16000, 16000)[:8000]).max() < 1e-3


def test_sound_is_cut_or_padded_and_otherwise_untouched():
    samples = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    np.testing.assert_array_equal(fit_sound(Waveform(samples, 8000), 600, 8000), samples[:600])
    padded = fit_sound(Waveform(samples, 8000), 1500, 8000)
    np.testing.assert_array_equal(padded[:1000], samples)
    assert not padded[1000:].any()
    assert padded.dtype == np.float32


def test_a_cut_before_resampling_changes_nothing_audible():
    long = tone(440, 44100, 3.0)
    whole = fit_sound(long, 16000 * 3, 16000)
    np.testing.assert_allclose(fit_sound(long, 16000, 16000), whole[:16000], atol=5e-3)


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_the_shortest_sounds(samples):
    fitted = fit_sound(Waveform(np.ones(samples, np.float32), 44100), 100, 16000)
    assert np.isfinite(fitted).all()
    assert fitted.any()


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (Waveform(np.zeros(0, np.float32), 8000), "no_audio"),
        (Waveform(np.full(9, np.nan, np.float32), 8000), "unreadable_audio"),
        (Waveform(np.full(9, np.inf, np.float32), 44100), "unreadable_audio"),
        (Waveform(np.zeros(9, np.float32), 0), "unreadable_audio"),
    ],
)
def test_unusable_sound_is_bad_input(waveform, reason):
    with pytest.raises(BadInput) as caught:
        fit_sound(waveform, 100, 8000)
    assert caught.value.reason == reason


def gradient(height, width):
    """Pixels that grow to the right (red) and downwards (green)."""
    rows, columns = np.mgrid[:height, :width]
    picture = [255 * columns / (width - 1), 255 * rows / (height - 1), np.zeros((height, width))]
    return np.rint(np.stack(picture, axis=-1)).astype(np.uint8)


def test_a_picture_that_is_stretched_loses_nothing():
    frames = fit_frames(gradient(40, 90)[None], 1, 16, 16, resizing=Resizing("stretch"))
    for colour in (0, 1):
        edges = frames[0, ..., colour].T if colour == 0 else frames[0, ..., colour]
        assert edges[0].max() < 12
        assert edges[-1].min() > 243


@pytest.mark.parametrize("shape", [(40, 91), (91, 40)])
def test_a_picture_that_covers_its_target_is_resized_in_whole_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    found = fit_frames(pixels[None], 1, 16, 16, resizing=Resizing("cover", "bicubic"))[0]
    rows, columns = (16, 36) if shape[1] > shape[0] else (36, 16)
    whole = Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BICUBIC)
    top, left = (rows - 16) // 2, (columns - 16) // 2
    np.testing.assert_array_equal(found, np.asarray(whole)[top : top + 16, left : left + 16])
    # Ten thousand columns of a picture four rows high are not enlarged as a whole.
    long = fit_frames(np.zeros((1, 4, 10_000, 3), np.uint8), 1, 64, 64, resizing=Resizing("cover"))
    assert long.shape == (1, 64, 64, 3)


def test_a_border_is_cut_off_by_the_ratio():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    found = fit_frames(pixels[None], 1, 16, 16, resizing=Resizing("cover", "bicubic", 20 / 16))[0]
    whole = np.asarray(Image.fromarray(pixels).resize((30, 20), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(found, whole[2:18, 7:23])
    # One of the right size loses its border too.
    square = pixels[:, :40]
    found = fit_frames(square[None], 1, 40, 40, resizing=Resizing("cover", "bicubic", 1.25))[0]
    whole = np.asarray(Image.fromarray(square).resize((50, 50), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(found, whole[5:45, 5:45])


def test_an_encoded_picture_is_resized_as_its_pixels_are():
    picture = Image.fromarray(gradient(64, 99))
    ways = [Resizing(*way) for way in itertools.product(FITS, FILTERS)]
    results = []
    for way in ways:
        frames = read_image(encoded(picture, "JPEG", quality=95), 16, 16, way)
        decoded = np.asarray(Image.open(io.BytesIO(encoded(picture, "JPEG", quality=95))))
        expected = fit_frames(decoded[None], 1, 16, 16, resizing=way)
        assert np.abs(frames - expected.astype(int)).max() <= (3 if way == CROPPED else 0)
        results.append(frames)
    assert len({frames.tobytes() for frames in results}) == len(ways)

"""The page of ``fgmm.data.inspect``: one HTML file with everything in it."""

import base64
import html
import io
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw

from fgmm.data.schema import Caption

# The most frames of a clip that are shown, and the height of one in pixels.
_FRAMES, _FRAME_HEIGHT = 8, 96
_SOUND_WIDTH, _SOUND_HEIGHT = 640, 56
_BINS = 24
_JPEG_QUALITY = 80
_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --paper: #f6f6f3; --card: #fff; --line: #d9d9d2;
  --faint: #6b7280; --blue: #2f6fb3; --even: #cfe3f7; --odd: #fbe3b4; --red: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e3; --paper: #15171b; --card: #1f2228;
  --line: #363a42; --faint: #9aa1ac; --blue: #7db4ea; --even: #24425f; --odd: #59451a;
  --red: #f2a29b; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 0 auto; max-width: 1120px; padding: 24px 20px 60px; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 32px 0 10px; }
h3 { font-size: 15px; margin: 0 0 8px; font-weight: 600; overflow-wrap: anywhere; }
p { margin: 4px 0; } .faint { color: var(--faint); } .problem { color: var(--red); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 14px 16px; margin: 0 0 14px; }
.card img { display: block; max-width: 100%; border-radius: 4px; margin-bottom: 6px; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 14px; }
.grid .card { margin: 0; }
table { border-collapse: collapse; } td { padding: 2px 18px 2px 0; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
ul { list-style: none; margin: 8px 0 0; padding: 0; }
li { display: flex; gap: 12px; margin: 3px 0; }
.time { flex: 0 0 112px; color: var(--faint); font-variant-numeric: tabular-nums; }
mark { color: inherit; border-radius: 3px; padding: 0 2px; background: var(--even); }
mark.odd { background: var(--odd); }
svg { display: block; width: 100%; height: auto; } rect { fill: var(--blue); }
svg text { fill: var(--faint); font-size: 10px; }
"""


def page(
    *,
    heading: str,
    size: int,
    left_out: dict[str, int],
    segmenter: str,
    seen: Sequence[Any],
    statistics: Any,
) -> str:
    """The whole page.

    Args:
      heading: the name of the source.
      size: the number of its clips.
      left_out: what was left out when the source was opened, by reason.
      segmenter: the name of the one that found the phrases.
      seen: an ``inspect.ClipReport`` for each clip to be shown.
      statistics: ``inspect.Statistics``.
    """
    title = html.escape(heading)
    cards = "\n".join(_card(clip) for clip in seen)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style></head><body>\n<h1>{title}</h1>\n"
        f'<p class="faint">{size:,} clips, {statistics.clips:,} of them looked at, '
        f"{len(seen):,} shown; phrases by {html.escape(segmenter)}</p>\n"
        f"<h2>Statistics</h2>\n{_statistics(statistics, left_out)}\n"
        f"<h2>Clips</h2>\n{cards}\n</body></html>\n"
    )


def _statistics(statistics: Any, left_out: dict[str, int]) -> str:
    def row(name: str, *numbers: str) -> str:
        cells = "".join(f'<td class="number">{number}</td>' for number in numbers)
        return f"<tr><td>{html.escape(name)}</td>{cells}</tr>"

    def table(heading: str, rows: Sequence[str]) -> str:
        return f'<div class="card"><h3>{heading}</h3><table>{"".join(rows)}</table></div>'

    counts = {
        "without video": statistics.without_video,
        "without sound": statistics.without_sound,
        "with sound, silent": statistics.silent,
        "without captions": statistics.without_captions,
    }
    counts |= {f"problem: {name}": n for name, n in sorted(statistics.problems.items())}
    clips = statistics.clips
    rows = [
        row(name, f"{count:,}", f"{count / clips:.1%}" if clips else "")
        for name, count in counts.items()
    ]
    tables = [table("Clips looked at", rows)]
    if left_out:
        lines = [row(reason, f"{count:,}") for reason, count in sorted(left_out.items())]
        tables.append(table("Left out when opened", lines))
    histograms = {
        "Seconds of sound of a clip": statistics.sound_seconds,
        "Captions of a clip": statistics.captions,
        "Seconds of a caption": statistics.caption_seconds,
        "Words of a caption": statistics.words,
        "Phrases of a caption": statistics.phrases,
        "Words of a phrase": statistics.phrase_words,
    }
    tables += [_histogram(name, values) for name, values in histograms.items() if values]
    return f'<div class="grid">{"".join(tables)}</div>'


def _histogram(name: str, values: Sequence[float | int]) -> str:
    """A histogram, with the least and greatest value, the mean and the median."""
    numbers = np.asarray(values, np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    whole = bool((numbers == numbers.round()).all())
    if low == high or (whole and high - low < _BINS):
        edges = np.arange(low - 0.5, high + 1)
    else:
        edges = np.linspace(low, high, _BINS + 1)
    counts, _ = np.histogram(numbers, edges)
    width, height = 280, 84
    step = width / len(counts)
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{height - tall:.1f}" width="{max(1.0, step - 1):.1f}" '
        f'height="{tall:.1f}"><title>{edges[i]:g} to {edges[i + 1]:g}: {count}</title></rect>'
        for i, count in enumerate(counts)
        if (tall := height * count / max(1, counts.max()))
    )
    return (
        f'<div class="card"><h3>{html.escape(name)}</h3>'
        f'<svg viewBox="0 0 {width} {height + 14}">{bars}'
        f'<text x="0" y="{height + 12}">{low:.4g}</text>'
        f'<text x="{width}" y="{height + 12}" text-anchor="end">{high:.4g}</text></svg>'
        f'<p class="faint">mean {numbers.mean():.3g}, median {np.median(numbers):.3g}, '
        f"{len(numbers):,} in all</p></div>"
    )


def _card(seen: Any) -> str:
    clip = seen.clip
    parts = [f"<h3>{html.escape(clip.clip_id)}</h3>"]
    described = [f"clip {seen.index:,}"]
    if clip.group and clip.group != clip.clip_id:
        described.append(f"group {clip.group}")
    described += [f"{name}: {value}" for name, value in clip.labels.items()]
    if seen.frames is not None:
        count, height, width = seen.frames.shape[:3]
        described.append(f"{count} frames of {width} x {height}")
        parts.append(f'<img alt="frames" src="{_embedded(_strip(seen.frames), "JPEG")}">')
    if seen.sound is not None:
        described.append(f"{len(seen.sound) / seen.rate:.2f} s of sound at {seen.rate} Hz")
        described += ["silent"] if seen.silent else []
        picture = _waveform(seen.sound, seen.rate, clip.captions)
        parts.append(f'<img alt="waveform" src="{_embedded(picture, "PNG")}">')
    parts.insert(1, f'<p class="faint">{html.escape(", ".join(described))}</p>')
    for reason, detail in seen.problems:
        parts.append(f'<p class="problem">{html.escape(f"{reason} {detail}".strip())}</p>')
    if clip.captions:
        lines = (_line(*pair) for pair in zip(clip.captions, seen.spans, strict=True))
        parts.append(f"<ul>{''.join(lines)}</ul>")
    return f'<div class="card">{"".join(parts)}</div>'


def _line(caption: Caption, spans: Sequence[tuple[int, int]]) -> str:
    """A caption with its time, and its phrases marked in two alternating colours."""
    time = ""
    if math.isfinite(caption.end):
        time = f'<span class="time">{caption.start:.1f} to {caption.end:.1f} s</span>'
    text, at = [], 0
    for number, (start, end) in enumerate(spans):
        kind = ' class="odd"' if number % 2 else ""
        text.append(html.escape(caption.text[at:start]))
        text.append(f"<mark{kind}>{html.escape(caption.text[start:end])}</mark>")
        at = end
    text.append(html.escape(caption.text[at:]))
    return f"<li>{time}<span>{''.join(text)}</span></li>"


def _strip(frames: UInt8[np.ndarray, "T h w 3"]) -> Image.Image:
    """Frames at equal distances, side by side."""
    count = min(_FRAMES, len(frames))
    chosen = frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]
    height = _FRAME_HEIGHT if count > 1 else 2 * _FRAME_HEIGHT
    width, gap = max(1, round(frames.shape[2] * height / frames.shape[1])), 3
    strip = Image.new("RGB", (count * (width + gap) - gap, height), (128, 128, 128))
    for place, frame in enumerate(chosen):
        strip.paste(Image.fromarray(frame).resize((width, height)), (place * (width + gap), 0))
    return strip


def _waveform(
    sound: Float32[np.ndarray, "S"], rate: int, captions: Sequence[Caption]
) -> Image.Image:
    """The range of the samples in each column; below, the time of each caption."""
    bars = [c for c in captions if math.isfinite(c.end)]
    row = 5
    image = Image.new("RGBA", (_SOUND_WIDTH, _SOUND_HEIGHT + row * len(bars)), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    middle = _SOUND_HEIGHT / 2
    draw.line((0, middle, _SOUND_WIDTH, middle), fill=(128, 128, 128, 120))
    bounds = np.linspace(0, len(sound), _SOUND_WIDTH + 1).astype(int)
    for x, (first, past) in enumerate(itertools.pairwise(bounds)):
        part = sound[first:past]
        if len(part):
            low, high = float(part.min()), float(part.max())
            draw.line((x, middle * (1 - high), x, middle * (1 - low)), fill=(62, 127, 193, 255))
    seconds = max(len(sound) / rate, 1e-9)
    for number, caption in enumerate(bars):
        y = _SOUND_HEIGHT + row * number
        left, right = (_SOUND_WIDTH * t / seconds for t in (caption.start, caption.end))
        left, right = max(0.0, left), min(float(_SOUND_WIDTH), right)
        if right > left:
            draw.rectangle((left, y + 1, right, y + row - 2), fill=(214, 140, 20, 255))
    return image


def _embedded(image: Image.Image, form: str) -> str:
    """A picture as the address of its own data."""
    out = io.BytesIO()
    image.save(out, form, quality=_JPEG_QUALITY)
    return f"data:image/{form.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"

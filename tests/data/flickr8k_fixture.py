"""A small corpus in the official layout of Flickr8k, made from nothing."""

import pathlib
import tarfile

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 170, 60),
    "blue": (40, 70, 220),
    "yellow": (240, 220, 40),
    "purple": (150, 50, 180),
    "white": (250, 250, 250),
}
GROUNDS = {"black": (10, 10, 10), "grey": (120, 120, 120), "brown": (120, 70, 30)}
SHAPES = ("circle", "square", "triangle", "cross")
PLACES = {
    "at the top left": (0, 0),
    "at the top right": (0, 1),
    "at the bottom left": (1, 0),
    "at the bottom right": (1, 1),
}
TEMPLATES = (
    "A {colour} {shape} {place} of a {ground} wall .",
    "There is a {colour} {shape} {place} .",
    "the {ground} wall with a {colour} {shape} {place}",
    "On a {ground} wall , someone painted a {colour} {shape} {place} .",
    "One {shape} , {colour} , is seen {place} on {ground} .",
)
SIZE = 96


def write_flickr8k(folder: pathlib.Path, images: int, seed: int) -> pathlib.Path:
    """Writes the layout into ``folder``; returns it.

    ``images`` go to train, a quarter as many (at least 2) each to dev and to test. No two images of
    one corpus have the same shape, colour, place and ground (so there are 288 at most), and the
    captions say which of these they show; up to 96 images no two share a caption either.
    """
    held_out = max(2, images // 4)
    combinations = [
        (colour, shape, place, ground)
        for ground in GROUNDS
        for colour in COLOURS
        for shape in SHAPES
        for place in PLACES
    ]
    rng = np.random.default_rng(seed)
    # All on one ground before the next: captions that leave the ground out still differ.
    block = len(combinations) // len(GROUNDS)
    order = np.concatenate([rng.permutation(block) + i * block for i in range(len(GROUNDS))])
    media = folder / "Flicker8k_Dataset"
    media.mkdir(parents=True)
    lines, names = [], []
    for number in range(images + 2 * held_out):
        colour, shape, place, ground = combinations[order[number]]
        name = f"{1000000 + number}_{rng.integers(2**40):010x}.jpg"
        names.append(name)
        _draw(colour, shape, place, ground, rng).save(media / name, quality=90)
        words = {"colour": colour, "shape": shape, "place": place, "ground": ground}
        for index, template in enumerate(TEMPLATES):
            lines.append(f"{name}#{index}\t{template.format(**words)}")
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    bounds = {"train": (0, images), "dev": (images, images + held_out)}
    bounds["test"] = (images + held_out, len(names))
    for split, (start, end) in bounds.items():
        listed = "\n".join(names[start:end]) + "\n"
        (folder / f"Flickr_8k.{split}Images.txt").write_text(listed)
    return folder


def pack(folder: pathlib.Path, archive: pathlib.Path) -> pathlib.Path:
    """Packs an extracted corpus as a tar file without a folder above it; returns the file."""
    with tarfile.open(archive, "w") as packed:
        for path in sorted(folder.rglob("*")):
            packed.add(path, path.relative_to(folder).as_posix(), recursive=False)
    return archive


def _draw(colour, shape, place, ground, rng) -> Image.Image:
    image = Image.new("RGB", (SIZE, SIZE), GROUNDS[ground])
    row, column = PLACES[place]
    half = SIZE // 6
    x, y = (SIZE // 4 + SIZE // 2 * at + int(rng.integers(-4, 5)) for at in (column, row))
    draw = ImageDraw.Draw(image)
    box = (x - half, y - half, x + half, y + half)
    fill = COLOURS[colour]
    match shape:
        case "circle":
            draw.ellipse(box, fill)
        case "square":
            draw.rectangle(box, fill)
        case "triangle":
            draw.polygon([(x - half, y + half), (x + half, y + half), (x, y - half)], fill)
        case "cross":
            draw.line((x - half, y, x + half, y), fill, width=8)
            draw.line((x, y - half, x, y + half), fill, width=8)
    return image

"""Pages from templates. A page holds all its pictures, so that it opens from disk."""

import base64
import functools
import io
import pathlib
from typing import Any

import jinja2
from PIL import Image

_TEMPLATES = pathlib.Path(__file__).parent / "templates"


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: Any) -> str:
    """The page from a template, a file of ``fgmm/report/templates``, filled in with ``values``."""
    return _environment().get_template(template).render(values)


def webp(picture: Image.Image, quality: int = 85) -> bytes:
    """A picture as a file in WebP."""
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=quality)
    return out.getvalue()


def inline(picture: Image.Image) -> str:
    """A picture as a data URL, in WebP."""
    return f"data:image/webp;base64,{base64.b64encode(webp(picture)).decode()}"

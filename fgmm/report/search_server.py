"""The server of the search page, as an ASGI application.

Requests name clips by their number in the corpus, never by a file. A query that is too large is
refused, if possible by its stated size, before it is read. A request must name one of the allowed
hosts, which prevents DNS rebinding.
"""

import base64
import functools
import textwrap
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from fgmm.data.media import deadline
from fgmm.data.schema import BadInput
from fgmm.report import pages, playable
from fgmm.report.finder import Answer, Finder

_KINDS = ("text", "image", "audio", "video")
_MOST_HITS = 48
# Allows only this page's own scripts and media.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self';"
    " img-src 'self' data: blob:; media-src 'self' blob:; form-action 'none'; base-uri 'none'"
)


def application(
    finder: Finder, source: Any, *, title: str, hosts: Sequence[str], upload_bytes: int
) -> Starlette:
    """The application.

    Args:
      finder: searches the banks of ``source``.
      source: the corpus; its records are the rows of the banks.
      title: of the page.
      hosts: host names that requests may use, without ports.
      upload_bytes: the most bytes of a query.
    """
    pages_of = _Pages(finder, source, title, upload_bytes)
    return Starlette(
        routes=[
            Route("/", pages_of.page),
            Route("/search", pages_of.search, methods=["POST"]),
            Route("/strip/{items:str}/{row:int}", pages_of.strip),
            Route("/media/{row:int}", pages_of.media),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={HTTPException: _refused},
    )


async def _refused(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code)


class _Pages:
    def __init__(self, finder: Finder, source: Any, title: str, upload_bytes: int):
        self._finder, self._source, self._upload_bytes = finder, source, upload_bytes
        # Searches run one at a time, each on all cores.
        self._searching = threading.Lock()
        config = finder.config
        self._seconds, self._limit = config.data.seconds, config.data.time_limit
        self._page = pages.render(
            "search.html",
            title=title,
            items=finder.items,
            clips=len(source),
            most_upload=upload_bytes,
        )
        self._strip = functools.lru_cache(256)(self._made_strip)
        self._spectrum = functools.lru_cache(256)(self._made_spectrum)
        self._media = functools.lru_cache(32)(self._made_media)

    async def page(self, request: Request) -> Response:
        """The page itself."""
        return HTMLResponse(self._page, headers={"Content-Security-Policy": _POLICY})

    async def search(self, request: Request) -> Response:
        """Answers a query: ``kind``, ``items`` and ``count`` in the URL, the query in the body."""
        kind = request.query_params.get("kind", "text")
        items = request.query_params.get("items", self._finder.items[0])
        if kind not in _KINDS:
            raise HTTPException(400, f"kind={kind!r} is unknown; allowed: {', '.join(_KINDS)}")
        count = request.query_params.get("count", "12")
        whole = count.isascii() and count.isdigit() and len(count) <= len(str(_MOST_HITS))
        if not whole or not 1 <= int(count) <= _MOST_HITS:
            raise HTTPException(400, f"count={count!r} must be from 1 to {_MOST_HITS}")
        body = await self._body(request)
        try:
            answer, seconds = await run_in_threadpool(self._searched, kind, body, items, int(count))
        except (ValueError, TypeError) as error:
            raise HTTPException(400, " ".join(str(error).split())) from error
        return JSONResponse(
            {
                "by": answer.by,
                "milliseconds": round(1000 * seconds, 1),
                "phrases": [list(span) for span in answer.phrases],
                "hits": await run_in_threadpool(self._described, answer),
            }
        )

    async def _body(self, request: Request) -> bytes:
        """The body of a request.

        Raises:
          HTTPException: its stated or its actual size is too large.
        """
        most = self._upload_bytes
        stated = request.headers.get("content-length", "0")
        refusal = HTTPException(
            413, f"more than {most // 2**20} MB; drop a smaller file, or raise --upload_megabytes"
        )
        if not stated.isdigit() or int(stated) > most:
            raise refusal
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > most:
                raise refusal
        return bytes(body)

    def _searched(self, kind: str, body: bytes, items: str, count: int) -> tuple[Answer, float]:
        with self._searching, deadline.within(self._limit):
            start = time.perf_counter()
            if kind == "text":
                answer = self._finder.by_text(body.decode("utf-8", "replace"), items, count)
            else:
                answer = self._finder.by_file(kind, body, items, count)
            return answer, time.perf_counter() - start

    def _described(self, answer: Answer) -> list[dict[str, Any]]:
        found = []
        for hit in answer.hits:
            clip = self._source[hit.row]
            described = {
                "row": hit.row,
                "id": clip.clip_id,
                "score": round(hit.score, 3),
                "caption": textwrap.shorten(
                    " · ".join(caption.text for caption in clip.captions), 400, placeholder=" …"
                ),
            }
            if hit.maps is not None:
                levels = np.round(255 * hit.maps).astype(np.uint8)
                described["grid"] = levels.shape[1:]
                described["maps"] = [base64.b64encode(m.tobytes()).decode() for m in levels]
            found.append(described)
        return found

    async def strip(self, request: Request) -> Response:
        """The frames of a clip side by side, or its spectrogram, as WebP."""
        made = {"video": self._strip, "audio": self._spectrum}
        items = request.path_params["items"]
        if items not in self._finder.items:
            raise HTTPException(404, f"clips have no {items!r} here")
        data, count = await self._of_row(request, made[items])
        return Response(data, media_type="image/webp", headers={"Frames": str(count)})

    async def media(self, request: Request) -> Response:
        """A clip as a file that a browser plays."""
        kind, data = await self._of_row(request, self._media)
        return Response(data, media_type=kind)

    async def _of_row(self, request: Request, made: Any) -> Any:
        row = request.path_params["row"]
        if row >= len(self._source):
            raise HTTPException(404, f"there is no clip {row}; the corpus has {len(self._source)}")
        try:
            return await run_in_threadpool(made, row)
        except BadInput as error:
            raise HTTPException(404, f"clip {row} cannot be shown: {error}") from error

    def _made_strip(self, row: int) -> tuple[bytes, int]:
        with deadline.within(self._limit):
            cells = self._finder.grids["video"][0]
            picture, count = playable.strip(self._source[row], cells)
        return pages.webp(Image.fromarray(picture)), count

    def _made_spectrum(self, row: int) -> tuple[bytes, int]:
        with deadline.within(self._limit):
            picture = Image.fromarray(self._finder.spectrogram(self._source[row]))
            return pages.webp(picture), 1

    def _made_media(self, row: int) -> tuple[str, bytes]:
        with deadline.within(self._limit):
            return playable.media(self._source[row], self._seconds)

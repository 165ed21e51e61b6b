"""How well each segmenter finds the phrases that a reader marked in instructional sentences.

    python benchmarks/segmenter.py [--half=test] [--errors=function_words]

The measure is boundary F1: a boundary is a gap between two neighbouring words that parts two
phrases. Counts are summed over sentences. Each sentence is measured as written, and as a speech
recogniser would give it, in lower case without punctuation. ``docs/measured/segmenter.md`` has the
guideline for the reader.
"""

import dataclasses
import hashlib
import json
import pathlib
import re

import numpy as np
from absl import flags

from fgmm import command_line
from fgmm.data.text import phrases

SENTENCES = (
    pathlib.Path(__file__).resolve().parent.parent / "tests/data/instructional_sentences.jsonl"
)
NAMES = ("function_words", "punctuation", "whole", "words", "ngram2", "ngram3", "ngram4", "ngram5")
RESAMPLES = 1000

_HALF = flags.DEFINE_enum("half", "test", ["dev", "test"], "Rules may be fitted to dev only.")
_ERRORS = flags.DEFINE_string("errors", "", "Show what this segmenter does with each sentence.")


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A sentence and the phrases that a reader divided it into."""

    domain: str
    source: str
    phrases: tuple[str, ...]

    @property
    def written(self) -> str:
        return " ".join(self.phrases)

    @property
    def spoken(self) -> str:
        """In lower case without punctuation; apostrophes, hyphens and fractions stay."""
        bare = re.sub(r"[^\w\s'/-]", "", self.written.lower())
        return " ".join(bare[start:end] for start, end in _words(bare))

    @property
    def half(self) -> str:
        """``dev`` or ``test``, by a hash of the sentence and not by choice."""
        return ("dev", "test")[hashlib.sha256(self.written.encode()).digest()[0] % 2]

    @property
    def boundaries(self) -> np.ndarray:
        """[words - 1] whether a phrase starts behind each gap between words."""
        counts = [len(_words(phrase)) for phrase in self.phrases]
        starts = np.zeros(sum(counts), bool)
        starts[np.cumsum(counts)[:-1]] = True
        return starts[1:]


def sentences(half: str | None = None, path: pathlib.Path = SENTENCES) -> list[Sentence]:
    """The shipped sentences, all or those of one half."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [Sentence(r["domain"], r["source"], tuple(r["phrases"])) for r in records]
    return [sentence for sentence in found if half in (None, sentence.half)]


def _words(text: str) -> list[phrases.Span]:
    """Spans of words: whatever stands between spaces and has a letter or a digit."""
    return [match.span() for match in re.finditer(r"\S*\w\S*", text)]


def found_boundaries(text: str, segmenter: phrases.Segmenter) -> np.ndarray:
    """[words - 1] whether a phrase of the segmenter starts behind each gap between words."""
    ends = [end for _, end in _words(text)]
    starts = np.zeros(len(ends), bool)
    for start, _ in segmenter(text):
        starts[np.searchsorted(ends, start, side="right")] = True
    return starts[1:]


def counts(segmenter: phrases.Segmenter, given: list[Sentence], *, spoken: bool) -> np.ndarray:
    """[sentences, 3] boundaries that are right, that the segmenter set, and that the reader set."""
    rows = []
    for sentence in given:
        found = found_boundaries(sentence.spoken if spoken else sentence.written, segmenter)
        marked = sentence.boundaries
        rows.append((np.sum(found & marked), np.sum(found), np.sum(marked)))
    return np.array(rows)


def scores(counted: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 of summed counts; 0 where nothing is right."""
    right, found, marked = counted.sum(axis=0)
    return {
        "precision": float(right / max(found, 1)),
        "recall": float(right / max(marked, 1)),
        "f1": float(2 * right / max(found + marked, 1)),
    }


def interval(counted: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The 95% bootstrap interval of F1: sentences are drawn with replacement."""
    draws = np.random.default_rng(seed).integers(len(counted), size=(RESAMPLES, len(counted)))
    low, high = np.percentile([scores(counted[draw])["f1"] for draw in draws], [2.5, 97.5])
    return float(low), float(high)


def table(given: list[Sentence]) -> str:
    lines = [
        "| segmenter | precision | recall | F1 | 95% | spoken: precision | recall | F1 | 95% |",
        "| --- " + "| ---: " * 8 + "|",
    ]
    for name in NAMES:
        cells = [f"`{name}`"]
        for spoken in (False, True):
            counted = counts(phrases.find(name), given, spoken=spoken)
            low, high = interval(counted)
            cells += [f"{100 * value:.1f}" for value in scores(counted).values()]
            cells.append(f"{100 * low:.1f} to {100 * high:.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def by_domain(given: list[Sentence], name: str = "function_words") -> str:
    lines = ["| domain | sentences | F1 | spoken: F1 |", "| --- | ---: | ---: | ---: |"]
    for domain in dict.fromkeys(sentence.domain for sentence in given):
        part = [sentence for sentence in given if sentence.domain == domain]
        f1 = [scores(counts(phrases.find(name), part, spoken=s))["f1"] for s in (False, True)]
        lines.append(f"| {domain} | {len(part)} | {100 * f1[0]:.1f} | {100 * f1[1]:.1f} |")
    return "\n".join(lines)


def _marked(text: str, boundaries: np.ndarray) -> str:
    words = [text[start:end] for start, end in _words(text)]
    return words[0] + "".join(
        f" | {word}" if boundary else f" {word}"
        for word, boundary in zip(words[1:], boundaries, strict=True)
    )


def main(_) -> None:
    given = sentences(_HALF.value)
    if _ERRORS.value:
        for sentence in given:
            for text in (sentence.written, sentence.spoken):
                found = found_boundaries(text, phrases.find(_ERRORS.value))
                if np.any(found != sentence.boundaries):
                    print("reader   ", _marked(text, sentence.boundaries))
                    print("segmenter", _marked(text, found))
                    print()
        return
    print(f"{len(given)} sentences, {sum(s.boundaries.sum() for s in given)} boundaries\n")
    print(table(given), "\n")
    print(by_domain(given))


if __name__ == "__main__":
    command_line.run(main)

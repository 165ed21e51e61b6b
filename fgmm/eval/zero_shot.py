"""Zero-shot classification: classes are recognised by their names; nothing is fitted.

Protocol: the words of each class are put into prompt templates. A clip is embedded by the heads,
without augmentation. Its *coarse* score for a class is the product of two coarse embeddings: that
of the clip, and the mean over the templates of those of the prompts, scaled to length 1 in a space
of unit vectors (Radford et al., ICML 2021, arXiv 2103.00020, section 3.1.4). Its *fine* score is
the similarity of local and phrase embeddings by a term of the objective, averaged over the
templates. *sum* is as in ``fgmm.eval.retrieval``. The score that ``config.objective.score`` names
comes first. Scores are averaged over the windows of a recording; ties go against the model.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fgmm.config import ConfigError
from fgmm.config.option import check_options, option
from fgmm.data.schema import Caption, Clip
from fgmm.eval import corpus_embeddings, metrics, pairs, passes, result_text
from fgmm.eval.bank import padded, sliced, slices
from fgmm.eval.recordings import (
    MODALITIES,
    check_encoders,
    footnote,
    open_labelled,
    single_queries,
)
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState
from fgmm.losses.objective import SCORES
from fgmm.losses.term import Side
from fgmm.models.embeddings import Embeddings
from fgmm.models.heads import normalise

# SentencePiece puts this before a word. A piece of this alone spells nothing.
_SPACE = "▁"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Options of the protocol.

    Attributes:
      source: the corpus, as in ``config.data.source``.
      label: the kind of label, one of the source's ``classes``.
      modality: what is classified: ``"video"`` or ``"audio"``.
      templates: prompts, with ``{}`` once where the words of the class go.
      words: the words of a class, by its name. Classes that are not in it are described by their
        names, with spaces for underscores.
      space: name of the space of the heads; empty for the first that has modality and text.
      term: name of the term whose similarity is the fine score; empty for the first fine term on
        the pair. Without a fine term there is only the coarse score.
      batch_size: records embedded at a time.
    """

    source: Mapping
    label: str
    modality: str = option("video", choices=MODALITIES)
    templates: tuple[str, ...] = ("{}",)
    words: Mapping = dataclasses.field(default_factory=dict)
    space: str = ""
    term: str = ""
    batch_size: int = option(64, low=1)

    def __post_init__(self):
        check_options(self)

    def bind(self, experiment: Experiment) -> Callable[[TrainState], dict[str, float]]:
        """Opens the corpus and makes the prompts.

        Raises:
          ConfigError: a template or ``words`` is wrong, an option names something that is not
            there, the checkpoint lacks text or the modality, or the tokenizer cannot tell the
            classes apart.
        """
        for template in self.templates:
            if template.count("{}") != 1:
                raise ConfigError(
                    f"zero_shot: templates has {template!r}, which must have {{}} once, where the "
                    "words of the class go"
                )
        if not self.templates:
            raise ConfigError('zero_shot: templates is empty; give at least ("{}",)')
        check_encoders(experiment, self.modality, "text", name="zero_shot")
        return _ZeroShot(self, experiment)

    def table(self, result: Mapping[str, float]) -> str:
        """The result as text, with chance beside each number."""
        rows: dict[str, dict[str, float]] = {}
        for name, value in result.items():
            score, _, metric = name.partition("/")
            if score in SCORES:
                rows.setdefault(score, {})[metric] = value
        beside = ("_low", "_high")
        columns = [
            name
            for name in rows["coarse"]
            if not name.startswith("chance_") and not name.endswith(beside)
        ]
        note = f"{result_text.table(rows, columns)}\n{footnote(result)}"
        if unknown := result["classes_partly_unknown"]:
            note += f"; classes with words that the tokenizer spells only in part: {unknown:.0f}"
        return note


class _ZeroShot:
    def __init__(self, options: Evaluation, experiment: Experiment):
        self.options, self.experiment = options, experiment
        pair = f"{options.modality}_text"
        self.space = pairs.space_of(experiment, pair, options.space, name="zero_shot")
        self.ranking = pairs.Ranking.of(
            experiment, pair, self.space, options.term, name="zero_shot"
        )
        self.recordings = open_labelled(
            experiment,
            options.source,
            label=options.label,
            modality=options.modality,
            key="zero_shot.source",
        )
        classes = self.recordings.classes
        self.words = _said(classes, options.words)
        # The prompts of a class follow each other.
        self.prompts = experiment.assembler(
            _Prompts([t.replace("{}", said) for said in self.words for t in options.templates]),
            captions=1,
            frames=0,
            samples=0,
        )
        self.partly_unknown = self._check_spelling()
        self.protocol = dataclasses.asdict(options) | {
            "space": self.space,
            "term": self.ranking.fine,
            "scores": self.ranking.names,
            "augmentation": "none",
            "windows": "scores averaged over those of a recording",
            "words": dict(zip(classes, self.words, strict=True)),
            "corpus": self.recordings.protocol(),
        }
        self._score = jax.jit(self._scores_of_batch)
        self.by_query: dict[str, list[int]] = {}
        self.queries: dict[str, dict[str, list]] = {}

    def _check_spelling(self) -> int:
        """How many classes have words that the tokenizer spells only in part.

        Raises:
          ConfigError: it spells no word of a class, or two classes give the same prompt.
        """
        partly = 0
        for name, said in zip(self.recordings.classes, self.words, strict=True):
            tokenizer = self.experiment.tokenizer
            pieces = tokenizer.pieces(said, lambda text: [(0, len(text))], 1)
            spelled = [token for token, _, piece in pieces if piece != _SPACE]
            unknown = [token == tokenizer.unknown_id for token in spelled]
            if all(unknown):
                raise ConfigError(
                    f"zero_shot: the tokenizer knows no piece of {said!r}, the words of class "
                    f"{name!r}; give others in words"
                )
            partly += any(unknown)
        templates = len(self.options.templates)
        seen: dict[tuple[int, bytes], str] = {}
        for number, said in enumerate(np.repeat(self.words, templates).tolist()):
            tokens = self.prompts(number)["tokens"].tobytes()
            other = seen.setdefault((number % templates, tokens), said)
            if other != said or not any(tokens):
                template = self.options.templates[number % templates]
                raise ConfigError(
                    f"zero_shot: in the template {template!r} the first "
                    f"{self.prompts.shape.tokens} pieces are the same for {other!r} and {said!r}, "
                    "or there are none; give other words or shorter templates"
                )
        return partly

    def __call__(self, state: TrainState) -> dict[str, float]:
        prompts = self._prompt_embeddings(state)
        parameters = passes.on_one_device(state.params["objective"])
        network = corpus_embeddings.trained(self.experiment, state, local=bool(self.ranking.fine))
        (embedded,) = corpus_embeddings.of_corpus(
            *(self.experiment, state, self.recordings.assembler, network),
            batch_size=self.options.batch_size,
        )
        scores = self._scores(parameters, prompts, embedded.embeddings(self.space))
        averages = self.recordings.averages(embedded, scores)
        if not averages.valid.any():
            raise ConfigError(f"zero_shot.source: no clip has {self.options.modality}")
        scores = averages.values[averages.valid]
        labels = self.recordings.labels[averages.valid]
        result: dict[str, float] = {}
        names = np.array(self.recordings.names)[averages.valid]
        self.queries = single_queries(names.tolist())
        truth = labels[:, None] == np.arange(scores.shape[2])
        for number, name in enumerate(self.ranking.names):
            ranks = metrics.retrieval_ranks(scores[:, number], truth)
            self.by_query[f"{name}/class_rank"] = ranks.tolist()
            summary = metrics.classification_summary(scores[:, number], labels)
            result |= {f"{name}/{metric}": value for metric, value in summary.items()}
        result |= self.recordings.counts(averages)
        result["classes_partly_unknown"] = self.partly_unknown
        return {name: float(value) for name, value in result.items()}

    def _prompt_embeddings(self, state: TrainState) -> Embeddings:
        """The embeddings of all Q prompts: local [Q,P,D], mask [Q,P], coarse [Q,D]."""
        network = corpus_embeddings.trained(self.experiment, state, local=True)
        (embedded,) = corpus_embeddings.of_corpus(
            self.experiment, state, self.prompts, network, batch_size=self.options.batch_size
        )
        return jax.tree.map(lambda v: v[:, 0], embedded.embeddings(self.space))

    def _scores(
        self, parameters: Any, prompts: Embeddings, clips: Embeddings
    ) -> Float[np.ndarray, "records scores classes"]:
        size, found = self.options.batch_size, []
        for rows in slices(len(clips.coarse), size):
            part = padded(sliced(clips, rows), size)
            scores = self._score(parameters, part, prompts)
            found.append(np.asarray(scores)[: rows.stop - rows.start])
        return np.concatenate(found)

    def _scores_of_batch(
        self, parameters: Any, clips: Embeddings, prompts: Embeddings
    ) -> Float[Array, "B scores classes"]:
        """The scores for all classes; the score that ranks is the first."""
        templates = len(self.options.templates)
        coarse = prompts.coarse.reshape(len(self.words), templates, -1)
        mean = coarse.mean(axis=1)
        unit_length = self.experiment.model.spaces[self.space]["unit_length"]
        coarse, fine = clips.coarse @ (normalise(mean) if unit_length else mean).T, None
        if name := self.ranking.fine:
            term = pairs.scoring_term(self.experiment, name)
            fine = term.score(parameters[name], Side.of(clips), Side.of(prompts)).values
            fine = fine.reshape(len(fine), len(self.words), templates).mean(axis=2)
        return jnp.stack([*self.ranking.scores(parameters, coarse, fine).values()], axis=1)


class _Prompts:
    """Prompts as the captions of clips that show nothing."""

    def __init__(self, prompts: list[str]):
        self.report: Counter[str] = Counter()
        self._prompts = prompts

    def __len__(self) -> int:
        return len(self._prompts)

    def __getitem__(self, index: int) -> Clip:
        prompt = self._prompts[index]
        return Clip(clip_id=prompt, captions=(Caption(prompt),))


def _said(classes: tuple[str, ...], words: Mapping) -> list[str]:
    """The words of each class, in the order of ``classes``.

    Raises:
      ConfigError: ``words`` names no class or has empty words, or two classes have the same words.
    """
    for name, said in words.items():
        if name not in classes:
            raise ConfigError(f"zero_shot: words.{name} is no class; allowed: {', '.join(classes)}")
        if not isinstance(said, str) or not said.strip():
            raise ConfigError(f"zero_shot: words.{name}={said!r} must be words")
    said = {name: words.get(name, name.replace("_", " ")) for name in classes}
    for one, other in itertools.combinations(classes, 2):
        if said[one] == said[other]:
            raise ConfigError(f"zero_shot: words of {one} and {other} are the same, {said[one]!r}")
    return list(said.values())


if __name__ == "__main__":
    # Imported here, since it defines flags that the training program defines too.
    from fgmm.eval import binary

    binary.run("zero_shot")

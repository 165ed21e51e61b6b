"""The model card of an exported folder, ``README.md``: what the weights are and what they reach."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from fgmm import provenance
from fgmm.config import ConfigError, as_dict, flat
from fgmm.export.folder import Run
from fgmm.report.result import gather


def card(run: Run, title: str, opens: str, notes: Sequence[str] = ()) -> str:
    """The page, in Markdown.

    Args:
      run: the exported run.
      title: of the page.
      opens: a paragraph on how to open the folder.
      notes: further lines on the weights.
    """
    parts = [
        f"# {title}",
        opens,
        "## Model",
        "\n".join(f"- {line}" for line in [*_model(run), *notes]),
        "## Training",
        "\n".join(f"- {line}" for line in _training(run)),
        "## Numbers",
        *_numbers(run),
        "## Config",
        _code(as_dict(run.experiment.config)),
    ]
    return "\n\n".join(parts) + "\n"


def _model(run: Run) -> list[str]:
    config, shape = run.experiment.config, run.experiment.shape
    count = sum(leaf.size for leaf in jax.tree.leaves(run.state.params["model"]))
    lines = [
        f"{modality}: `{config.model[modality].name}`" for modality in run.experiment.model.encoders
    ]
    lines.append(f"{count:,} parameters, float32")
    if "video" in config.model:
        lines.append(
            f"pictures: {shape.frames} x {shape.height} x {shape.width}, {config.data.resize}, "
            f"{config.data.resize_filter}"
            + (f"; stored features of {shape.features} channels" if shape.features else "")
        )
    if "audio" in config.model:
        lines.append(f"sound: {shape.samples} samples at {shape.sample_rate} Hz")
    if "text" in config.model:
        lines.append(f"captions: {shape.tokens} tokens, {shape.phrases} phrases")
    for name, space in run.experiment.model.spaces.items():
        lines.append(f"space `{name}` of {', '.join(space['modalities'])}, width {space['width']}")
    return lines


def _training(run: Run) -> list[str]:
    config = run.experiment.config
    average = ", the moving average of its parameters" if run.weights == "ema" else ""
    lines = [f"step {run.step} of {run.workdir.name}{average}"]
    if run.step:
        source = {k: v for k, v in flat(config.data.source).items() if v not in ("", None)}
        data = ", ".join(f"{name}={value}" for name, value in source.items())
        lines += [f"data: {data}", f"batch size {config.batch_size}, seed {config.seed}"]
    for name, term in config.objective.terms.items():
        place = (
            f"labels {config.data.label!r}"
            if "classifier" in term
            else f"{term.pair}, {term.level}"
        )
        lines.append(f"term `{name}`: {term.name} on {place}")
    starts = provenance.of_run(run.workdir, run.step, config.batch_size)["started"]
    for start in starts:
        converted = start.get("converted") or {}
        digests = converted.get("sha256")
        if converted:
            lines.append(f"converted from: {converted.get('model', 'published weights')}")
        for file, digest in digests.items() if isinstance(digests, Mapping) else ():
            lines.append(f"`{file}`: sha256 {digest}")
    lines.append(f"made with: {provenance.in_words(starts)}" if starts else "made with: not noted")
    here = provenance.here()
    lines.append(f"exported with: fgmm {here['version']}, commit {here['commit']}, {here['date']}")
    return lines


def _numbers(run: Run) -> list[str]:
    """The results that evaluations of this step left in the workdir, each with its protocol."""
    try:
        found = gather(run.workdir, run.step)
    except ConfigError:
        return ["This checkpoint was not evaluated."]
    parts = []
    for label, protocol in found["protocols"].items():
        weights = found["weights"][label]
        if weights != run.weights:
            parts.append(f"{label} was evaluated with other weights, {weights or 'not named'}.")
            continue
        prefix = f"{label}/"
        numbers = {
            name.removeprefix(prefix): value
            for name, value in found["results"].items()
            if name.startswith(prefix)
        }
        rows = [f"| {name} | {_number(value)} |" for name, value in numbers.items()]
        parts += [
            f"### {label}",
            "\n".join(["| | |", "| --- | ---: |", *rows]),
            "Protocol:",
            _code(protocol),
        ]
    return parts


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _code(options: Mapping[str, Any]) -> str:
    return f"```json\n{json.dumps(options, indent=2)}\n```"

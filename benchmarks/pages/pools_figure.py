"""The figure of docs/losses.md: the weights of each pool and its derivatives ∂s/∂a.

    python -m benchmarks.pages.pools_figure --output=docs/figures/pools.png

It shows one made-up profile of similarities a over the N = 32 local embeddings of a clip, with one
sharp match and one broad, weaker match.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fgmm import command_line
from fgmm.losses.dense import pool_weights, pooled

SHOWN = (
    ("mean", None),
    ("softmax", 0.3),
    ("softmax", 0.1),
    ("softmax", 0.03),
    ("logsumexp", 0.1),
    ("sparc", None),
    ("max", None),
)
_INK, _MUTED, _WEIGHTS, _DERIVATIVES = "#1f2430", "#6b7280", "#9db8d9", "#c2410c"


def profile() -> Float[np.ndarray, "N"]:
    """Similarities with a sharp match of 0.6 at n = 7 and a broad one of 0.45 around n = 22."""
    n = np.arange(32)
    noise = 0.06 * np.random.default_rng(3).normal(size=32)
    sharp = 0.62 * np.exp(-(((n - 7) / 0.9) ** 2))
    return 0.02 + noise + sharp + 0.42 * np.exp(-(((n - 22) / 3.0) ** 2))


def draw(a: Float[np.ndarray, "N"], output: pathlib.Path) -> None:
    """Writes the figure for the similarities ``a`` of one clip and one phrase."""
    figure = Figure(figsize=(9, 1.05 * (len(SHOWN) + 1)), layout="constrained")
    FigureCanvasAgg(figure)
    top, *rows = figure.subplots(len(SHOWN) + 1, 1, sharex=True)
    n = np.arange(len(a))
    top.bar(n, a, color=_MUTED, width=0.8)
    _label(top, "a", "similarities")
    for axes, (pool, temperature) in zip(rows, SHOWN, strict=True):
        weights, derivatives, s = attention(a, pool, temperature)
        axes.bar(n, weights, color=_WEIGHTS, width=0.8, label="weight")
        axes.plot(
            *(n, derivatives),
            ".-",
            color=_DERIVATIVES,
            lw=1,
            markersize=4,
            label="derivative ∂s/∂a",
        )
        axes.axhline(0, color=_MUTED, lw=0.6)
        name = pool if temperature is None else f"{pool}, τ = {temperature}"
        _label(axes, name, f"s = {s:.2f}")
    handles, labels = rows[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", frameon=False, fontsize=9, ncols=2)
    rows[-1].set_xlabel("n, the local embeddings of one clip", color=_INK)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)


def attention(
    a: Float[np.ndarray, "N"], pool: str, temperature: float | None
) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"], float]:
    """The weights of a pool over ``a``, its derivatives ∂s/∂a, and s."""
    a = jnp.asarray(a)
    options = {"pool": pool, "temperature": temperature, "axis": 0}
    mask = jnp.ones_like(a, bool)
    s, derivatives = jax.value_and_grad(lambda a: pooled(a, mask, **options))(a)
    return np.asarray(pool_weights(a, mask, **options)), np.asarray(derivatives), float(s)


def _label(axes, name, value):
    text = f"{name}\n{value}"
    axes.set_ylabel(text, rotation=0, ha="right", va="center", color=_INK, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_MUTED, labelsize=8)
    axes.margins(y=0.15)


def main(argv: list[str]) -> None:
    del argv
    output = pathlib.Path(command_line.required("output"))
    draw(profile(), output)
    print(f"written to {output}")


if __name__ == "__main__":
    flags.DEFINE_string("output", None, "The PNG to write.")
    command_line.run(main)

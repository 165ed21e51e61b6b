"""The dense loss in PyTorch, for ``loss.py``, which talks to it in lines of JSON.

It has an environment of its own, with PyTorch and NumPy and nothing of this project but
``torch_process.py``.
"""

import torch

from benchmarks.torch_process import answer

GROUP = 8


def unit_vectors(*shape):
    return torch.nn.functional.normalize(torch.randn(*shape), dim=-1)


def dense(x, y, x_mask=None, y_mask=None):
    """Softmax over n, uniform phrases, InfoNCE; as in ``loss.py``."""
    a = torch.einsum("bnd,cpd->bcnp", x, y)
    if x_mask is None:
        S = (torch.softmax(a / 0.1, dim=2) * a).sum(2).mean(2)
    else:
        logits = (a / 0.1).masked_fill(~x_mask[:, None, :, None], -torch.inf)
        s = (torch.softmax(logits, dim=2) * a).sum(2)
        S = (s * y_mask).sum(2) / y_mask.sum(1)
    labels = torch.arange(len(S))
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(S / 0.07, labels) + cross_entropy(S.T / 0.07, labels)) / 2


def prepare(B, N, P, D, masked, with_dense):
    """The names of what can be timed, and functions to time."""
    x, y = unit_vectors(B, N, D).requires_grad_(), unit_vectors(B, P, D).requires_grad_()
    masks = (torch.ones(B, N, dtype=bool), torch.ones(B, P, dtype=bool)) if masked else ()

    def of(loss):
        return lambda: torch.autograd.grad(loss(x, y, *masks), (x, y))

    group = min(B, GROUP)
    rows, columns = x.detach()[:group].reshape(-1, D), y.detach().reshape(-1, D)
    da = torch.ones(len(rows), len(columns))
    a, dx, dy = torch.empty_like(da), torch.empty_like(rows), torch.empty(D, len(columns))

    def limit():
        for _ in range(B // group):
            torch.mm(rows, columns.T, out=a)
            torch.mm(da, columns, out=dx)
            torch.mm(rows.T, da, out=dy)

    kinds = {"three products": limit}
    if with_dense:
        kinds |= {"dense eager": of(dense), "dense compiled": of(torch.compile(dense))}
    return list(kinds), kinds


if __name__ == "__main__":
    answer(prepare)

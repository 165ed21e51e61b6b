"""The losses once more, straight from their formulas: plain loops over numpy floats.

Masked entries are left out instead of masked, so that none of it resembles the code under test.
"""

import numpy as np


def pool(a, kind, temperature):
    """Pools the numbers ``a``; 0 of none."""
    if len(a) == 0:
        return 0.0
    if kind == "max":
        return a.max()
    if kind == "logsumexp":
        top = a.max()
        return top + temperature * np.log(np.mean(np.exp((a - top) / temperature)))
    return np.sum(weights(a, kind, temperature) * a)


def weights(a, kind, temperature):
    if len(a) == 0:
        return a
    if kind == "mean":
        return np.full(len(a), 1 / len(a))
    if kind == "max":
        return (a == a.max()) / np.sum(a == a.max())
    if kind in ("softmax", "logsumexp"):
        e = np.exp((a - a.max()) / temperature)
        return e / e.sum()
    if a.max() == a.min():
        return np.full(len(a), 1 / len(a))
    normalised = (a - a.min()) / (a.max() - a.min())
    normalised[normalised < 1 / len(a)] = 0
    return normalised / normalised.sum()


def pool_derivatives(a, kind, temperature):
    """The closed forms of ∂s/∂a and ∂s/∂temperature."""
    if len(a) == 0:
        return a, 0.0
    s, w = pool(a, kind, temperature), weights(a, kind, temperature)
    if kind == "softmax":
        return w * (1 + (a - s) / temperature), -np.sum(w * (a - s) ** 2) / temperature**2
    if kind == "logsumexp":
        return w, (s - np.sum(w * a)) / temperature
    if kind == "sparc" and a.max() > a.min():
        # s = min + Σ r² / Σ r over kept r = a − min.
        r = np.where(w > 0, a - a.min(), 0)
        along = np.where(w > 0, (2 * r * r.sum() - np.sum(r**2)) / r.sum() ** 2, 0)
        lowest = a == a.min()
        return along + lowest * (1 - along.sum()) / lowest.sum(), 0.0
    return w, 0.0


def pool_options(pool, temperature):
    """What a similarity is told of its pool, of which most have no temperature."""
    with_temperature = {"temperature": temperature} if pool in ("softmax", "logsumexp") else {}
    return {"pool": pool, **with_temperature}


def weighting_options(weighting, phrase_temperature):
    with_temperature = {"phrase_temperature": phrase_temperature} if weighting == "softmax" else {}
    return {"weighting": weighting, **with_temperature}


def pooled_similarity(x, y, x_mask, y_mask, kind, temperature):
    s = np.zeros((len(x), len(y), y.shape[1]))
    for b in range(len(x)):
        for c, p in np.argwhere(y_mask):
            s[b, c, p] = pool(x[b, x_mask[b]] @ y[c, p], kind, temperature)
    return s


def pooled_similarity_gradients(cotangent, x, y, x_mask, y_mask, kind, temperature):
    """Gradients of Σ cotangent · s with respect to x, y and the temperature."""
    dx, dy, dt = np.zeros_like(x), np.zeros_like(y), 0.0
    for b in range(len(x)):
        valid = np.flatnonzero(x_mask[b])
        for c, p in np.argwhere(y_mask):
            along_a, along_t = pool_derivatives(x[b, valid] @ y[c, p], kind, temperature)
            dx[b, valid] += cotangent[b, c, p] * np.outer(along_a, y[c, p])
            dy[c, p] += cotangent[b, c, p] * along_a @ x[b, valid]
            dt += cotangent[b, c, p] * along_t
    return dx, dy, dt


def clip_similarity(x, y, x_mask, y_mask, kind, temperature, direction, weighting, phrase_t):
    if direction == "symmetric":
        options = (kind, temperature)
        there = clip_similarity(x, y, x_mask, y_mask, *options, "y_to_x", weighting, phrase_t)
        back = clip_similarity(x, y, x_mask, y_mask, *options, "x_to_y", weighting, phrase_t)
        return (there + back) / 2
    if direction == "x_to_y":
        options = (kind, temperature, "y_to_x", weighting, phrase_t)
        return clip_similarity(y, x, y_mask, x_mask, *options).T
    s = pooled_similarity(x, y, x_mask, y_mask, kind, temperature)
    reduction = {"uniform": "mean", "softmax": "softmax"}[weighting]
    scores = np.zeros(s.shape[:2])
    for b, c in np.ndindex(scores.shape):
        if x_mask[b].any():
            scores[b, c] = pool(s[b, c, y_mask[c]], reduction, phrase_t)
    return scores


def log_share(positives, all_of_them):
    return np.log(np.sum(np.exp(positives))) - np.log(np.sum(np.exp(all_of_them)))


def log_noisy(positive, all_of_them, noise_rate):
    """The log-likelihood of a positive that is wrong with probability ``noise_rate``."""
    share = np.exp(log_share(positive, all_of_them))
    return np.log((1 - noise_rate) * share + noise_rate / len(all_of_them))


def info_nce(s, temperature, valid, noise_rate=0.0):
    z, clips = s / temperature, np.flatnonzero(valid)
    losses = np.zeros(len(s))
    for i in clips:
        row, column = (log_noisy(z[i, i], v, noise_rate) for v in (z[i, clips], z[clips, i]))
        losses[i] = -(row + column) / 2
    return losses


def sigmoid(s, temperature, bias, valid):
    z, clips = s / temperature + bias, np.flatnonzero(valid)
    losses = np.zeros(len(s))
    for i in clips:
        for c in clips:
            sign = 1 if i == c else -1
            losses[i] -= np.log(1 / (1 + np.exp(-sign * z[i, c])))
    return losses


def mil_nce(s, mask, temperature, valid, count_positives_twice):
    z = s / temperature
    clips = [i for i in range(len(s)) if valid[i] and mask[i].any()]
    losses = np.zeros(len(s))
    for i in clips:
        bag = list(z[i, i, mask[i]])
        row = [z[i, c, j] for c in clips for j in np.flatnonzero(mask[c]) if c != i]
        column = [z[b, i, j] for b in clips for j in np.flatnonzero(mask[i]) if b != i]
        times = 2 if count_positives_twice else 1
        losses[i] = -log_share(bag, bag * times + row + column)
    return losses


def fine_grained_nce(s, mask, temperature, weights, valid, phrase_ids, noise_rate=0.0):
    z = s / temperature
    clips = [i for i in range(len(s)) if valid[i] and mask[i].any()]

    def negative(b, c, p):
        return b != c and phrase_ids[c, p] not in phrase_ids[b, mask[b]]

    losses = np.zeros(len(s))
    for i in clips:
        for p in np.flatnonzero(mask[i]):
            other_clips = [z[b, i, p] for b in clips if negative(b, i, p)]
            other_phrases = [
                z[i, c, q] for c in clips for q in np.flatnonzero(mask[c]) if negative(i, c, q)
            ]
            u = -log_noisy(z[i, i, p], [z[i, i, p], *other_clips], noise_rate)
            v = -log_noisy(z[i, i, p], [z[i, i, p], *other_phrases], noise_rate)
            losses[i] += weights[i, p] * (u + v) / 2
    return losses


def sparc(x, y, x_mask, y_mask, temperature, caption):
    losses = np.zeros(len(x))
    for b in range(len(x)):
        phrases = np.flatnonzero(y_mask[b])
        if not x_mask[b].any() or not len(phrases):
            continue
        cells = x[b, x_mask[b]]
        groups = {p: weights(cells @ y[b, p], "sparc", None) @ cells for p in phrases}
        z = {
            (p, q): groups[p] @ y[b, q] / np.linalg.norm(groups[p]) / temperature
            for p in phrases
            for q in phrases
        }
        for p in phrases:
            others = [q for q in phrases if caption[b, q] == caption[b, p]]
            row = log_share(z[p, p], [z[p, q] for q in others])
            column = log_share(z[p, p], [z[q, p] for q in others])
            losses[b] -= (row + column) / 2 / len(phrases)
    return losses


def mean_over(valid, losses):
    return losses.sum() / max(np.sum(valid), 1)


def finite_differences(function, arguments, step=1e-5):
    """Gradients of a scalar function of float64 arrays by central differences."""
    gradients = []
    for k, argument in enumerate(arguments):
        gradient = np.zeros_like(argument)
        for index in np.ndindex(argument.shape):
            moved = [np.array(a) for a in arguments]
            moved[k][index] = argument[index] + step
            above = function(*moved)
            moved[k][index] = argument[index] - step
            gradient[index] = (above - function(*moved)) / (2 * step)
        gradients.append(gradient)
    return gradients

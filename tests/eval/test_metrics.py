import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fgmm.eval import metrics, result_text

# Few distinct values, so that ties are the rule.
SCORES = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0, np.inf, np.nan])


@st.composite
def rankings(draw):
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 8)))
    scores = draw(hnp.arrays(np.float32, shape, elements=SCORES))
    relevant = draw(hnp.arrays(bool, shape))
    answers = draw(hnp.arrays(int, shape[0], elements=st.integers(0, shape[1] - 1)))
    relevant[np.arange(shape[0]), answers] = True
    return scores, relevant


def sorted_rank(scores, relevant):
    """Sorts the gallery, at equal scores the irrelevant items first, and looks for an answer."""
    order = []
    for score, correct in zip(scores, relevant, strict=True):
        if np.isnan(score):
            score = -np.inf if correct else np.inf
        order.append((-score, correct))
    return 1 + [correct for _, correct in sorted(order)].index(True)


@settings(deadline=None)
@given(rankings(), st.sampled_from([1, 9, 1 << 20]))
def test_ranks_are_those_of_a_pessimistic_sort(ranking, block):
    scores, relevant = ranking
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_BLOCK_ENTRIES", block)
        ranks = metrics.retrieval_ranks(scores, relevant)
    assert ranks.tolist() == [sorted_rank(*row) for row in zip(scores, relevant, strict=True)]


@settings(deadline=None)
@given(rankings(), st.randoms(use_true_random=False))
def test_ranks_do_not_depend_on_the_order_of_the_gallery(ranking, random):
    scores, relevant = ranking
    order = list(range(scores.shape[1]))
    random.shuffle(order)
    np.testing.assert_array_equal(
        metrics.retrieval_ranks(scores[:, order], relevant[:, order]),
        metrics.retrieval_ranks(scores, relevant),
    )


@pytest.mark.parametrize("constant", [0.0, np.nan, -np.inf, np.inf])
def test_a_constant_score_ranks_last(constant):
    relevant = np.eye(5, 7, dtype=bool)
    relevant[0, 3] = True
    ranks = metrics.retrieval_ranks(np.full((5, 7), constant), relevant)
    assert ranks.tolist() == [6, 7, 7, 7, 7]


def test_nan_counts_against_the_model():
    nan = np.nan
    scores = np.array([[nan, 1.0, 0.0], [2.0, nan, 0.0], [nan, 3.0, 2.0]])
    relevant = np.array([[True, False, False], [True, False, False], [True, True, False]])
    assert metrics.retrieval_ranks(scores, relevant).tolist() == [3, 2, 1]


def test_a_query_without_answer_is_named():
    relevant = np.eye(4, dtype=bool)
    relevant[2, 2] = False
    with pytest.raises(ValueError, match="query 2 has no relevant item among 4"):
        metrics.retrieval_ranks(np.zeros((4, 4)), relevant)


def test_summary_of_known_ranks():
    summary = metrics.retrieval_summary(np.array([1, 3, 7, 20]), np.array([1, 1, 1, 1]), 20)
    intervals = {name: summary.pop(name) for name in list(summary) if name[-4:] in ("_low", "high")}
    assert len(intervals) == 10
    assert intervals["r@1_low"] == 0 < 0.25 < intervals["r@1_high"]
    expected = {
        "r@1": 0.25,
        "r@5": 0.5,
        "r@10": 0.75,
        "median_rank": 5.0,
        "mean_rank": 7.75,
        "chance_r@1": 1 / 20,
        "chance_r@5": 5 / 20,
        "chance_r@10": 10 / 20,
        "chance_median_rank": 10.5,
        "chance_mean_rank": 10.5,
    }
    assert summary == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("counts", "gallery"), [([1], 40), ([5], 41), ([1, 1, 5, 12], 30), ([2, 9], 9), ([1, 3], 4)]
)
def test_chance_is_what_random_scores_give(counts, gallery):
    rng = np.random.default_rng(0)
    counts = np.tile(counts, 10_000 // len(counts))
    relevant = np.arange(gallery) < counts[:, None]
    ranks = metrics.retrieval_ranks(rng.random(relevant.shape, np.float32), relevant)
    summary = metrics.retrieval_summary(ranks, counts, gallery)
    for k in metrics.RECALL_AT:
        assert summary[f"r@{k}"] == pytest.approx(summary[f"chance_r@{k}"], abs=0.01)
    assert summary["mean_rank"] == pytest.approx(summary["chance_mean_rank"], rel=0.02)
    assert summary["median_rank"] == pytest.approx(summary["chance_median_rank"], abs=0.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.data())
def test_chance_median_is_that_of_the_whole_distribution(gallery, data):
    counts = data.draw(st.lists(st.integers(1, gallery), min_size=1, max_size=4))
    # Weights of every rank from the recurrence of drawing without replacement.
    weights = np.zeros(gallery + 1)
    for r in counts:
        left = 1.0
        for k in range(1, gallery - r + 2):
            hit = r / (gallery - k + 1)
            weights[k] += left * hit / len(counts)
            left *= 1 - hit
    below = np.cumsum(weights)
    reached = np.argmax(below >= 0.5 - 1e-12)
    exceeded = np.argmax(below > 0.5 + 1e-12)
    summary = metrics.retrieval_summary(np.ones(len(counts), int), np.array(counts), gallery)
    assert summary["chance_median_rank"] == (reached + exceeded) / 2
    assert summary["chance_mean_rank"] == pytest.approx(weights @ np.arange(gallery + 1))


def test_chance_of_a_large_gallery_with_many_answers():
    counts = np.arange(1, 201)
    summary = metrics.retrieval_summary(np.ones(200, int), counts, 100_000)
    assert summary["chance_r@1"] == pytest.approx(counts.mean() / 100_000, rel=1e-12)
    assert 0 < summary["chance_median_rank"] < summary["chance_mean_rank"]


@pytest.mark.parametrize(
    ("ranks", "counts", "message"),
    [
        ([], [], "no queries"),
        ([1, 1], [0, 1], "relevant_counts must lie in 1..5"),
        ([1, 1], [6, 1], "relevant_counts must lie in 1..5"),
        ([0, 1], [1, 1], "ranks must lie in"),
        ([5, 1], [2, 1], "ranks must lie in"),
    ],
)
def test_impossible_ranks_and_counts_are_refused(ranks, counts, message):
    with pytest.raises(ValueError, match=message):
        metrics.retrieval_summary(np.array(ranks, int), np.array(counts, int), 5)


def test_captions_that_read_the_same_are_of_one_group():
    owner, group = metrics.caption_groups(
        [["A red ball.", "a dog"], [], ["a  RED ball.\n", "a red ball"], ["a dog", "a Dog"]]
    )
    assert owner.tolist() == [0, 0, 2, 2, 3, 3]
    assert group.tolist() == [0, 1, 0, 2, 1, 1]


def test_one_string_for_a_clip_is_refused():
    with pytest.raises(TypeError, match=r"clip 1 .* 'a dog'"):
        metrics.caption_groups([["a cat"], "a dog"])


def test_bootstrap_depends_on_the_seed_alone():
    values = np.random.default_rng(0).random(300)
    interval = metrics.bootstrap_interval(values, seed=1)
    assert interval == metrics.bootstrap_interval(values, seed=1)
    assert interval != metrics.bootstrap_interval(values, seed=2)


def test_bootstrap_covers_the_mean_as_often_as_its_level_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        low, high = metrics.bootstrap_interval(
            rng.normal(2.0, 1.0, 60), seed=trial, resamples=200, level=0.8
        )
        hits += low <= 2.0 <= high
    # Four standard deviations of 200 draws at 0.8 are 0.11.
    assert 0.69 < hits / 200 < 0.91


def test_bootstrap_of_a_constant_is_a_point():
    assert metrics.bootstrap_interval(np.full(9, 0.25), seed=0) == (0.25, 0.25)
    assert metrics.bootstrap_interval(np.ones(9, bool), seed=0) == (1.0, 1.0)


@pytest.mark.parametrize("right", [1, 2, 3])
def test_rounding_takes_no_interval_below_zero(right):
    low, _ = metrics.bootstrap_interval(np.arange(10) < right, seed=0)
    assert f"{low:.2%}" == "0.00%" or low >= 0.1


def test_bootstrap_resamples_whole_groups():
    """Copies of a query say nothing new: the interval is that of one of each."""
    values = np.random.default_rng(0).random(60)
    alone = metrics.bootstrap_interval(values)
    copies, group = np.repeat(values, 5), np.repeat(np.arange(60), 5)
    np.testing.assert_allclose(metrics.bootstrap_interval(copies, group), alone, rtol=1e-12)
    narrow = metrics.bootstrap_interval(copies)
    assert narrow[1] - narrow[0] < 0.6 * (alone[1] - alone[0])


def test_bootstrap_of_groups_of_different_sizes_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    values, group = rng.random((40, 2)), rng.integers(7, size=40)
    found = metrics.bootstrap_interval(values, group, seed=3, resamples=200, level=0.9)
    drawn = np.random.default_rng(3).integers(7, size=(200, 7))
    means = [np.concatenate([values[group == g] for g in of]).mean(axis=0) for of in drawn]
    np.testing.assert_allclose(found, np.quantile(means, (0.05, 0.95), axis=0), rtol=1e-12)


@pytest.mark.parametrize("options", [{"level": 1.0}, {"level": 0.0}, {"resamples": 0}])
def test_bootstrap_refuses_impossible_options(options):
    with pytest.raises(ValueError, match="resamples >= 1 and 0 < level < 1"):
        metrics.bootstrap_interval(np.ones(3), seed=0, **options)
    with pytest.raises(ValueError, match="no values"):
        metrics.bootstrap_interval(np.ones(0), seed=0)


def test_classification_ties_go_against_the_model():
    scores = np.array([[3.0, 1, 2], [1, 1, 0], [0, 5, 5], [2, 1, 0]])
    summary = metrics.classification_summary(scores, np.array([0, 0, 1, 1]))
    assert summary == {
        "accuracy@1": 0.25,
        "accuracy@1_low": 0.0,
        "accuracy@1_high": 0.75,
        "chance_accuracy@1": 1 / 3,
        "mean_class_accuracy": 0.25,
        "mean_class_accuracy_low": 0.0,
        "mean_class_accuracy_high": 0.5,
        "chance_mean_class_accuracy": 1 / 3,
    }


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_classification_is_what_sorting_gives(classes, queries, seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.random((queries, classes)), rng.integers(classes, size=queries)
    summary = metrics.classification_summary(scores, labels)
    order = np.argsort(-scores, axis=1)
    assert summary["accuracy@1"] == pytest.approx(np.mean(order[:, 0] == labels))
    by_class = [np.mean(order[labels == label, 0] == label) for label in set(labels.tolist())]
    assert summary["mean_class_accuracy"] == pytest.approx(np.mean(by_class))
    assert ("accuracy@5" in summary) == (classes > 5)
    if classes > 5:
        five = [label in row[:5] for label, row in zip(labels, order, strict=True)]
        assert summary["accuracy@5"] == pytest.approx(np.mean(five))
        assert summary["chance_accuracy@5"] == 5 / classes


def test_classification_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no queries"):
        metrics.classification_summary(np.zeros((0, 3)), np.zeros(0, int))


def test_accuracy_by_class_leaves_out_classes_that_do_not_occur():
    correct, labels = np.array([True, False, True, True]), np.array([3, 3, 1, 1])
    found = metrics.class_accuracies(correct, labels, "abcd")
    assert {name.partition("/")[2][0] for name in found} == {"b", "d"}
    assert [found[f"class_accuracy/b{end}"] for end in ("_low", "", "_high")] == [1, 1, 1]
    low, share, high = (found[f"class_accuracy/d{end}"] for end in ("_low", "", "_high"))
    assert 0 <= low < share == 0.5 < high <= 1


def test_parts_of_any_size_weigh_alike_in_every_resample():
    part = np.repeat([0, 1], [10, 90])
    right = metrics.mean_over_parts("a", np.ones(100, bool), part)
    assert right == {"a": 1, "a_low": 1, "a_high": 1}
    outcomes = np.random.default_rng(0).random(100) < np.where(part, 0.8, 0.5)
    found = metrics.mean_over_parts("a", outcomes, part)
    shares = [outcomes[part == p].mean() for p in (0, 1)]
    assert found["a"] == pytest.approx(np.mean(shares))
    spread = sum(s * (1 - s) / n for s, n in zip(shares, (10, 90), strict=True)) ** 0.5 / 2
    assert (found["a_high"] - found["a_low"]) / 2 == pytest.approx(1.96 * spread, rel=0.15)
    # Queries of one group in both parts are drawn together: its parts are not independent.
    twice = np.concatenate([outcomes, outcomes]), np.repeat([0, 1], 100)
    shared = metrics.mean_over_parts("a", *twice, group=np.tile(np.arange(100), 2))
    assert shared == pytest.approx(metrics.with_intervals({"a": outcomes}))


def test_a_part_that_a_resample_lacks_is_left_out_of_it():
    found = metrics.mean_over_parts("a", np.array([True, False, False]), np.array([0, 1, 1]))
    assert found == {"a": 0.5, "a_low": 0, "a_high": 1}


def test_table_puts_chance_beside_each_column():
    rows = {
        "text to clip": {"r@10": 0.4312, "chance_r@10": 0.01, "median_rank": 14.5, "loss": 2.0},
        "back": {"r@10": 1.0, "chance_r@10": 0.01, "median_rank": 1234.0},
    }
    assert result_text.table(rows, ["r@10", "median_rank", "loss"]).splitlines() == [
        "|              |    r@10 | chance | median_rank | loss |",
        "| ------------ | ------: | -----: | ----------: | ---: |",
        "| text to clip |  43.12% |  1.00% |        14.5 |    2 |",
        "| back         | 100.00% |  1.00% |        1234 |    - |",
    ]


def test_table_prints_accuracies_as_shares():
    rows = {"a": {"accuracy": 0.5, "chance_accuracy": 0.125, "accuracy_spread": 0.0123}}
    assert result_text.table(rows, ["accuracy", "accuracy_spread"]).splitlines()[2:] == [
        "| a   |   50.00% | 12.50% |           1.23% |"
    ]


def test_table_names_a_column_that_no_row_has():
    with pytest.raises(ValueError, match="no row has r@2; there are: r@1"):
        result_text.table({"a": {"r@1": 0.5}}, ["r@1", "r@2"])


def test_hubness_is_the_skewness_of_how_often_an_item_is_found():
    found = np.random.default_rng(0).poisson(3, 300)
    found[7] = 60
    summary = metrics.hubness(found)
    assert summary["hubness"] == pytest.approx(scipy.stats.skew(found), rel=1e-9)
    assert summary["hubness_low"] < summary["hubness"] <= summary["hubness_high"]


def test_nothing_is_a_hub_where_everything_is_found_alike():
    assert set(metrics.hubness(np.full(12, 3)).values()) == {0.0}


@pytest.mark.parametrize("group", [None, [0, 0, 1, 2, 2, 2, 3]])
def test_the_interval_of_a_median_is_that_of_resampled_medians(group):
    values = np.array([9, 1, 4, 4, 7, 2, 30])
    owner = np.arange(7) if group is None else np.array(group)
    drawn = np.random.default_rng(0).integers(owner.max() + 1, size=(1000, owner.max() + 1))
    medians = [np.median(np.concatenate([values[owner == g] for g in groups])) for groups in drawn]
    given_group = None if group is None else owner
    found = metrics.with_intervals({"mean": values}, given_group, medians={"median": values})
    assert found["median"] == 4
    ends = found["median_low"], found["median_high"]
    assert ends == tuple(np.quantile(medians, [0.025, 0.975]))

"""Differences graph by graph: in closed form where there is one, and against simulations of what they claim."""

from __future__ import annotations

import numpy as np
import pytest

from poolbench.statistics.graphs import ENOUGH, Answers, Family, against


def crossed(values: np.ndarray, folds: int = 10, seed: int = 0) -> Answers:
    """[repeats, graphs] answers of a repeated cross-validation; the seed deals the folds."""
    repeats, graphs = values.shape
    generator = np.random.default_rng(seed)
    fold = np.stack([generator.permutation(graphs) % folds for _ in range(repeats)])
    training = np.arange(repeats)[:, None] * folds + fold
    return Answers(np.tile(np.arange(graphs), repeats), training.reshape(-1), values.reshape(-1))


def drawn(
    generator: np.random.Generator, graphs: int, repeats: int, operators: int, by_graph: float, by_training: float,
    shift: float = 0.0,
) -> list[Answers]:  # fmt: skip
    """Operators of which the first differs by `shift`, in the logit; each has its own graphs, and its own trainings."""
    fold = np.stack([generator.permutation(graphs) % 10 for _ in range(repeats)])
    training = np.arange(repeats)[:, None] * 10 + fold
    easy = generator.normal(1.3, 1.2, graphs)
    made = []
    for number in range(operators):
        logit = easy + generator.normal(0, by_graph, graphs) + generator.normal(0, by_training, 10 * repeats)[training]
        right = logit + (shift if number == 0 else 0.0) + generator.logistic(size=(repeats, graphs)) > 0
        made.append(Answers(np.tile(np.arange(graphs), repeats), training.reshape(-1), right.reshape(-1).astype(float)))
    return made


def family(answers: list[Answers]) -> Family:
    """All but the last against the last."""
    return against({str(i): one for i, one in enumerate(answers[:-1])}, answers[-1])


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < 0.7).astype(float)


def test_without_repeats_and_effects_it_is_the_error_of_a_mean() -> None:
    a, b = noise(1, 4000), noise(1, 4000, seed=1)
    (found,) = family([crossed(a), crossed(b)]).differences.values()
    d = (a - b)[0]
    assert found.difference == pytest.approx(d.mean(), abs=1e-12)
    assert found.error == pytest.approx(d.std(ddof=1) / np.sqrt(4000), rel=0.15)
    assert found.error >= d.std(ddof=1) / np.sqrt(4000) - 1e-12 and found.by_graph is None
    assert (found.graphs, found.trainings, found.observations) == (4000, 10, 4000)


def test_repeats_average_trainings_out_and_never_graphs() -> None:
    """The same answers again leave the error where it was: nothing new is known of the graphs."""
    a, b = noise(1, 500), noise(1, 500, seed=1)
    alike = np.repeat(a, 8, axis=0), np.repeat(b, 8, axis=0)
    once, (eight,), (fresh,) = (
        family([crossed(x), crossed(y)]).differences.values()
        for x, y in ((a, b), alike, (noise(8, 500), noise(8, 500, seed=1)))
    )
    (once,) = once
    assert eight.error == pytest.approx(once.error, rel=0.1)
    assert fresh.error == pytest.approx(once.error / np.sqrt(8), rel=0.15)
    assert eight.by_graph == pytest.approx((a - b).std(), rel=0.1) and fresh.by_graph < 0.3 * eight.by_graph


def test_repeats_that_are_foreseen_have_the_error_that_is_foreseen() -> None:
    """Over draws: what three repeats say of twelve is what twelve come to."""
    generator = np.random.default_rng(5)
    foreseen, reached = [], []
    for _ in range(12):
        (three,) = family(drawn(generator, 600, 3, 2, 1.0, 0.2)).differences.values()
        (twelve,) = family(drawn(generator, 600, 12, 2, 1.0, 0.2)).differences.values()
        assert three.error is not None and three.by_graph is not None and twelve.error is not None
        graphs = three.by_graph**2 / 600
        foreseen.append(np.sqrt(graphs + (three.error**2 - graphs) / 4))
        reached.append(twelve.error)
        assert three.repeats == 3.0 and three.repeats_for(foreseen[-1]) == pytest.approx(12.0)
        assert three.repeats_for(0.99 * np.sqrt(graphs)) == np.inf
    assert np.mean(foreseen) == pytest.approx(np.mean(reached), rel=0.07)


def test_one_repeat_foresees_nothing() -> None:
    (once,) = family([crossed(noise(1, 400)), crossed(noise(1, 400, seed=1))]).differences.values()
    assert once.repeats_for(0.01) is None


def test_a_training_that_fails_as_a_whole_is_seen_as_one() -> None:
    a, b = noise(3, 600), noise(3, 600)
    broken = crossed(a)
    value = np.where(broken.training == 4, 0.0, broken.value)  # all of a fold is wrong
    (found,) = against({"a": Answers(broken.graph, broken.training, value)}, crossed(b)).differences.values()
    assert found.by_training > 0.1 and found.error > 0.015
    assert found.low < 0 < found.high  # one training of thirty decides nothing


def test_an_operator_that_trains_unsteadily_widens_no_other() -> None:
    a, b, c = noise(1, 600), noise(1, 600), noise(1, 600)
    a[0, :3] = 1 - a[0, :3]  # differs on three graphs
    wild = crossed(c)
    value = np.where(wild.training < 4, 0.0, wild.value)
    others = {"wild": Answers(wild.graph, wild.training, value)}
    alone, both = against({"calm": crossed(a)}, crossed(b)), against({"calm": crossed(a), **others}, crossed(b))
    assert both.differences["wild"].error > 0.05
    assert both.differences["calm"].error < 2.5 * alone.differences["calm"].error < 0.02


def test_names_and_order_change_nothing() -> None:
    answers = drawn(np.random.default_rng(0), 300, 2, 4, 0.5, 0.2)
    plain = family(answers)
    order = np.random.default_rng(1).permutation(600)
    mixed = [Answers(7 * a.graph[order] + 3, 100 - a.training[order], a.value[order]) for a in answers]
    for one, other in zip(plain.differences.values(), family(mixed).differences.values(), strict=True):
        for name, value in vars(one).items():
            assert vars(other)[name] == pytest.approx(value, rel=1e-9), name


def test_what_only_one_of_them_has_is_left_out() -> None:
    a, b = crossed(noise(2, 200)), crossed(noise(2, 200, seed=1))
    half = a.training < 10
    short = Answers(a.graph[half], a.training[half], a.value[half])
    (found,) = against({"a": short}, b).differences.values()
    assert (found.trainings, found.observations) == (10, 200)
    assert not against({"a": Answers(a.graph, a.training + 1000, a.value)}, b).differences


def test_few_trainings_and_equal_answers_have_no_interval() -> None:
    a, b = noise(1, 100), noise(1, 100, seed=1)
    few = family([crossed(a, ENOUGH - 1), crossed(b, ENOUGH - 1)])
    same = family([crossed(a), crossed(a)])
    for found in (*few.differences.values(), *same.differences.values()):
        assert found.error is found.low is found.joint_low is found.p is found.detectable is None
    assert few.known == same.known == () and same.differences["0"].difference == 0.0


def test_joint_intervals_are_wider_the_more_operators_there_are() -> None:
    answers = drawn(np.random.default_rng(0), 400, 2, 13, 0.5, 0.1)
    alone, all_of_them = family(answers[-2:]), family(answers)
    (one,) = alone.differences.values()
    assert (one.low, one.high) == (one.joint_low, one.joint_high) and alone.alpha == pytest.approx(0.05)
    # Bonferroni's level for twelve would be 0.0042; the baseline that they share makes Dunnett's larger.
    assert 0.0042 < all_of_them.alpha < 0.008
    for found in all_of_them.differences.values():
        assert found.joint_low < found.low and found.high < found.joint_high
        assert (found.p < 0.05) == (not found.joint_low <= 0 <= found.joint_high)
        assert found.new_low <= found.low and found.detectable < found.joint_detectable


def test_p_are_those_of_dunnett() -> None:
    """Where the training's part is known to be next to nothing, scipy's test of the graphs' values has the same p."""
    from scipy.stats import dunnett

    generator = np.random.default_rng(3)
    values = [generator.normal(0.02 * number, 1.0, (1, 5000)) for number in range(4)]
    found = family([crossed(v, 1000) for v in [*values[1:], values[0]]])
    theirs = dunnett(*[v[0] for v in values[1:]], control=values[0][0], rng=0).pvalue
    for one, p in zip(found.differences.values(), theirs, strict=True):
        assert one.p == pytest.approx(p, abs=0.03)


def test_the_same_numbers_every_time() -> None:
    answers = drawn(np.random.default_rng(0), 300, 2, 5, 0.5, 0.2)
    assert family(answers).differences == family(answers).differences


def test_numbers_that_are_not_as_many_are_refused() -> None:
    with pytest.raises(ValueError, match="as many"):
        Answers(np.arange(3), np.arange(3), np.zeros(2))


@pytest.mark.parametrize(("by_graph", "by_training"), [(0.0, 0.0), (0.6, 0.25)])
def test_intervals_cover_and_families_hold(by_graph: float, by_training: float) -> None:
    """Simulated: no operator differs. 95 % of intervals hold 0, and 95 % of families all at once."""
    generator, covered, wrong = np.random.default_rng(11), [], 0
    for _ in range(60):
        found = family(drawn(generator, 300, 2, 9, by_graph, by_training)).differences.values()
        covered += [one.low <= 0 <= one.high for one in found]
        wrong += any(not one.joint_low <= 0 <= one.joint_high for one in found)
    assert 0.92 < np.mean(covered) < 0.985
    assert wrong <= 8  # of 60: binomial at 5 %, one in a thousand


@pytest.mark.parametrize(("graphs", "by_training"), [(200, 0.4), (1000, 0.3), (1000, 0.6)])
def test_one_more_training_lies_where_it_is_said(graphs: int, by_training: float) -> None:
    """Of ten trainings, which hardly know how much trainings differ: often they seem not to at all."""
    generator, inside = np.random.default_rng(7), []
    logit = np.random.default_rng(8).normal(1.3, np.hypot(1.2, 0.3), (2000, 1))  # of graphs like these

    def one_more() -> np.ndarray:
        return (1 / (1 + np.exp(-logit - generator.normal(0, by_training, 40)))).mean(0)

    for _ in range(120):
        (one,) = family(drawn(generator, graphs, 1, 2, 0.3, by_training)).differences.values()
        new = one_more() - one_more()
        inside.append(np.mean((one.new_low <= new) & (new <= one.new_high)))
    assert 0.92 < np.mean(inside) < 0.99


def test_differences_are_found_as_often_as_stated() -> None:
    generator, found, stated = np.random.default_rng(5), [], []
    for _ in range(80):
        (one,) = family(drawn(generator, 500, 2, 2, 0.3, 0.1, shift=0.45)).differences.values()
        found.append(not one.low <= 0 <= one.high)
        stated.append(one.detectable / 0.062)  # the true difference, of 10^6 graphs
    power = np.mean(found)
    assert 0.5 < np.mean(stated) < 1.2
    assert power > 0.75

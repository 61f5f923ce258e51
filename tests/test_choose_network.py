"""scripts/choose_network.py: which runs count, and what is ranked."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
import pytest

import choose_network
from poolbench.errors import PoolBenchError


def runs() -> pd.DataFrame:
    """Two depths on two datasets, two pools, two folds; the deeper one is better by 0.1, and on one of them by 0.3."""
    made = []
    for depth, dataset, pool, fold in itertools.product((1, 2), ("A", "B"), ("none", "random-dense"), (0, 1)):
        score = 0.5 + 0.1 * (depth - 1) + (0.2 if depth == 2 and dataset == "B" else 0.0) + 0.01 * fold
        made.append(
            {
                "seed": 1000,
                "evaluate_test": False,
                "status": "done",
                "model.depth": depth,
                "model.hidden": 64,
                "model.norm": "batch",
                "trainer.max_epochs": 60,
                "names.dataset": dataset,
                "names.pool": pool,
                "names.protocol": "cv10",
                "fold": fold,
                "val/accuracy": score,
                "time/total": 10.0 * depth,
            }
        )
    return pd.DataFrame(made)


def test_the_best_mean_over_datasets_comes_first() -> None:
    found, said = choose_network.chosen(runs())
    assert found["network"].tolist() == ["depth=2, hidden=64, norm=batch, max_epochs=60",
                                         "depth=1, hidden=64, norm=batch, max_epochs=60"]  # fmt: skip
    assert found.loc[0, ["A", "B", "mean", "seconds", "runs"]].tolist() == pytest.approx([0.605, 0.805, 0.705, 20, 8])
    assert said == []


NONE = choose_network.reached(runs())


def test_of_those_near_the_best_the_fastest_is_chosen() -> None:
    found = pd.DataFrame({"network": list("abc"), "mean": [0.7, 0.696, 0.694], "seconds": [20.0, 10.0, 1.0]})
    assert choose_network.choice(found, NONE) == "b"
    assert choose_network.choice(found[found["network"] != "b"], NONE) == "a"


def test_a_network_in_which_none_lacks_what_is_wanted_is_not_chosen() -> None:
    found = pd.DataFrame({"network": list("abc"), "mean": [0.7, 0.696, 0.694], "seconds": [20.0, 10.0, 1.0]})
    none = pd.DataFrame({"network": list("ab"), "dataset": "NCI1", "mean": [0.81, 0.79], "error": 0.01, "wanted": 0.8})
    assert choose_network.choice(found, none) == "a"
    none["mean"] = 0.79
    assert choose_network.choice(found, none) == "c"
    with pytest.raises(PoolBenchError, match="no network is good enough"):
        choose_network.choice(found[found["network"] != "c"], none)


def test_none_in_ten_folds_stands_beside_what_is_wanted() -> None:
    one = runs().query("`model.depth` == 1 and `names.dataset` == 'A' and `names.pool` == 'none' and fold == 0")
    ten = pd.concat([one.assign(fold=fold, **{"names.dataset": "NCI1", "val/accuracy": 0.8 + 0.01 * (fold % 2)})
                     for fold in range(10)])  # fmt: skip
    (row,) = choose_network.reached(pd.concat([runs(), ten])).to_dict("records")
    assert row == {"network": "depth=1, hidden=64, norm=batch, max_epochs=60", "dataset": "NCI1", "wanted": 0.8,
                   "mean": pytest.approx(0.805), "error": pytest.approx(0.005 / 3)}  # fmt: skip
    assert NONE.empty
    assert choose_network.chosen(pd.concat([runs(), ten.query("fold > 2")]))[0].equals(choose_network.chosen(runs())[0])


def test_a_search_with_the_same_seed_is_no_run_of_the_sweep() -> None:
    search = runs().assign(**{"names.protocol": "holdout", "val/accuracy": 0.1})
    assert choose_network.chosen(pd.concat([search, runs()]))[0].equals(choose_network.chosen(runs())[0])


def test_what_lacks_a_run_or_is_another_sweeps_is_not_ranked() -> None:
    third = runs().query("`model.depth` == 1").assign(**{"model.depth": 3})
    found, said = choose_network.chosen(pd.concat([runs().drop(index=15), third]))
    assert len(found) == 2 and said == [
        "depth=2, hidden=64, norm=batch, max_epochs=60: 1 of 8 runs are missing, not ranked, A 0.6050"
    ]
    never = runs()[lambda all: (all["model.depth"] == 1) | (all["names.dataset"] == "A")]
    found, said = choose_network.chosen(pd.concat([never, third]))
    assert len(found) == 2 and len(said) == 1
    assert said[0].endswith("4 of 8 runs are missing, not ranked, A 0.6050")
    found, said = choose_network.chosen(never)
    assert found["runs"].tolist() == [4, 4] and said == [], "what one network alone has ranks nobody"
    tested, other, failed = runs(), runs(), runs()
    tested["evaluate_test"], other["seed"], failed["status"] = True, 0, "failed"
    for frame in (tested, other, failed):
        with pytest.raises(PoolBenchError, match="no runs yet: "):
            choose_network.chosen(frame)


def test_more_folds_rank_those_that_have_them() -> None:
    one = runs().query("`model.depth` == 1")
    both = pd.concat([one, one.assign(**{"model.depth": 3})])
    more = pd.concat([runs(), both.query("`model.depth` == 3"), both.assign(fold=lambda all: all["fold"] + 3)])
    found, said = choose_network.chosen(more, 10)
    assert found["runs"].tolist() == [16, 16] and len(said) == 1 and "8 of 16 runs are missing" in said[0]
    assert len(choose_network.chosen(more)[0]) == 3


def test_one_network_alone_and_another_dataset_end_in_no_traceback() -> None:
    with pytest.raises(PoolBenchError, match="no run was made in two networks"):
        choose_network.chosen(runs().query("`model.depth` == 1"))
    one = runs().query("`model.depth` == 1 and `names.dataset` == 'A' and `names.pool` == 'none' and fold == 0")
    assert choose_network.reached(pd.concat([one.assign(fold=fold) for fold in range(10)])).empty


def test_a_folder_without_runs_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert choose_network.main([str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(SystemExit, match="2"):
        choose_network.main(["a", "b"])

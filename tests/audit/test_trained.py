"""Trained models out of records: what they predict is what the record measured, on new graphs in the columns of old."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

import poolbench
from configs import small
from poolbench.audit import trained
from poolbench.audit.encoding import encoded
from poolbench.audit.trained import Answers
from poolbench.audit.trust import Refused, Trust
from poolbench.data.features import Features
from poolbench.data.sources.own import OwnGraphs
from poolbench.errors import PoolBenchError
from poolbench.jobs.run import run
from poolbench.jobs.weights import Columns, Weights
from poolbench.learn.metrics import measure
from poolbench.records.record import Record, encode

NODES = {"_target_": "poolbench.data.generators.plantednodes.PlantedNodes", "num_nodes": 60, "communities": 3}
WHOLE = {"_target_": "poolbench.data.protocols.Transductive"}
SUM = {"_target_": "poolbench.pool.readouts.globalpool.GlobalSumPool"}
UNET = {"_target_": "poolbench.nn.unet.UNet", "nodes": True, "hidden": 8, "levels": 1, "readout": SUM}
PLANTED = {"_target_": "poolbench.data.generators.synthetic.PlantedGraphs", "num_graphs": 48, "nodes": [20, 40],
           "degree": 3, "colours": 4}  # fmt: skip
TOPK = {"_target_": "poolbench.pool.topk.TopKPool", "ratio": 0.5}


def rings(y: Callable[[int], Any], x: Callable[[int], Any] = lambda k: torch.full((6 + k % 5, 1), k % 3)) -> list[Data]:
    made = []
    for k in range(40):
        rows = x(k)
        one = torch.arange(len(rows))
        other = (one + 1) % len(rows)
        index = torch.stack([torch.cat([one, other]), torch.cat([other, one])])
        made.append(Data(x=rows, edge_index=index, edge_attr=(index[0] % 2)[:, None], y=y(k)))
    return made


class Classes(OwnGraphs):
    """Categories at nodes and edges; two classes."""

    def graphs(self) -> Any:
        return rings(lambda k: k % 2)


class Reals(OwnGraphs):
    """Two numbers at nodes; two classes."""

    def graphs(self) -> Any:
        return rings(lambda k: k % 2, lambda k: torch.arange(12.0).view(6, 2) * 50 + k + 0.5)


class Numbers(OwnGraphs):
    """Two numbers to regress of each graph."""

    def graphs(self) -> Any:
        return rings(lambda k: torch.tensor([[k / 10, float("nan") if k % 7 == 0 else 1.0 - k / 20]]))


def own(kind: type[OwnGraphs], **more: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.{kind.__name__}", "name": kind.__name__, **more}


def done(folder: Path, **changes: Any) -> Record:
    return run(small(paths__results=str(folder), callbacks__keep_weights=True, **changes))


def load(folder: Path, record: Record) -> trained.Trained:
    return trained.load(record.id, Trust(packages=(__name__,)), {"data": None, "mirror": None}, folder)


def part(answers: Answers, name: str) -> torch.Tensor:
    assert answers.part is not None
    return torch.tensor([each == name for each in answers.part])


RUNS: dict[str, dict[str, Any]] = {
    "classes": {},
    "random draws": {"pool": {"_target_": "poolbench.pool.randompool.RandomSparsePool", "ratio": 0.5}},
    "coarsened ahead": {"pool": {"_target_": "poolbench.pool.graclus.GraclusPool"}},
    "a fold": {"protocol": {"_target_": "poolbench.data.protocols.CrossValidation", "folds": 3, "fold_seeds": "own"},
               "fold": 1},
    "perturbed": {"perturb": {"_target_": "poolbench.data.perturb.AddEdges", "share": 0.5, "at": "test"}},
    "scaled": {"dataset": {**PLANTED, "features": ["degree-scalar", "clustering"]}, "feature_scale": "standard"},
    "edges": {"dataset": own(Classes), "pool": TOPK, "model__mp": "gine"},
}  # fmt: skip


@pytest.mark.parametrize("case", RUNS)
def test_the_accuracy_of_what_is_predicted_is_that_of_the_record(tmp_path: Path, case: str) -> None:
    record = done(tmp_path, **{"dataset": PLANTED, **RUNS[case]})
    model = load(tmp_path, record)
    assert repr(model).startswith(f"Trained(run {record.id}, attempt 1: ") and len(repr(model)) < 200
    answers = model.own_answers()
    assert answers.y is not None and answers.predicted is not None
    assert answers.graph.tolist() == list(range(len(answers.y)))
    for name, metrics in record.metrics.parts().items():
        chosen = part(answers, name)
        assert int(chosen.sum()) == getattr(record.splits, name)
        right = (answers.predicted == answers.y)[chosen]
        assert int(right.sum()) / right.numel() == metrics["accuracy"]
    assert torch.equal(answers.values.argmax(-1), answers.predicted)
    torch.testing.assert_close(answers.values.sum(-1), torch.ones(len(answers.y)))
    test = part(answers, "test")
    loss = -answers.values[test].log().gather(1, answers.y[test][:, None]).mean()
    assert float(loss) == pytest.approx(record.metrics.test["loss"], rel=1e-5)


def test_numbers_that_are_predicted_have_the_records_errors(tmp_path: Path) -> None:
    record = done(tmp_path, dataset=own(Numbers), pool=TOPK)
    model = load(tmp_path, record)
    answers = model.own_answers()
    assert answers.y is not None and answers.predicted is None and answers.values.shape == (40, 2)
    chosen = part(answers, "test")
    target = Numbers("Numbers").target(Numbers("Numbers").load())
    found = measure(target, answers.y[chosen], answers.values[chosen])
    assert found == {name: record.metrics.test[name] for name in found} and "rmse" in found


def test_nodes_have_their_parts(tmp_path: Path) -> None:
    record = done(tmp_path, dataset=NODES, pool=TOPK, protocol={"_target_": "poolbench.data.protocols.Nodes"},
                  model=UNET)  # fmt: skip
    answers = load(tmp_path, record).own_answers()
    assert answers.y is not None and answers.predicted is not None and answers.node is not None
    assert answers.graph.tolist() == [0] * 60 and answers.node.tolist() == list(range(60))
    for name, metrics in record.metrics.parts().items():
        right = (answers.predicted == answers.y)[part(answers, name)]
        assert int(right.sum()) / right.numel() == metrics["accuracy"]


def test_clusters_are_those_that_the_record_holds(tmp_path: Path) -> None:
    from poolbench.records.outcomes import unpack

    record = done(tmp_path, dataset=NODES, model={"_target_": "poolbench.nn.clusterer.Clusterer", "hidden": 8},
                  protocol=WHOLE)  # fmt: skip
    answers = load(tmp_path, record).own_answers()
    assert answers.predicted is not None and set(answers.part or ()) == {"train"}
    assert answers.predicted.tolist() == unpack(record.outcomes).predicted.ravel().tolist()


def test_the_same_graphs_given_as_new_ones_get_the_same_answers(tmp_path: Path) -> None:
    """In other batches, so within rounding; in two lines, as docs/tutorial.md has it."""
    record = done(tmp_path, dataset=own(Classes), pool=TOPK, model__mp="gine")
    mine = load(tmp_path, record).own_answers().values
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = poolbench.load(tmp_path / "runs" / record.id, trust=[__name__])
    state = torch.get_rng_state()
    torch.testing.assert_close(model.predict(rings(lambda k: k % 2)), mine)
    torch.testing.assert_close(model.predict(rings(lambda k: None)[7:9]), mine[7:9])
    assert torch.equal(torch.get_rng_state(), state), "nobody's draws are touched"
    assert not model.model.training


def test_new_graphs_are_scaled_by_what_was_trained_on(tmp_path: Path) -> None:
    record = done(tmp_path, dataset=own(Reals), pool=TOPK, feature_scale="standard")
    model = load(tmp_path, record)
    mine, graphs = model.own_answers().values, Reals("Reals").graphs()
    torch.testing.assert_close(model.predict(graphs), mine)
    torch.testing.assert_close(model.predict(graphs[7:9]), mine[7:9])
    held = Weights.read(model_file := next(tmp_path.glob("runs/*/1/weights.pt")))
    Weights(held.about, held.sizes, held.values).write(model_file.parent)
    with pytest.raises(PoolBenchError, match="kept its weights without what its features were scaled by"):
        load(tmp_path, record).predict(graphs)
    assert held.scaling is not None
    Weights(held.about, held.sizes, held.values, held.scaling[:, :1]).write(model_file.parent)
    with pytest.raises(PoolBenchError, match="the scaling is no two numbers a feature"):
        load(tmp_path, record)


def test_it_is_asked_with_the_threads_of_the_run(tmp_path: Path) -> None:
    record = done(tmp_path, dataset=own(Classes), pool=TOPK, trainer__max_epochs=1)
    model, seen = load(tmp_path, record), []
    model.model.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    model.own_answers()
    assert set(seen) == {1} and torch.get_num_threads() == 2


# Encodings


def test_categories_go_into_the_columns_of_training() -> None:
    trained_on = Columns(["label0=1", "label0=2", "label0=3", "label1=0"], None)
    found = Features(torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]]), ["label0=3", "label0=4", "label1=0"])
    assert encoded(found, trained_on, 2, "x").tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
    found.values[1, 1] = 1.0
    with pytest.raises(PoolBenchError, match=r"^x: there is label0=4 here, and was in no graph that the run was"):
        encoded(found, trained_on, 2, "x")


def test_degrees_share_the_last_column_as_in_training() -> None:
    trained_on = Columns(["degree=0", "degree=1", "degree>=2"], None)
    found = Features(torch.eye(3), ["degree=0", "degree=1", "degree=2"])
    assert torch.equal(encoded(found, trained_on, 3, "x"), torch.eye(3))
    more = Features(torch.eye(4), ["degree=0", "degree=1", "degree=2", "degree>=3"])
    with pytest.raises(PoolBenchError, match="there is degree>=3 here"):
        encoded(more, trained_on, 4, "x")


@pytest.mark.parametrize(
    ("names", "trained_on"),
    [
        (["attribute0"], ["attribute0", "attribute1"]),
        (["attribute0", "attribute1"], ["attribute0"]),
        (["degree=0"], ["label0=0"]),
        (["label0=0"], ["label0=0", "label1=0"]),
        (["label0=0", "attribute0"], ["label0=0"]),
        ([], ["attribute0"]),
    ],
)
def test_other_features_are_refused_in_one_line(names: list[str], trained_on: list[str]) -> None:
    found = Features(torch.ones(2, len(names)), names)
    with pytest.raises(PoolBenchError, match=r"^x: the run was trained with [^\n]*, and these graphs have [^\n]*$"):
        encoded(found, Columns(trained_on, None), 2, "x")


def test_graphs_without_edges_have_no_features_of_edges() -> None:
    assert encoded(None, Columns(["label0=0", "attribute0"], None), 0, "edge_attr").shape == (0, 2)


def test_categories_that_are_embedded_are_within_the_vocabulary() -> None:
    values = torch.tensor([[0, 3], [1, 2]])
    names = ["atom", "charge"]
    assert torch.equal(encoded(Features(values, names, (2, 4)), Columns(names, [2, 4]), 2, "x"), values)
    with pytest.raises(PoolBenchError, match=r"^x: charge is 3, and the run knows categories 0 to 2$"):
        encoded(Features(values, names, (2, 4)), Columns(names, [2, 3]), 2, "x")
    with pytest.raises(PoolBenchError, match="the run was trained with atom, charge"):
        encoded(Features(values.float(), names), Columns(names, [2, 4]), 2, "x")


# What is refused


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, Record]:
    record = done(tmp_path, dataset=own(Classes), pool=TOPK, trainer__max_epochs=1)
    return tmp_path, record


def refused(folder: Path, record: Record) -> str:
    with pytest.raises(PoolBenchError) as caught:
        load(folder, record)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
    return str(caught.value)


def test_a_record_without_weights_says_how_to_have_them(kept: tuple[Path, Record]) -> None:
    folder, record = kept
    (path,) = folder.glob("runs/*/1/weights.pt")
    path.unlink()
    assert refused(folder, record) == (
        f"run {record.id} kept no weights: do it again with callbacks.keep_weights=true force=true "
        f"(poolbench rerun {record.id} --command says how)"
    )
    record.status, record.reason = "failed", "of a test"
    path.with_name("record.json").write_bytes(encode(record))
    assert refused(folder, record).startswith(f"run {record.id} is failed and has no weights")
    shutil.rmtree(path.parent)
    assert "holds no records" in refused(folder, record)


def test_weights_of_another_run_or_shape_are_refused(kept: tuple[Path, Record]) -> None:
    folder, record = kept
    (path,) = folder.glob("runs/*/1/weights.pt")
    held = Weights.read(path)
    name = next(name for name, value in held.values.items() if value.dim() == 2)
    Weights(held.about, held.sizes, {**held.values, name: held.values[name][:, :-1]}).write(path.parent)
    assert "weights.pt does not fit the model of its record: " in (said := refused(folder, record)) and name in said
    other = done(folder, dataset=own(Classes), pool=TOPK, trainer__max_epochs=1, seed=1)
    shutil.copy(folder / "runs" / other.id / "1" / "weights.pt", path)
    assert refused(folder, record).endswith(f"is of run {other.id}, and lies beside the record of {record.id}")


def test_a_record_may_ask_for_no_more_than_elsewhere(kept: tuple[Path, Record]) -> None:
    folder, record = kept
    with pytest.raises(Refused, match=f"--trust {__name__.partition('.')[0]}"):
        trained.load(record.id, Trust(), {}, folder)
    with pytest.raises(Refused, match="is not known here"):
        poolbench.load(folder / "runs" / record.id)
    (path,) = folder.glob("runs/*/1/weights.pt")
    held = Weights.read(path)
    Weights(_about(held, outputs=20_000_000), held.sizes, held.values).write(path.parent)
    with pytest.raises(Refused, match=r"model: its parameters=[0-9,]+ is above 100,000,000"):
        load(folder, record)


def _about(held: Weights, **changes: Any) -> Any:
    from msgspec.structs import replace

    return replace(held.about, **changes)


def test_another_version_of_the_code_is_said_and_not_refused(kept: tuple[Path, Record]) -> None:
    (path,) = kept[0].glob("runs/*/1/weights.pt")
    held = Weights.read(path)
    Weights(_about(held, code="0123456789abcdef"), held.sizes, held.values).write(path.parent)
    with pytest.warns(UserWarning, match="was done by version 0123456789abcdef of the code, and") as caught:
        model = poolbench.load(path.with_name("record.json"), trust=[__name__])
    assert caught[0].filename == __file__
    assert model.predict(rings(lambda k: None)).shape == (40, 2)


def test_data_that_is_another_one_now_is_said(kept: tuple[Path, Record], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, record = kept
    monkeypatch.setattr(Classes, "graphs", lambda self: rings(lambda k: k % 2)[:-1])
    with pytest.raises(
        PoolBenchError, match=f"dataset Classes has another content or split here than in run {record.id}"
    ):
        load(folder, record).own_answers()


def test_a_reconstruction_has_no_answers(tmp_path: Path) -> None:
    record = done(tmp_path, dataset=own(Classes), pool=TOPK, protocol=WHOLE,
                  model={"_target_": "poolbench.nn.autoencoder.Autoencoder", "hidden": 8})  # fmt: skip
    with pytest.raises(PoolBenchError, match="is a reconstruction: it has no answers to be predicted"):
        load(tmp_path, record).own_answers()

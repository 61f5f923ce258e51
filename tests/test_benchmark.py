"""The speed benchmark: its arithmetic and its tables, what it calls the same work, and a guard against slow code.

No test holds an absolute time: the guard compares with PyG's layers, epoch about in one run, with wide margins.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch

from poolbench.errors import PoolBenchError, RunError
from poolbench.linalg import Ragged, Sparse
from poolbench.linalg.products import invert
from poolbench.pool.bnpool import BNPool
from speed import ahead, coarsening, harness, main, tables, work
from speed.chance import replaced, same_pairs, without_draws
from speed.forms import FORMS
from speed.harness import Row, Worker, compare, difference, exponent, plan
from speed.peers import CONTESTANTS, PEERS, Match
from speed.phases import Timer
from speed.roofline import Product, estimate, products
from speed.setting import HAS_CLUSTERS, POOLS, Setting, weight_shapes, weights

TINY = "random:graphs=24,nodes=12,degree=3,features=5"


@pytest.fixture(scope="module", autouse=True)
def _quick_collection() -> Iterator[None]:
    """Contestants collect garbage before they are timed: what the libraries hold is not looked through each time."""
    importlib.import_module("speed.pyg")
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


# -- arithmetic --------


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5, 2.0])
def test_exponent_of_a_power_law_is_its_power(power: float) -> None:
    sizes = [3, 10, 31, 100]
    assert exponent(sizes, [7.0 * size**power for size in sizes]) == pytest.approx(power, abs=1e-12)


def test_exponent_is_the_least_squares_slope() -> None:
    # log2 costs 0, 2, 1 at log2 sizes 0, 1, 2: the slope of the line through them is 1/2
    assert exponent([1, 2, 4], [1, 4, 2]) == pytest.approx(0.5)


def test_exponent_of_one_size_is_none() -> None:
    assert exponent([5, 5], [1.0, 2.0]) is None
    assert exponent([5, 10], [1.0, 0.0]) is None  # what failed has no cost


def test_middle_is_the_median() -> None:
    assert harness.middle([5.0, 1.0, 2.0]) == 2.0
    assert harness.middle([4.0, 2.0]) == 3.0
    assert harness.middle([]) is None


def test_difference_is_by_the_largest_entry() -> None:
    assert difference([[100.0, 2.0]], [[101.0, 2.0]]) == pytest.approx(0.01)
    assert difference([0.5], [0.25]) == 0.25  # small numbers are compared as they are
    assert difference([1.0], [1.0, 2.0]) == math.inf
    assert math.isnan(difference([1.0], [math.nan]))


def test_answers_must_agree_but_where_a_deviation_is_known() -> None:
    ours, theirs = {"y": [1.0], "losses": [2.0]}, {"y": [1.0], "losses": [2.1]}
    row = Row(Setting("pyg", "mincut", TINY))
    harness._agree(row, ours, theirs)
    assert row.failure.startswith("not timed: answers differ: losses")
    row = Row(Setting("pyg", "mincut", TINY), known=("losses",))
    harness._agree(row, ours, theirs)
    assert not row.failure
    harness._agree(row, ours, {"y": [math.nan], "losses": [2.0]})
    assert "y" in row.failure


def test_plan_has_a_row_for_each_form_that_a_peer_needs() -> None:
    rows = plan(
        Setting("poolbench", "dmon", TINY), {"pyg": Match("pyg"), "tgp": Match("tgp"), "tgp-unpadded": Match("tgp")}
    )
    assert list(rows) == ["poolbench", "poolbench (form pyg)", "poolbench (form tgp)", "pyg", "tgp", "tgp-unpadded"]
    assert rows["tgp-unpadded"].against == "poolbench (form tgp)"


def test_roofline_takes_the_slower_of_arithmetic_and_memory() -> None:
    parts = [Product("slow in flops", 10.0, 1.0), Product("slow in bytes", 1.0, 10.0)]
    assert estimate(parts, flops=1.0, bandwidth=2.0) == 10.0 + 5.0


def test_roofline_of_mincut() -> None:
    b, n, e, f, k = 2, 10, 40, 8, 3
    flops = {part.name: part.flops for part in products("mincut", b, n, e, f, k, kept=0)}
    assert flops == {
        "XW": 2 * n * f * k,
        "S'X": 2 * n * f * k,
        "AS": 2 * e * k,
        "S'(AS)": 2 * n * k * k,
        "S'S": 2 * n * k * k,
    }
    # twice the nodes and edges, twice the work
    double = sum(part.flops for part in products("mincut", 2 * b, 2 * n, 2 * e, f, k, kept=0))
    assert double == 2 * sum(flops.values())


def test_timer_books_the_innermost_phase() -> None:
    class Part:
        def work(self) -> int:
            with timer("inner"):
                return 7

    timer, part = Timer(lambda: None), Part()
    timer.wrap(part, "work", "outer")
    timer.wrap(Part, "work", "never")  # the object's own wrapper holds the method from before
    assert part.work() == 7
    assert set(timer.seconds) == {"outer", "inner"} and min(timer.seconds.values()) > 0
    timer.unwrap()
    assert "work" not in vars(part) and Part().work() == 7 and "never" not in timer.seconds


# -- the work --------


def test_every_pool_has_a_form_and_every_peer_a_class() -> None:
    assert set(FORMS) == set(POOLS)
    for peer, (_, matches) in PEERS.items():
        assert peer in CONTESTANTS
        for pool, match in matches.items():
            assert match.form in FORMS[pool]
            assert match.note or not (match.differs or match.given)


def test_generated_graphs_are_as_large_as_asked() -> None:
    made = work.load("random:graphs=64,nodes=40,degree=6,largest=300,features=3")
    assert made.num_nodes.numel() == 64 and made.x.shape == (int(made.num_nodes.sum()), 3)
    assert (made.num_nodes == 300).nonzero().flatten().tolist() == [0, 32]
    assert abs(made.edge_index.shape[1] / made.x.shape[0] - 6) < 1
    row, col = made.edge_index
    key = row * made.x.shape[0] + col
    assert bool((key.diff() > 0).all()) and not bool((row == col).any())
    assert torch.equal(key, (col * made.x.shape[0] + row).sort().values)
    graph = torch.repeat_interleave(torch.arange(64), made.num_nodes)
    assert torch.equal(graph[row], graph[col])
    again = work.load("random:graphs=64,nodes=40,degree=6,largest=300,features=3")
    assert torch.equal(again.x, made.x) and torch.equal(again.edge_index, made.edge_index)


def test_take_keeps_the_graphs_as_they_are() -> None:
    made = work.load(TINY)
    part = made.take(torch.tensor([2, 5]))
    assert torch.equal(part.num_nodes, made.num_nodes[[2, 5]])
    start, end = int(made.ptr[5]), int(made.ptr[6])
    mine = made.edge_index[:, (made.edge_index[0] >= start) & (made.edge_index[0] < end)] - start
    there = part.edge_index[:, part.edge_index[0] >= part.num_nodes[0]] - part.num_nodes[0]
    assert torch.equal(mine, there)
    assert torch.equal(part.x[int(part.num_nodes[0]) :], made.x[start:end])


def test_batches_are_a_permutation_that_depends_on_the_epoch_alone() -> None:
    first = work.batches(10, 4, seed=0, epoch=1)
    assert [batch.numel() for batch in first] == [4, 4, 2]
    assert torch.cat(first).sort().values.tolist() == list(range(10))
    assert torch.equal(torch.cat(first), torch.cat(work.batches(10, 4, seed=0, epoch=1)))
    assert not torch.equal(torch.cat(first), torch.cat(work.batches(10, 4, seed=0, epoch=2)))
    assert len(work.batches(10, 4, seed=0, epoch=1, steps=2)) == 2


@pytest.mark.parametrize("name", ["random:nodes=many", "random:width=3", "random:nodes=3.5"])
def test_a_size_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(PoolBenchError, match="is no size"):
        work.load(name)


@pytest.mark.parametrize("pool", POOLS)
def test_our_weights_are_all_named(pool: str) -> None:
    """Each weight of the classifier gets its start value: nobody trains from weights of its own."""
    from speed.ours import PoolBench

    for form in FORMS[pool]:
        held = PoolBench(Setting("poolbench", pool, TINY, form=form, hidden=8))
        start = weights(weight_shapes(pool, 5, 8, 2, held.k), 0)
        assert sum(p.numel() for p in held.model.parameters()) == sum(value.numel() for value in start.values())
        sorted_ours = torch.cat([p.detach().flatten() for p in held.model.parameters()]).sort().values
        assert torch.equal(sorted_ours, torch.cat([value.flatten() for value in start.values()]).sort().values)


AHEAD = [pool for pool, chosen in FORMS.items() if "on the fly" in chosen]


def test_operators_ahead_of_training_are_those_that_are_precomputable() -> None:
    for pool, chosen in FORMS.items():
        assert chosen[""].build(4, 0.5, 8).precomputable == (pool in AHEAD)
    assert {pool for pool, match in PEERS["tgp-prepared"][1].items() if match.given} == set(AHEAD)
    assert all(PEERS["tgp"][1][pool].form == "on the fly" for pool in AHEAD)


@pytest.mark.parametrize("pool", AHEAD)
def test_ahead_and_on_the_fly_give_the_same_answers(pool: str) -> None:
    from speed.ours import PoolBench

    held = [PoolBench(Setting("poolbench", pool, TINY, form=form, hidden=8)) for form in ("", "on the fly")]
    assert held[0].data.coarsenings is not None and held[1].data.coarsenings is None
    assert held[0].answers() == held[1].answers()


def test_answers_leave_nothing_to_chance() -> None:
    from speed.ours import PoolBench

    for form in FORMS["bnpool"]:
        held = PoolBench(Setting("poolbench", "bnpool", TINY, form=form, hidden=8))
        assert held.answers() == held.answers()
        (batch,) = held.batches(held.data, [torch.arange(4)])
        drawn = [held.model(batch).y for _ in range(2)]  # outside of the check sticks are drawn
        assert not torch.equal(*drawn)


def test_pairs_of_the_check_depend_on_the_graphs_alone() -> None:
    store = work.load(TINY)
    nodes = Ragged(store.ptr)
    a = Sparse.from_edges(store.edge_index[0], store.edge_index[1], None, nodes)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    pairs = same_pairs(a, None)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(same_pairs(a, None), pairs) and pairs.shape[1] > 0


def test_what_is_replaced_comes_back() -> None:
    class Owner:
        kept = 1

    owner = Owner()
    with pytest.raises(ZeroDivisionError), replaced(owner, "kept", 2), replaced(Owner, "kept", None):
        assert owner.kept == 2 and Owner.kept is None
        raise ZeroDivisionError
    assert owner.kept == 1 and "kept" not in vars(owner)
    draw = vars(BNPool)["draw"]
    with without_draws():
        assert vars(BNPool)["draw"] is not draw
    assert vars(BNPool)["draw"] is draw


def test_some_graphs_are_spread_over_a_dataset() -> None:
    whole, some = work.load(TINY), work.load(TINY, 5)
    assert torch.equal(some.num_nodes, whole.num_nodes[[0, 4, 9, 14, 19]])
    assert work.load(TINY, 100).num_nodes.numel() == 24


def test_work_knows_whether_it_is_undirected() -> None:
    made = work.load(TINY)
    assert made.undirected
    row, col = made.edge_index
    assert not replace(made, edge_index=made.edge_index[:, (row < col).nonzero().flatten()]).undirected


@pytest.mark.parametrize("pool", ["none", "topk", "sag", "mincut", "diffpool", "dmon"])
def test_pyg_gives_the_same_answers(pool: str) -> None:
    from speed.ours import PoolBench
    from speed.pyg import PyG, PyGPrepared

    match = PEERS["pyg"][1][pool]
    ours = PoolBench(Setting("poolbench", pool, TINY, form=match.form, hidden=8)).answers()
    for cls in (PyG, PyGPrepared):
        theirs = cls(Setting("pyg", pool, TINY, hidden=8)).answers()
        for key in set(ours) - set(match.differs):
            assert difference(ours[key], theirs[key]) < harness.TOLERANCE, key
    assert ("losses of single graphs" in ours) and (any(ours["losses of single graphs"]) == (pool in HAS_CLUSTERS))


@pytest.mark.parametrize("pool", ["hosc", "bnpool", "maxcut", "graclus"])
def test_losses_are_a_phase_where_there_are_any(pool: str) -> None:
    from speed.ours import PoolBench

    held = PoolBench(Setting("poolbench", pool, TINY, batch_size=8, hidden=8, steps=1))
    phases = held.phases(1)
    assert {"select", "reduce"} <= set(phases) and min(phases.values()) > 0
    # what was computed ahead is read back, and connected no more
    assert ("connect" in phases) == (pool != "graclus")
    assert phases["losses"] > (0.0 if pool == "graclus" else phases["reduce"])


def test_an_epoch_is_phases() -> None:
    from speed.ours import PoolBench

    held = PoolBench(Setting("poolbench", "mincut", TINY, batch_size=8, hidden=8))
    measured = held.epoch(1)
    assert measured["steps"] == 3 and measured["seconds"] > 0
    phases = held.phases(1)
    expected = {"batching", "message passing", "select", "reduce", "connect", "losses", "readout", "other forward",
                "backward", "optimiser"}  # fmt: skip
    assert set(phases) == expected
    assert "select" not in vars(held.model.pool)  # unwrapped


# -- coarsening --------


@pytest.mark.parametrize("pool", coarsening.FORMS)
def test_coarsening_is_measured_with_and_without_the_cache(pool: str) -> None:
    held = coarsening.PoolBench(Setting("poolbench", pool, TINY, hidden=8, graphs=6))
    facts = held.facts()
    first, again, read = held.coarsen(1), held.coarsen(1), held.read()
    assert facts["graphs"] == 6 and 0 < first["pooled"] <= max(facts["nodes"], 6 * facts["k"])
    assert first["pooled"] == again["pooled"] == read["pooled"] and min(first["seconds"], read["seconds"]) > 0
    assert pickle.loads(pickle.dumps(held.pool)).precomputable  # it is sent to further processes
    files = [path for path in Path(held.folder.name).glob("*/coarsened/*.pt")]
    assert len(files) == 2  # one a turn: the second one did not find the first one's; `read` has made none


def test_a_given_matching_is_that_of_its_scores() -> None:
    """Edges in falling order of their scores, whatever the graphs of the batch: what tgp is given too."""
    made = work.load(TINY)
    pool = coarsening.FORMS["edgepool"].build(4, 0.5, 8)
    a = Sparse.from_edges(made.edge_index[0], made.edge_index[1], None, Ragged(made.ptr))
    number = a.nodes.numbers
    scores = coarsening.edge_scores(number[a.row], number[a.col])
    assert scores[a.row < made.num_nodes[0]].unique().numel() == int((a.row < made.num_nodes[0]).sum())
    mate: dict[int, int] = {}
    for e in torch.argsort(scores, descending=True, stable=True).tolist():
        u, v = int(a.row[e]), int(a.col[e])
        if u not in mate and v not in mate:
            mate.update({u: v, v: u})
    s = pool.select(torch.zeros(a.nodes.num_rows, 8), a, None)
    cluster = s.cluster[invert(s.node)]
    assert s.pooled.num_rows == a.nodes.num_rows - len(mate) // 2
    assert all(cluster[u] == cluster[v] for u, v in mate.items())


def test_a_coarsening_is_kept_for_a_whole_dataset_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLBENCH_DATA", str(tmp_path))
    form, made = FORMS["graclus"][""], work.load(TINY)
    pool = form.build(4, 0.5, 8)
    part = ahead.coarsened(form, pool, made.take(torch.arange(3)), whole=False)
    assert len(part) == 3 and not list(tmp_path.glob("coarsened/*.pt"))
    whole = ahead.coarsened(form, pool, made, whole=True)
    assert len(whole) == 24 and len(list(tmp_path.glob("coarsened/*.pt"))) == 1


def test_line_of_coarsening() -> None:
    turns = {"one": [2.0, 4.0, 3.0], "all": [1.5], "cache": [0.01], "tgp": [6.0]}
    measured = {way: [{"seconds": s, "pooled": 50.0} for s in seconds] for way, seconds in turns.items()}
    cells = coarsening.line("ndp", measured, {}, {"nodes": 100})
    assert cells == ["ndp", "3.00 s", "1.50 s", "10.00 ms", "6.00 s", "2.00×", "4.00×", "0.500", "0.500"]
    assert len(cells) == len(coarsening.head(8))
    failed = coarsening.line("ndp", {**measured, "tgp": []}, {"tgp": "took more than 1 s"}, {"nodes": 100})
    assert failed[4:7] == ["took more than 1 s", "", ""] and failed[-1] == ""


# -- processes --------


def test_a_worker_is_a_process_of_its_own_that_says_what_is_wrong() -> None:
    setting = Setting("poolbench", "topk", TINY, batch_size=8, hidden=8)
    worker = Worker(CONTESTANTS["poolbench"], setting)
    try:
        assert worker.call("facts")["graphs"] == 24
        assert worker.call("epoch", number=1)["steps"] == 3
        assert worker.call("memory") >= 0
        with pytest.raises(RunError, match="AttributeError"):
            worker.call("nothing")
        worker.process.kill()
        with pytest.raises(RunError, match="killed"):
            worker.call("facts")
    finally:
        worker.close()
    with pytest.raises(PoolBenchError, match="is no size"):
        Worker(CONTESTANTS["poolbench"], Setting("poolbench", "topk", "random:x=1"))


@pytest.mark.slow
def test_compare_leaves_out_who_fails_and_times_the_rest() -> None:
    setting = Setting("poolbench", "topk", TINY, batch_size=8, hidden=8)
    rows, facts = compare(setting, ["pyg"], epochs=2, warmup=1, limit=300)
    ours, theirs = rows
    assert facts["graphs"] == 24 and len(ours.seconds) == len(theirs.seconds) == len(theirs.ratios) == 2
    assert theirs.ratios == [a / b for a, b in zip(theirs.seconds, ours.seconds, strict=True)]
    assert max(theirs.differences.values()) < harness.TOLERANCE
    json.dumps([row.as_dict() for row in rows])


# -- tables --------


def _row(who: str, seconds: list[float], **other: object) -> Row:
    return Row(Setting(who, "mincut", TINY), seconds=seconds, steps=2, **other)  # type: ignore[arg-type]


def test_table_of_epochs() -> None:
    ours = _row("poolbench", [0.010, 0.020, 0.012], memory=10_000_000)
    theirs = _row("pyg", [0.024, 0.060, 0.030], memory=25_000_000, against="poolbench", ratios=[2.4, 3.0, 2.5],
                  differences={"y": 1e-6, "losses": 2.0}, known=("losses",), note="a reason")  # fmt: skip
    lost = _row("tgp", [], against="poolbench", failure="out of memory", note="unseen")
    lines = tables.epochs([ours, theirs, lost]).splitlines()
    assert [len(line.split("|")) for line in lines[:5]] == [11] * 5
    assert lines[2].startswith("| poolbench | 12.00 ms | 10.00 ms to 20.00 ms | 6.00 ms |")
    assert lines[3] == (
        "| pyg (1) | 30.00 ms | 24.00 ms to 60.00 ms | 15.00 ms | 2.50× | 2.40 to 3.00 | 25 MB | 2.50× | 1e-06 |"
    )
    assert lines[4].startswith("| tgp | out of memory |")
    assert lines[-1] == "(1) pyg: a reason."


def test_the_fastest_peer_is_that_of_the_smallest_ratio() -> None:
    def row(who: str, pool: str, size: int, *ratios: float) -> dict[str, object]:
        return Row(Setting(who, pool, "MUTAG", size), ratios=list(ratios)).as_dict()

    rows = [row("poolbench", "topk", 32), row("pyg", "topk", 32, 2.0, 9.0, 3.0), row("tgp", "topk", 32, 4.0)]
    rows += [row("tgp", "topk", 64, 5.0), row("pyg", "mincut", 64, 6.0), row("tgp", "mincut", 64)]
    fly = row("tgp", "ndp", 32, 9.0) | {"seconds": [6.0], "against": tables.ON_THE_FLY}
    rows += [row("poolbench", "ndp", 32) | {"seconds": [2.0]}, fly, row("tgp-prepared", "ndp", 32, 4.0)]
    assert tables.fastest(rows).splitlines() == [
        "| operator | MUTAG, 32 | MUTAG, 64 |",
        "| --- | ---: | ---: |",
        "| topk | 3.00× pyg | 5.00× tgp |",
        "| mincut |  | 6.00× pyg |",
        "| ndp | 3.00× tgp |  |",
    ]


def test_table_of_phases_is_in_milliseconds_a_step() -> None:
    row = _row("poolbench", [0.1], phases={"backward": 0.004, "batching": 0.001})
    assert tables.phases([row]).splitlines()[0] == "| ms a step | batching | backward | sum |"
    assert tables.phases([row]).splitlines()[2] == "| poolbench | 0.50 | 2.00 | 2.50 |"


def test_section_of_a_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (begin, end), other = tables.markers("epochs"), "\n".join(tables.markers("scaling"))
    page.write_text(f"head\n{begin}\nold\n{end}\n{other}\n")
    tables.write_section(page, "epochs", "new")
    assert page.read_text() == f"head\n{begin}\n\nnew\n\n{end}\n{other}\n"
    before = page.read_text()
    with pytest.raises(PoolBenchError, match="no lines"):
        tables.write_section(page, "large", "new")
    assert page.read_text() == before


@pytest.mark.parametrize("kind", ["epochs", "scaling", "roofline", "trainer", "large", "coarsening"])
def test_the_documentation_has_a_section_for_each_measurement(kind: str) -> None:
    page = "epochs.md" if kind == "epochs" else "measured.md"
    text = (Path(__file__).parents[1] / "docs" / "benchmarks" / page).read_text(encoding="utf-8")
    begin, end = tables.markers(kind)
    assert text.count(begin) == text.count(end) == 1 and text.index(begin) < text.index(end)


# -- the command line --------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pools", "mincutt"], "did you mean mincut"),
        (["--peers", "pygg"], "did you mean pyg"),
        (["--device", "tpu"], "expected cpu or cuda"),
        (["--ratio", "0"], "share of the nodes"),
        (["--roofline", "--pools", "asap"], "not written down"),
        (["--coarsening", "--pools", "mincut"], "not computed ahead"),
        (["--trainer", "--datasets", TINY], "TU dataset or planted"),
    ],
)
def test_wrong_options_are_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([*words, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


@pytest.mark.slow
def test_quick_run_writes_tables_and_json(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("\n".join(tables.markers("epochs")))
    words = ["--quick", "--pools", "topk", "--datasets", TINY, "--peers", "pyg", "--hidden", "8"]
    assert main.main([*words, "--out", str(tmp_path / "out"), "--write", str(page)]) == 0
    assert "| pyg | " in page.read_text() and "#### topk" in page.read_text()
    kept = json.loads((tmp_path / "out" / "epochs.json").read_text())
    assert [row["name"] for row in kept["results"]] == ["poolbench", "pyg"]
    assert kept["machine"]["threads"] == 1 and "--pools topk" in kept["machine"]["command"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "--roofline --pools mincut topk",
        "--large",
        "--coarsening --pools graclus sep --peers",
        "--trainer --pools topk --datasets planted",
        "--scaling --pools topk --peers --epochs 1",
    ],
)
def test_other_measurements_run(words: str, tmp_path: Path) -> None:
    assert main.main(["--quick", "--datasets", TINY, *words.split(), "--hidden", "8", "--out", str(tmp_path)]) == 0
    (kept,) = tmp_path.glob("*.json")
    assert json.loads(kept.read_text())["results"]


# -- the guard --------

#: The least that PyG's time must be by ours: far below what is measured, so that only a blunder fails.
GUARD = {"none": 0.7, "topk": 0.7, "sag": 0.7, "mincut": 0.7, "diffpool": 0.7, "dmon": 0.7}


@pytest.mark.slow
@pytest.mark.parametrize("pool", GUARD)
def test_not_slower_than_pyg(pool: str) -> None:
    """Ratios of epochs in turn on graphs of a hundred nodes and one of two thousand; the median of seven."""
    setting = Setting("poolbench", pool, "random:graphs=96,nodes=100,largest=1000", k=20)
    rows, _ = compare(setting, ["pyg"], epochs=7, warmup=2, limit=300)
    (theirs,) = (row for row in rows if row.setting.who == "pyg")
    assert not theirs.failure
    assert median(theirs.ratios) > GUARD[pool], tables.epochs(rows)


@pytest.mark.slow
def test_one_large_graph_costs_its_own_share() -> None:
    """Beside 31 graphs of a hundred nodes, one of four thousand: time and memory by its rows, never by its square."""
    sizes = (1000, 2000, 4000)
    seconds, memory = [], []
    for largest in sizes:
        setting = Setting("poolbench", "mincut", f"random:graphs=32,nodes=100,largest={largest}", k=20)
        (row,), _ = compare(setting, [], epochs=7, warmup=2, limit=300)
        seconds.append(min(row.seconds))
        memory.append(float(row.memory or 0))
    assert (exponent(sizes, seconds) or 0) < 1.6
    assert (exponent(sizes, memory) or 0) < 1.6

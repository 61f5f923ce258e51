"""Which records are run again: by a hash, under a cost, each dataset; and versions that were linked before."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import msgspec

from poolbench.audit.witnesses import Effort, Group, groups
from poolbench.records.digests import SIZE
from poolbench.records.equivalence import Covered, Link, Links
from poolbench.records.record import Metrics, Provenance, Record, Seeds, Splits, Time

CONFIG = {"pool": {"_target_": "p.P"}, "model": {"_target_": "m.M"}, "protocol": {"_target_": "s.S"}}
WHOLE = Effort(cost=60.0, epochs=5)


def record(number: int, dataset: str = "MUTAG", seconds: float = 1.0, code: str = "a", **changes: Any) -> Record:
    """A record of schema 1."""
    made = Record(
        schema=1, id=hashlib.sha256(str(number).encode()).hexdigest()[:16], attempt=1, status="done", reason=None,
        task=None, config={**CONFIG, "dataset": {"name": dataset}},
        splits=Splits(protocol="s", version=1, seed=0, fold=None, dataset="d", hash="h", train=8, val=1, test=1),
        metrics=Metrics(train={}, val={}, test={}), selected_epoch=0, curve=[], losses={}, diagnostics={},
        time=Time(epoch=1.0, epoch_cpu=1.0, total=seconds), memory_peak=None, parameters=None,
        seeds=Seeds(seed=0, split=0),
        provenance=Provenance(git="g", dirty=False, packages={}, hardware={}, data={}, split="h", code=code),
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def shown(records: list[Record], links: Links | None = None, effort: Effort = WHOLE) -> list[Group]:
    return groups(records, links or Links(), lambda config: "new", effort)


def link(old: str, new: str, **changes: Any) -> Link:
    made = Link(old=old, new=new, kind="same", covers=Covered.of(CONFIG), witnesses=(), machine="m", date="d")
    return msgspec.structs.replace(made, **changes)


def ids(records: Any) -> list[str]:
    return [each.id for each in records]


def test_three_of_a_group_in_the_order_of_a_hash() -> None:
    records = [record(number) for number in range(20)]
    (group,) = shown(records)
    by_hash = sorted(records, key=lambda one: hashlib.sha256(f"{one.id} 1".encode()).hexdigest())
    assert ids(group.witnesses) == ids(by_hash[:3]) != ids(records[:3])
    (again,) = shown(records[::-1])
    assert ids(again.witnesses) == ids(group.witnesses)
    assert len(group.records) == 20 and (group.old, group.new) == ("a", "new")


def test_each_dataset_once_and_all_where_there_are_fewer() -> None:
    names = ["MUTAG", "PROTEINS", "NCI1", "ENZYMES", "DD"]
    (group,) = shown([record(number, names[number % 5]) for number in range(50)])
    assert sorted(one.config["dataset"]["name"] for one in group.witnesses) == sorted(names)
    (group,) = shown([record(0), record(1, "PROTEINS")])
    assert len(group.witnesses) == 2


def test_the_cost_is_kept_and_what_it_leaves_out_is_said() -> None:
    records = [record(0), record(1, "DD", 100.0), record(2, "DD", 80.0)]
    (group,) = shown(records)
    assert ids(group.witnesses) == [records[0].id] and not group.over
    assert group.unseen == (("DD", 80.0),)
    (group,) = shown(records[1:])
    assert ids(group.witnesses) == [records[2].id] and group.over, "where none is cheap, the cheapest"
    (group,) = shown(records, effort=Effort(cost=90.0, epochs=5))
    assert {one.id for one in group.witnesses} == {records[0].id, records[2].id}


def test_failed_and_pruned_records_are_never_witnesses() -> None:
    records = [record(0), record(1, status="failed", reason="no"), record(2, status="pruned", reason="no")]
    (group,) = shown(records)
    assert ids(group.witnesses) == [records[0].id] and len(group.records) == 3
    (group,) = shown(records[1:])
    assert not group.witnesses


def test_first_epochs_cost_their_share() -> None:
    digests = base64.b64encode(bytes(50 * SIZE)).decode()
    long = record(0, seconds=500.0, digests=digests)
    (group,) = shown([long])
    assert group.seconds(WHOLE) == 50.0 and not group.over
    for effort in (Effort(60.0, None), Effort(60.0, 5, close=True)):
        (group,) = shown([long], effort=effort)
        assert group.seconds(effort) == 500.0 and group.over
    both = Effort(60.0, 5, both=lambda record: True)
    assert both.seconds(long) == 550.0


def test_versions_and_what_they_cover_are_groups() -> None:
    other = {**CONFIG, "pool": {"_target_": "p.Q"}}
    records = [record(0), record(1, code="b"), record(2, config={**other, "dataset": {"name": "MUTAG"}})]
    assert sorted((group.covers.pool, group.old) for group in shown(records)) == [("p.P", "a"), ("p.P", "b"),
                                                                                  ("p.Q", "a")]  # fmt: skip
    assert not shown([record(0, code="new")]), "the installed version needs nothing"


def test_what_was_linked_needs_nothing_and_one_version_stands_for_those_linked_to_it() -> None:
    records = [record(0, seconds=9.0), record(1, code="b")]
    assert ids(shown(records, Links([link("a", "new")]))[0].records) == [records[1].id]
    (group,) = shown(records, Links([link("a", "b")]))
    assert group.old == "b" and len(group.records) == 2 and ids(group.witnesses) == [records[1].id], "the cheaper one"
    close = Links([link("a", "new", kind="close")])
    assert len(shown(records, close)) == 2
    assert len(shown(records, close, Effort(60.0, 5, close=True))) == 1

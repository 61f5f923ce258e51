"""One run, one record: what it says, and how it is written and read.

Schema 2 is read and written by the types below; records of schema 1 lack the last three fields and are read as they
are. Numbers that JSON lacks stand as the words "NaN", "Infinity" and "-Infinity" where measurements stand.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypedDict

import msgspec
from msgspec import Meta, Raw, Struct

from poolbench.disk import cannot_write, create
from poolbench.errors import RunError, printable
from poolbench.records.identity import run_identity
from poolbench.records.reasons import placeless

SCHEMA: Final = 2
"""Raised whenever the fields of a record, or their meaning, change."""

RECORD = "record.json"
SEEDED = frozenset(("seed", "split", "fold", "paths"))
"""Keys of a configuration that runs of one setting differ in."""

LARGEST = 64 * 2**20
"""Bytes of a record file that are read: a hundred times what a run writes."""

PARTS = ("train", "val", "test")
TESTED = ("test", "id_test")
"""The parts that are looked at once, at the end, and with `evaluate_test=false` not at all."""
MEASURED = (*PARTS, "id_test")
"""The parts that a trained model is measured on, as far as a split has them."""
PAIRED = "pair-comparison"
"""The task of which a row of the curve is no epoch but a pair of graphs, with a model of its own."""
Status = Literal["done", "failed", "pruned"]
WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

if TYPE_CHECKING:
    Measure = float
else:
    Measure = float | Literal["NaN", "Infinity", "-Infinity"]  # as a file has it, until it is read
Row = dict[str, Measure]
Count = Annotated[int, Meta(ge=0)]
Hex = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]


class Splits(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The split that was drawn: by which protocol, of which data (fingerprint), with its hash and sizes.

    unused: how many are in no part; schema 1 says which. id_test: how many are tested on that are like the training
    graphs, where `test` is another domain.
    """

    protocol: str
    version: int
    seed: int
    fold: int | None
    dataset: str
    hash: str
    train: Count
    val: Count
    test: Count
    unused: Count | list[Count] = 0
    id_test: Count = 0


class Metrics(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What was measured at the selected epoch, by part."""

    train: Row
    val: Row
    test: Row
    id_test: Row = {}

    def of(self, part: str) -> dict[str, float]:
        """The metrics of `train`, `val`, `test` or `id_test`."""
        return getattr(self, part)

    def parts(self) -> dict[str, dict[str, float]]:
        """The metrics by part; `id_test` where there are such graphs."""
        return {part: self.of(part) for part in MEASURED if part in PARTS or self.of(part)}


class Time(Struct, kw_only=True, forbid_unknown_fields=True):
    """Seconds: medians over epochs of the clock and of the processor, and the clock in all."""

    epoch: Measure | None
    epoch_cpu: Measure | None
    total: Measure | None


class Seeds(Struct, kw_only=True, forbid_unknown_fields=True):
    """The seeds of the run and of its split."""

    seed: int
    split: int


class Provenance(Struct, kw_only=True, forbid_unknown_fields=True):
    """Where a result comes from (`provenance.provenance`); code: the version of the code (`version.code_version`)."""

    git: str | None
    dirty: bool | None
    packages: dict[str, str | None]
    hardware: dict[str, Any]
    data: dict[str, Any]
    split: str
    code: str | None = None


class Outcomes(Struct, kw_only=True, forbid_unknown_fields=True):
    """What was answered for each test graph (node), in the order of its number in the dataset (`outcomes.pack`).

    count: how many. graphs: which of the dataset. predicted: of each, the class or cluster (kind u1, u2, u4: unsigned
    integers) or the `width` values (f4: float32). right: of each, whether the class is right; None where there are no
    classes.
    """

    count: Count
    graphs: str
    kind: Literal["u1", "u2", "u4", "f4"]
    width: Count
    predicted: str
    right: str | None = None


class Record(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, dict=True):
    """The record of an attempt at a run.

    id: of the run (`identity.run_identity`; in schema 1 it depended on the code). status: `done`, `failed` or `pruned`;
    reason: of the last two. config: as resolved, see `poolbench.config`. metrics, losses: at the selected epoch. curve:
    a row an epoch; of the task `PAIRED`, a pair. memory_peak: bytes. outcomes: of the test part. digests: of the
    curve's rows, chained (`digests.chain`). selected: the curve's row of the selected epoch.
    """

    schema: Literal[1, 2]
    id: Hex
    attempt: Annotated[int, Meta(ge=1)]
    status: Status
    reason: str | None
    task: str | None
    config: dict[str, Any]
    splits: Splits
    metrics: Metrics
    selected_epoch: Count | None
    curve: list[Row]
    losses: Row
    diagnostics: dict[str, Any]
    time: Time
    memory_peak: Count | None
    parameters: Count | None
    seeds: Seeds
    provenance: Provenance
    outcomes: Outcomes | None = None
    digests: str | None = None
    selected: Row | None = None

    @property
    def done(self) -> bool:
        return self.status == "done"

    @property
    def code(self) -> str | None:
        """The version of the code that made it."""
        return self.provenance.code

    @property
    def setting(self) -> str:
        """The identity of the run apart from the version of the code that did it."""
        if self.schema != 1:
            return self.id
        return run_identity(self.config, dataset=self.splits.dataset, split=self.splits.hash)

    @cached_property
    def alike(self) -> bytes:
        """One text for records whose configurations differ in seeds, the fold and where files lie alone, so that what
        does not hang on these is worked out once for all of them."""
        return msgspec.json.encode(_seedless(self.config))


def _seedless(config: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: value for name, value in config.items() if name not in SEEDED}
    if isinstance(dataset := made.get("dataset"), dict) and "seed" in dataset:
        made["dataset"] = {**dataset, "seed": None}
    return made


Key = tuple[str, str, int]
"""What no two records share: the run's id, the version of the code, the attempt."""


def key(record: Record) -> Key:
    """What no two records share."""
    return record.id, str(record.code), record.attempt


_Group = dict[str, Any] | None


class _Config(TypedDict, total=False):
    """As much of a configuration as tables, checks and names of files look into."""

    names: dict[str, str | None] | None
    pool: _Group
    model: _Group
    dataset: _Group
    protocol: _Group
    optimizer: _Group
    scheduler: _Group
    logger: _Group
    split: _Group
    trainer: _Group
    callbacks: _Group
    search: _Group
    seed: int
    fold: int | None
    evaluate_test: bool


class _Metric(TypedDict, total=False):
    name: str
    mode: Literal["min", "max"]


class _Diagnostics(TypedDict, total=False):
    metric: _Metric
    selection: dict[str, Any]
    memory: str


class _Hardware(TypedDict, total=False):
    gpus: list[str]


DEEPEST = 32
"""So many mappings and lists may stand in each other."""
MOST_DIGITS = 20
"""Of a whole number: 64 bits."""

_DECODER = msgspec.json.Decoder(Record)
_RAW = {"config": dict[str, Raw], "diagnostics": Raw, "provenance": Raw}
_PARTLY: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    msgspec.defstruct(
        "_Partly",
        [
            (field.name, _RAW.get(field.name, field.type), *(() if field.required else (field.default,)))
            for field in msgspec.structs.fields(Record)
        ],
        kw_only=True,
        forbid_unknown_fields=True,
    )
)
"""Reads a record, but for what stands in `_RAW`."""
_PROVENANCE, _ANY = msgspec.json.Decoder(Provenance), msgspec.json.Decoder()
_DIGITS = bytes(ord("0") if chr(byte).isdigit() else byte for byte in range(128)) + bytes(range(128, 256))
"""Puts 0 for every digit: what is looked for without an expression is found ten times as fast."""
_MANY = b"0" * (MOST_DIGITS + 1)
_NAN, _INFINITY = b'"NaN"', b'Infinity"'
"""The ends of `WORDS`, as a file has them."""


class Known:
    """Parts of records by their text: records that are read with one of these share their equal parts, each of which is
    decoded and checked once. Thousands of records have few: half the memory, half the time."""

    def __init__(self) -> None:
        self._config: dict[str, dict[bytes, tuple[Any, bytes]]] = defaultdict(dict)
        self._provenance: dict[bytes, Provenance] = {}
        self._alike: dict[bytes, bytes] = {}

    def config(self, raws: Mapping[str, Raw]) -> tuple[dict[str, Any], bytes]:
        """The configuration, and a text that does for `Record.alike`."""
        made, told = {}, []
        for name, raw in raws.items():
            text, seen = bytes(raw), self._config[name]
            if text not in seen:
                value = _ANY.decode(text)
                _refuse_shape("config", {name: value}, _Config)
                _refuse_strange("config", value, text)
                seen[text] = value, msgspec.json.encode(_seedless({name: value}))
            made[name], alike = seen[text]
            told.append(alike)
        text = b"".join(told)
        return made, self._alike.setdefault(text, text)

    def provenance(self, raw: Raw) -> Provenance:
        """The provenance."""
        text = bytes(raw)
        if text not in self._provenance:
            made = _PROVENANCE.decode(text)
            _refuse_provenance(made, text)
            self._provenance[text] = made
        return self._provenance[text]


def decode(text: bytes | str, known: Known | None = None) -> Record:
    """The record that JSON text holds. Raises `ValueError` in one line that says what is wrong."""
    try:
        record = _whole(text) if known is None else _sharing(text, known)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(printable(str(error) or type(error).__name__)) from error
    if not record.done and not record.reason:
        raise ValueError(f"status {record.status!r} needs a reason")
    data = text if isinstance(text, bytes) else text.encode()
    if _NAN in data or _INFINITY in data:
        _numbers(record)
    return record


def _whole(text: bytes | str) -> Record:
    record = _DECODER.decode(text)
    data, rows = text if isinstance(text, bytes) else text.encode(), len(record.curve)
    _refuse_shape("config", record.config, _Config)
    _refuse_strange("config", record.config, data, rows)
    _refuse_diagnostics(record.diagnostics, data, rows)
    _refuse_provenance(record.provenance, data, rows)
    return record


def _sharing(text: bytes | str, known: Known) -> Record:
    try:
        partly = _PARTLY.decode(text)
        config, alike = known.config(partly.config)
        diagnostics = _ANY.decode(partly.diagnostics)
        provenance = known.provenance(partly.provenance)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _whole(text)  # which says where in the record it is wrong
    if not isinstance(diagnostics, dict):
        return _whole(text)
    _refuse_diagnostics(diagnostics, bytes(partly.diagnostics))
    values = {name: getattr(partly, name) for name in partly.__struct_fields__}
    values.update(config=config, diagnostics=diagnostics, provenance=provenance)
    record = Record(**values)
    record.__dict__["alike"] = alike
    return record


# What the types leave open: parts of other shapes, numbers of hundreds of digits, endless nesting. A sound part is not
# walked through: its text tells, or one that it is a part of; rows: of the curve, in that text.


def _refuse_diagnostics(diagnostics: dict[str, Any], text: bytes, rows: int = 0) -> None:
    _refuse_shape("diagnostics", diagnostics, _Diagnostics)
    _refuse_strange("diagnostics", diagnostics, text, rows)


def _refuse_provenance(provenance: Provenance, text: bytes, rows: int = 0) -> None:
    _refuse_shape("provenance.hardware", provenance.hardware, _Hardware)
    _refuse_strange("provenance", [provenance.hardware, provenance.data], text, rows)


def _refuse_shape(name: str, value: Any, shape: Any) -> None:
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise ValueError(printable(error).replace("`$", f"`$.{name}")) from error


def _refuse_strange(name: str, value: Any, text: bytes, rows: int = 0) -> None:
    if text.count(b"{") + text.count(b"[") - rows <= 8 * DEEPEST and _MANY not in text.translate(_DIGITS):
        return
    level = [value]
    for _ in range(DEEPEST):
        if any(isinstance(each, int) and abs(each) >= 10**MOST_DIGITS for each in level):
            raise ValueError(f"{name} has a number of more than {MOST_DIGITS} digits")
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [each for group in inner for each in group]
        if not level:
            return
    raise ValueError(f"{name} has more than {DEEPEST} mappings and lists in each other")


def encode(record: Record) -> bytes:
    """The record as JSON, in one line."""
    return msgspec.json.encode(_words(record))


def _numbers(record: Record) -> None:
    """Put numbers in the place of the words for them."""
    for part, row in record.metrics.parts().items():
        setattr(record.metrics, part, _from_words(row))
    record.curve = [_from_words(row) for row in record.curve]
    record.losses = _from_words(record.losses)
    record.selected = None if record.selected is None else _from_words(record.selected)
    record.diagnostics = _from_words(record.diagnostics)
    for name in ("epoch", "epoch_cpu", "total"):
        setattr(record.time, name, _from_words(getattr(record.time, name)))


def _from_words(value: Any) -> Any:
    if isinstance(value, str):
        return WORDS.get(value, value)
    if isinstance(value, dict):
        return {k: _from_words(v) for k, v in value.items()}
    return [_from_words(v) for v in value] if isinstance(value, list) else value


def _words(value: Any) -> Any:
    """`value` out of JSON's types: tensors and arrays as numbers and lists, NaN and infinity as words."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, Struct):
        return _words(msgspec.to_builtins(value, builtin_types=(float,), enc_hook=_plain))
    if isinstance(value, Mapping):
        return {str(k): _words(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_words(v) for v in value]
    return _words(_plain(value))


def _plain(value: Any) -> Any:
    """A tensor, an array or one number of either in Python's types; whatever else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def write_record(folder: Path, record: Record) -> Path:
    """Write `record` as `folder/record.json`: whole or not at all, and never over another.

    Raises:
        RunError: a record is there already, or the folder cannot be written to (full disk, permission). Nothing is
            left behind.
        ValueError: the record is not of the schema.
    """
    path = Path(folder) / RECORD
    text = encode(record)
    decode(text)
    try:
        create(path, msgspec.json.format(text, indent=1) + b"\n")
    except FileExistsError:
        raise RunError(f"{path} is there already: records are never edited, force=true makes another attempt") from None
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def read_record(path: Path) -> Record:
    """The record in the file `path`.

    Raises:
        RunError: unreadable, cut off, or no record at all.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError(f"it is larger than {LARGEST >> 20} MiB")
        return decode(text)
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read the record {path}: {error}") from error


def lean(record: Record) -> Record:
    """A record as it is committed: without its curve, and where files lay on somebody's machine."""
    config = {k: v for k, v in record.config.items() if k != "paths"}
    reason = None if record.reason is None else placeless(record.reason)
    return msgspec.structs.replace(record, curve=[], config=config, reason=reason)

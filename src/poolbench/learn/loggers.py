"""Where a run's numbers go while it trains: a CSV curve always, and W&B or TensorBoard beside it.

A logger may fail, hang or be missing; the run may not. `Loggers` drops a logger that raises, after one warning. W&B is
served by a thread of its own, so that a server that is slow or dead is never waited for while training; only at the end
of the run is it waited for, for at most `budget` seconds. What could not be uploaded lies whole in an offline file.

Epochs are counted from 1 here, as in all that people read. A record's `curve` is a list, and its `selected_epoch` an
index into it.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import json
import logging
import os
import queue
import secrets
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from poolbench.errors import PoolBenchError, one_line
from poolbench.loading import loading

log = logging.getLogger(__name__)

Row = dict[str, Any]
CURVE = "metrics.csv"


@dataclass(frozen=True)
class RunInfo:
    """What a logger is told of the run that it reports on."""

    id: str
    attempt: int
    folder: Path
    """The attempt's folder."""
    name: str = ""
    """Readable, such as `mincut-PROTEINS-s0`."""
    config: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None
    job_type: str | None = None
    tags: tuple[str, ...] = ()


class RunLogger:
    """A logger of one run, which overrides what it has a use for."""

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of one epoch. Epochs come in order, the first is 1."""

    def picture(self, epoch: int, path: Path) -> None:
        """Take a PNG that was made in an epoch, after that epoch's metrics."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Take what is said of the run as a whole, such as test metrics."""

    def artifacts(self, files: Mapping[str, Path]) -> None:
        """Take files of a finished run, by what they are: its record, its checkpoint."""

    def finish(self, status: str = "done") -> None:
        """Write out what is held back and let go of everything. `status` is that of the record."""


class LoggerConfig(Protocol):
    """What `conf/logger/*.yaml` instantiates: the settings of a logger, from which each run's logger is opened."""

    def open(self, run: RunInfo, history: list[Row]) -> RunLogger | None:
        """The logger of `run`; `history` holds the rows of the epochs before a resumed one."""


class Loggers:
    """The curve and any other loggers of one run, as one.

    Args:
        run: the run.
        configs: further loggers.
        first_epoch: the epoch that training begins with; later rows of an earlier start are dropped, as they are
            about to be written again.
    """

    def __init__(self, run: RunInfo, configs: Iterable[LoggerConfig] = (), *, first_epoch: int = 1) -> None:
        self._members: dict[str, RunLogger] = {}
        self._finished = False
        history: list[Row] = []
        with self._guard("curve"):
            curve = CSVCurve(run.folder / CURVE, first_epoch=first_epoch)
            history = curve.rows()
            self._members["curve"] = curve
        for config in configs:
            name = type(config).__name__
            with self._guard(name):
                if member := config.open(run, history):
                    self._members[name] = member

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Hand the metrics of one epoch to every logger."""
        row = {name: _number(value) for name, value in metrics.items()}
        self._each(lambda member: member.log(epoch, row))

    def picture(self, epoch: int, path: Path) -> None:
        """Hand a picture to every logger."""
        self._each(lambda member: member.picture(epoch, path))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Hand the run's summary to every logger."""
        self._each(lambda member: member.summary(values))

    def artifacts(self, files: Mapping[str, Path]) -> None:
        """Hand the run's files to every logger."""
        self._each(lambda member: member.artifacts(files))

    def finish(self, status: str = "done") -> None:
        """Finish every logger, once; to be called in a `finally`."""
        if not self._finished:
            self._finished = True
            self._each(lambda member: member.finish(status))

    def _each(self, action: Callable[[RunLogger], None]) -> None:
        for name, member in list(self._members.items()):
            with self._guard(name):
                action(member)

    @contextlib.contextmanager
    def _guard(self, name: str) -> Iterator[None]:
        """A logger that raises is dropped; the run goes on. Bad input, found at the start, is the user's to know."""
        try:
            yield
        except PoolBenchError:
            raise
        except Exception as error:
            self._members.pop(name, None)
            log.warning("%s: %s: %s; it is not written to any further", name, type(error).__name__, _line(error))


def _check_words(**settings: Any) -> None:
    for name, value in settings.items():
        if value is not None and not isinstance(value, str):
            raise PoolBenchError(f"logger.{name}={value!r}: a word or null is expected")


def _number(value: Any) -> Any:
    """A tensor or array of one element as a number."""
    return value.item() if hasattr(value, "item") else value


def _line(error: BaseException) -> str:
    """An error's message on one line, of bearable length."""
    return one_line(error)[:200] or "no message"


# ---------------------------------------------------------------------------------------------------------- the curve


class CSVCurve(RunLogger):
    """`metrics.csv`: one row an epoch, columns in the order in which they first came.

    A row is one write at the end of the file: what a kill can cut short is the last line, which `read_curve` drops. A
    file with a new column is written anew and put in place in one step. What else a logger is told stands in the
    record, or is a file already.

    Args:
        path: the file.
        first_epoch: rows of this epoch and later ones, left by an earlier start, are dropped; 1 starts anew.
    """

    def __init__(self, path: Path, *, first_epoch: int = 1) -> None:
        self._path = path
        rows = read_curve(path)
        if rows and rows[0]["epoch"] == 0:  # begun by a version that counted from 0
            rows = [{**row, "epoch": row["epoch"] + 1} for row in rows]
        self._rows = [row for row in rows if row["epoch"] < first_epoch]
        self._columns = ["epoch"]
        for row in self._rows:
            self._add_columns(row)
        self._rewrite()

    def rows(self) -> list[Row]:
        """The rows so far."""
        return [dict(row) for row in self._rows]

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        row = {**metrics, "epoch": epoch}
        self._rows.append(row)
        if self._add_columns(row):
            self._rewrite()
            return
        line = self._text([row], header=False).encode()
        # Without Python's buffer, which would write a line in pieces. The kernel may still stop at a page's end where a
        # kill comes in between.
        with open(self._path, "ab", buffering=0) as file:
            file.write(line)

    def _add_columns(self, row: Row) -> bool:
        new = [name for name in row if name not in self._columns]
        self._columns += new
        return bool(new)

    def _text(self, rows: Iterable[Row], *, header: bool = True) -> str:
        out = io.StringIO()
        writer = csv.DictWriter(out, self._columns, restval="", lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()

    def _rewrite(self) -> None:
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        try:
            temporary.write_text(self._text(self._rows), encoding="utf-8")
            os.replace(temporary, self._path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def read_curve(path: Path) -> list[Row]:
    """The rows of a `metrics.csv`: `epoch` an int, all else floats, and no key where a row has no value.

    A last line that a kill or a power cut left incomplete is dropped; a file that is not there has no rows.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    text = text[: text.rfind("\n") + 1]
    rows = []
    for line in csv.DictReader(io.StringIO(text)):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            row: Row = {name: float(value) for name, value in line.items() if name and value}
            rows.append({**row, "epoch": int(line["epoch"])})
    return rows


@dataclass(frozen=True)
class CSVLogger:
    """`logger=csv`, `logger=none`: nothing beside the curve, which is always written."""

    def open(self, run: RunInfo, history: list[Row]) -> None:
        """The curve is there already."""


# -------------------------------------------------------------------------------------------------------- TensorBoard


@dataclass(frozen=True)
class TensorBoardLogger:
    """`logger=tensorboard`: event files under `dir`, by default in the attempt's folder.

    Raises:
        PoolBenchError: the package `tensorboard` is not installed.
    """

    dir: str | None = None

    def __post_init__(self) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise PoolBenchError("logger=tensorboard needs the package tensorboard: pip install tensorboard")
        _check_words(dir=self.dir)

    def open(self, run: RunInfo, history: list[Row]) -> TensorBoardRun:
        folder = Path(self.dir) / run.id / str(run.attempt) if self.dir else run.folder / "tensorboard"
        return TensorBoardRun(folder, run, first_epoch=history[-1]["epoch"] + 1 if history else 1)


class TensorBoardRun(RunLogger):
    """The TensorBoard events of one run, a step an epoch."""

    def __init__(self, folder: Path, run: RunInfo, *, first_epoch: int = 1) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._epoch = first_epoch
        # Steps from here on, which an earlier start may have written, are hidden.
        self._writer = SummaryWriter(str(folder), purge_step=first_epoch)
        config = json.dumps(run.config, indent=1, default=str)
        self._writer.add_text("config", "```\n" + config + "\n```", first_epoch)

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self._epoch = epoch
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, epoch)

    def picture(self, epoch: int, path: Path) -> None:
        from matplotlib.image import imread

        self._writer.add_image("pool", imread(path)[..., :3], epoch, dataformats="HWC")

    def summary(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(f"summary/{name}", value, self._epoch)

    def finish(self, status: str = "done") -> None:
        self._writer.close()


# ---------------------------------------------------------------------------------------------------------------- W&B


@dataclass(frozen=True)
class WandbLogger:
    """`logger=wandb`: online where an API key is configured, else offline; never a question, never a wait.

    The variables WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, WANDB_DIR, WANDB_TAGS, WANDB_RUN_GROUP, WANDB_JOB_TYPE,
    WANDB_NAME, WANDB_NOTES and WANDB_BASE_URL go before these settings.

    Args:
        project, entity, group, job_type, name, tags, notes: as W&B has them; what is None the run says.
        mode: `online`, `offline`, `disabled`, or None: online where a key is configured.
        dir: the folder in which W&B makes its folder `wandb`; by default the attempt's.
        budget: the seconds that W&B may cost the run in all, whatever its server does.
        artifacts: whether the record and the best checkpoint (`weights.pt`) of a finished run are logged as artifacts.

    Raises:
        PoolBenchError: an unknown mode, or a budget that is not positive.
    """

    project: str = "poolbench"
    entity: str | None = None
    group: str | None = None
    job_type: str | None = None
    name: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None
    mode: str | None = None
    dir: str | None = None
    budget: float = 30.0
    artifacts: bool = False

    def __post_init__(self) -> None:
        if self.mode not in (None, *MODES):
            raise PoolBenchError(f"logger.mode={self.mode}: choose one of {', '.join(MODES)}, or null")
        if not self.budget > 0:
            raise PoolBenchError(f"logger.budget={self.budget}: must be a positive number of seconds")
        _check_words(project=self.project, entity=self.entity, group=self.group, job_type=self.job_type,
                     name=self.name, notes=self.notes, dir=self.dir)  # fmt: skip
        if not isinstance(self.tags, list | tuple) or not all(isinstance(tag, str) for tag in self.tags):
            raise PoolBenchError(f"logger.tags={self.tags!r}: a list of words is expected")

    def open(self, run: RunInfo, history: list[Row]) -> WandbRun | None:
        mode = _WANDB_MODES.get(os.environ.get("WANDB_MODE", "").strip().lower(), self.mode)
        if mode == "disabled":
            return None
        return WandbRun(run.folder, mode=mode, budget=self.budget, history=history, arguments=self._arguments(run))

    def _arguments(self, run: RunInfo) -> dict[str, Any]:
        """What `wandb.init` is given, the same online and offline."""
        said = os.environ.get
        given = [t.strip() for t in said("WANDB_TAGS", "").split(",") if t.strip()]
        folder = Path(said("WANDB_DIR") or self.dir or run.folder).expanduser().resolve()
        return {
            "project": said("WANDB_PROJECT") or self.project,
            "entity": said("WANDB_ENTITY") or self.entity,
            "group": said("WANDB_RUN_GROUP") or self.group or run.group,
            "job_type": said("WANDB_JOB_TYPE") or self.job_type or run.job_type,
            "name": said("WANDB_NAME") or self.name or run.name or None,
            "notes": said("WANDB_NOTES") or self.notes,
            "tags": list(dict.fromkeys([*run.tags, *(given or self.tags)])),
            "config": dict(run.config),
            "dir": str(folder),
            "id": _wandb_id(run),
        }


MODES = ("online", "offline", "disabled")
_WANDB_MODES = {mode: mode for mode in MODES} | {"run": "online", "shared": "online", "dryrun": "offline"}


def _wandb_id(run: RunInfo) -> str:
    """The W&B id of an attempt: made once, kept in its folder, so that a resumed run goes on under it.

    Its last part is drawn. W&B never gives an id a second time, not after the run was deleted there, and the same
    experiment may be done again after its results were deleted here, or by another member of the team. An agent of a
    W&B sweep has made the run already, and says its id.
    """
    if os.environ.get("WANDB_SWEEP_ID") and (given := os.environ.get("WANDB_RUN_ID")):
        return given
    path = run.folder / "wandb.id"
    with contextlib.suppress(OSError):
        if known := path.read_text(encoding="utf-8").strip():
            return known
    made = f"{run.id}-{run.attempt}-{secrets.token_hex(3)}"
    path.write_text(made + "\n", encoding="utf-8")
    return made


class Outages:
    """Servers that failed, so that the next runs of a sweep go offline at once instead of waiting again."""

    forget_after = 900.0

    def __init__(self) -> None:
        self._failed: dict[str, float] = {}

    def note(self, url: str) -> None:
        self._failed[url] = time.monotonic()

    def __contains__(self, url: str) -> bool:
        since = self._failed.get(url)
        return since is not None and time.monotonic() - since < self.forget_after


OUTAGES = Outages()


class _Unavailable(Exception):
    """No run can be had online, and why."""


class WandbRun(RunLogger):
    """One W&B run, served by a thread: a step an epoch, and a line an epoch, with what is logged, for the tab Logs.

    `log` and `summary` only put into a queue. The thread decides between online and offline, and writes.
    Where anything fails online, it opens the run offline and writes everything again from the beginning, so that one
    file holds the whole run. `finish` is the only method that waits. The package is loaded with the first row, so that
    the first epoch does not wait for it.
    """

    def __init__(
        self, folder: Path, *, mode: str | None, budget: float, history: list[Row], arguments: dict[str, Any]
    ) -> None:
        self._folder = folder
        self._mode = mode
        self._budget = budget
        self._arguments = arguments
        self._wandb: Any = None
        self._thread: threading.Thread | None = None
        self._queue: queue.SimpleQueue[tuple[str, dict[str, Any]] | None] = queue.SimpleQueue()
        self._taken: list[tuple[str, dict[str, Any]]] = []
        self._ended = False
        self._warnings: list[str] = []
        self._said: list[str] = []
        self._exit_code = 0
        self._url = ""
        self._key: str | None = None
        self._probe_timeout = min(4.0, 0.15 * budget)
        self._lines = _Lines(self._queue)
        self._has_rows = bool(history)
        # Steps that the server knows already it leaves out; an offline file of a resumed run is whole by itself.
        for row in history:
            self._queue.put(("log", dict(row)))

    def _started(self) -> threading.Thread:
        """The thread, which the first row starts."""
        if self._thread is None:
            # Not in the thread: two threads that import the same packages at a time can see one half loaded.
            self._wandb = _import_wandb()
            _PACKAGE_LOG.addHandler(self._lines)
            self._thread = threading.Thread(target=self._serve, name="poolbench-wandb", daemon=True)
            self._thread.start()
        return self._thread

    # ---------------------------------------------------------------------------------- called by the training thread

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self._queue.put(("log", {**metrics, "epoch": epoch}))
        self._has_rows = True
        self._started()

    def picture(self, epoch: int, path: Path) -> None:
        self._queue.put(("picture", {"pool": path, "epoch": epoch}))

    def summary(self, values: Mapping[str, Any]) -> None:
        if self._has_rows:
            self._queue.put(("commit", {}))
        self._queue.put(("summary", dict(values)))

    def artifacts(self, files: Mapping[str, Path]) -> None:
        self._queue.put(("artifacts", dict(files)))

    def finish(self, status: str = "done") -> None:
        """Wait until everything is written, at most the budget, and say in one line where the run is to be seen."""
        thread = self._started()
        end = time.monotonic() + self._budget
        self._exit_code = int(status not in ("done", "pruned"))
        _PACKAGE_LOG.removeHandler(self._lines)
        self._queue.put(None)
        # Three parts: good order; then wandb's service is killed, which makes the thread go offline; then we leave.
        thread.join(0.75 * self._budget)
        if thread.is_alive():
            OUTAGES.note(self._url)
            _quietly(_end_service)
            thread.join(max(0.0, end - time.monotonic() - 1.0))
        if thread.is_alive():
            _quietly(_end_service)
            self._warnings.append(f"W&B did not finish within {self._budget:g} s and was left behind")
        for line in self._warnings:
            log.warning("%s", line)
        for line in self._said:
            log.info("%s", line)

    # -------------------------------------------------------------------------------------------------- in the thread

    def _serve(self) -> None:
        try:
            if self._mode == "offline" or not self._try_online():
                self._offline()
        except Exception as error:
            self._warnings.append(f"W&B: {type(error).__name__}: {_line(error)}; the run is not logged there")

    def _try_online(self) -> bool:
        """Serve the run online to its end; False where that failed and it is to be served offline."""
        try:
            self._url, self._key = _server(self._wandb, wanted=self._mode == "online")
            if self._url in OUTAGES:
                return False
            _probe(self._url, self._key, timeout=self._probe_timeout)
            self._online()
        except _Unavailable as reason:
            self._warn_once(str(reason))
            return False
        return True

    def _warn_once(self, reason: str) -> None:
        """Warn of what keeps this run offline, unless an earlier run of the sweep did already."""
        if reason and reason not in OUTAGES:
            self._warnings.append(f"W&B: {reason}; this run is logged offline")
            OUTAGES.note(reason)
            OUTAGES.note(self._url)

    def _online(self) -> None:
        before = self._folders()
        try:
            run = self._init("online")
            self._write(run)
            folder, url = _folder_of(run), run.url
            try:
                self._finish(run)
                # A server that refuses what it is sent is no failure to wandb.
                _probe(self._url, self._key, timeout=self._probe_timeout)
            except (TimeoutError, _Unavailable):
                # All of the run is on disk, and only its upload is not complete.
                OUTAGES.note(self._url)
                _end_service(grace=0.1 * self._budget)
                self._warnings.append(f"W&B: the server {self._url} stopped answering; {_how_to_sync(folder)}")
            else:
                self._said.append(f"W&B: {url}")
        except Exception as error:
            _quietly(_end_service)
            for folder in self._folders() - before:
                shutil.rmtree(folder, ignore_errors=True)
            raise _Unavailable(f"the server {self._url} failed ({_line(error)})") from error

    def _offline(self) -> None:
        before = self._folders()
        try:
            self._kept_offline()
        except ConnectionError:  # wandb's service that was ended a moment ago was still there to take the call
            _quietly(_end_service)
            for folder in self._folders() - before:
                shutil.rmtree(folder, ignore_errors=True)
            self._kept_offline()

    def _kept_offline(self) -> None:
        run = self._init("offline")
        self._write(run)
        folder = _folder_of(run)
        self._finish(run)
        self._said.append(f"W&B: offline; {_how_to_sync(folder)}")

    def _folders(self) -> set[Path]:
        """The folders that wandb made for this run, of this start and earlier ones."""
        return set(Path(self._arguments["dir"], "wandb").glob(f"*run-*-{self._arguments['id']}"))

    def _init(self, mode: str) -> Any:
        Path(self._arguments["dir"]).mkdir(parents=True, exist_ok=True)
        with _process_untouched():
            run = self._wandb.init(
                **self._arguments,
                mode=mode,
                resume="allow" if mode == "online" else None,
                reinit="create_new",
                save_code=False,
                settings=_settings(self._wandb, self._budget),
            )
        run.define_metric("epoch")
        run.define_metric("*", step_metric="epoch")
        return run

    def _write(self, run: Any) -> None:
        """Write what an earlier try had taken from the queue, then what comes until the run ends."""
        for kind, values in self._taken:
            _write(run, kind, values)
        while not self._ended:
            item = self._queue.get()
            if item is None:
                self._ended = True
                return
            self._taken.append(item)
            _write(run, *item)

    def _finish(self, run: Any) -> None:
        with _process_untouched():
            run.finish(exit_code=self._exit_code)


def _write(run: Any, kind: str, values: dict[str, Any]) -> None:
    if kind == "log":
        run.log(values, step=values["epoch"])
        numbers = (f"{name} {value:.6g}" for name, value in values.items() if name != "epoch")
        _write_line(run, "  ".join([f"epoch {values['epoch']:>4}", *numbers]))
    elif kind == "line":
        _write_line(run, values["text"])
    elif kind == "commit":
        # wandb holds the last row back, in case there is more of its step, and would write it over the summary.
        run.log({}, commit=True)
    elif kind == "picture":
        import wandb

        run.log({"pool": wandb.Image(str(values["pool"]))}, step=values["epoch"])
    elif kind == "artifacts":
        import wandb

        for name, path in values.items():
            artifact = wandb.Artifact(f"{name}-{run.id}", type=name)
            artifact.add_file(str(path))
            run.log_artifact(artifact)
    else:
        run.summary.update(values)


def _write_line(run: Any, text: str) -> None:
    if hasattr(run, "write_logs"):  # older versions of wandb have none
        run.write_logs(text)


_PACKAGE_LOG = logging.getLogger("poolbench")


class _Lines(logging.Handler):
    """Puts what PoolBench warns of into the queue of a W&B run. Standard output and errors are left as they are: a
    capture of them would write to wandb's service in the thread that trains."""

    def __init__(self, items: queue.SimpleQueue[Any]) -> None:
        super().__init__(logging.WARNING)
        self._items = items

    def emit(self, record: logging.LogRecord) -> None:
        self._items.put(("line", {"text": f"{record.levelname.lower()}: {one_line(record.getMessage())}"}))


def _folder_of(run: Any) -> Path:
    """The folder that holds the run's file."""
    return Path(run.settings.sync_dir)


def _how_to_sync(folder: Path) -> str:
    near = os.path.relpath(folder)
    return f"to upload the run: wandb sync {shlex.quote(str(folder) if near.startswith('..') else near)}"


# ------------------------------------------------------------------------------------------- the package wandb itself


def _import_wandb() -> Any:
    """The package, silent. Its reports on itself go over the network and can hold up the end of the process."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    with loading():
        import requests  # noqa: F401  (both are used by the thread)
        import wandb
        import wandb.sdk.lib.wbauth

    _silence_service()
    return wandb


def _silence_service() -> None:
    """Keep the stack traces of wandb's service off the terminal: its deaths are reported here, in one line."""
    try:
        from wandb.sdk.lib.service import service_process
    except ImportError:
        return

    def popen(*args: Any, **options: Any) -> subprocess.Popen:
        return subprocess.Popen(*args, **{**options, "stderr": subprocess.DEVNULL})

    module: Any = service_process
    module.subprocess = SimpleNamespace(Popen=popen)


def _settings(wandb: Any, budget: float) -> Any:
    """No console capture, no code, no folders of the machine, and an end to every wait within the budget."""
    wanted = {
        "silent": True,
        "console": "off",
        "disable_code": True,
        "disable_git": True,
        "disable_job_creation": True,
        "x_disable_meta": True,
        "x_save_requirements": False,
        "init_timeout": max(1.0, budget / 2),
        "finish_timeout": max(1.0, budget / 3),
        "finish_timeout_raises": True,
        "x_service_wait": max(5.0, budget / 2),
        "x_transaction_log_flush_interval": 1.0,
    }
    # Which of them there are depends on wandb's version.
    return wandb.Settings(**{k: v for k, v in wanted.items() if k in wandb.Settings.model_fields})


@contextlib.contextmanager
def _process_untouched() -> Iterator[None]:
    """Undo what wandb does to the process: hooks on `sys.exit` and exceptions, and its service for child processes."""
    exit_, hook = sys.exit, sys.excepthook
    # A service inherited from a parent process belongs to the parent: it could be neither trusted nor ended.
    os.environ.pop("WANDB_SERVICE", None)
    try:
        yield
    finally:
        sys.exit, sys.excepthook = exit_, hook
        os.environ.pop("WANDB_SERVICE", None)


def _server(wandb: Any, *, wanted: bool) -> tuple[str, str | None]:
    """The server's address and the API key for it (None where there is a token file instead).

    Args:
        wanted: the user asked for an online run, so that the lack of a key is worth a warning.

    Raises:
        _Unavailable: no credentials, or unusable ones; or the user switched wandb to offline for good.
    """
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    settings = wandb_setup.singleton().settings
    if settings.mode in ("offline", "dryrun", "disabled") and not wanted:
        raise _Unavailable
    try:
        host = wbauth.HostUrl(settings.base_url, app_url=settings.app_url)
        auth = wbauth.authenticate_session(host=host, source="poolbench", prompt=False, update_session=False)
    except wandb.Error as error:
        raise _Unavailable(f"no usable credentials ({_line(error)})") from error
    if auth is None:
        raise _Unavailable("online was asked for, but no API key is configured (wandb login)" if wanted else "")
    return str(settings.base_url).rstrip("/"), getattr(auth, "api_key", None)


def _probe(url: str, key: str | None, *, timeout: float) -> None:
    """Ask the server who the key belongs to, to know in a few seconds what `wandb.init` finds out in minutes.

    Only clear failures count; in doubt wandb may try.

    Raises:
        _Unavailable: no connection, no answer, an error of the server, or a key that it refuses.
    """
    import requests

    answers: queue.SimpleQueue[int | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            query, auth = {"query": "query Viewer { viewer { id } }"}, ("api", key) if key else None
            answers.put(requests.post(f"{url}/graphql", json=query, auth=auth, timeout=timeout).status_code)
        except Exception as error:
            answers.put(error)

    # In a thread: the timeout of requests begins anew with each byte that a slow server sends.
    threading.Thread(target=ask, name="poolbench-wandb-probe", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        answer = requests.exceptions.Timeout()
    if isinstance(answer, requests.exceptions.SSLError):
        return  # wandb's service trusts other certificates than requests does.
    if isinstance(answer, requests.exceptions.Timeout):
        raise _Unavailable(f"the server {url} does not answer") from answer
    if isinstance(answer, Exception):
        raise _Unavailable(f"the server {url} cannot be reached") from answer
    if answer >= 500:
        raise _Unavailable(f"the server {url} answers with error {answer}")
    if key and answer in (401, 403):
        raise _Unavailable(f"the server {url} refuses the API key")


def _end_service(grace: float = 0.0) -> None:
    """End wandb's service process and forget it, so that nothing waits for it: no call, and no hook at exit.

    This reaches into wandb, which has no public way to give up. What is not there in some version is left alone.

    Args:
        grace: seconds for the service to end in good order, and to write what it holds, before it is killed.
    """
    setup: Any = sys.modules.get("wandb.sdk.wandb_setup")
    connection = getattr(getattr(setup, "_singleton", None), "_connection", None)
    if connection is None:
        return
    # The next run gets a service of its own.
    setup._singleton = None
    if grace:
        closing = threading.Thread(target=_quietly, args=(lambda: connection.teardown(0),), daemon=True)
        closing.start()
        closing.join(grace)
    if connection._cleanup:
        _quietly(connection._cleanup)
    connection._torn_down = True
    process = getattr(connection._proc, "_process", None)
    if process is not None and process.poll() is None:
        process.kill()
        _quietly(lambda: process.wait(1.0))


def _quietly(action: Callable[[], Any]) -> None:
    with contextlib.suppress(Exception):
        action()

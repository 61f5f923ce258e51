"""The loggers: what they write is whole, and whatever a W&B server does, the run goes on.

The W&B servers are fakes on loopback, and the runs are processes of their own, so that exit codes and waits at the end
of the process are tested as they are.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from poolbench.config import Part
from poolbench.errors import PoolBenchError
from poolbench.learn import loggers
from poolbench.learn.build import build_loggers
from poolbench.learn.loggers import (
    CSVCurve,
    CSVLogger,
    Loggers,
    RunInfo,
    TensorBoardLogger,
    WandbLogger,
    WandbRun,
    read_curve,
)

KEY = "0123456789" * 4
EPOCHS = 6


# ----------------------------------------------------------------------------------------------- the runs and servers

JOB = """
import json, logging, sys, time
from pathlib import Path
from poolbench.learn.loggers import Loggers, RunInfo, WandbLogger
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
job = json.loads(sys.argv[1])
start = time.monotonic()
for attempt in range(1, job.get("runs", 1) + 1):
    folder = Path(job["folder"]) / str(attempt)
    folder.mkdir(exist_ok=True)
    run = RunInfo(id="0123abcd", attempt=attempt, folder=folder, name="mincut-MUTAG-s0", group="sweep",
                  config={"pool": {"ratio": 0.5}, "seed": 0}, tags=("mincut",), job_type="train")
    loggers = Loggers(run, [WandbLogger(**job.get("logger", {}))], first_epoch=job.get("first", 1))
    try:
        for epoch in range(job.get("first", 1), job.get("epochs", 6) + 1):
            loggers.log(epoch, {"train/loss": 1.0 / epoch, "val/acc": 0.1 * epoch})
            if "picture" in job:
                loggers.picture(epoch, Path(job["picture"]))
            time.sleep(job.get("sleep", 0.0))
            if epoch == job.get("kill_service_after"):
                import wandb.sdk.wandb_setup as setup
                while not (setup._singleton and setup._singleton._connection):
                    time.sleep(0.05)
                time.sleep(0.5)
                setup._singleton._connection._proc._process.kill()
        if "warning" in job:
            logging.getLogger("poolbench.data").warning(job["warning"])
        loggers.summary({"test/acc": 0.875, "train/loss": 0.5, "epoch": 2})
        if "picture" in job:
            loggers.artifacts({"record": folder / "metrics.csv", "checkpoint": Path(job["picture"])})
    finally:
        if job.get("finish", True):
            loggers.finish()
    print(f"run {attempt} at {time.monotonic() - start:.2f}", flush=True)
"""


def environment(tmp_path: Path, **variables: str) -> dict[str, str]:
    """This process's environment without anything that W&B knows of, and a home that holds no key."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    return kept | {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc")} | variables


class Done:
    """A finished run: exit code, output, seconds from start to end of its process, and its folder."""

    def __init__(self, code: int, text: str, seconds: float, folder: Path) -> None:
        self.code, self.text, self.seconds, self.folder = code, text, seconds, folder

    def check_curve(self, attempt: int = 1, epochs: int = EPOCHS) -> None:
        assert self.code == 0, self.text
        assert [row["epoch"] for row in read_curve(self.folder / str(attempt) / "metrics.csv")] == list(
            range(1, epochs + 1)
        )

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.startswith("WARNING")]

    def file(self, attempt: int = 1, kind: str = "*run") -> WandbFile:
        """The last W&B file of an attempt."""
        found = sorted(self.folder.glob(f"{attempt}/wandb/{kind}-2*/run-*.wandb"), key=lambda p: p.stat().st_mtime)
        assert found, f"no W&B run: {self.text}"
        return WandbFile(found[-1])


def run_job(tmp_path: Path, job: dict[str, Any] | None = None, **variables: str) -> Done:
    folder = tmp_path / "attempts"
    folder.mkdir(exist_ok=True)
    workdir = tmp_path / "cwd"
    workdir.mkdir(exist_ok=True)
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", JOB, json.dumps({"folder": str(folder), **(job or {})})],
        env=environment(tmp_path, **variables),
        cwd=workdir,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not list(workdir.iterdir()), "the working directory is not W&B's"
    assert "Traceback" not in done.stderr, done.stderr
    assert "wandb:" not in done.stderr, done.stderr
    assert "panic" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout + done.stderr, time.monotonic() - start, folder)


class FakeWandb(ThreadingHTTPServer):
    """As much of a W&B server as a run needs, with ways to fail."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mode = "ok"
        self.fails_as = ""
        """The mode that it goes over to as soon as it has taken the first metrics."""
        self.viewer_fails_too = True
        self.requests: list[tuple[str, str]] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def bodies(self, path: str) -> str:
        return "\n".join(body for at, body in self.requests if path in at)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeWandb

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
        self.server.requests.append((self.path, body))
        probe = "query Viewer {" in body
        mode = "ok" if probe and not self.server.viewer_fails_too else self.server.mode
        if mode == "hang":
            self.server.released.wait(60)
            self.close_connection = True
        elif mode == "trickle":  # no wait for a byte is long
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000:
                if self.server.released.wait(0.2):
                    break
                self.wfile.write(bytes([byte]))
            self.close_connection = True
        elif mode == "refuse":
            # The nearest to a dead process: the connection is cut without an answer.
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self.answer(int(mode) if mode.isdigit() else 200, body)
        if "file_stream" in self.path and "train/loss" in body and self.server.fails_as:
            self.server.mode = self.server.fails_as

    do_GET = do_PUT = do_POST

    def answer(self, code: int, body: str) -> None:
        out = json.dumps(self.reply(body) if code == 200 else {}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    def reply(self, body: str) -> dict[str, Any]:
        if "UpsertBucket" in body:
            name = json.loads(body)["variables"]["name"]
            project = {"name": "poolbench", "entity": {"name": "someone"}}
            bucket = {"id": "1", "name": name, "displayName": name, "project": project, "historyLineCount": 0}
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        if "CreateRunFiles" in body:
            names = json.loads(body)["variables"]["files"]
            files = [{"name": name, "uploadUrl": f"{self.server.url}/upload/{name}"} for name in names]
            return {"data": {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}}
        if "viewer" in body.lower():
            return {"data": {"viewer": {"id": "1", "entity": "someone", "username": "someone", "flags": "{}"}}}
        return {"data": {}}

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@contextmanager
def fake_wandb(mode: str = "ok", **attributes: Any) -> Iterator[FakeWandb]:
    server = FakeWandb()
    server.mode = mode
    for name, value in attributes.items():
        setattr(server, name, value)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()


class WandbFile:
    """What a `.wandb` file holds: records in protobuf, in the blocks of LevelDB's log format."""

    BLOCK = 32768

    def __init__(self, path: Path) -> None:
        from wandb.proto import wandb_internal_pb2

        self.path = path
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.run: Any = None
        self.exit_code: int | None = None
        self.artifacts: dict[str, str] = {}
        self.defined: dict[str, str] = {}
        """The step metric of each metric, by name or pattern."""
        self.lines: list[str] = []
        for data in self._records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            self._take(record)

    def _records(self, data: bytes) -> Iterator[bytes]:
        assert data[:4] == b":W&B"
        at, parts = 7, b""
        while at + 7 <= len(data):
            left = self.BLOCK - at % self.BLOCK
            if left < 7:
                at += left
                continue
            _, size, kind = struct.unpack("<IHB", data[at : at + 7])
            parts += data[at + 7 : at + 7 + size]
            at += 7 + size
            if kind in (1, 4):  # a whole record, or the last part of one
                yield parts
                parts = b""

    def _take(self, record: Any) -> None:
        def items(found: Any) -> dict[str, Any]:
            return {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in found if i.value_json}

        kind = record.WhichOneof("record_type")
        if kind == "history":
            self.history.append(items(record.history.item))
        elif kind == "summary":
            self.summary |= items(record.summary.update)
        elif kind == "run":
            self.run = record.run
            self.config |= items(record.run.config.update)
        elif kind == "artifact":
            self.artifacts[record.artifact.type] = record.artifact.name
        elif kind == "metric":
            self.defined[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "output_logger":
            self.lines += record.output_logger.line.splitlines()
        elif kind == "exit":
            self.exit_code = record.exit.exit_code

    def check(self, epochs: int = EPOCHS) -> None:
        assert [row["epoch"] for row in self.history] == list(range(1, epochs + 1))
        assert [row["_step"] for row in self.history] == list(range(1, epochs + 1))
        assert self.history[2]["train/loss"] == pytest.approx(1 / 3)
        said = {name: self.summary[name] for name in ("test/acc", "train/loss", "epoch")}
        assert said == {"test/acc": 0.875, "train/loss": 0.5, "epoch": 2}, "and not the last epoch's"
        assert self.defined == {"epoch": "", "*": "epoch"}
        assert self.config["pool"] == {"ratio": 0.5}
        assert self.exit_code == 0


# ---------------------------------------------------------------------------------------------------------- the curve


def run_info(folder: Path, **fields: Any) -> RunInfo:
    return RunInfo(**{"id": "0123abcd", "attempt": 1, "folder": folder, "name": "a-run", **fields})


def test_curve_has_a_row_an_epoch_and_a_column_a_metric(tmp_path: Path) -> None:
    curve = CSVCurve(tmp_path / "metrics.csv")
    curve.log(1, {"train/loss": 0.5})
    curve.log(2, {"train/loss": 0.25, "val/acc": 1 / 3})
    curve.log(3, {"val/acc": float("nan")})
    text = (tmp_path / "metrics.csv").read_text()
    assert text == "epoch,train/loss,val/acc\n1,0.5,\n2,0.25,0.3333333333333333\n3,,nan\n"
    rows = read_curve(tmp_path / "metrics.csv")
    assert rows[0] == {"epoch": 1, "train/loss": 0.5}
    assert rows[1] == {"epoch": 2, "train/loss": 0.25, "val/acc": 1 / 3}


def test_resumed_curve_drops_what_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    curve = CSVCurve(path)
    for epoch in range(1, 6):
        curve.log(epoch, {"loss": float(epoch)})
    again = CSVCurve(path, first_epoch=4)
    assert [row["epoch"] for row in again.rows()] == [1, 2, 3]
    again.log(4, {"loss": 40.0})
    assert [row["loss"] for row in read_curve(path)] == [1.0, 2.0, 3.0, 40.0]
    assert read_curve(path)[:3] == again.rows()[:3]
    assert CSVCurve(path).rows() == [], "a run from the beginning has a new curve"


def test_a_curve_that_was_begun_from_0_goes_on_from_1(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loss\n0,0.5\n1,0.25\n2,0.125\n")
    curve = CSVCurve(path, first_epoch=3)  # two are done
    curve.log(3, {"loss": 0.0})
    assert read_curve(path) == [{"epoch": epoch, "loss": loss} for epoch, loss in ((1, 0.5), (2, 0.25), (3, 0.0))]


def test_a_line_that_a_power_cut_left_incomplete_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loss\n1,0.5\n2,0.12")
    assert read_curve(path) == [{"epoch": 1, "loss": 0.5}]
    CSVCurve(path, first_epoch=9).log(2, {"loss": 0.125})
    assert path.read_text() == "epoch,loss\n1,0.5\n2,0.125\n"


def test_a_kill_costs_at_most_the_line_that_is_being_written(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from poolbench.learn.loggers import CSVCurve\n"
        "curve = CSVCurve(Path(sys.argv[1]))\n"
        "for epoch in range(1, 10**9): curve.log(epoch, {f'm{i}': epoch + i / 7 for i in range(200 + epoch // 50)})"
    )
    path = tmp_path / "metrics.csv"
    job = subprocess.Popen([sys.executable, "-c", code, str(path)])
    while not path.exists() or path.stat().st_size < 200_000:
        time.sleep(0.01)
        assert job.poll() is None
    job.send_signal(signal.SIGKILL)
    job.wait()
    rows = read_curve(path)
    assert [row["epoch"] for row in rows] == list(range(1, path.read_text().count("\n")))
    assert all(row[f"m{i}"] == row["epoch"] + i / 7 for row in rows for i in range(200 + int(row["epoch"]) // 50))
    CSVCurve(path, first_epoch=len(rows) + 1).log(len(rows) + 1, {"m0": 0.5})
    assert read_curve(path) == [*rows, {"epoch": len(rows) + 1, "m0": 0.5}]


# --------------------------------------------------------------------------------------------------------- in general


class Failing:
    """A logger that fails."""

    calls = 0

    def open(self, run: RunInfo, history: list) -> Failing:
        return self

    def log(self, epoch: int, metrics: Any) -> None:
        self.calls += 1
        raise OSError("the cable was\npulled")

    summary = finish = log


def test_a_logger_that_fails_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    failing = Failing()
    loggers = Loggers(run_info(tmp_path), [failing])
    for epoch in range(1, 4):
        loggers.log(epoch, {"loss": 1.0})
    loggers.summary({"test/acc": 1.0})
    loggers.finish()
    assert failing.calls == 1
    assert [r.getMessage() for r in caplog.records] == [
        "Failing: OSError: the cable was pulled; it is not written to any further"
    ]
    assert len(read_curve(tmp_path / "metrics.csv")) == 3


def test_tensors_are_numbers(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    loggers = Loggers(run_info(tmp_path))
    loggers.log(1, {"loss": torch.tensor(0.5)})
    assert read_curve(tmp_path / "metrics.csv") == [{"epoch": 1, "loss": 0.5}]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("wandb", WandbLogger), ("csv", CSVLogger), ("none", CSVLogger), ("tensorboard", TensorBoardLogger)],
)
def test_configurations_name_the_loggers(name: str, kind: type) -> None:
    if kind is TensorBoardLogger:
        pytest.importorskip("tensorboard")
    conf = Path(__file__).parents[2] / "conf" / "logger" / f"{name}.yaml"
    (made,) = build_loggers(Part.of("logger", yaml.safe_load(conf.read_text())))
    assert isinstance(made, kind)


@pytest.mark.parametrize("wrong", [{"mode": "on"}, {"budget": 0}, {"budget": -1}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PoolBenchError, match=next(iter(wrong))):
        WandbLogger(**wrong)


def test_the_module_imports_neither_wandb_nor_torch() -> None:
    code = (
        "import sys, poolbench.learn.loggers; print([m for m in ('wandb', 'torch', 'tensorboard') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_tensorboard_events_hold_the_metrics(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from matplotlib.image import imsave
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loggers = Loggers(run_info(tmp_path, config={"seed": 3}), [TensorBoardLogger()])
    for epoch in range(1, 4):
        loggers.log(epoch, {"val/acc": 0.25 * epoch})
    loggers.summary({"test/acc": 0.875, "note": "text is left out"})
    imsave(tmp_path / "picture.png", [[0.0, 1.0], [1.0, 0.0]])
    loggers.picture(3, tmp_path / "picture.png")
    loggers.artifacts({"record": tmp_path / "picture.png"})
    loggers.finish()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("val/acc")] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert [(e.step, e.value) for e in events.Scalars("summary/test/acc")] == [(3, 0.875)]
    assert [e.step for e in events.Images("pool")] == [3]


# -------------------------------------------------------------------------------------------------------- W&B offline


def test_offline_file_holds_the_run(tmp_path: Path) -> None:
    done = run_job(tmp_path)
    done.check_curve()
    file = done.file(kind="offline-run")
    file.check()
    assert file.config["seed"] == 0
    assert file.run.run_id.startswith("0123abcd-1-")
    assert (file.run.display_name, file.run.run_group, file.run.job_type) == ("mincut-MUTAG-s0", "sweep", "train")
    assert (file.run.project, list(file.run.tags)) == ("poolbench", ["mincut"])
    said = [line for line in done.text.splitlines() if "W&B" in line]
    assert len(said) == 1
    assert f"wandb sync {file.path.parent}" in said[0]
    assert not done.warnings


def test_offline_file_holds_lines_and_no_folder(tmp_path: Path) -> None:
    done = run_job(tmp_path, {"warning": "labels\nare missing", "logger": {"mode": "offline"}})
    file = done.file()
    assert file.lines == [
        *(f"epoch    {epoch}  train/loss {1 / epoch:.6g}  val/acc {0.1 * epoch:.6g}" for epoch in range(1, EPOCHS + 1)),
        "warning: labels are missing",
    ]
    for place in (str(tmp_path), sys.prefix):
        assert place.encode() not in file.path.read_bytes()


def test_system_metrics_are_on() -> None:
    """In the file they stand after some seconds alone, by W&B's clock."""
    import wandb

    from poolbench.learn import loggers

    assert not loggers._settings(wandb, 30.0).x_disable_stats


def test_a_run_without_epochs_has_no_history(tmp_path: Path) -> None:
    file = run_job(tmp_path, {"epochs": 0}).file()
    assert not file.history and file.summary["test/acc"] == 0.875


def test_pictures_and_artifacts_are_in_the_file(tmp_path: Path) -> None:
    from matplotlib.image import imsave

    imsave(tmp_path / "picture.png", [[0.0, 1.0], [1.0, 0.0]])
    done = run_job(tmp_path, {"picture": str(tmp_path / "picture.png")})
    file = done.file()
    file.check()
    assert [row["pool._type"] for row in file.history] == ["image-file"] * EPOCHS
    run = file.run.run_id
    assert file.artifacts == {"record": f"record-{run}", "checkpoint": f"checkpoint-{run}"}
    assert not done.warnings


def test_an_agent_of_a_sweep_says_the_id(tmp_path: Path) -> None:
    done = run_job(tmp_path, WANDB_SWEEP_ID="s1", WANDB_RUN_ID="given", WANDB_MODE="offline")
    assert done.file().run.run_id == "given"


def test_environment_goes_before_configuration(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    done = run_job(
        tmp_path,
        {"logger": {"mode": "online", "project": "p", "tags": ["configured"]}},
        WANDB_MODE="offline",
        WANDB_PROJECT="their-project",
        WANDB_ENTITY="their-team",
        WANDB_DIR=str(elsewhere),
        WANDB_TAGS="a, b",
        WANDB_RUN_GROUP="their-group",
        WANDB_RUN_ID="fixed",
        WANDB_API_KEY=KEY,
    )
    done.check_curve()
    (path,) = elsewhere.glob("wandb/offline-run-*/run-*.wandb")
    file = WandbFile(path)
    file.check()
    assert (file.run.project, file.run.entity, file.run.run_group) == ("their-project", "their-team", "their-group")
    assert list(file.run.tags) == ["mincut", "a", "b"]
    assert file.run.run_id.startswith("0123abcd-1-"), "one id for all runs of a sweep would merge them"


def test_disabled_makes_nothing(tmp_path: Path) -> None:
    done = run_job(tmp_path, WANDB_MODE="disabled")
    done.check_curve()
    assert sorted(p.name for p in (done.folder / "1").iterdir()) == ["metrics.csv"]
    assert "W&B" not in done.text


def test_online_without_a_key_asks_nothing(tmp_path: Path) -> None:
    done = run_job(tmp_path, {"runs": 2}, WANDB_MODE="online")
    done.check_curve()
    done.file(2).check()
    assert len(done.warnings) == 1
    assert "no API key" in done.warnings[0]


def test_a_malformed_key_is_no_reason_to_stop(tmp_path: Path) -> None:
    done = run_job(tmp_path, WANDB_API_KEY="secret", WANDB_BASE_URL="http://127.0.0.1:9")
    done.check_curve()
    done.file(kind="offline-run").check()
    assert len(done.warnings) == 1
    assert "secret" not in done.text


def test_each_run_of_a_sweep_is_a_run_of_its_own(tmp_path: Path) -> None:
    done = run_job(tmp_path, {"runs": 3})
    ids = set()
    for attempt in (1, 2, 3):
        done.check_curve(attempt)
        done.file(attempt).check()
        ids.add(done.file(attempt).run.run_id)
    assert len(ids) == 3


def test_resumed_run_keeps_its_id_and_is_whole(tmp_path: Path) -> None:
    first = run_job(tmp_path, {"epochs": 4})
    again = run_job(tmp_path, {"first": 3})
    again.check_curve()
    assert again.file().run.run_id == first.file().run.run_id
    again.file().check()


def test_killed_run_leaves_what_it_logged(tmp_path: Path) -> None:
    folder = tmp_path / "attempts"
    folder.mkdir()
    job = json.dumps({"folder": str(folder), "epochs": 10_000, "sleep": 0.01})
    killed = subprocess.Popen([sys.executable, "-c", JOB, job], env=environment(tmp_path))
    deadline = time.monotonic() + 30
    while not list(folder.glob("1/wandb/offline-run-*/run-*.wandb")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2.5)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (path,) = folder.glob("1/wandb/offline-run-*/run-*.wandb")
    rows = WandbFile(path).history
    assert len(rows) > 50
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))


# ------------------------------------------------------------------------------------------------ W&B and its servers


def test_online_run_reaches_the_server(tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login user password {KEY}\n")
    with fake_wandb() as server:
        # wandb looks a port up in netrc as a part of the machine's name.
        (tmp_path / "netrc").write_text(f"machine {server.url[7:]} login user password {KEY}\n")
        done = run_job(tmp_path, WANDB_BASE_URL=server.url)
        done.check_curve()
        assert not done.warnings
        assert f"{server.url}/someone/poolbench/runs/0123abcd-1-" in done.text
        streamed = server.bodies("file_stream")
        assert "train/loss" in streamed
        assert "test/acc" in streamed
        assert "epoch    1  train/loss 1" in streamed
        assert '"exitcode":0' in streamed
        done.file(kind="run").check()
        assert not any("code" in path for path, _ in server.requests if "upload" in path)


BUDGET = 6.0

FAILURES = {
    "hangs": {"mode": "hang"},
    "answers a byte at a time": {"mode": "trickle"},
    "cuts connections": {"mode": "refuse"},
    "answers 500": {"mode": "500"},
    "answers 401": {"mode": "401"},
    "hangs in init": {"mode": "hang", "viewer_fails_too": False},
    "answers a byte at a time in init": {"mode": "trickle", "viewer_fails_too": False},
    "answers 500 in init": {"mode": "500", "viewer_fails_too": False},
    "hangs later": {"fails_as": "hang"},
    "answers a byte at a time later": {"fails_as": "trickle"},
    "cuts connections later": {"fails_as": "refuse"},
    "answers 500 later": {"fails_as": "500"},
    "answers 401 later": {"fails_as": "401"},
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failing_server_costs_a_warning(tmp_path: Path, failure: str) -> None:
    # Long enough for metrics to be sent before the end, where the server fails after the first of them.
    later = "fails_as" in FAILURES[failure]
    with fake_wandb(**FAILURES[failure]) as server:
        job = {"logger": {"budget": BUDGET}, "sleep": 0.4 if later else 0.0}
        done = run_job(tmp_path, job, WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
        # What the same run costs without W&B: starting Python, and sleeping.
        assert done.seconds < BUDGET + EPOCHS * job["sleep"] + 4
        done.check_curve()
        assert len(done.warnings) == 1
        assert server.url in done.warnings[0]
        done.file().check()
        assert f"wandb sync {done.file().path.parent}" in done.text
        assert not later or "train/loss" in server.bodies("file_stream")


def test_a_service_that_is_ended_while_it_takes_the_call_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try to log offline meets wandb's service as it goes: what it left is removed, and the run is kept."""
    left, kept = tmp_path / "wandb" / "run-1-abc", []
    ended: list[bool] = []

    def init(self: WandbRun, mode: str) -> None:
        if not ended:
            left.mkdir(parents=True)
            raise ConnectionResetError("Connection lost")
        kept.append(mode)

    monkeypatch.setattr(loggers, "_end_service", lambda grace=0.0: ended.append(True))
    monkeypatch.setattr(loggers, "_folder_of", lambda run: left.parent)
    for name, stand_in in (("_init", init), ("_write", lambda self, run: None), ("_finish", lambda self, run: None)):
        monkeypatch.setattr(WandbRun, name, stand_in)
    run = WandbRun.__new__(WandbRun)
    run._arguments, run._said = {"dir": str(tmp_path), "id": "abc"}, []
    run._offline()
    assert kept == ["offline"] and len(run._said) == 1 and not left.exists()


def test_refused_connection_costs_a_warning(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = run_job(tmp_path, WANDB_API_KEY=KEY, WANDB_BASE_URL=url)
    done.check_curve()
    assert len(done.warnings) == 1
    assert "cannot be reached" in done.warnings[0]
    done.file(kind="offline-run").check()


def test_only_the_first_run_of_a_sweep_waits_for_a_dead_server(tmp_path: Path) -> None:
    with fake_wandb("hang", viewer_fails_too=False) as server:
        job = {"logger": {"budget": BUDGET}, "runs": 4}
        done = run_job(tmp_path, job, WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    times = [float(line.split()[-1]) for line in done.text.splitlines() if line.startswith("run ")]
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert max(waits) < BUDGET / 2, "each would wait as long for the server to answer wandb.init"
    assert len(done.warnings) == 1
    for attempt in (1, 2, 3, 4):
        done.check_curve(attempt)
        done.file(attempt, kind="offline-run").check()


def test_death_of_the_service_process_costs_a_warning(tmp_path: Path) -> None:
    with fake_wandb() as server:
        job = {"logger": {"budget": BUDGET}, "kill_service_after": 2}
        done = run_job(tmp_path, job, WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    done.check_curve()
    assert len(done.warnings) == 1
    done.file(kind="offline-run").check()


def test_process_that_never_finishes_its_logger_ends(tmp_path: Path) -> None:
    with fake_wandb(fails_as="hang") as server:
        job = {"logger": {"budget": BUDGET}, "sleep": 0.6, "finish": False}
        done = run_job(tmp_path, job, WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    assert done.seconds < BUDGET + EPOCHS * 0.6 + 4
    done.check_curve()


@pytest.mark.slow
@pytest.mark.parametrize("failure", ["hangs", "hangs in init", "hangs later"])
def test_default_budget(tmp_path: Path, failure: str) -> None:
    sleep = 0.6 if "fails_as" in FAILURES[failure] else 0.0
    with fake_wandb(**FAILURES[failure]) as server:
        done = run_job(tmp_path, {"sleep": sleep}, WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
        assert done.seconds < 30 + EPOCHS * sleep
        done.check_curve()
        done.file().check()

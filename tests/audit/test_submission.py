"""Results of strangers: packed, checked by the repository that they are handed in to, and what is refused there."""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs import QUICK, results_in
from poolbench import cli
from poolbench.audit import verify as checks
from poolbench.audit.beside import beside, excerpt, jumps
from poolbench.records import version
from poolbench.records.equivalence import Links
from poolbench.records.record import Record, decode, encode
from poolbench.records.stripping import stripped

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODE = f"https://example.org/stranger/pool@{COMMIT}"
HANDED_IN = ["--name", "mine", "--code", CODE, "--authors", "A. Author, B. Author", "--licence", "MIT"]
PACKAGE = '''
from poolbench.pool import SRCPool
from poolbench.pool.topk import top_k

class MyPool(SRCPool):
    """Keeps the half of each graph's nodes that have the highest degree."""

    def select(self, x, a, i):
        a = a.sparse()
        return top_k(a.degree(), a.nodes, ratio=0.5)
'''
OWN = ["pool=none", "pool._target_=stranger_pool.MyPool", "names.pool=mine"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A stranger's package and its two runs, in results; two runs of none, in reference; a git repository, in repo."""
    base = tmp_path_factory.mktemp("made")
    (base / "stranger_pool.py").write_text(PACKAGE)
    with results_in(base / "results"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("POOLBENCH_DATA", str(base / "cache"))
        patch.syspath_prepend(str(base))
        for words in (OWN, ["pool=none"]):
            for seed in (0, 1):
                place = f"paths.results={base / ('reference' if words != OWN else 'results')}"
                assert cli.train([*words, *QUICK, f"seed={seed}", place]) == 0
        repo = base / "repo"
        assert cli.main(["submit", "--init", str(repo), "--code", f"https://example.org/poolbench@{COMMIT}"]) == 0
        git(repo, "init", "-q")
        git(repo, "add", "-A")
        git(repo, "commit", "-qm", "begun")
        assert cli.main(["submit", "pool=mine", "--out", str(repo), *HANDED_IN]) == 0
        yield base
    sys.modules.pop("stranger_pool", None)


def git(repo: Path, *words: str) -> str:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    return subprocess.run(["git", *who, *words], cwd=repo, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repo(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the repository, with the submission in it; the stranger's package now acts when it is imported."""
    sys.modules.pop("stranger_pool", None)
    version._code.cache_clear()  # a process has one version of each class
    acts = tmp_path / "acts"
    acts.mkdir()
    (acts / "stranger_pool.py").write_text("raise SystemExit('it was imported')\n")
    monkeypatch.syspath_prepend(str(acts))
    monkeypatch.setenv("POOLBENCH_DATA", str(made / "cache"))
    return Path(shutil.copytree(made / "repo", tmp_path / "repo"))


@pytest.fixture
def verify(made: Path, repo: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """Looks at the submission; returns the exit code and the lines that were said."""

    def look(*words: str, name: str = "mine") -> tuple[int, list[str]]:
        capsys.readouterr()
        folder = str(repo / "submissions" / name)
        code = cli.main(["verify", "--submission", folder, "--against", str(made / "reference"), *words])
        assert "stranger_pool" not in sys.modules or "--trust" in words
        said = capsys.readouterr()
        return code, [*said.out.splitlines(), *said.err.splitlines()]

    return look


Look = Callable[..., tuple[int, list[str]]]


def lines_of(repo: Path, name: str = "mine") -> Path:
    (path,) = (repo / "submissions" / name / "records").glob("*/*.jsonl")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def identified(record: dict[str, Any]) -> dict[str, Any]:
    """With the id that follows from what it says."""
    return {**record, "id": checks.identity(decode(json.dumps(record)))}


def findings(lines: list[str]) -> list[str]:
    """The lines but notes, what could not be checked, and the last."""
    return [line for line in lines if not line.startswith(("note: ", "unchecked: ", "re-run: ", "flagged: "))][:-1]


# ------------------------------------------------------------------------------------------------------------- packing


def test_a_submission_says_whose_it_is_and_nothing_of_the_machine(made: Path) -> None:
    folder = made / "repo" / "submissions" / "mine"
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == ["metadata.yaml", "records/planted/holdout.jsonl"]
    assert yaml.safe_load((folder / "metadata.yaml").read_text()) == {
        "schema": 1, "name": "mine", "operator": "mine", "class": "stranger_pool.MyPool", "code": CODE,
        "licence": "MIT", "authors": ["A. Author", "B. Author"]}  # fmt: skip
    for record in read(lines_of(made / "repo")):
        assert record["curve"] == [] and record["config"]["logger"] == {"_target_": None}
        assert str(made) not in json.dumps(record)


def private(record: Record) -> Record:
    """The record with all that is private, wherever it may stand."""
    text = json.loads(encode(record))
    logger = {"_target_": "poolbench.learn.loggers.WandbLogger", "entity": "secret", "project": "secret", "dir": None}
    text["config"] |= {"logger": logger, "tags": ["secret"], "group": "secret", "paths": {"results": "/secret/x"}}
    text["config"]["job_type"] = "secret"
    text["provenance"]["hardware"] |= {"host": "secret", "platform": "Linux-6-secret-x86_64"}
    text["provenance"]["data"] |= {"kind": "mirror", "where": "https://u:p@secret.example/secret/MUTAG.zip"}
    text["diagnostics"]["search"] = {"journal": "/home/secret/journal.log", "at": ["see http://secret/x"]}
    text |= {
        "status": "failed",
        "reason": "OSError: secret cannot reach https://secret:80/y or /home/secret/graphs.zip",
    }
    text["metrics"] |= {"test": {}}
    return decode(json.dumps(text))


def test_what_is_private_is_left_out_and_the_rest_holds(made: Path) -> None:
    path = next((made / "results").glob("runs/*/1/record.json"))
    record = decode(path.read_text())
    public = stripped(private(record), ["secret"])
    assert b"secret" not in encode(public)
    assert public.reason == "OSError: ... cannot reach .../y or .../graphs.zip"
    assert public.provenance.data["where"] == ".../MUTAG.zip"
    assert public.setting == record.id and list(checks.wrong(public)) == list(checks.wrong(private(record)))
    assert encode(stripped(public)) == encode(public), "stripped once is stripped"
    whole = stripped(record, ["none"])
    assert list(checks.wrong(whole)) == [] and whole.metrics == record.metrics and whole.digests == record.digests


REFUSED: dict[str, tuple[list[str], str]] = {
    "no licence": (["--licence", ""], "--licence is missing"),
    "no words for a licence": (["--licence", "as you like"], "the SPDX identifier"),
    "a name that leaves the folder": (["--name", "../other"], "a name of letters, digits"),
    "code without a commit": (["--code", "https://example.org/x@main"], "the whole hash of a commit"),
    "code with a password": (["--code", f"https://me:pw@example.org/x@{COMMIT}"], "the whole hash of a commit"),
    "nobody": (["--authors", ", "], "a list of names"),
    "a repository that is not there": (["--out", "nowhere"], "there is no folder nowhere"),
    "no operator": (["pool=other"], "no record has pool=other"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_handed_in_is_refused(
    made: Path, repo: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(repo / "submissions" / "mine")
    monkeypatch.setenv("POOLBENCH_RESULTS", str(made / "results"))
    words, said = REFUSED[case]
    capsys.readouterr()
    assert cli.main(["submit", "--out", str(repo), *HANDED_IN, *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error, error
    assert [path.name for path in (repo / "submissions").iterdir()] == [".gitkeep"], "nothing was written"


def test_what_verify_strict_refuses_is_not_packed(
    made: Path, repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(repo / "submissions" / "mine")
    results = Path(shutil.copytree(made / "results", tmp_path / "results"))
    pack = ["submit", str(results), "--out", str(repo), *HANDED_IN]

    def refused(said: str) -> None:
        capsys.readouterr()
        assert cli.main(pack) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and re.search(said, error), error
        assert [path.name for path in (repo / "submissions").iterdir()] == [".gitkeep"], "nothing was written"

    first, second = sorted(results.glob("runs/*/1/record.json"))
    sound, record = first.read_text(), json.loads(first.read_text())
    first.write_text(json.dumps({**record, "metrics": {**record["metrics"], "test": {"accuracy": 1.0, "loss": 0.1}}}))
    refused(f"error: run {record['id']}: metrics.test.accuracy=1.0, and . of 4 outcomes are right")
    first.write_text(json.dumps({**record, "curve": []}))
    refused(rf"unchecked: 1 record without curves: .* \(run {record['id']}\)")
    first.write_text(sound)
    shutil.copytree(made / "reference" / "runs", results / "runs", dirs_exist_ok=True)
    refused(r"records of 2 operators \(mine, none\): choose one with pool=NAME")
    assert cli.main([*pack, "pool=mine", f"id={json.loads(second.read_text())['id']}"]) == 0
    assert len(read(lines_of(repo))) == 1
    capsys.readouterr()
    assert cli.main([*pack, "pool=mine"]) == 2 and "mine is there already" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ checking


def test_a_good_submission_passes_and_nothing_of_it_is_run(made: Path, repo: Path, verify: Look) -> None:
    summary = repo / "summary.md"
    code, said = verify("--summary", str(summary))
    assert code == 0 and findings(said) == [], said
    assert "unchecked: 2 records not re-run (needs --trust stranger_pool)" in said
    assert said[-1] == "2 records, no errors in what could be checked"
    text = summary.read_text()
    assert "**Verified**" in text and "| mine | hierarchical |" in text and "| none (control) | hierarchical |" in text


def test_runs_are_done_again_where_their_package_is_trusted(
    made: Path, repo: Path, verify: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(made))
    code, said = verify("--trust", "stranger_pool", "--seed", "5")
    assert code == 0 and "re-run: 1 of 2 records, drawn by --seed 5" in said, said
    assert any(re.match("re-run: run .*: same: every number has the same bits", line) for line in said), said

    def forged(record: dict[str, Any]) -> dict[str, Any]:
        record["metrics"]["val"]["loss"] = record["selected"]["val/loss"] = 0.01
        row = decode(json.dumps(record)).selected or {}
        chain = b"".join(checks.digests.unpack(record["digests"]))[:4] if record["selected_epoch"] else b""
        digest = chain + checks.digests.follow(chain, row)
        rest = b"".join(checks.digests.unpack(record["digests"]))[len(digest) :]
        return {**record, "digests": base64.b64encode(digest + rest).decode()}

    write(lines_of(repo), [forged(record) for record in read(lines_of(repo))])
    sys.modules.pop("stranger_pool", None)
    assert verify()[0] == 0, "all of it fits together"
    code, said = verify("--trust", "stranger_pool")
    assert code == 2 and any("re-run differs: " in line for line in findings(said)), said


def with_(key: str, value: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Puts a value at a dotted key of the first record, and the id that follows."""

    def change(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        node = records[0]
        *path, last = key.split(".")
        for name in path:
            node = node[name]
        node[last] = value
        return [identified(records[0]), *records[1:]]

    return change


def with_other_answers(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many right, and others."""
    (truth,) = zlib.decompress(base64.b64decode(records[0]["outcomes"]["right"]))  # of four graphs
    others = (byte << 4 for byte in range(16) if byte << 4 != truth)
    byte = next(byte for byte in others if byte.bit_count() == truth.bit_count())
    records[0]["outcomes"]["right"] = base64.b64encode(zlib.compress(bytes([byte]))).decode()
    return records


def with_another_split(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    records[0]["splits"]["hash"] = records[0]["provenance"]["split"] = "2" * 64
    return [identified(records[0]), *records[1:]]


def without_an_operator(record: dict[str, Any]) -> dict[str, Any]:
    record["config"] |= {"pool": {"_target_": "poolbench.pool.nopool.NoPool"}}
    record["config"]["names"]["pool"] = "none"
    return identified(record)


FORGED: dict[str, tuple[Callable[[list[dict[str, Any]]], list[dict[str, Any]]], str]] = {
    "a metric": (with_("metrics.test.accuracy", 1.0), "metrics.test.accuracy=1.0, and . of 4 outcomes are right"),
    "answers": (with_other_answers, "outcomes say of other answers that they are right than the labels do"),
    "a split": (with_another_split, "its split is not what its protocol draws"),
    "a run twice": (lambda records: [*records, records[0]], "is run .*, attempt 1, which stands in"),
    "two attempts": (lambda records: [*records, {**records[0], "attempt": 2}], "is there 2 times"),
    "another class": (with_("config.pool._target_", "other_pool.Pool"), "MyPool, and its class is other_pool.Pool"),
    "another name": (with_("config.names.pool", "yours"), "config.names.pool='yours' is no pool here"),
    "PoolBench's name": (with_("config.names.pool", "topk"), "config.names.pool='topk' is poolbench.pool.topk"),
    "an account": (with_("config.logger", {"_target_": "poolbench.learn.loggers.WandbLogger", "entity": "me"}),
                   "config.logger has what poolbench submit leaves out"),
    "a machine": (with_("provenance.hardware.host", "mine"), "provenance has what poolbench submit leaves out"),
    "a curve": (with_("diagnostics.at", "/home/me/x"), "diagnostics has what poolbench submit leaves out"),
    "other code in a cell": (with_("provenance.code", "0" * 16), "is by another version of the code than run"),
    "a dataset of one's own": (with_("config.dataset", {"_target_": "os.system", "command": "x"}), "is not built from"),
    "a model of one's own": (with_("config.model._target_", "stranger_pool.Model"), "is not known here as a model"),
    "the name of a control": (lambda records: [without_an_operator(record) for record in records],
                              "is of none .poolbench.pool.nopool.NoPool., and the submission of mine"),
    "a file of no lines": (lambda records: [*records, *[{}] * 200], "100th line that is no record: the rest"),
    "a line that is none": (lambda records: [{"id": "x"}, *records], ":1: is no record"),
}  # fmt: skip


@pytest.mark.parametrize("case", FORGED)
def test_what_is_forged_is_found(repo: Path, verify: Look, case: str) -> None:
    change, said = FORGED[case]
    path = lines_of(repo)
    write(path, change(read(path)))
    code, lines = verify("--summary", str(repo / "summary.md"))
    assert code == 2 and any(re.search(said, line) for line in findings(lines)), lines
    assert "**Refused**" in (repo / "summary.md").read_text()


def test_a_run_that_is_there_already_is_refused(made: Path, repo: Path, verify: Look) -> None:
    other = Path(shutil.copytree(repo / "submissions" / "mine", repo / "submissions" / "other"))
    (line, _) = findings(verify()[1])
    assert line.endswith(f"is in {other} already")
    shutil.rmtree(other)
    shutil.copytree(repo / "submissions" / "mine" / "records", made / "reference" / "records")
    try:
        assert findings(verify()[1])[0].endswith(f"is in {made / 'reference'} already")
    finally:
        shutil.rmtree(made / "reference" / "records")


def test_the_epochs_of_another_run_are_flagged(made: Path, repo: Path, verify: Look) -> None:
    (mine, *_), theirs = read(lines_of(repo)), sorted((made / "reference").glob("runs/*/1/record.json"))
    copied = json.loads(encode(stripped(decode(theirs[0].read_text()))))
    copied["config"] |= {"pool": mine["config"]["pool"], "names": mine["config"]["names"]}
    write(lines_of(repo), [identified(copied)])
    code, said = verify()
    assert code == 0 and any(re.search(r"flagged: run .* has the epochs of run .* \(none\)", line) for line in said)


# --------------------------------------------------------------------------------------------------------- the metadata


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"
METADATA: dict[str, tuple[Callable[[str], str], str]] = {
    "no licence": (lambda text: text.replace("licence: MIT\n", ""), "licence is missing: the SPDX identifier"),
    "an empty licence": (lambda text: text.replace("licence: MIT", "licence:"), "licence is missing"),
    "another name": (lambda text: text.replace("name: mine", "name: other"), "and the folder is called mine"),
    "an operator with a path": (lambda text: text.replace("operator: mine", "operator: ../x"), "the name of an operat"),
    "a class with a call": (lambda text: text.replace("stranger_pool.MyPool", "os.system('x')"), "the class of the op"),
    "code by a script": (lambda text: text.replace("https://", "javascript://"), "https://HOST/PATH@COMMIT"),
    "no authors": (lambda text: text.partition("authors")[0] + "authors: me\n", "authors='me': a list of names"),
    "a schema to come": (lambda text: text.replace("schema: 1", "schema: 2"), "schema=2: 1 is expected"),
    "an unknown key": (lambda text: text + "license: MIT\n", "license is no key .did you mean licence"),
    "a bomb": (lambda text: BOMB + text, "anchors, aliases and tags are not read"),
    "an object": (lambda text: text + "x: !!python/object/apply:os.system [echo]\n", "aliases and tags"),
    "endless nesting": (lambda text: "a: " + "[" * 15_000, "stand in each other"),
    "no mapping": (lambda text: "- a\n", "a mapping of keys is expected"),
    "no text": (lambda text: "\0", "it is no YAML"),
    "too much": (lambda text: text + "#" * 20_000, "is larger than 16 KiB"),
}


@pytest.mark.parametrize("case", METADATA)
def test_metadata_that_are_none_are_refused(repo: Path, verify: Look, case: str) -> None:
    change, said = METADATA[case]
    path = repo / "submissions" / "mine" / "metadata.yaml"
    path.write_text(change(path.read_text()))
    code, lines = verify()
    (line,) = findings(lines)
    assert code == 2 and line.startswith(f"{path}: ") and re.search(said, line), line


# ------------------------------------------------------------------------------------------------------------ the files


def linked(place: str, target: str) -> Callable[[Path], Any]:
    def make(folder: Path) -> None:
        path = folder / place
        if path.exists():
            path.unlink()
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(target)

    return make


def sparse(place: str, size: int) -> Callable[[Path], Any]:
    def make(folder: Path) -> None:
        with (folder / place).open("wb") as file:
            file.truncate(size)

    return make


def placed(place: str) -> Callable[[Path], Any]:
    def make(folder: Path) -> None:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text("x\n")

    return make


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a link in place of records": (linked("records/planted/holdout.jsonl", "/etc/passwd"), "is a link"),
    "a link in place of metadata": (linked("metadata.yaml", "/dev/zero"), "is a link"),
    "a link to a folder": (linked("records/more", "/"), "is a link"),
    "an endless file": (sparse("records/planted/holdout.jsonl", 2**40), "is larger than 4096 KiB"),
    "a pipe": (lambda folder: os.mkfifo(folder / "records" / "planted" / "x.jsonl"), "does not belong"),
    "code": (placed("conftest.py"), "does not belong"),
    "links between versions": (placed("equivalence.jsonl"), "does not belong"),
    "runs": (placed("runs/0123456789abcdef/1/record.json"), "does not belong"),
    "a hidden file": (placed("records/planted/.gitattributes"), "does not belong"),
    "a deeper folder": (placed("records/planted/deeper/x.jsonl"), "does not belong"),
    "a name that breaks the line": (placed("records/planted/x\n\x1b[2J.jsonl"), r"x \\x1b\[2J.jsonl: does not belong"),
    "no metadata": (lambda folder: (folder / "metadata.yaml").unlink(), "is missing"),
    "no records": (lambda folder: shutil.rmtree(folder / "records"), "holds no records"),
    "another dataset's file": (
        lambda folder: (folder / "records" / "planted").rename(folder / "records" / "MUTAG"), "in the wrong file"),
    "an empty file": (lambda folder: (folder / "records" / "planted" / "holdout.jsonl").write_text(""), "no records"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_what_does_not_belong_there_is_refused_unread(repo: Path, verify: Look, case: str) -> None:
    make, said = HOSTILE[case]
    make(repo / "submissions" / "mine")
    code, lines = verify()
    assert code == 2 and re.search(said, findings(lines)[0]), lines
    assert all(line.isprintable() for line in lines)


def test_a_folder_that_is_none_is_refused(repo: Path, verify: Look) -> None:
    (repo / "submissions" / "link").symlink_to("mine")
    code, (line,) = verify(name="link")
    assert code == 2 and line.endswith("is no folder of a submission; submissions/NAME is expected")
    shutil.copytree(repo / "submissions" / "mine", repo / "submissions" / "a b")
    code, lines = verify(name="a b")
    assert code == 2 and "a name of letters, digits, _ and -" in lines[0]


@pytest.mark.parametrize("words", [["--rerun", "2"], ["--seed", "-1"], ["--splits"], ["--against", "nowhere"]])
def test_options_that_mean_nothing_are_refused(repo: Path, verify: Look, words: list[str]) -> None:
    code, (line,) = verify(*words)
    assert code == 2 and line.startswith("error: ")


def test_options_of_submissions_go_with_them_alone(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["verify", str(made / "results"), "--seed", "1"], ["submit", "--init", "x", "pool=mine"]):
        capsys.readouterr()
        assert cli.main(words) == 2
        assert "goes with" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- beside what is known


def test_a_cell_above_all_reference_rows_is_flagged(record: Callable[..., Record]) -> None:
    def some(pool: str, *scores: float) -> list[Record]:
        return [record(seed, score, pool) for seed, score in enumerate(scores)]

    reference = [*some("none", 0.6, 0.62, 0.64), *some("topk", 0.7, 0.72, 0.71), *some("mincut", 0.5, 0.51, 0.52)]
    for scores, flagged in (((0.9, 0.92, 0.91), True), ((0.74, 0.6, 0.9), False), ((0.6, 0.61, 0.63), False)):
        ((board, rows),) = beside(some("mine", *scores), reference, Links())
        assert [row.pool for row in rows] == ["mine"]
        said = list(jumps(board, rows))
        assert bool(said) is flagged, said
        assert [row.pool for row in excerpt(board, rows).rows] == ["mine", "none", "topk", "mincut"]
    ((board, rows),) = beside(some("mine", 0.9), reference, Links())
    (line,) = jumps(board, rows)
    assert line.endswith(
        "0.900 (which has no interval) is 19.0 points better than the best reference row, topk with 0.710"
    )
    (_, rows), *_ = beside(some("mine", 0.9), [], Links())
    assert [row.pool for row in rows] == ["mine"], "with nothing beside it"


# ------------------------------------------------------------------------------------------------------- the repository


def test_the_workflow_has_no_rights_and_no_secrets(made: Path) -> None:
    text = (made / "repo" / ".github" / "workflows" / "verify.yml").read_text()
    flow = yaml.safe_load(text)
    assert list(flow[True]) == ["pull_request"] and flow["permissions"] == {"contents": "read"}
    assert flow["env"] == {"POOLBENCH_ADDRESS": "https://example.org/poolbench", "POOLBENCH_COMMIT": COMMIT}
    (job,) = flow["jobs"].values()
    assert "permissions" not in job and "${{ secrets" not in text
    for step in job["steps"]:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step.get("uses", f"a/b@{COMMIT}"))
        assert "${{" not in step.get("run", ""), "what a pull request says is no part of a command"
    rules = (made / "repo" / "README.md").read_text()
    assert COMMIT in rules and "POOLBENCH-" not in rules


def test_the_workflow_takes_one_submission_alone(repo: Path) -> None:
    flow = yaml.safe_load((repo / ".github" / "workflows" / "verify.yml").read_text())
    step = next(step["run"] for step in flow["jobs"]["verify"]["steps"] if step.get("id") == "changed")

    def taken() -> str | None:
        """What comes of a merge of all that is there now."""
        git(repo, "checkout", "-qb", "work")
        git(repo, "add", "-A")
        git(repo, "commit", "-qm", "handed in")
        git(repo, "checkout", "-q", "-")
        git(repo, "merge", "-q", "--no-ff", "-m", "merged", "work")
        out = repo.parent / "output"
        out.unlink(missing_ok=True)
        done = subprocess.run(["bash", "-e", "-c", step], cwd=repo, env={**os.environ, "GITHUB_OUTPUT": str(out)},
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode in (0, 2), done
        git(repo, "reset", "-q", "--hard", "HEAD^1")
        git(repo, "branch", "-qD", "work")
        return out.read_text() if done.returncode == 0 else None

    mine = shutil.copytree(repo / "submissions" / "mine", repo.parent / "kept")

    def handed_in(*more: str) -> str | None:
        shutil.copytree(mine, repo / "submissions" / "mine", dirs_exist_ok=True)
        for place in more:
            (repo / place).parent.mkdir(parents=True, exist_ok=True)
            (repo / place).write_text("x\n")
        return taken()

    assert handed_in() == "name=mine\n"
    for place in ("submissions/other/metadata.yaml", "torch_scatter.py", "README.md", "submissions/$(id)/metadata.yaml",
                  ".github/workflows/verify.yml", "submissions/mine\n/x"):  # fmt: skip
        assert handed_in(place) is None, place


def test_a_repository_is_begun_once(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repo / ".github" / "workflows" / "verify.yml").unlink()
    capsys.readouterr()
    begin = ["submit", "--init", str(repo), "--code"]
    assert cli.main([*begin, f"https://example.org/poolbench@{COMMIT}"]) == 2
    assert "README.md is there already" in capsys.readouterr().err
    assert not (repo / ".github" / "workflows" / "verify.yml").exists(), "nothing was written"
    assert cli.main([*begin, "https://example.org/poolbench"]) == 2


def test_nothing_of_the_current_folder_is_imported(repo: Path, verify: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.chdir(repo)
    monkeypatch.setattr("poolbench.audit.judge.judge", lambda *_: seen.append(str(repo) in sys.path) or 1 / 0)
    verify()
    assert seen == [False]


def test_a_copy_is_not_changed_by_being_stripped(made: Path) -> None:
    record = decode(next((made / "results").glob("runs/*/1/record.json")).read_text())
    before = copy.deepcopy(record)
    stripped(record, ["x"])
    assert encode(before) == encode(record)


def test_a_dataset_that_no_folder_may_be_called_after_is_not_packed(
    made: Path, repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("poolbench.records.gathered.home", lambda config: ("plantée", "holdout"))
    capsys.readouterr()
    words = [*HANDED_IN, "--name", "again"]
    assert cli.main(["submit", str(made / "results"), "--out", str(repo), *words]) == 2
    error = capsys.readouterr().err
    assert f"{repo / 'submissions' / 'again' / 'records' / 'plantée'}: does not belong" in error
    assert sorted(path.name for path in (repo / "submissions").iterdir()) == [".gitkeep", "mine"]

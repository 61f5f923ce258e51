"""The console command `poolbench`, and the door through which `train.py` goes to Hydra.

Hydra composes the configuration; here its errors become one line each, with the nearest name, and exit code 2. What
is heavy (torch, Lightning) is imported only by a job.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from poolbench import __version__
from poolbench.config import Config, read
from poolbench.data.sources.nodegraph_names import NODE_GRAPHS
from poolbench.data.sources.ogb_names import OGB_NAMES
from poolbench.data.sources.tu_names import TU_NAMES
from poolbench.errors import PoolBenchError, nearest
from poolbench.jobs import sweep
from poolbench.jobs.sweep import exit_code
from poolbench.jobs.sweep import explain as explain_error
from poolbench.plugins import Plugin, first_sentence, plugins
from poolbench.records.record import Record

#: Other names that the operators go by.
ALIASES = {
    "acc": "asymcheegercut",
    "avg": "globalavg",
    "diff": "diffpool",
    "identity": "none",
    "jb": "justbalance",
    "lap": "lapool",
    "max": "globalmax",
    "mean": "globalavg",
    "nopool": "none",
    "random": "random-sparse",
    "sagpool": "sag",
    "sum": "globalsum",
    "top-k": "topk",
}
#: Where the operators of other libraries lie; `pool=NAME` knows them by their bare names.
PEERS = "pool/peers"
#: How to get the libraries that PoolBench does not bring by itself.
INSTALL = {"tgp": "pip install torch-geometric-pool torch_scatter"}
#: Hydra's own options.
FLAGS = ("-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "--resolve", "-p", "--package", "-r", "--run",
         "-m", "--multirun", "-sc", "--shell-completion", "-cp", "--config-path", "-cn", "--config-name", "-cd",
         "--config-dir", "--experimental-rerun", "-i", "--info")  # fmt: skip
GROUPS = {"pools": "pool", "models": "model", "datasets": "dataset", "protocols": "protocol"}

USAGE = """usage: poolbench train [GROUP=NAME ...] [KEY=VALUE ...] [-m]   train; train --help says more
       poolbench prepare dataset=NAME                       fetch and parse a dataset ahead of time
       poolbench list pools|models|datasets|protocols       print what there is
       poolbench report [FOLDER] [KEY=VALUE ...]            tables of the records in a results folder
           --format md|tex|csv   how they are printed       such as dataset=PROTEINS pool=mincut,topk status=done
           --out FOLDER          write tables, figures and a page (index.html) there
           --all-code            show other versions of the code too, marked
           --gather              also add the records to those in records/ of the results folder; the page links there
           --wandb               also keep the tables as a W&B run, which poolbench sync uploads
       poolbench tune [GROUP=NAME ...] [KEY=VALUE ...]      search hyper-parameters; the best become an experiment
           search=NAME trials=N workers=N                   a space of conf/search, how many trials, processes
       poolbench rerun RECORD|ID [--out FOLDER]             do a recorded run again and compare; --command: only say how
       poolbench verify [FILE|FOLDER] [--splits]            check records; --splits: draw each split anew
       poolbench wandb-sweep [search=NAME] [GROUP=NAME ...] print a search space as a file for wandb sweep
       poolbench sync [FOLDER]                              upload the W&B runs that were made offline
       poolbench status [FOLDER]                            how far a sweep is: the latest of a results folder, or
                                                            the one in a folder of its own
       poolbench reproduce PAPER/TABLE [--quick] [--seeds N] [--jobs N]    published beside reproduced numbers;
                                                            --list: which there are; --plan: what one takes
       poolbench --version"""

#: Commands that have a help of their own.
EXPLAINED = ("train", "prepare", "reproduce")


def main(argv: Sequence[str] | None = None) -> int:
    """The console command; returns the exit code."""
    try:
        return _main(argv)
    except BrokenPipeError:  # somebody reads the first lines alone, as `poolbench list datasets | head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _main(argv: Sequence[str] | None) -> int:
    command, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    if command == "--version":
        print(f"poolbench {__version__}")
        return 0
    if "=" in command or command in FLAGS:  # poolbench pool=mincut means poolbench train pool=mincut
        return train([command, *rest])
    from poolbench.commands import COMMANDS
    from poolbench.reproduction import reproduce

    commands = {
        "train": train,
        "prepare": prepare,
        "list": list_choices,
        "report": report,
        "status": status,
        "reproduce": reproduce,
        **COMMANDS,
    }
    if command not in EXPLAINED and {"-h", "--help"} & set(rest) and command in commands:
        print(usage(command))
        return 0
    if command not in commands:
        return _fail(f"poolbench has no command {command!r}{nearest(command, commands)}; see poolbench --help", 2)
    return commands[command](rest)


def usage(command: str) -> str:
    """What `USAGE` says of one command."""
    start = "       poolbench "
    parts = USAGE.replace("usage: poolbench ", start, 1).split(start)[1:]
    (found,) = (part for part in parts if part.split()[0] == command)
    return f"usage: poolbench {found.rstrip()}"


def conf_dir() -> Path:
    """The configuration folder: inside an installed package, or beside src/ in a checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "conf"


# -- train --------


def train(argv: Sequence[str]) -> int:
    """Compose the configuration from the command line and do the run, or the sweep; returns the exit code."""
    return _with_hydra(argv, _train_job, _train)


def prepare(argv: Sequence[str]) -> int:
    """Fetch and parse a dataset ahead of time; returns the exit code."""
    return _with_hydra(argv, _prepare_job, _prepare)


def _train_job(config: DictConfig) -> None:
    _train(resolve(config))


def _train(config: Config) -> Record:
    """Do the run of a configuration; returns its record."""
    from poolbench.jobs.run import run

    _speak()
    return run(config)


def _speak() -> None:
    """Let what PoolBench has to say (where a run lies, what a logger lost) reach the terminal, a line each."""
    logger = logging.getLogger("poolbench")
    if not logger.handlers:
        handler = _Terminal()
        handler.setFormatter(_Format())
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


class _Terminal(logging.Handler):
    """Writes to what is standard output at the moment: a worker of a sweep holds back what each of its jobs says."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


class _Format(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        return level + record.getMessage()


def _prepare_job(config: DictConfig) -> None:
    _prepare(resolve(config))


def _prepare(config: Config) -> None:
    """Fetch and parse the dataset of a configuration, and print the facts."""
    from poolbench.data.prepare import prepare as fetch
    from poolbench.learn.build import build_dataset

    for name, value in fetch(build_dataset(config.dataset, config.paths.data, config.paths.mirror)).items():
        print(f"{name:<16} {value}")


def resolve(config: DictConfig) -> Config:
    """The configuration that Hydra composed, with a readout in place of its name. Raises `PoolBenchError`."""
    missing = OmegaConf.missing_keys(config)
    if missing:
        raise PoolBenchError(f"{', '.join(sorted(missing))} must be given, such as {sorted(missing)[0]}=VALUE")
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    plain.pop("hydra", None)
    readout = (plain.get("model") or {}).get("readout")
    if isinstance(readout, str):
        readout = ALIASES.get(readout, readout)
        found = _pool_file(readout)
        if found is None:
            known = [name for name in choices("pool") if _about("pool", name).startswith("Readout")]
            raise PoolBenchError(f"model.readout={readout} is unknown{nearest(readout, known) or _some(known)}")
        plain["model"]["readout"] = found
    _name_own_pool(plain)
    plain["paths"] = {k: v if v is None or "://" in str(v) else str(Path(v).absolute())
                      for k, v in plain["paths"].items()}  # fmt: skip
    return read(plain)


def _pool_file(name: str) -> dict[str, Any] | None:
    """The configuration of the operator NAME, PoolBench's or of another package; None where there is none."""
    for path in (conf_dir() / "pool" / f"{name}.yaml", conf_dir() / PEERS / f"{name}.yaml"):
        if path.is_file():
            return OmegaConf.to_container(OmegaConf.load(path), resolve=True)  # type: ignore[return-value]
    return next((plugin.config for plugin in offered() if plugin.name == name and not plugin.problem), None)


def _name_own_pool(plain: dict[str, Any]) -> None:
    """Call an operator that `pool._target_=` brought by its class, not by the choice that it stands in for."""
    target, chosen = str((plain.get("pool") or {}).get("_target_")), _pool_file(plain["names"]["pool"])
    if chosen is not None and chosen.get("_target_") != target:
        plain["names"]["pool"] = target.rpartition(".")[2]


class Task:
    """What Hydra is given to do: it calls this for a single run; a sweep's launcher takes the parts.

    Args:
        job: does a composed configuration. work: does a resolved one; a function of a module, so that other processes
            find it. None: there are no sweeps of this.
    """

    def __init__(self, job: Callable[[DictConfig], Any], work: Callable[[Config], Any] | None) -> None:
        self.job, self._work = job, work
        self.traces = TRACEBACKS
        #: What the job of a single run raised.
        self.error: Exception | None = None
        #: What the jobs of a sweep came to.
        self.states: list[str] = []

    def __call__(self, config: DictConfig) -> None:
        try:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise PoolBenchError(f"this hydra/launcher is none of PoolBench's{_some(choices('hydra/launcher'))}")
            self.job(config)
        except Exception as error:  # on its way through Hydra it would cost a line of Hydra's own
            self.error = error

    @property
    def work(self) -> Callable[[Config], Any]:
        if self._work is None:
            raise PoolBenchError("this command does not go with -m: start it once for each choice")
        return self._work

    def resolve(self, config: DictConfig) -> Config:
        """The configuration of a job. Raises `PoolBenchError`."""
        with open_dict(config):
            config.pop("hydra")
        try:
            return resolve(config)
        except (HydraException, OmegaConfBaseException) as error:
            raise PoolBenchError(_plain(error)) from error


def _with_hydra(
    argv: Sequence[str], job: Callable[[DictConfig], Any], work: Callable[[Config], Any] | None = None
) -> int:
    task = Task(job, work)
    register_datasets()
    register_pools()
    arguments = [_alias(word) for word in argv]
    unknown = [word for word in arguments if word.startswith("-") and word.partition("=")[0] not in FLAGS]
    if unknown:
        return _fail(f"there is no option {unknown[0]}{nearest(unknown[0], FLAGS)}; parts are chosen as GROUP=NAME", 2)
    if "--help" in arguments or "-h" in arguments:
        return _help(arguments)
    # Hydra wants its flags before the overrides.
    arguments.sort(key=lambda word: word not in ("-m", "--multirun"))
    program, old_argv, old_full = sys.argv[0], sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [program, *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises; what is shown is decided here
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(task)()
        if task.error is not None:
            raise task.error
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from the last checkpoint", 130)
    except (HydraException, OmegaConfBaseException) as error:
        return _fail(explain(error, arguments), 2, error)
    except Exception as error:
        return _fail(*_verdict(error), error)
    except SystemExit as end:  # --help, --version and the like
        return int(end.code or 0)
    finally:
        sys.argv = old_argv
        if old_full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = old_full
    return exit_code(task.states)


HELP = """PoolBench trains a model with a graph pooling operator and keeps a record of the run.

A part is chosen with GROUP=NAME, a value set with KEY=VALUE, a sweep started with -m.

{groups}
dataset: any name that `poolbench list datasets` prints; experiment: the files of conf/experiment

The configuration as it stands:

{config}
Examples:
  python train.py pool=mincut dataset=PROTEINS
  python train.py pool=topk pool.ratio=0.25 dataset=MUTAG logger=none
  python train.py -m pool=topk,mincut,none seed='range(10)' dataset=MUTAG"""


def _help(arguments: Sequence[str]) -> int:
    """Print what there is to choose and the composed configuration (Hydra's own help takes ten times as long)."""
    overrides = [word for word in arguments if not word.startswith("-")]
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = OmegaConf.to_yaml(hydra.compose("train", overrides=overrides))
    except (HydraException, OmegaConfBaseException) as error:
        return _fail(explain(error, arguments), 2, error)
    own = (path.name for path in sorted(conf_dir().iterdir()) if path.is_dir())
    groups = [
        f"{group}: {', '.join(choices(group))}" for group in own if group not in ("dataset", "hydra", "experiment")
    ]
    lines = (textwrap.fill(line, 100, subsequent_indent="  ") for line in groups if not line.endswith(": "))
    print(HELP.format(groups="\n".join(lines), config=config))
    return 0


def _verdict(error: Exception) -> tuple[str, int]:
    """The line and the exit code for an error of a run."""
    return explain_error(error), error.exit_code if isinstance(error, PoolBenchError) else 1


def _fail(message: str, code: int, error: BaseException | None = None) -> int:
    """Print one line; the traceback only where HYDRA_FULL_ERROR=1 was asked for."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    if error is not None and TRACEBACKS:
        import traceback

        traceback.print_exception(error)
    return code


TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR") == "1"


def register_datasets() -> None:
    """Make `dataset=NAME` mean the dataset of that name, for every name without a file of its own."""
    store = ConfigStore.instance()
    for name, base in named_datasets().items():
        store.store(group="dataset", name=name, node={"defaults": [base], "name": name}, provider="poolbench")


def named_datasets() -> dict[str, str]:
    """Every dataset without a file of its own, and the file that it goes by."""
    named = dict.fromkeys(TU_NAMES, "tu") | dict.fromkeys(NODE_GRAPHS, "nodegraph") | dict.fromkeys(OGB_NAMES, "ogb")
    return {name: found for name, found in named.items() if not (conf_dir() / "dataset" / f"{name}.yaml").is_file()}


def register_pools() -> None:
    """Make `pool=NAME` mean an operator of a peer (conf/pool/peers) or of another package, too."""
    store = ConfigStore.instance()
    for path in (conf_dir() / PEERS).glob("*.yaml"):
        node = {"defaults": [f"peers/{path.stem}@_here_"]}
        store.store(group="pool", name=path.stem, node=node, provider="poolbench")
    for plugin in offered():
        if not plugin.problem:
            store.store(group="pool", name=plugin.name, node=plugin.config, provider=plugin.package)


def offered() -> list[Plugin]:
    """The operators that other packages offer, those that cannot be used too."""
    own = (path.stem for folder in ("pool", PEERS) for path in (conf_dir() / folder).glob("*.yaml"))
    return plugins({*own, *ALIASES})


def _alias(word: str) -> str:
    key, equals, value = word.partition("=")
    if key != "pool" or not equals:
        return word
    return "pool=" + ",".join(ALIASES.get(name, name) for name in value.split(","))


# -- errors --------


def explain(error: BaseException, arguments: Sequence[str]) -> str:
    """What is wrong with the command line, in one line that names the nearest choice."""
    text = _plain(error)
    for word in arguments:
        key, equals, value = word.lstrip("+~").partition("=")
        if not equals:
            continue
        if (conf_dir() / key).is_dir():
            known = choices(key)
            for name in value.split(","):
                if name not in known and f"{key}/{name}" in text:
                    if broken := [plugin.broken for plugin in offered() if key == "pool" and plugin.name == name]:
                        return broken[0]
                    return f"{key}={name} is unknown{nearest(name, known) or _some(known)}"
        elif key.startswith("loss_weights."):
            name = key.partition(".")[2]
            return f"{key}={value}: weights of single losses are given together, as 'loss_weights={{{name}: {value}}}'"
        elif not word.startswith("+") and f"'{key}'" in text and "override" in text.lower():
            return f"{key} is no key of the configuration{nearest(key, _keys(arguments))}; see train.py --help"
    return text


def _some(known: Sequence[str]) -> str:
    return f"; there are {', '.join(known)}" if len(known) < 40 else "; poolbench list prints the choices"


def _plain(error: BaseException) -> str:
    """The lines of an error that say what is wrong, as one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("full_key:", "object_type=", "See https", "Set the env"))]
    return "; ".join(kept[:2]) or type(error).__name__


def _keys(arguments: Sequence[str]) -> list[str]:
    """All keys of the configuration that the group choices alone make, or of the default one."""
    groups = [w for w in arguments if "," not in w and "=" in w and (conf_dir() / w.partition("=")[0]).is_dir()]
    for overrides in (groups, []):
        try:
            with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
                config = hydra.compose("train", overrides=overrides)
            return _flat(OmegaConf.to_container(config, resolve=False))
        except (HydraException, OmegaConfBaseException):
            continue
    return []


def _flat(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, Mapping):
        return [prefix]
    inner = [name for key, value in node.items() for name in _flat(value, f"{prefix}.{key}" if prefix else str(key))]
    return [*([prefix] if prefix else []), *inner]


# -- status --------


def status(argv: Sequence[str]) -> int:
    """Print how far a sweep is; returns the exit code."""
    if len(argv) > 1 or any(word.startswith("-") for word in argv):
        return _fail(f"poolbench status {' '.join(argv)}: give one folder at most; see poolbench --help", 2)
    folder = Path(argv[0] if argv else os.environ.get("POOLBENCH_RESULTS", "results"))
    try:
        print(sweep.report(sweep.read(sweep.find(folder))))
    except PoolBenchError as error:
        return _fail(str(error), error.exit_code, error)
    return 0


# -- report --------


REPORT_OPTIONS = ("--gather", "--all-code", "--wandb", "--format", "--out")


def report(argv: Sequence[str]) -> int:
    """Print or write the tables of a results folder's records; returns the exit code."""
    from poolbench.records.equivalence import Links
    from poolbench.records.gathered import add, gather
    from poolbench.report import report as reports
    from poolbench.report.writing import write_report

    try:
        folder, query, options = _report_arguments(argv)
        results = Path(folder or os.environ.get("POOLBENCH_RESULTS", "results"))
        records = gather(results, curves="--out" in options)
        if "--gather" in options:
            add(records, results)
        made = reports.build(records, query, Links.read(results), all_code="--all-code" in options)
        if "--out" in options:
            out, gathered = Path(options["--out"]), "--gather" in options
            print(f"wrote {write_report(made, results, out, gathered)[-1]}")
        else:
            print(made.written(options.get("--format", "md")), end="")
        if "--wandb" in options:
            from poolbench.report.wandb_tools import log_report

            print(f"W&B: {log_report(made, results)}; to upload it: poolbench sync {results}", file=sys.stderr)
    except PoolBenchError as error:
        return _fail(str(error), error.exit_code, error)
    return 0


def _report_arguments(argv: Sequence[str]) -> tuple[str | None, list[str], dict[str, str]]:
    """The folder, the words of the query, and the options with their values."""
    folders: list[str] = []
    query: list[str] = []
    options: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name in ("--format", "--out"):
            options[name] = value if equals else next(words, "")
        elif word in REPORT_OPTIONS:
            options[word] = ""
        elif word.startswith("-") or (folders and not equals):
            hint = nearest(name, REPORT_OPTIONS)
            raise PoolBenchError(f"poolbench report: {word} is not understood{hint}; see poolbench --help")
        else:
            (query if equals else folders).append(word if not equals else _alias(word))
    if options.get("--format", "md") not in ("md", "tex", "csv"):
        raise PoolBenchError(f"--format {options['--format']}: give md, tex or csv")
    if options.get("--out") == "" or {"--out", "--format"} <= set(options):
        raise PoolBenchError("--out wants a folder, and writes every format: leave --format out")
    return (folders[0] if folders else None), query, options


# -- list --------


def choices(group: str) -> list[str]:
    """The names of a configuration group."""
    names = {path.stem for path in (conf_dir() / group).glob("*.yaml")}
    if group == "dataset":
        names |= set(named_datasets())
    if group == "pool":
        names |= {path.stem for path in (conf_dir() / PEERS).glob("*.yaml")}
        names |= {plugin.name for plugin in offered() if not plugin.problem}
    return sorted(names, key=str.lower)


def list_choices(argv: Sequence[str]) -> int:
    """Print the names of a group, each with the first sentence of its file."""
    kind = argv[0] if argv else ""
    if kind not in GROUPS:
        return _fail(f"poolbench list {kind or '?'}: give one of {', '.join(GROUPS)}{nearest(kind, GROUPS)}", 2)
    names = choices(GROUPS[kind])
    missing = [peer for peer in INSTALL if kind == "pools" and importlib.util.find_spec(peer) is None]
    names = [name for name in names if not name.startswith(tuple(f"{peer}_" for peer in missing))]
    width = max(len(name) for name in names)
    for name in names:
        print(f"{name:<{width}}  {_about(GROUPS[kind], name)}".rstrip())
    for peer in missing:
        print(f"{peer}_*: operators of {peer}, which is not installed: {INSTALL[peer]}")
    for plugin in offered() if kind == "pools" else ():
        if plugin.problem:
            print(plugin.broken)
    return 0


def _about(group: str, name: str) -> str:
    path = conf_dir() / group / f"{name}.yaml"
    if group == "pool" and not path.is_file():
        path = conf_dir() / PEERS / f"{name}.yaml"
        if not path.is_file():
            (plugin,) = (plugin for plugin in offered() if plugin.name == name and not plugin.problem)
            return f"{plugin.package}: {plugin.about()}"
    if name in NODE_GRAPHS:
        facts = NODE_GRAPHS[name]
        return f"{facts.collection}: one graph of {facts.nodes} nodes, {facts.classes} classes of nodes"
    if name in OGB_NAMES:
        of = OGB_NAMES[name]
        return f"OGB: {of.graphs} graphs, {of.tasks} task{'s'[: of.tasks > 1]} ({of.kind}), {of.metric}"
    if not path.is_file():
        graphs, classes = TU_NAMES[name]
        return f"TU: {graphs or '?'} graphs, {classes or 'real-valued'} {'classes' if classes else 'targets'}"
    return first_sentence(path)

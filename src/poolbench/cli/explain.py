"""What Hydra says about a command line, in one line that names the nearest choice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import GrammarParseError, MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from poolbench.cli.composing import compose
from poolbench.cli.folders import further, groups
from poolbench.cli.names import choices, offered, some
from poolbench.cli.own import NAME
from poolbench.errors import nearest

#: What composing and resolving raise for words, or files, that make no configuration.
HYDRA_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError)
#: What Hydra says where a word means several runs and it was asked for one.
SEVERAL = ("Ambiguous value for argument", "requires --multirun")
#: What to say of a dataset that nobody knows: it may be of one's own (docs/own_data.md).
OWN = (
    "; your own is a function, as dataset=my_module.load, or lies in the data folder as own/{name}.pt, own/{name}/ or "
    "TUDataset/{name}/ (docs/own_data.md)"
)
#: How lines of their errors begin that do not say what is wrong.
NO_REASONS = ("full_key:", "object_type=", "reference_type=", "See https", "Set the env")
#: What reading a file raises that is none of a configuration.
BROKEN = (YAMLError, UnicodeDecodeError, GrammarParseError)


def explain(error: BaseException, words: Sequence[str], sweeps: bool = False) -> str:
    """What is wrong with the words of a command line.

    Args:
        sweeps: whether the command does several runs with -m.
    """
    text = in_one_line(error)
    if isinstance(error.__cause__ or error, BROKEN) and (path := _broken()):
        return f"{path} is no file of a configuration: {text}"
    if isinstance(error, OverrideParseException):
        if "missing EQUAL" in text:
            return f"{error.override}: GROUP=NAME or KEY=VALUE is expected"
        if "LexerNoViableAlt" in text:
            return f"{error.override}: a value with signs such as ; or a quote is put in quotes, as in \"tags=['a;b']\""
        return text if str(error.override) in text else f"{error.override}: {text}"
    for word in words:
        key, equals, value = word.lstrip("+~").partition("=")
        if not equals:
            continue
        if f"'{word}'" in text and any(said in text for said in SEVERAL):
            return f"{word} means several runs: " + (
                "add -m to do one for each" if sweeps else "this command takes one value: start it once for each"
            )
        if text.startswith(f"Multiple values for {key}."):
            return f"{word}: there is one already; {key}={value} takes its place"
        if "/" in key or key in groups():
            known = choices(key)
            for name in value.split(","):
                if name not in known and f"{key}/{name}" in text:
                    if broken := [plugin.broken for plugin in offered() if key == "pool" and plugin.name == name]:
                        return broken[0]
                    own = OWN.format(name=name) if key == "dataset" and NAME.fullmatch(name) else ""
                    return f"{key}={name} is unknown{nearest(name, known) or some(known)}{own}"
        elif key.startswith(("loss_weights.", "loss_ramp.")):
            whole, _, name = key.partition(".")
            return f"{key}={value}: those of single losses are given together, as '{whole}={{{name}: {value}}}'"
        elif not word.startswith("+") and text.startswith(f"Could not override '{key}'"):
            return _no_key(key, error, words)
    if found := re.search(r"Could not find '(\w+)/(\S+)'", text):  # asked for by a file
        group, name = found.groups()
        whose = f"{asking}: " if (asking := _holding(name)) else ""
        return f"{whose}{group}={name} is unknown{nearest(name, known := choices(group)) or some(known)}"
    where = getattr(error, "full_key", None)
    return f"{where}: {text}" if where and where not in text else text


def _no_key(key: str, error: BaseException, words: Sequence[str]) -> str:
    """What to say of a key that was given, or one in the mapping that it was given, and is none."""
    inner = str(getattr(error.__cause__, "full_key", None))
    wrong, known = inner if inner.startswith(f"{key}.") else key, _keys(words)
    if wrong in known:  # {optimizer.lr: [1]}, which is no {optimizer: {lr: [1]}}
        return f"{key}: {wrong} within a mapping is a mapping of its own: give it alone, as {wrong}=VALUE"
    return f"{wrong} is no key of the configuration{nearest(wrong, known)}; see poolbench train --help"


def in_one_line(error: BaseException) -> str:
    """The lines of an error that say what is wrong, as one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(NO_REASONS)]
    cause = error.__cause__ or error.__context__
    if cause is not None and (not kept or kept[0].startswith("Error merging override")):
        return ": ".join([*kept[:1], in_one_line(cause)])
    return "; ".join(kept[:2]) or type(error).__name__


def unresolved(error: BaseException, config: DictConfig) -> str:
    """What is wrong with a value of the configuration that stands for another, and which file of one's own has it."""
    text, key = in_one_line(error), getattr(error, "full_key", None) or ""
    if isinstance(error, MissingMandatoryValue):
        return f"{key} must be given, such as {key}=VALUE"
    value: Any = OmegaConf.to_container(config, resolve=False)
    with suppress(KeyError):  # of Hydra's own part
        for name in re.findall(r"[^.\[\]]+", key):
            value = value[int(name) if isinstance(value, list) else name]
    return ": ".join(filter(None, (_holding(value) if isinstance(value, str) else "", key, text)))


def _own() -> Iterator[Path]:
    """The files of the configuration folders beside PoolBench's."""
    for folder in further():
        yield from sorted(folder.rglob("*.yaml"))


def _broken() -> Path | None:
    """The first of them that is none of a configuration."""
    for path in _own():
        try:
            OmegaConf.load(path)
        except BROKEN:
            return path
    return None


def _holding(text: str) -> str:
    """The first of them in which a text stands, or nothing."""
    return next((str(path) for path in _own() if text in path.read_text(encoding="utf-8", errors="replace")), "")


def _keys(words: Sequence[str]) -> list[str]:
    """All keys of the configuration that the group choices alone make, or of the default one."""
    chosen = [word for word in words if "," not in word and "=" in word and word.partition("=")[0] in groups()]
    for some_words in (chosen, []):
        try:
            return _flat(OmegaConf.to_container(compose(some_words), resolve=False))
        except HYDRA_ERRORS:
            continue
    return []


def _flat(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, Mapping):
        return [prefix]
    inner = [name for key, value in node.items() for name in _flat(value, f"{prefix}.{key}" if prefix else str(key))]
    return [*([prefix] if prefix else []), *inner]

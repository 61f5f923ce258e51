"""`poolbench check`: an operator held to the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from poolbench.cli.options import config_dir
from poolbench.errors import PoolBenchError, nearest, one_line

if TYPE_CHECKING:
    from poolbench.contract.subject import Subject


@click.command
@click.argument("target", metavar="NAME|MODULE.CLASS")
@config_dir
def command(target: str) -> int:
    """Hold an operator or a readout to the contract that PoolBench's own keep: a line a check. Exit code 2 where one
    fails.

    It is one that pool=NAME knows, or a class of a module on the Python path, which the current folder is on. Arguments
    are those of its file; a class has those by default, k = 3 and widths of 5.

    \b
    Examples:
      poolbench check my_module.MyPool
      poolbench check contrast --config-dir own
    """
    subject = _subject(target)
    from poolbench.contract.checks import done, first_call

    if wrong := first_call(subject):
        raise PoolBenchError(f"{subject.name}: {wrong}; mend that first, the other checks call it too")
    made = failed = 0
    for result in done(subject):
        made, failed = made + 1, failed + bool(result.failed)
        print(result, flush=True)
    if failed:
        raise PoolBenchError(
            f"{subject.name}: {failed} of {made} checks failed; docs/new_operator.md says what is meant"
        )
    print(f"{subject.name}: {made} checks, none failed")
    return 0


def _subject(target: str) -> Subject:
    """What is to be checked. Raises `PoolBenchError` in one line where it is no operator, or cannot be made."""
    from poolbench.cli.names import PEERS, choices, pools
    from poolbench.config import Part
    from poolbench.contract.subject import Subject
    from poolbench.learn.locate import locate
    from poolbench.pool.base.src import Operator

    if "." in target:
        name, part = target.rpartition(".")[2], Part(target, {})
    else:
        from poolbench.cli.door import composed, resolve
        from poolbench.cli.names import canonical

        name = canonical(f"pool={target}").removeprefix("pool=")
        if name not in choices("pool"):
            raise PoolBenchError(
                f"check {target}: there is no operator of this name{nearest(target, choices('pool'))}; "
                "give one of poolbench list pools, or module.Class"
            )
        if pools().get(name, "").startswith(PEERS):
            raise PoolBenchError(f"check {target}: it is the code of another library, which the contract is not for")
        part = resolve(composed([f"pool={name}"])).pool
    cls = locate("pool", part)
    if not (isinstance(cls, type) and issubclass(cls, Operator)):
        raise PoolBenchError(f"check {target}: it is no SRCPool and no GlobalPool of poolbench.pool")
    subject = Subject.of(name, cls, part.arguments)
    try:
        subject.make()
    except (Exception, SystemExit) as error:  # whatever somebody's constructor raises
        given = ", ".join(f"{key}={value!r}" for key, value in subject.args.items()) or "no arguments"
        raise PoolBenchError(
            f"check {target}: it cannot be made with {given} ({type(error).__name__}: {one_line(error)}); "
            "a file pool/NAME.yaml in a folder that --config-dir names can have others"
        ) from error
    return subject

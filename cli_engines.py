"""The commands on engines: `plait engines`, `plait engines check`, `measure`, `table`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import anyio
import typer

from .cli import app, print_result
from .errors import InputError

if TYPE_CHECKING:
    from .engines import Engine
    from .engines.conformance import Report, Result
    from .engines.probe import Found

engines_app = typer.Typer(
    help="See which engines are there, and whether one does what it should.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(engines_app, name="engines")

TargetArgument = Annotated[
    str, typer.Argument(metavar="NAME|URL", help="An engine as for --engine, or the address of a server.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@engines_app.callback()
def engines(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the engines: what is installed, how to install the rest, and which servers answer.

    The servers are those of $PLAIT_VLLM_URL, $PLAIT_SGLANG_URL and $OPENAI_BASE_URL.
    """
    if context.invoked_subcommand is not None:
        return
    from .engines.probe import find_engines

    found = find_engines()
    print_result({"engines": [one.as_dict() for one in found]}, as_json, "\n".join(map(_line, found)))


@engines_app.command()
def check(
    target: TargetArgument,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this check; may be repeated.")] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Nats by which log-probabilities of the same token may differ.")
    ] = 0.1,
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds that one check may take.")] = 120.0,
    as_json: JsonOption = False,
) -> None:
    """Run the conformance suite on an engine or a live server. Exit status 1 if a check fails."""
    from .engines import open_engine
    from .engines.conformance import check_engine

    def show(result: Result) -> None:
        sys.stderr.write(f"{result.outcome:8} {result.name}\n")

    async def main(engine: Engine) -> Report:
        async with engine:
            return await check_engine(
                engine, only=only or (), tolerance=tolerance, seconds=seconds, report=None if as_json else show
            )

    report = anyio.run(main, open_engine(engine_name(target)))
    print_result(report.as_dict(), as_json, report.describe())
    if not report.ok:
        raise typer.Exit(1)


@engines_app.command()
def measure(
    target: TargetArgument,
    threads: Annotated[int, typer.Option(min=1, help="Threads side by side.")] = 8,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens that each writes.")] = 64,
    as_json: JsonOption = False,
) -> None:
    """Measure how fast an engine encodes and writes, and note it for `plait explain`, which then foretells seconds.

    It is noted in $PLAIT_SPEEDS, or in a file of your own.
    """
    from .engines import open_engine
    from .engines.speed import Speed, speeds_file, write_speed
    from .engines.speed import measure as measured

    name = engine_name(target)

    async def main() -> Speed:
        async with open_engine(name) as engine:
            return await measured(engine, threads=threads, tokens=tokens)

    speed, file = anyio.run(main), speeds_file()
    write_speed(file, name, speed)
    text = (
        f"{name}: {speed.prefill:,.0f} tokens a second encoded, {speed.decode:,.1f} written by one thread, "
        f"{speed.together:,.1f} by {speed.threads} side by side\nnoted in {file}"
    )
    print_result({"engine": name, "file": str(file), **asdict(speed)}, as_json, text)


@engines_app.command()
def table(as_json: JsonOption = False) -> None:
    """What each kind of engine can do at most, as a Markdown table."""
    from .engines.kinds import KINDS, capability_table

    offers = {kind.name: list(kind.offers.offered) for kind in KINDS.values()}
    print_result({"engines": offers}, as_json, capability_table())


def engine_name(target: str) -> str:
    """The name of an engine: as it is, or of one for the server that answers at a URL. Raises what `probe` raises."""
    from .engines.probe import probe

    if not target.startswith(("http://", "https://")):
        return target
    server = probe(target)
    if not server.models and server.kind == "openai":
        raise InputError(f"the server at {target} lists no models; name one: plait engines check openai:MODEL@{target}")
    sys.stderr.write(f"{target} is {' '.join(filter(None, (server.kind, server.version)))}\n")
    return server.engine


def _line(found: Found) -> str:
    kind = found.kind
    state = f"{found.version or 'there':12}" if kind.installed else "not installed: " + kind.install
    lines = [f"{kind.name:13} {state} {', '.join(kind.forms)}", f"{'':13} {kind.says}"]
    if found.server is not None:
        server = found.server
        lines.append(f"{'':13} {found.variable}: {found.url} answers ({server.kind}; {', '.join(server.models)})")
    elif found.url:
        lines.append(f"{'':13} {found.variable}: {found.fault}")
    elif found.variable:
        lines.append(f"{'':13} {found.variable} is not set: no server is looked for")
    return "\n".join(lines)

"""The command line: `plait run`, `explain`, `recipes`, `models`, `multiverse`, `eval`, `bench`; see also `cli_runs`,
`cli_memory` and `cli_engines`.

Results go to stdout, progress and errors to stderr. Exit status: 0 done; 1 the run, the check or the evaluation
failed; 2 bad usage or input; 130 interrupted.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import nullcontext
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import (
    CapabilityError,
    CheckpointError,
    ContextLengthError,
    GraphError,
    InputError,
    JournalError,
    MemoryStoreError,
    MissingExtraError,
    NodeError,
    PlaitError,
    PoolError,
    UnknownNameError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .orchestrator import Answer, Graph, Journal, Past, Question
    from .tools import Tool

app = typer.Typer(
    name="plait",
    help="Run reasoning: graphs of thoughts, subtasks and tool calls on one shared KV cache.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(help="Look at model checkpoints.", no_args_is_help=True, rich_markup_mode=None)
multiverse_app = typer.Typer(help="Look at Multiverse traces.", no_args_is_help=True, rich_markup_mode=None)
bench_app = typer.Typer(help="Measure, beside what people use today.", no_args_is_help=True, rich_markup_mode=None)
eval_app = typer.Typer(
    help="Measure how often a model is right: `plait eval RECIPE DATA`.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(models_app, name="models")
app.add_typer(multiverse_app, name="multiverse")
app.add_typer(bench_app, name="bench")
app.add_typer(eval_app, name="eval")

RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE|FILE.py[:GRAPH]", help="A recipe (`plait recipes` lists them), or a graph in a Python file."
    ),
]
EngineOption = Annotated[
    str, typer.Option("--engine", help="local, local:MODEL_DIR, transformers:MODEL_DIR or scripted:FILE.json.")
]
FactsOption = Annotated[
    list[Path] | None,
    typer.Option("--facts", help="CSV or JSONL table to look facts up in, beside the built-in countries."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the recipe; `plait recipes` lists them."),
]
PricesOption = Annotated[
    Path | None, typer.Option("--prices", help="JSON table of what a million tokens of each model cost, for plans.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
JournalOption = Annotated[
    Path | None,
    typer.Option("--journal", help="File that runs are recorded in; else $PLAIT_JOURNAL, or one of your own."),
]

BAD_INPUT = (
    CapabilityError,
    CheckpointError,
    ContextLengthError,
    GraphError,
    InputError,
    JournalError,
    MemoryStoreError,
    MissingExtraError,
    PoolError,
    UnknownNameError,
)
INTERRUPTED = 130


class PlanFormat(StrEnum):
    """How a plan is printed."""

    TEXT = "text"
    JSON = "json"
    MERMAID = "mermaid"
    DOT = "dot"


@app.command()
def run(
    recipe: RecipeArgument,
    task: Annotated[str, typer.Argument(help="The task, or a JSON array of a graph's inputs; - reads it from stdin.")],
    question: Annotated[str, typer.Argument(help="The task, where RECIPE is 'archon' and TASK its file.")] = "",
    engine: EngineOption = "local",
    facts: FactsOption = None,
    settings: SetOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the run.")] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds that the run may take.")] = 600.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    journal: JournalOption = None,
    no_journal: Annotated[bool, typer.Option("--no-journal", help="Do not record the run.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe on a task, or a graph on its inputs. What a graph asks a person is asked on the terminal."""
    recipe, task = _of_architecture(recipe, task, question)
    graph = make_graph(recipe, facts, settings, engine)
    text = sys.stdin.read() if task == "-" else task
    if not text.strip():
        raise InputError("the task is empty; give it as an argument, or - to read it from stdin")

    source = {"recipe": _absolute(recipe), "engine": engine, "settings": settings or []}
    with nullcontext() if no_journal else the_journal(journal) as opened:
        result = run_to_end(
            graph,
            _inputs(graph, text),
            timeout=timeout,
            engine=engine,
            seed=seed,
            quiet=quiet,
            answer=None if task == "-" else ask,
            journal=opened,
            source={**source, "facts": [str(table.resolve()) for table in facts or ()]},
        )
    print_result(
        {"answer": result["answer"], "recipe": recipe, "engine": engine, **result}, as_json, _shown(result["answer"])
    )


def _absolute(recipe: str) -> str:
    """The recipe, or the file of a graph, as it is found from any folder."""
    from .orchestrator.load import names_a_file

    return str(Path(recipe).absolute()) if names_a_file(recipe) or recipe.endswith(".json") else recipe


def _of_architecture(recipe: str, task: str, question: str) -> tuple[str, str]:
    """Recipe and task of `archon FILE.json QUESTION`, which is the same as `FILE.json QUESTION`."""
    if recipe != "archon":
        if question:
            raise InputError(f"recipe '{recipe}' takes one task; {question[:40]!r} is too much: quote the task")
        return recipe, task
    if not task.endswith(".json"):
        raise InputError(f"archon takes a configuration and a task: plait run archon FILE.json TASK, not {task[:80]!r}")
    return task, question


def the_journal(file: Path | None) -> Journal:
    """The journal in a file, in $PLAIT_JOURNAL, or in the user's own state folder."""
    from .orchestrator import Journal

    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Journal(file or os.environ.get("PLAIT_JOURNAL") or Path(state) / "plait" / "journal.db")


def run_to_end(graph: Graph[Any], inputs: list[Any], *, timeout: float, **options: Any) -> dict[str, Any]:
    """Run the graph with its tree on stderr; see `_run` for the options."""
    import anyio

    if not timeout > 0:
        raise InputError(f"--timeout {timeout:g} leaves no time to run; use more than 0 seconds")

    async def main() -> dict[str, Any]:
        with anyio.fail_after(timeout):
            return await _run(graph, inputs, **options)

    try:
        return anyio.run(main)
    except TimeoutError as error:
        raise PlaitError(f"the run took longer than --timeout {timeout:g} seconds and was cancelled") from error


async def _run(
    graph: Graph[Any],
    inputs: list[Any],
    *,
    engine: str,
    seed: int,
    quiet: bool,
    answer: Answer | None,
    journal: Journal | Past | None,
    source: Mapping[str, Any],
) -> dict[str, Any]:
    from .orchestrator import Display

    async with graph.stream(*inputs, engine=engine, seed=seed, answer=answer, journal=journal, source=source) as run:
        with Display(enabled=not quiet) as display:
            async for event in run:
                display.show(event)
        value, usage = json.loads(_json(run.value)), run.usage.as_dict()
        return {"answer": value, "run": run.id, "usage": usage, "foreseen": run.forecast.as_dict()["usage"]}


def _inputs(graph: Graph[Any], text: str) -> list[Any]:
    """A text as it is where that is all that a graph takes, or else a JSON array of its inputs."""
    if len(graph.inputs) == 1 and graph.inputs[0].type in (str, Any):
        return [text]
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, list):
        raise InputError(f"{graph!r} takes a JSON array of its inputs; got {text[:80]!r}")
    return given


async def ask(question: Question) -> str:
    """Ask on the terminal: the question on stderr, a line of stdin as the answer. The run goes on meanwhile."""
    import anyio.to_thread

    from .orchestrator.types import name_of

    sys.stderr.write(f"plait asks ({question.path}, {name_of(question.type)}): {question.text} ")
    sys.stderr.flush()
    line: str = await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    if not line:
        sys.stderr.write("\n")
        raise InputError(f"nobody answered {question.text!r}: stdin has ended; type the answer, or pipe it in")
    return line.rstrip("\n")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _json(value: object) -> str:
    """A value as JSON text. Raises ToolError for one that has none."""
    from .tools import render

    return json.dumps(value) if isinstance(value, str) else render(value)


@app.command()
def explain(
    recipe: RecipeArgument,
    file: Annotated[str, typer.Argument(help="The configuration's file, where RECIPE is 'archon'.")] = "",
    engine: EngineOption = "local",
    settings: SetOption = None,
    prices: PricesOption = None,
    form: Annotated[PlanFormat, typer.Option("--format", help="How to print it.")] = PlanFormat.TEXT,
    as_json: JsonOption = False,
) -> None:
    """Show what a graph will do, without running it: contexts, shared prefixes, teams, calls, tokens, cost."""
    from .engines.speed import read_speeds, speeds_file
    from .orchestrator import compile_graph

    graph = make_graph(file if recipe == "archon" and file else recipe, None, settings, engine, prices)
    speed = read_speeds(speeds_file()).get(engine)
    plan = compile_graph(graph, engine, speed=speed)
    drawn = {PlanFormat.MERMAID: plan.graph.mermaid, PlanFormat.DOT: plan.graph.dot}
    print_result(plan.as_dict(), as_json or form is PlanFormat.JSON, drawn.get(form, plan.describe)())


@app.command()
def recipes(as_json: JsonOption = False) -> None:
    """List the recipes, with an example and the settings of each."""
    from .recipes import RECIPES
    from .recipes.settings import settings_of

    rows, lines = [], []
    for recipe in RECIPES.values():
        settings = list(settings_of(recipe.make).values())
        rows.append(
            {
                "name": recipe.name,
                "summary": recipe.summary,
                "source": recipe.source,
                "example": recipe.example,
                "settings": [{"name": one.name, "kind": one.kind, "default": one.default} for one in settings],
            }
        )
        lines.append(f"{recipe.name:17} {recipe.summary} ({recipe.source})\n{'':17} e.g. {recipe.example}")
        lines.append(f"{'':17} --set " + " ".join(f"{one.name}={one.default}" for one in settings))
    print_result({"recipes": rows}, as_json, "\n".join(lines))


@multiverse_app.command("check")
def multiverse_check(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Texts of finished traces.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a file.")] = False,
) -> None:
    """Parse finished traces: blocks, paths, conclusions and depth, or what is wrong and where."""
    from .recipes.blocks import check_file

    reports = [check_file(Path(file)) for file in files]
    for report in reports:
        print_result(report.as_dict(), as_json, report.describe())
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


@models_app.command("check")
def models_check(
    directory: Annotated[Path, typer.Argument(help="Folder in Hugging Face layout.")],
    adapter: Annotated[Path | None, typer.Option(help="LoRA adapter in PEFT format to check with it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Which engine runs it, what is unsupported and why, memory per 1,000 tokens, logits against `transformers`."""
    _require("torch", "local")
    from .engines.local.check import check_model

    report = check_model(directory, adapter)
    print_result(report.as_dict(), as_json, report.describe())
    if not report.supported:
        raise typer.Exit(1)


@eval_app.command("embedded")
def eval_embedded(
    engine: EngineOption = "local",
    count: Annotated[int, typer.Option(help="Tasks of each family and format.")] = 500,
    family: Annotated[list[str] | None, typer.Option(help="Only this family; may be repeated.")] = None,
    format_: Annotated[list[str] | None, typer.Option("--format", help="Only this format; may be repeated.")] = None,
    show_wrong: Annotated[bool, typer.Option(help="Show some of the tasks that went wrong.")] = False,
    as_json: JsonOption = False,
) -> None:
    """How often the embedded model is right, on held-out tasks, with the real engine and real tools."""
    import anyio

    from .engines import open_engine
    from .recipes.training import evaluate

    def report(score: evaluate.Score) -> None:
        line = f"{score.family}, {score.format}: {score.right} of {score.asked} in {score.seconds:.0f} s"
        sys.stderr.write(line + (f", {score.failed} failed\n" if score.failed else "\n"))

    async def main() -> list[evaluate.Score]:
        async with open_engine(engine) as opened:
            return await evaluate.evaluate(
                opened, count=count, families=family or (), formats=format_ or (), report=report
            )

    scores = anyio.run(main)
    if not scores:
        raise InputError(f"no family {family} in format {format_}; leave the options out to see all")
    lines = [evaluate.table(scores)]
    if show_wrong:
        lines += [f"{score.format}: {miss}" for score in scores for miss in score.wrong]
    print_result({"engine": engine, "count": count, "scores": evaluate.as_data(scores)}, as_json, "\n".join(lines))


@bench_app.command("engine")
def bench_engine(
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this section; may be repeated.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder to draw pictures of the tables into.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What the shared-KV engine gains: decoding beside `transformers`, forks, prunes, teams, prefix cache, recipes."""
    _require("torch", "local")
    _require("transformers", "bench")
    from .benchmarks import engine

    engine.main(only=only or (), figures=figures, as_json=as_json)


@bench_app.command("shift")
def bench_shift(
    traces: Annotated[int, typer.Option(min=1, help="Traces of each kind.")] = 40, as_json: JsonOption = False
) -> None:
    """How far a prune by `shift` departs from an exact one, by the share pruned and layer by layer."""
    _require("torch", "local")
    from .benchmarks import shift_departure

    shift_departure.main(traces=traces, as_json=as_json)


@bench_app.command("coverage")
def bench_coverage(
    engine: EngineOption = "local",
    members: Annotated[int, typer.Option(min=1, help="Members of a team.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Tokens that each member writes.")] = 128,
    problems: Annotated[int, typer.Option(min=1, help="Problems of each kind.")] = 3,
    held: Annotated[bool, typer.Option("--held", help="Hold members to the form of answers, by a grammar.")] = False,
    as_json: JsonOption = False,
) -> None:
    """How much of a task teams cover beside members that don't see each other, at equal steps and at equal tokens."""
    from .benchmarks import coverage

    coverage.main(engine=engine, members=members, steps=steps, problems=problems, held=held, as_json=as_json)


@bench_app.command("orchestrator")
def bench_orchestrator(as_json: JsonOption = False) -> None:
    """What a node costs, beside LangGraph and pydantic-graph."""
    _require("langgraph", "bench")
    _require("pydantic_graph", "bench")
    from .benchmarks import orchestrator

    orchestrator.main(as_json=as_json)


@bench_app.command("fan-out")
def bench_fan_out(as_json: JsonOption = False) -> None:
    """Seconds of eight slow look-ups in one turn beside one, and the most in flight under a cap."""
    from .benchmarks import fan_out

    fan_out.main(as_json=as_json)


def make_graph(
    recipe: str,
    facts: list[Path] | None,
    settings: list[str] | None,
    engine: str = "",
    prices: Path | None = None,
) -> Graph[Any]:
    """A graph or an architecture in a file, or a recipe's with the user's tables and settings."""
    from .orchestrator.load import load_graph, names_a_file

    if names_a_file(recipe):
        if facts or settings:
            raise InputError("--facts and --set are for recipes; a graph in a file takes its inputs only")
        return load_graph(recipe)
    if recipe.endswith(".json"):
        from .recipes.architecture import load_architecture, read_prices

        return load_architecture(Path(recipe), engine, read_prices(prices) if prices else {})
    from .recipes import find_recipe
    from .recipes.settings import read_settings

    found = find_recipe(recipe)
    return found.make(_tools(facts), **read_settings(recipe, found.make, settings or []))


def _tools(facts: list[Path] | None) -> tuple[Tool, ...] | None:
    if not facts:
        return None
    from .tools import default_tools

    return default_tools(*facts)


def _require(package: str, extra: str) -> None:
    if find_spec(package) is None:
        raise MissingExtraError(f"this command (package '{package}')", extra)


def print_result(data: dict[str, Any], as_json: bool, text: str) -> None:
    sys.stdout.write((json.dumps(data, ensure_ascii=False) if as_json else text) + "\n")
    sys.stdout.flush()


def main() -> None:
    """The entry point: an error is one line on stderr and an exit status, never a traceback."""
    logging.basicConfig(level=logging.CRITICAL, stream=sys.stderr, format="plait: %(message)s")
    status = 0
    try:
        app()
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else 1
        if status == INTERRUPTED:
            _report(PlaitError("interrupted"))
    except KeyboardInterrupt:
        status = INTERRUPTED
        _report(PlaitError("interrupted"))
    except PlaitError as error:
        status = 2 if isinstance(_cause(error), BAD_INPUT) else 1
        _report(error)
    _leave(status)


def _cause(error: BaseException) -> BaseException:
    """What made a node fail, or the error itself."""
    while isinstance(error, NodeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _report(error: PlaitError) -> None:
    sys.stderr.write(f"plait: {error}\n")
    if "--json" in sys.argv:
        found = {"type": type(_cause(error)).__name__, "message": str(error)}
        sys.stdout.write(json.dumps({"error": found}) + "\n")


def _leave(status: int) -> None:
    """Leave at once: a tool that hangs in a worker thread would keep the process otherwise."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        status = status or 1
    os._exit(status)


from . import cli_agents as cli_agents  # noqa: E402 - their commands are added to the app above
from . import cli_archon as cli_archon  # noqa: E402
from . import cli_data as cli_data  # noqa: E402
from . import cli_engines as cli_engines  # noqa: E402
from . import cli_eval as cli_eval  # noqa: E402
from . import cli_memory as cli_memory  # noqa: E402
from . import cli_runs as cli_runs  # noqa: E402
from . import cli_search as cli_search  # noqa: E402

if __name__ == "__main__":
    main()

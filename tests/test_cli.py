"""The command line as a user meets it: one object on stdout, one message for bad input, nothing left running."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

EMBEDDED = Path(__file__).parent.parent / "engines" / "local" / "embedded"
QUESTION = "Which has more people, Peru or Chile plus Bolivia?"
COMMAND = str(Path(sys.executable).with_name("plait"))
STATE = tempfile.mkdtemp(prefix="plait-state-")
QUIET = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "XDG_STATE_HOME": STATE}
QUIET.pop("PLAIT_JOURNAL", None)


def plait(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=120, env=QUIET, **options)


def refused(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    """One clear message, the exit status, no traceback, no result."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    messages = [line for line in done.stderr.splitlines() if line.startswith("plait: ")]
    assert len(messages) == 1, done.stderr
    for word in words:
        assert word in messages[0]
    assert done.stdout == ""


def script(tmp_path: Path, *replies: object) -> str:
    path = tmp_path / "script.json"
    path.write_text(json.dumps(replies))
    return f"scripted:{path}"


def test_the_main_job_answers() -> None:
    done = plait("run", "hybrid_search", QUESTION, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["answer"] == "Peru"
    assert {"answer", "usage", "run", "recipe", "engine"} <= set(result)
    assert result["usage"]["calls"] == 4
    assert "people of Bolivia" in done.stderr


@pytest.mark.parametrize("recipe", ["tim", "dta", "serial_search"])
def test_every_fact_recipe_answers(recipe: str) -> None:
    done = plait("run", recipe, "What is the capital of Peru?", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Lima\n", "")


def test_a_table_of_the_users_own_is_used(tmp_path: Path) -> None:
    table = tmp_path / "cities.csv"
    table.write_text("city,people\nZarnovia,120\nBelmora,300\n")
    done = plait("run", "hybrid_search", "How many people live in Zarnovia?", "--facts", str(table), "-q")
    assert (done.returncode, done.stdout) == (0, "120\n")


def test_unknown_recipe() -> None:
    refused(plait("run", "hybird_search", QUESTION), 2, "hybird_search", "did you mean 'hybrid_search'")


def test_unknown_engine() -> None:
    refused(plait("run", "tim", QUESTION, "--engine", "llama"), 2, "unknown engine 'llama'", "local")


def test_missing_checkpoint(tmp_path: Path) -> None:
    refused(plait("run", "tim", QUESTION, "--engine", f"local:{tmp_path}/none"), 2, f"{tmp_path}/none")


def test_corrupt_checkpoint(tmp_path: Path) -> None:
    broken = Path(shutil.copytree(EMBEDDED, tmp_path / "broken"))
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    refused(plait("run", "tim", QUESTION, "--engine", f"local:{broken}"), 2, "model.safetensors")


def test_unsupported_architecture(tmp_path: Path) -> None:
    other = Path(shutil.copytree(EMBEDDED, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    config.update(architectures=["MambaForCausalLM"], model_type="mamba")
    (other / "config.json").write_text(json.dumps(config))
    refused(plait("run", "tim", QUESTION, "--engine", f"local:{other}"), 2, "amba")
    done = plait("models", "check", str(other))
    assert done.returncode == 1
    assert "amba" in done.stdout


def test_models_check_of_the_embedded_model() -> None:
    done = plait("models", "check", str(EMBEDDED), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["family"] == "qwen3"
    assert report["problems"] == []
    assert report["kv_bytes_per_1000_tokens"] > 0
    assert report["logits_difference"] < 1e-4


def test_models_check_of_an_adapter_that_is_none(tmp_path: Path) -> None:
    done = plait("models", "check", str(EMBEDDED), "--adapter", str(tmp_path), "--json")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["engine"] == f"local:{EMBEDDED}"
    assert f"no adapter at {tmp_path}" in report["adapter_problem"]


def test_the_breadth_path_answers_as_the_decoder_does() -> None:
    done = plait("run", "tim", QUESTION, "-q", "--engine", f"transformers:{EMBEDDED}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Peru"


@pytest.mark.parametrize("task", ["", "  \n"])
def test_empty_task(task: str) -> None:
    refused(plait("run", "tim", task), 2, "task is empty")


def test_a_task_that_is_not_utf_8() -> None:
    refused(plait("run", "tim", "-q", os.fsdecode(b"Peru\xff")), 2, "character", "surrogate", "errors='replace'")


def test_a_task_of_100_kilobytes() -> None:
    done = plait("run", "tim", "-", "-q", input="word " * 20_000)
    refused(done, 2, "tokens", "2048")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("city,people\nZarnovia,120\nBelmora\n", ("line 3",)),
        ("", ("empty",)),
        ("city,people\nA,1\nA,2\n", ("line 3", "A")),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    table = tmp_path / "cities.csv"
    table.write_text(text)
    refused(plait("run", "tim", QUESTION, "--facts", str(table)), 2, "cities.csv", *words)


def test_errors_are_data_with_json() -> None:
    done = plait("run", "nothing", QUESTION, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["type"] == "UnknownNameError"


def test_a_run_that_takes_too_long_is_cancelled(tmp_path: Path) -> None:
    engine = script(tmp_path, {"text": "\\boxed{late}", "latency": 60})
    refused(plait("run", "hybrid_search", "?", "--engine", engine, "--timeout", "0.5", "-q"), 1, "--timeout 0.5")


def test_interrupt_in_mid_run(tmp_path: Path) -> None:
    """Ctrl-C ends the run with one message, status 130 and no process left."""
    engine = script(tmp_path, {"text": "\\boxed{late}", "latency": 60})
    command = [COMMAND, "run", "hybrid_search", "?", "--engine", engine]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=QUIET
    )
    time.sleep(3)
    assert running.poll() is None
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert out == ""
    assert "plait: interrupted" in err
    assert "Traceback" not in err


HANGS = """
import time, plait
from plait import cli
from plait.recipes import catalog
from plait.engines.scripted import ScriptedEngine

@plait.tool(name="lookup", timeout=0.5)
def lookup(query: str) -> str:
    {body}

graph = catalog.hybrid_search([lookup])
catalog.RECIPES["slow"] = catalog.Recipe("slow", "", "", "", lambda tools: graph)
cli.main()
"""


@pytest.mark.parametrize(
    ("body", "said"), [("time.sleep(600)", "timeout of 0.5 seconds"), ("raise ValueError('no luck')", "no luck")]
)
def test_a_tool_that_hangs_or_raises_is_told_to_the_model(tmp_path: Path, body: str, said: str) -> None:
    """The run goes on with the error as the result; the process ends although the tool's thread does not."""
    engine = script(tmp_path, "<|begin_search_queries|>a<|end_search_queries|>", "\\boxed{unknown}")
    program = [sys.executable, "-c", HANGS.format(body=body), "run", "slow", "?", "--engine", engine]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=QUIET)
    assert (done.returncode, done.stdout) == (0, "unknown\n"), done.stderr
    assert said in done.stderr


def test_recipes_are_listed() -> None:
    done = plait("recipes", "--json")
    names = [recipe["name"] for recipe in json.loads(done.stdout)["recipes"]]
    assert names[:2] == ["tim", "hybrid_search"]


@pytest.mark.parametrize("recipe", ["tim", "countdown"])
def test_explain_shows_the_plan_without_running(recipe: str) -> None:
    done = plait("explain", recipe)
    assert done.returncode == 0, done.stderr
    assert recipe in done.stdout


def test_settings_reach_the_recipe(tmp_path: Path) -> None:
    goal = "<Parallel><Goal><Outline>1: a</Outline></Goal>"
    replies = [goal, "b</Path>", "c</Conclusion></Parallel> d"]
    command = ("run", "multiverse", "?", "-q", "--engine", script(tmp_path, *replies))
    assert plait(*command).stdout == "d\n"
    assert plait(*command, "--set", "returns=trace").stdout.startswith(goal)
    refused(plait(*command, "--set", "return=trace"), 2, "no setting 'return'", "did you mean 'returns'")


def test_multiverse_traces_are_checked_one_object_a_file(tmp_path: Path) -> None:
    texts = {
        "good": "<Parallel><Goal><Outline>1: a</Outline></Goal><Path>1: b</Path><Conclusion>c</Conclusion></Parallel>",
        "cut": "so\n<Parallel><Goal>",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary").write_bytes(b"ab\n\xff")
    files = [str(tmp_path / name) for name in ("good", "cut", "binary", "none")]
    done = plait("multiverse", "check", *files, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    good, cut, binary, none = map(json.loads, done.stdout.splitlines())
    assert good == {"file": files[0], "ok": True, "blocks": 1, "paths": 1, "conclusions": 1, "depth": 1}
    assert (cut["ok"], cut["error"]["line"], cut["error"]["column"]) == (False, 2, 17)
    assert (binary["error"]["line"], binary["error"]["column"]) == (2, 1)
    assert none["error"]["type"] == "DataError"
    shown = plait("multiverse", "check", *files).stdout.splitlines()
    assert shown[0] == f"{files[0]}: ok, blocks 1, paths 1, conclusions 1, depth 1"
    assert shown[1].startswith(f"{files[1]}:2:17: the text ends inside <Goal>")
    assert plait("multiverse", "check", files[0], "--json").returncode == 0


ASKING = """
import plait

@plait.graph
def shop(g: plait.Builder, what: str, count: int) -> str:
    words = g.think("Praise {what}.", what=what)
    ok = g.ask("Buy {count}?", count=count, returns=bool)
    bought = lambda g, words: g.function(lambda words: "bought: " + words, words=words)
    arms = {True: bought, False: lambda g, words: words}
    return g.branch(ok, arms, words=words)

@plait.graph
def other(g: plait.Builder, what: str) -> str:
    return g.think("{what}", what=what)
"""


@pytest.fixture
def asking(tmp_path: Path) -> str:
    file = tmp_path / "shop.py"
    file.write_text(ASKING)
    return str(file)


def test_a_graph_in_a_file_runs_and_asks_on_the_terminal(tmp_path: Path, asking: str) -> None:
    options = ["--engine", script(tmp_path, "fine"), "-q"]
    done = plait("run", f"{asking}:shop", '["tea", 3]', *options, input="yes\n")
    assert (done.returncode, done.stdout) == (0, "bought: fine\n"), done.stderr
    assert "plait asks (ask, bool): Buy 3?" in done.stderr
    refused(plait("run", f"{asking}:shop", '["tea", 3]', *options, input=""), 2, "nobody answered 'Buy 3?'")
    refused(plait("run", f"{asking}:shop", "tea", *options, input=""), 2, "takes a JSON array of its inputs")


def test_a_file_with_several_graphs_must_be_told_which(tmp_path: Path, asking: str) -> None:
    refused(plait("explain", asking), 2, "has several graphs: shop, other; say which")
    refused(plait("explain", f"{asking}:none"), 2, "has no graph 'none'; it has: shop, other")
    refused(plait("explain", f"{tmp_path}/none.py"), 2, "there is no file")
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_this_name")
    refused(plait("explain", str(broken)), 2, "can't be run: ModuleNotFoundError")


BESIDE = """
from __future__ import annotations
import sys
import plait
from helping import Base

class Order(Base):
    lines: list[Line]

class Line(Base):
    price: int

@plait.tool
async def order(price: int) -> Order:
    return Order(lines=[Line(price=price)])

@plait.graph
def shop(g: plait.Builder, price: int) -> Order:
    return g.call(order, price=price)
"""


def test_a_graphs_file_is_a_module_that_finds_what_stands_beside_it(tmp_path: Path) -> None:
    (tmp_path / "helping.py").write_text("from pydantic import BaseModel as Base")
    (tmp_path / "json.py").write_text(BESIDE)
    done = plait("run", f"{tmp_path}/json.py", "[5]", "-q")
    assert (done.returncode, done.stdout) == (0, '{"lines": [{"price": 5}]}\n'), done.stderr
    (tmp_path / "leaving.py").write_text("raise SystemExit('done')")
    refused(plait("explain", f"{tmp_path}/leaving.py"), 2, "leaving.py can't be run: SystemExit: done")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_a_run_must_have_time(tmp_path: Path, asking: str, seconds: str) -> None:
    refused(plait("run", f"{asking}:other", "tea", "-q", "--timeout", seconds), 2, "leaves no time to run")


@pytest.mark.parametrize(
    ("form", "begins"),
    [("text", "graph shop on"), ("json", "{"), ("mermaid", "flowchart TD"), ("dot", 'digraph "shop"')],
)
def test_a_plan_is_printed_in_every_form(tmp_path: Path, asking: str, form: str, begins: str) -> None:
    done = plait("explain", f"{asking}:shop", "--engine", script(tmp_path), "--format", form)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(begins)
    assert "ask" in done.stdout


# ---- recorded runs


PAYING = """
import os, pathlib, plait

HERE = pathlib.Path(__file__).parent

@plait.tool
def pay(amount: int) -> int:
    (HERE / "paid.txt").open("a").write("paid\\n")
    if not (HERE / "calm").exists():
        os.kill(os.getpid(), 9)
    return amount

def double(number: int) -> int:
    return 2 * number

@plait.graph
def shop(g: plait.Builder, amount: int) -> int:
    return g.function(double, number=g.call(pay, amount=amount))
"""


def test_runs_are_recorded_shown_replayed_and_forked(tmp_path: Path) -> None:
    options = ["--journal", str(tmp_path / "j.db")]
    turns = ("<|begin_search_queries|>people of Peru<|end_search_queries|>", "\\boxed{many}")
    done = plait("run", "hybrid_search", "How many?", "--engine", script(tmp_path, *turns), "-q", "--json", *options)
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)["run"]
    (row,) = json.loads(plait("runs", "--json", *options).stdout)["runs"]
    assert (row["run"], row["state"], row["graph"], row["uncertain"]) == (run, "done", "hybrid_search", [])
    shown = plait("show", run[:6], *options).stdout
    assert "think search/1-turn-1" in shown
    assert shown.endswith("value: many\n")
    again = plait("show", run, "--replay", *options)
    assert (again.returncode, again.stdout) == (0, "many\n"), again.stderr
    other = script(tmp_path, turns[0], "\\boxed{few}")
    forked = plait("fork", run, "--at", "search/3-turn-2", "--engine", other, "-q", *options)
    assert (forked.returncode, forked.stdout) == (0, "few\n"), forked.stderr
    latest = json.loads(plait("runs", "--json", *options).stdout)["runs"][0]
    assert latest["parent"] == run
    refused(plait("show", "nothing", *options), 2, "has no run of id 'nothing'")


def test_a_killed_run_is_resumed_when_what_is_uncertain_is_resolved(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(PAYING)
    killed = plait("run", f"{tmp_path}/shop.py", "[5]", "-q")
    assert killed.returncode == -signal.SIGKILL
    rows = json.loads(plait("runs", "--json").stdout)["runs"]
    run = next(row["run"] for row in rows if row["graph"] == "shop")
    assert json.loads(plait("show", run, "--json").stdout)["value"] == ""
    (tmp_path / "calm").touch()
    refused(plait("resume", run, "-q"), 1, "the call pay(amount=5) at 'pay' was begun", "--assume-done 'pay=VALUE'")
    assert "uncertain: pay" in plait("show", run).stdout
    resumed = plait("resume", run, "--assume-done", "pay=5", "-q")
    assert (resumed.returncode, resumed.stdout) == (0, "10\n"), resumed.stderr
    assert (tmp_path / "paid.txt").read_text() == "paid\n"
    changed = plait("fork", run, "--set", "pay=7", "-q")
    assert (changed.returncode, changed.stdout) == (0, "14\n"), changed.stderr


def test_what_a_resumed_run_asks_is_answered_from_a_pipe_too(tmp_path: Path, asking: str) -> None:
    options = ["--engine", script(tmp_path, "fine", "fine"), "-q"]
    refused(plait("run", f"{asking}:shop", '["tea", 3]', *options, input=""), 2, "nobody answered 'Buy 3?'")
    rows = json.loads(plait("runs", "--json").stdout)["runs"]
    run = next(row["run"] for row in rows if row["graph"] == "shop" and row["state"] == "failed")
    resumed = plait("resume", run, "-q", input="yes\n")
    assert (resumed.returncode, resumed.stdout) == (0, "bought: fine\n"), resumed.stderr


def test_no_journal_records_nothing(tmp_path: Path) -> None:
    state = {"env": {**QUIET, "XDG_STATE_HOME": str(tmp_path / "state")}}
    command = [COMMAND, "run", "hybrid_search", "?", "--engine", script(tmp_path, "\\boxed{x}"), "-q", "--no-journal"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, **state).stdout == "x\n"
    assert not (tmp_path / "state").exists()

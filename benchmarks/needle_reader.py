"""A scripted model that follows needle threads: all that it knows stands in its prompt.

It finds what it is shown, makes no mistakes and remembers nothing, so that what it gets wrong is what its context did
not hold.
"""

from __future__ import annotations

import re

from plait.recipes.needles import values_of

_KEY = re.compile(r"[0-9a-f]{8}")
_TREE = "Format: task tree"
_RESULT = '"tool_result":"'
_STEP = re.compile(r'"thought":"step (\d+): ([0-9a-f ]+)"')
_TASK = re.compile(r'"thought":"(value of|again) ([0-9a-f]{8})"')
_DONE = re.compile(
    r'"thought":"(?:value of|again) ([0-9a-f]{8})",'
    r'"tooluse":\{"tool_name":"\w+","parameters":\{[^{}]*\},"tool_result":"(?:[^"\\]|\\.)*"\},'
    r'"conclusion":"([0-9a-f ]*)"'
)


def read(prompt: str, given: int) -> str:
    """The reply of a scripted engine: the next piece of a task tree, or the answer where the haystack is in sight."""
    before, _, trace = prompt.rpartition("<|assistant|>")
    question = before.rpartition("<|user|>")[2]
    starts = _KEY.findall(question.partition("Begin with")[2].partition("and go on")[0])
    if _TREE not in before:
        return _follow(starts, question)
    steps = list(_STEP.finditer(trace))
    if not steps:
        return '{"reasoning":[' + _open_step(1, starts)
    step = steps[-1]
    return _go_on(int(step[1]), step[2].split(), trace[step.end() :])


def _go_on(step: int, heads: list[str], tail: str) -> str:
    """What comes after the last result: the next look-up, what has gone out of sight, the next step, or the answer."""
    (kind, key), result = _TASK.findall(tail)[-1], tail.rpartition(_RESULT)[2]
    found = values_of(key, result) if kind == "value of" else _KEY.findall(result)
    concluded = f'"}},"conclusion":"{" ".join(found)}"}}'
    at = heads.index(key)
    if kind == "value of" and at + 1 < len(heads):
        return f"{concluded},{_look_up(heads[at + 1])}"
    known = {**{one: said.split() for one, said in _DONE.findall(tail)}, key: found}
    missing = [head for head in heads if head not in known]
    if missing:
        return f"{concluded},{_recall(missing[0])}"
    following = [value for head in heads for value in known[head]]
    done = f'{concluded}],"conclusion":"{len(following)} go on"}}'
    return f"{done},{_open_step(step + 1, following)}" if following else f'{done}],"answer":"{", ".join(heads)}"}}'


def _open_step(number: int, heads: list[str]) -> str:
    return f'{{"thought":"step {number}: {" ".join(heads)}","subtasks":[{_look_up(heads[0])}'


def _look_up(key: str) -> str:
    return f'{{"thought":"value of {key}","tooluse":{{"tool_name":"search","parameters":{{"words":"{key}"}},{_RESULT}'


def _recall(key: str) -> str:
    name = f"value of {key}"
    return f'{{"thought":"again {key}","tooluse":{{"tool_name":"recall","parameters":{{"name":"{name}"}},{_RESULT}'


def _follow(heads: list[str], text: str) -> str:
    """The last values of all, read at once."""
    while following := [value for head in heads for value in values_of(head, text)]:
        heads = following
    return ", ".join(heads)

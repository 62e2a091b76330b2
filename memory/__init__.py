"""Concept memory: lessons that outlive a run (ArcMemo, arXiv:2509.04439)."""

from .arcmemo import Found, Reading, Rejection, read_files, read_text, write_json, write_yaml
from .concept import Concept, Entry, Lesson, Parameter, Solution, TypeName
from .render import render, render_entry
from .select import Selector
from .store import Added, Change, Memory

__all__ = [
    "Added",
    "Change",
    "Concept",
    "Entry",
    "Found",
    "Lesson",
    "Memory",
    "Parameter",
    "Reading",
    "Rejection",
    "Selector",
    "Solution",
    "TypeName",
    "read_files",
    "read_text",
    "render",
    "render_entry",
    "write_json",
    "write_yaml",
]

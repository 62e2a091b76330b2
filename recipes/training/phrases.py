"""The wordings of fact questions; `{a}` is the attribute, `{x}` and `{y}` are the operands."""

from __future__ import annotations

from typing import Literal

Kind = Literal["number", "text", "total", "difference", "larger", "smaller"]

GENERAL: dict[Kind, tuple[str, ...]] = {
    "number": (
        "How many {a} does {x} have?",
        "How many {a} are there in {x}?",
        "How many {a} live in {x}?",
        "What is the number of {a} of {x}?",
        "What is the number of {a} in {x}?",
        "What's the {a} of {x}?",
        "What is the {a} of {x}?",
        "What is the {a} of {x}?",
        "Give the {a} of {x}.",
    ),
    "text": (
        "What's the {a} of {x}?",
        "What is the {a} of {x}?",
        "What is the {a} of {x}?",
        "Who is the {a} of {x}?",
        "Which is the {a} of {x}?",
        "Which {a} does {x} have?",
        "What {a} does {x} have?",
        "Name the {a} of {x}.",
        "Give the {a} of {x}.",
    ),
    "total": (
        "How many {a} do {x} have in total?",
        "How many {a} do {x} have together?",
        "How many {a} are there in {x} together?",
        "How many {a} are there in {x} in total?",
        "What is the total number of {a} of {x}?",
        "What is the total {a} of {x}?",
        "What is the combined {a} of {x}?",
        "What is the sum of the {a} of {x}?",
        "What is the total number of {a} in {x}?",
    ),
    "difference": (
        "How many more {a} does {x} have than {y}?",
        "How many more {a} are there in {x} than in {y}?",
        "What is the number of {a} of {x} minus that of {y}?",
        "What is the {a} of {x} minus that of {y}?",
        "How much is the {a} of {x} minus that of {y}?",
        "How many {a} must be taken from {x} to leave {y}?",
        "What is the difference between the {a} of {x} and that of {y}?",
        "By how much does the {a} of {x} exceed that of {y}?",
    ),
    "larger": (
        "Which has more {a}, {x} or {y}?",
        "Does {x} or {y} have more {a}?",
        "Which has the larger {a}, {x} or {y}?",
        "Which has the greater {a}, {x} or {y}?",
        "Which has the higher {a}, {x} or {y}?",
        "Which has the larger number of {a}, {x} or {y}?",
        "Which is larger by {a}, {x} or {y}?",
        "Are there more {a} in {x} or in {y}?",
    ),
    "smaller": (
        "Which has fewer {a}, {x} or {y}?",
        "Does {x} or {y} have fewer {a}?",
        "Which has the smaller {a}, {x} or {y}?",
        "Which has the lower {a}, {x} or {y}?",
        "Which has less {a}, {x} or {y}?",
        "Which has the smaller number of {a}, {x} or {y}?",
        "Which is smaller by {a}, {x} or {y}?",
        "Are there fewer {a} in {x} or in {y}?",
    ),
}

ABOUT_ONE_ATTRIBUTE: dict[str, dict[Kind, tuple[str, ...]]] = {
    "people": {
        "number": ("How many people live in {x}?", "How many people are there in {x}?", "How many people are in {x}?"),
        "total": (
            "How many people live in {x} together?",
            "How many people live in {x} in total?",
            "How many people live in {x}?",
            "How many people in total live in {x}?",
        ),
        "difference": ("How many more people live in {x} than in {y}?", "How many more people has {x} than {y}?"),
        "larger": (
            "Which has more people, {x} or {y}?",
            "Which country has more people, {x} or {y}?",
            "Do more people live in {x} or in {y}?",
            "Where do more people live, in {x} or in {y}?",
        ),
        "smaller": (
            "Which has fewer people, {x} or {y}?",
            "Which country has fewer people, {x} or {y}?",
            "Do fewer people live in {x} or in {y}?",
            "Where do fewer people live, in {x} or in {y}?",
        ),
    },
    "population": {
        "number": (
            "What is the population of {x}?",
            "How large is the population of {x}?",
            "How big is the population of {x}?",
            "What population does {x} have?",
        ),
        "total": (
            "What is the total population of {x}?",
            "What is the combined population of {x}?",
            "How large is the combined population of {x}?",
        ),
        "difference": (
            "How much larger is the population of {x} than that of {y}?",
            "What is the difference in population between {x} and {y}?",
        ),
        "larger": (
            "Which is more populous, {x} or {y}?",
            "Which has the larger population, {x} or {y}?",
            "Which has the bigger population, {x} or {y}?",
            "Which country has the larger population, {x} or {y}?",
        ),
        "smaller": (
            "Which is less populous, {x} or {y}?",
            "Which has the smaller population, {x} or {y}?",
            "Which country has the smaller population, {x} or {y}?",
        ),
    },
    "area": {
        "number": (
            "How big is {x}?",
            "How large is {x}?",
            "What is the area of {x}?",
            "What is the surface area of {x}?",
            "What area does {x} cover?",
        ),
        "total": (
            "What is the combined area of {x}?",
            "What is the total area of {x}?",
            "How big are {x} together?",
            "How large are {x} together?",
        ),
        "difference": (
            "How much larger is {x} than {y}?",
            "How much bigger is {x} than {y}?",
            "What is the difference in area between {x} and {y}?",
        ),
        "larger": (
            "Which is larger, {x} or {y}?",
            "Which is bigger, {x} or {y}?",
            "Which country is larger, {x} or {y}?",
            "Which is larger by area, {x} or {y}?",
            "Which has the larger area, {x} or {y}?",
            "Is {x} or {y} larger?",
        ),
        "smaller": (
            "Which is smaller, {x} or {y}?",
            "Which country is smaller, {x} or {y}?",
            "Which is smaller by area, {x} or {y}?",
            "Which has the smaller area, {x} or {y}?",
            "Is {x} or {y} smaller?",
        ),
    },
    "capital": {
        "text": (
            "What is the capital of {x}?",
            "Which city is the capital of {x}?",
            "What is the capital city of {x}?",
            "What capital does {x} have?",
        )
    },
    "currency": {
        "text": (
            "What currency does {x} use?",
            "Which currency does {x} use?",
            "What is the currency of {x}?",
            "What currency is used in {x}?",
            "Which currency is used in {x}?",
        )
    },
    "continent": {
        "text": (
            "On which continent is {x}?",
            "Which continent is {x} on?",
            "What continent is {x} in?",
            "In which continent is {x}?",
            "On which continent does {x} lie?",
            "What is the continent of {x}?",
        )
    },
    "neighbours": {
        "text": (
            "What are the neighbours of {x}?",
            "Which are the neighbours of {x}?",
            "Which countries border {x}?",
            "What countries border {x}?",
            "Which countries are neighbours of {x}?",
        )
    },
    "neighbors": {"text": ("What are the neighbors of {x}?", "Which countries are neighbors of {x}?")},
    "language": {
        "text": (
            "What language is spoken in {x}?",
            "Which language is spoken in {x}?",
            "What language do people speak in {x}?",
            "What is the language of {x}?",
        )
    },
    "leader": {"text": ("Who leads {x}?", "Who is the leader of {x}?")},
}
POSSESSIVE = ("What is {x}'s {a}?", "What is {x}'s {a}?", "Give {x}'s {a}.")

"""An agent with the tools of an MCP server, here one that knows time zones (`pip install mcp-server-time`).

A script plays the model; give an engine's name to let a model of yours work.
"""

import sys

import anyio

import plait
from plait.engines.scripted import ScriptedEngine
from plait.recipes.formats import ToolCall, find_format
from plait.tools import mcp_server

SERVER = [sys.executable, "-P", "-m", "mcp_server_time"]
QUESTION = "It is noon in UTC. How late is it in Tokyo and in Kolkata?"


def scripted_model() -> ScriptedEngine:
    """Converts both times in one turn, and reads the answers out."""

    def model(prompt: str, turn: int) -> str:
        zones = ["Asia/Tokyo", "Asia/Kolkata"]
        if turn == 0:
            given = [{"source_timezone": "UTC", "time": "12:00", "target_timezone": zone} for zone in zones]
            return form.say([ToolCall("", "convert_time", each) for each in given])
        times = [prompt.rpartition(f'{zone}\\",')[2].partition("T")[2][:5] for zone in zones]
        return form.conclude(f"{times[0]} in Tokyo, {times[1]} in Kolkata")

    form = find_format("hermes")
    return ScriptedEngine(model)


async def main() -> None:
    engine = sys.argv[1] if len(sys.argv) > 1 else scripted_model()
    async with mcp_server(SERVER, name="clock") as clock:
        print("tools:", ", ".join(tool.name for tool in clock.tools))
        agent = plait.recipes.agent(clock.tools, format="hermes")
        print(await agent.run(QUESTION, engine=engine))


if __name__ == "__main__":
    anyio.run(main)

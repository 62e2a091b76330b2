"""Agents with facts and a calculator, on the model that comes with plait: one task in three formats."""

import anyio

import plait

TASK = "Which has more people, Peru or Chile plus Bolivia?"


async def main() -> None:
    tools = [plait.tools.facts(), plait.tools.calculator]
    async with plait.open_engine("local") as engine:
        for agent in ("tim", "dta", "hybrid_search"):
            called: list[str] = []

            def listen(event: object, called: list[str] = called) -> None:
                if getattr(event, "kind", "") == "call":
                    called.append(event.title)  # type: ignore[attr-defined]

            answer = await plait.run(agent, TASK, tools=tools, engine=engine, listeners=[listen])
            print(f"{agent}: {answer}")
            for title in called:
                print("   ", title)


if __name__ == "__main__":
    anyio.run(main)

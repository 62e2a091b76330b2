"""The conformance suite on SGLang in this process: in_process.py MODEL_DIR PLAIT_DIR."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def install_plait(folder: Path) -> None:
    """Let `import plait` find a checkout, whatever its folder is called."""
    spec = importlib.util.spec_from_file_location(
        "plait", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["plait"] = module
    spec.loader.exec_module(module)


async def main(model: str) -> bool:
    from plait.engines.conformance import check_engine
    from plait.engines.sglang import SGLangEngine

    options = {
        "device": "cpu",
        "dtype": "float32",
        "attention_backend": "torch_native",
        "disable_overlap_schedule": True,
        "mem_fraction_static": 0.3,
        "max_total_tokens": 30000,
    }
    async with SGLangEngine.in_process(model, options=options) as engine:
        report = await check_engine(engine, seconds=1200.0)
    print(report.describe(), flush=True)
    return report.ok


if __name__ == "__main__":  # SGLang's processes import this file too
    import anyio

    install_plait(Path(sys.argv[2]))
    sys.exit(0 if anyio.run(main, sys.argv[1]) else 1)

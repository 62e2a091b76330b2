"""Commands of the training: `train`, `export`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def main() -> None:
    """Read the command line and run one command."""
    parser = argparse.ArgumentParser(prog="python -m plait.recipes.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train the embedded model")
    train.add_argument("folder", type=Path, help="checkpoints, logs and progress.jsonl go here")
    train.add_argument("--minutes", type=float, default=80, help="total training time, resumed time included")
    train.add_argument("--ranks", type=int, default=2, help="one-thread processes (1 on a GPU)")
    train.add_argument("--device", default="cpu", help="cpu or cuda")
    train.add_argument("--resume", type=Path, help="checkpoint to go on from")
    train.add_argument(
        "--start", type=Path, help="exported folder whose weights to begin with, such as the embedded one"
    )
    train.add_argument("--rate", type=float, default=3e-3, help="highest learning rate")
    train.add_argument("--step-tokens", type=int, default=5500, help="tokens an update")
    train.add_argument("--eager", action="store_true", help="do not compile the layers")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--shape", nargs="*", default=[], metavar="NAME=SIZE", help="sizes other than the default")
    train.add_argument("--shares", nargs="*", default=[], metavar="SKILL=SHARE", help="shares other than the default")
    export = commands.add_parser("export", help="write a checkpoint as a Hugging Face folder")
    export.add_argument("checkpoint", type=Path)
    export.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    {"train": _train, "export": _export}[arguments.command](arguments)


def _train(arguments: argparse.Namespace) -> None:
    from .mixture import SHARES
    from .trainer import Settings, train

    train(
        Settings(
            folder=arguments.folder,
            seconds=60 * arguments.minutes,
            ranks=arguments.ranks,
            device=arguments.device,
            resume=arguments.resume,
            start=arguments.start,
            rate=arguments.rate,
            step_tokens=arguments.step_tokens,
            seed=arguments.seed,
            compile=not arguments.eager,
            shape={name: int(size) for name, size in _pairs(arguments.shape)},
            shares={**SHARES, **{name: float(share) for name, share in _pairs(arguments.shares)}},
        )
    )


def _export(arguments: argparse.Namespace) -> None:
    from .export import export

    export(arguments.checkpoint, arguments.folder)


def _pairs(texts: list[str]) -> list[tuple[str, str]]:
    return [(name, size) for name, _, size in (text.partition("=") for text in texts)]


if __name__ == "__main__":
    main()

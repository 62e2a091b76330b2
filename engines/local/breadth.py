"""The breadth path: families that our decoder does not know, computed by `transformers` with attention over our pool.

A model is taken only if its logits over views, in pieces and frames of our own, are those of its plain forward pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.utils import logging as their_logging

from ...errors import CheckpointError, PlaitError
from ...kernels import KeyRun, QueryBlock
from .adapter import Adapter, LowRank
from .checkpoint import device_for, dtype_for
from .config import read_config
from .discovery import ROWS, LayerKind, discover
from .interface import NAME, Call, MaskFunction, handled_by
from .lora import LoraFiles
from .model import LayerAttention, ModelPlan

ROPES = ("default", "linear", "llama3", "yarn", "proportional")
LAYERS = ("full_attention", "sliding_attention")
AGREEMENT = 1e-3
"""By which logits may differ (root mean square, relative to their spread)."""


@dataclass(frozen=True, slots=True)
class BreadthSizes:
    """What is known of a model beside its weights."""

    vocab_size: int
    max_positions: int
    eos_tokens: tuple[int, ...]
    parameters: int
    kv_elements: int

    def kv_bytes_per_token(self, element_bytes: int = 4) -> int:
        """Pool bytes that one token takes, over all layers."""
        return self.kv_elements * element_bytes


class BreadthModel:
    """A causal language model of `transformers` as a `Model`. Slower than the decoder: its code runs as it is."""

    def __init__(
        self, model: Any, sizes: BreadthSizes, layers: Sequence[LayerKind], kernel: str, difference: float = 0.0
    ) -> None:
        """`difference` is by how much its logits differed at most from those of its plain forward pass."""
        self.config = sizes
        self.difference = difference
        self.attention = LayerAttention([layer.shape for layer in layers], kernel)
        self.layers = tuple(layers)
        self._model = model
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._adapted: set[str] = set()
        self._plan: ModelPlan | None = None

    @classmethod
    def load(
        cls, directory: str | Path, *, dtype: str = "auto", device: str = "cpu", kernel: str = "auto"
    ) -> BreadthModel:
        """Load a folder in Hugging Face layout and hold it against its plain forward pass. Raises CheckpointError for
        what can't run over views, and as `Decoder.load` does.
        """
        raw, place = read_config(directory), device_for(device)
        if found := breadth_problems(raw):
            raise CheckpointError(f"checkpoint at {directory} can't be used: {'; '.join(found)}. {_WAY_OUT}")
        kind = dtype_for(dtype, str(raw.get("dtype") or raw.get("torch_dtype") or "float32"), place)
        with quiet():
            model = from_pretrained(directory, kind).eval()
            try:
                layers, difference = _checked(model)
            except CheckpointError as error:
                raise CheckpointError(f"checkpoint at {directory} can't be used: {error}. {_WAY_OUT}") from error
        layers = [layer.on(kind, place) for layer in layers]
        return cls(model.to(place), _sizes(model, layers), layers, kernel, difference)

    @property
    def dtype(self) -> torch.dtype:
        return self.attention.dtype

    @property
    def device(self) -> torch.device:
        return self.attention.device

    def new_pool(self, slots: int) -> tuple[list[Tensor], list[Tensor]]:
        """Zeroed keys and values of every layer, each [kv_heads, slots, head_dim]."""
        return self.attention.new_pool(slots)

    def plan(self, blocks: Sequence[QueryBlock], slots: int, adapters: Sequence[Adapter | None] = ()) -> ModelPlan:
        """Plan one step over a pool of `slots` slots; `adapters`, if there are any, are those of the blocks."""
        return self.attention.plan(blocks, slots, adapters)

    @torch.inference_mode()
    def forward(
        self, ids: Tensor, plan: ModelPlan, keys: Sequence[Tensor], values: Sequence[Tensor], rows: Tensor | None = None
    ) -> Tensor:
        """Logits, float32 [rows, vocab], of the chosen rows (None: all). Writes the new tokens' K/V to the pool."""
        self._plan = plan
        options = {"logits_to_keep": rows} if self._keeps and rows is not None else {}
        with handled_by(_Step(self, plan, keys, values)):
            logits = _run(self._model, ids, torch.zeros_like(ids), **options)
        if rows is not None and not options:
            logits = logits[rows]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def adapter(self, directory: Path) -> Adapter:
        """Load a LoRA adapter for this model from a PEFT folder. Raises CheckpointError."""
        files, changes = LoraFiles(directory), {}
        for name, module in self._model.named_modules():
            if not isinstance(module, nn.Linear) or ".layers." not in name or ".experts." in name:
                continue
            pair = files.pair(name, module.out_features, module.in_features)
            if pair is None:
                continue
            down, up = (part.to(self.device, self.dtype) for part in pair)
            changes[name] = LowRank(down, up)
            if name not in self._adapted:
                self._adapted.add(name)
                module.register_forward_hook(partial(self._adapt, name))
        files.refuse_unread()
        return Adapter(directory, files.salt, changes)

    def _adapt(self, name: str, _: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        """After a linear layer: add what the step's adapters make of its input."""
        if self._plan is not None:
            self._plan.adapted.add(name, given[0][0], output[0])


class _Step:
    """Answers one forward pass from the pool."""

    def __init__(self, model: BreadthModel, plan: ModelPlan, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        self._model = model
        self._plan = plan
        self._pool = (keys, values)
        self._layer = 0

    def mask(self, function: MaskFunction) -> None:
        return None

    def attend(self, call: Call) -> Tensor:
        layer, self._layer = self._layer, self._layer + 1
        kind = self._model.layers[layer]
        q = call.q if kind.factor == 1.0 else call.q * kind.factor
        qk = torch.cat((q, call.k)).transpose(0, 1).index_select(-1, kind.order)
        keys, values = self._pool
        v = call.v.transpose(0, 1)
        attended = self._model.attention.attend(layer, self._plan, qk, v, keys[layer], values[layer])
        return attended.view(len(v), len(q), -1)


def breadth_problems(config: Mapping[str, Any]) -> list[str]:
    """All in config.json that keeps a model from running over views, each in one clause."""
    found = []
    if quantised := config.get("quantization_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        found.append(f"quantised weights ('{method}'; supported: float32, bfloat16, float16)")
    parts = [name for name in ("vision_config", "audio_config") if config.get(name)]
    found += [f"a model of more than text ('{name}')" for name in parts]
    if config.get("is_encoder_decoder"):
        found.append("an encoder and a decoder (supported: decoders alone)")
    if not isinstance(config.get("max_position_embeddings"), int) and not parts:
        found.append("'max_position_embeddings' is missing from config.json")
    wrong = [kind for kind in _rope_kinds(config) if kind not in ROPES]
    found += [f"rope type '{kind}', which depends on the length (supported: {', '.join(ROPES)})" for kind in wrong]
    layers = dict.fromkeys(config.get("layer_types") or ())
    found += [f"layer type '{kind}' (supported: {', '.join(LAYERS)})" for kind in layers if kind not in LAYERS]
    return found


_WAY_OUT = "Use a checkpoint of another family"


def _rope_kinds(config: Mapping[str, Any]) -> list[str]:
    """The rope types in a config, of all layer types."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    nested = [part for part in given.values() if isinstance(part, dict)] if isinstance(given, dict) else []
    parts = nested or [given] if isinstance(given, dict) else []
    return list(dict.fromkeys(str(part.get("rope_type") or part.get("type") or "default") for part in parts))


def from_pretrained(directory: str | Path, dtype: torch.dtype) -> Any:
    """The model, every weight of which is in the checkpoint."""
    load: Callable[..., Any] = transformers.AutoModelForCausalLM.from_pretrained
    try:
        model, info = load(
            directory,
            dtype=dtype,
            attn_implementation="eager",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # whatever is wrong, transformers has its own kind of error for it
        raise CheckpointError(
            f"transformers {transformers.__version__} can't load the checkpoint at {directory}: {_line(error)}"
        ) from error
    for fault, names in info.items():
        if names and fault != "error_msgs":
            first = sorted(str(name) for name in names)[0]
            raise CheckpointError(f"checkpoint at {directory} has {fault.replace('_', ' ')}, such as '{first}'")
    return model


def _line(error: Exception) -> str:
    """An error of transformers in one line."""
    return " ".join(str(error).split())[:300]


def _checked(model: Any) -> tuple[list[LayerKind], float]:
    """The layers of a model that over views does what it does by itself, and by how much logits differ at most.

    All in float32 or better, where a fault and rounding can't be mistaken for each other. Raises CheckpointError.
    """
    stored = {name: tensor.dtype for name, tensor in _tensors(model)}
    ids = torch.arange(3, 3 + ROWS) * 7 % model.config.vocab_size
    try:
        if model.dtype.itemsize < 4:
            model.float()
        expected = _run(model, ids, torch.arange(len(ids)))
        model.set_attn_implementation(NAME)
        layers = discover(model, partial(_run, model), ids, model.config.max_position_embeddings)
        difference = _compare(BreadthModel(model, _sizes(model, layers), layers, "auto"), ids, expected)
    except PlaitError:
        raise
    except Exception as error:  # a model of any family may do anything with what it gets
        raise CheckpointError(f"its forward pass fails: {type(error).__name__} {_line(error)}") from error
    for name, tensor in _tensors(model):
        tensor.data = tensor.data.to(stored[name])
    return layers, difference


def _tensors(model: Any) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _sizes(model: Any, layers: Sequence[LayerKind]) -> BreadthSizes:
    eos = model.config.eos_token_id
    return BreadthSizes(
        vocab_size=model.config.vocab_size,
        max_positions=model.config.max_position_embeddings,
        eos_tokens=() if eos is None else tuple(eos) if isinstance(eos, list) else (eos,),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        kv_elements=sum(2 * layer.shape.kv_heads * layer.shape.head_dim for layer in layers),
    )


@torch.inference_mode()
def _run(model: Any, ids: Tensor, positions: Tensor, **options: Any) -> Tensor:
    """Logits of ids at positions, without a cache of its own: [rows, vocab]."""
    mask = torch.ones_like(ids)[None]  # or else it takes equal positions for packed sequences
    logits: Tensor = model(
        input_ids=ids[None], attention_mask=mask, position_ids=positions[None], use_cache=False, **options
    ).logits[0]
    return logits


def _compare(model: BreadthModel, ids: Tensor, expected: Tensor) -> float:
    """The largest difference of our logits from the plain ones, in two pieces and frames. Raises CheckpointError."""
    count, first = len(ids), len(ids) // 3
    keys, values = model.new_pool(count)
    slots = tuple(range(count))
    old = KeyRun(0, first, 100, 0)
    blocks = [
        QueryBlock(100, 0, slots[:first], (KeyRun(0, first, 100, 0, first=0),)),
        QueryBlock(-7, first, slots[first:], (old, KeyRun(first, count - first, -7, first, first=0))),
    ]
    parts = ids.split([first, count - first])
    ours = [
        model.forward(part, model.plan([block], count), keys, values) for part, block in zip(parts, blocks, strict=True)
    ]
    difference = torch.cat(ours).double() - expected.double()
    allowed = AGREEMENT * float(expected.double().std())
    if not float(difference.square().mean().sqrt()) <= allowed:
        largest = float(difference.abs().max())
        raise CheckpointError(
            f"its logits over views differ from those of its plain forward pass by {largest:.2g}; perhaps it "
            "keeps a state beside keys and values"
        )
    return float(difference.abs().max())


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own progress and advice."""
    verbosity, bar = their_logging.get_verbosity(), their_logging.is_progress_bar_enabled()
    their_logging.set_verbosity_error()
    their_logging.disable_progress_bar()
    try:
        yield
    finally:
        their_logging.set_verbosity(verbosity)
        if bar:
            their_logging.enable_progress_bar()

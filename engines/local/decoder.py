"""The model: a Llama-like decoder, whole, over views (DESIGN.md §4, Models)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels import AttentionShape, QueryBlock
from .adapter import Adapter, LowRank
from .checkpoint import Checkpoint, device_for, dtype_for
from .config import ModelConfig
from .lora import LoraFiles
from .model import LayerAttention, ModelPlan
from .rows import RowFunction, in_blocks, steady_height


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's weights, [out, in]; norms are folded into what follows. qk_norm: [heads + kv_heads, head_dim].

    `norms` are those that stood before attention and before the MLP, in which adapters have to fold them too.
    """

    qkv: Tensor
    qkv_bias: Tensor | None
    qk_norm: Tensor | None
    output: Tensor
    output_bias: Tensor | None
    gate_up: Tensor
    gate_up_bias: Tensor | None
    down: Tensor
    down_bias: Tensor | None
    norms: tuple[Tensor, Tensor]


class Decoder:
    """Encodes new tokens against a pool of keys and values. It knows no threads: the plan says who sees what."""

    def __init__(
        self,
        config: ModelConfig,
        attention: LayerAttention,
        embedding: Tensor,
        layers: Sequence[Layer],
        norm: Tensor,
        head: Tensor,
        *,
        batch_invariant: bool = False,
    ) -> None:
        """`batch_invariant`: rows are computed in blocks of one height; the kernel has to do its part."""
        self.config = config
        self.attention = attention
        self._embedding = embedding
        self._layers = tuple(layers)
        self._norm = norm
        self._head = head
        self._batch_invariant = batch_invariant
        floor = torch.tensor(config.norm_eps, dtype=torch.promote_types(self.dtype, torch.float32), device=self.device)
        self._normed = partial(_normed, floor=(floor * config.hidden_size).sqrt())
        self._head_normed = partial(_normed, floor=(floor * config.head_dim).sqrt())

    @classmethod
    def load(
        cls,
        directory: str | Path,
        *,
        dtype: str = "auto",
        device: str = "cpu",
        kernel: str = "auto",
        batch_invariant: bool = False,
    ) -> Decoder:
        """Load a folder in Hugging Face layout. Raises CheckpointError for anything in it that is not as it must be,
        InputError for an unknown dtype or device, UnknownNameError for an unknown kernel.
        """
        config, place = ModelConfig.from_directory(directory), device_for(device)
        loader = _Loader(config, Checkpoint(directory), dtype_for(dtype, config.stored_dtype, place), place)
        return loader.load(kernel, batch_invariant)

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
        hidden = self.hidden(ids, plan, keys, values)
        return self.logits(hidden if rows is None else hidden[rows])

    @torch.inference_mode()
    def hidden(self, ids: Tensor, plan: ModelPlan, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
        """Last hidden states, before the final norm: [rows, hidden_size]."""
        config, rotated, rows = self.config, self.config.heads + self.config.kv_heads, self._rows
        x = self._embedding[ids]
        for index, (layer, layer_keys, layer_values) in enumerate(zip(self._layers, keys, values, strict=True)):
            normed = rows(self._normed, x)
            qkv = rows(_linear(layer.qkv, layer.qkv_bias), normed)
            self._adapt(plan, f"{index}.qkv", normed, qkv)
            qk, v = qkv.view(len(x), -1, config.head_dim).split((rotated, config.kv_heads), 1)
            if layer.qk_norm is not None:
                qk = rows(self._head_normed, qk) * layer.qk_norm
            attended = self.attention.attend(index, plan, qk, v, layer_keys, layer_values)
            x = rows(_added(layer.output, layer.output_bias), x, attended)
            self._adapt(plan, f"{index}.output", attended, x)
            normed = rows(self._normed, x)
            gate_up = rows(_linear(layer.gate_up, layer.gate_up_bias), normed)
            self._adapt(plan, f"{index}.gate_up", normed, gate_up)
            inner = rows(_gated, gate_up)
            x = rows(_added(layer.down, layer.down_bias), x, inner)
            self._adapt(plan, f"{index}.down", inner, x)
        return x

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states, float32 (float64 in a float64 model)."""
        logits = self._rows(_linear(self._head, None), self.normed(hidden))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    @torch.inference_mode()
    def normed(self, hidden: Tensor) -> Tensor:
        """Hidden states after the final norm."""
        return self._rows(self._normed, hidden) * self._norm

    def _rows(self, function: RowFunction, *tensors: Tensor) -> Tensor:
        """A function of rows, in which no row has a part in another's result; see `rows`."""
        return in_blocks(self._height, function, *tensors) if self._batch_invariant else function(*tensors)

    def _adapt(self, plan: ModelPlan, place: str, x: Tensor, y: Tensor) -> None:
        """An adapter may be of any size, which was not tried out: its rows go one by one where they must be steady."""
        plan.adapted.add(place, x, y, at_once=1 if self._batch_invariant else 0)

    @cached_property
    def _height(self) -> int:
        """Found at the first step, under the number of threads that all steps run with."""
        config, layer, random = self.config, self._layers[0], torch.Generator().manual_seed(0)

        def row(*shape: int) -> Tensor:
            return torch.randn(1, *shape, generator=random).to(self.device, self.dtype)

        x, inner = row(config.hidden_size), row(config.intermediate_size)
        return steady_height(
            [
                (self._normed, (x,)),
                (self._head_normed, (row(config.heads + config.kv_heads, config.head_dim),)),
                (_linear(layer.qkv, layer.qkv_bias), (x,)),
                (_added(layer.output, layer.output_bias), (x, row(config.heads * config.head_dim))),
                (_linear(layer.gate_up, layer.gate_up_bias), (x,)),
                (_gated, (row(2 * config.intermediate_size),)),
                (_added(layer.down, layer.down_bias), (x, inner)),
                (_linear(self._head, None), (x,)),
            ]
        )

    def adapter(self, directory: Path) -> Adapter:
        """Load a LoRA adapter for this model from a PEFT folder. Raises CheckpointError."""
        return _AdapterLoader(self.config, LoraFiles(directory), self.dtype, self.device).load(self._layers)


def _normed(x: Tensor, floor: Tensor) -> Tensor:
    """RMS norm short of a factor sqrt(size), which the loader folds into what follows; computed in float32."""
    exact = x.float() if x.itemsize < 4 else x
    normed: Tensor = exact / torch.linalg.vector_norm(exact, dim=-1, keepdim=True).hypot_(floor)
    return normed.to(x.dtype)


def _linear(weight: Tensor, bias: Tensor | None) -> RowFunction:
    return partial(F.linear, weight=weight, bias=bias)


def _added(weight: Tensor, bias: Tensor | None) -> RowFunction:
    return partial(_add_linear, weight=weight, bias=bias)


def _gated(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up


def _add_linear(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x + linear(y), in one call where there is no bias."""
    return torch.addmm(x, y, weight.t()) if bias is None else x + F.linear(y, weight, bias)


class _Loader:
    """Turns stored tensors into the decoder's: fused, norms folded in, pairs interleaved for `rope.rotate`."""

    def __init__(self, config: ModelConfig, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> None:
        self.config = config
        self.checkpoint = checkpoint
        self.dtype = dtype
        self.device = device
        self._pairs = _pairs(config)

    def load(self, kernel: str, batch_invariant: bool) -> Decoder:
        config = self.config
        table = (config.vocab_size, config.hidden_size)
        embedding = self._own(self._stored("model.embed_tokens.weight", *table))
        head = embedding if config.tied_embeddings else self._own(self._stored("lm_head.weight", *table))
        layers = [self._layer(f"model.layers.{index}") for index in range(config.layers)]
        norm = self._own(self._norm("model.norm", config.hidden_size))
        self.checkpoint.refuse_unread(except_for=["lm_head.weight"] if config.tied_embeddings else [])
        attention = LayerAttention([self._shape(window) for window in config.sliding_windows], kernel)
        return Decoder(config, attention, embedding, layers, norm, head, batch_invariant=batch_invariant)

    def _shape(self, window: int) -> AttentionShape:
        return AttentionShape(
            heads=self.config.heads,
            kv_heads=self.config.kv_heads,
            head_dim=self.config.head_dim,
            rope=self.config.rope,
            dtype=self.dtype,
            device=self.device,
            window=window,
        )

    def _layer(self, prefix: str) -> Layer:
        config = self.config
        size, inner, heads = config.hidden_size, config.intermediate_size, config.heads * config.head_dim
        before_attention = self._norm(f"{prefix}.input_layernorm", size)
        before_mlp = self._norm(f"{prefix}.post_attention_layernorm", size)
        return Layer(
            qkv=self._own(self._qkv(f"{prefix}.self_attn", "weight", (size,)) * before_attention),
            qkv_bias=self._own(self._qkv(f"{prefix}.self_attn", "bias", ())) if config.qkv_bias else None,
            qk_norm=self._own(self._qk_norm(f"{prefix}.self_attn")) if config.qk_norm else None,
            output=self._own(self._stored(f"{prefix}.self_attn.o_proj.weight", size, heads)),
            output_bias=self._bias(f"{prefix}.self_attn.o_proj", size) if config.output_bias else None,
            gate_up=self._own(self._gate_up(f"{prefix}.mlp", "weight", (size,)) * before_mlp),
            gate_up_bias=self._own(self._gate_up(f"{prefix}.mlp", "bias", ())) if config.mlp_bias else None,
            down=self._own(self._stored(f"{prefix}.mlp.down_proj.weight", size, inner)),
            down_bias=self._bias(f"{prefix}.mlp.down_proj", size) if config.mlp_bias else None,
            norms=(before_attention, before_mlp),
        )

    def _qkv(self, prefix: str, kind: str, tail: tuple[int, ...]) -> Tensor:
        config = self.config
        q = self._stored(f"{prefix}.q_proj.{kind}", config.heads * config.head_dim, *tail)
        k = self._stored(f"{prefix}.k_proj.{kind}", config.kv_heads * config.head_dim, *tail)
        v = self._stored(f"{prefix}.v_proj.{kind}", config.kv_heads * config.head_dim, *tail)
        qk = torch.cat((q, k)).unflatten(0, (-1, config.head_dim))
        return torch.cat((qk[:, self._pairs].flatten(0, 1), v))

    def _qk_norm(self, prefix: str) -> Tensor:
        config = self.config
        q, k = (self._norm(f"{prefix}.{name}_norm", config.head_dim)[self._pairs] for name in "qk")
        return torch.cat((q.expand(config.heads, -1), k.expand(config.kv_heads, -1)))

    def _gate_up(self, prefix: str, kind: str, tail: tuple[int, ...]) -> Tensor:
        inner = self.config.intermediate_size
        return torch.cat([self._stored(f"{prefix}.{name}_proj.{kind}", inner, *tail) for name in ("gate", "up")])

    def _bias(self, name: str, size: int) -> Tensor:
        return self._own(self._stored(f"{name}.bias", size))

    def _norm(self, name: str, size: int) -> Tensor:
        """Its weights with the factor that `_normed` leaves out."""
        return self._stored(f"{name}.weight", size) * math.sqrt(size)

    def _stored(self, name: str, *shape: int) -> Tensor:
        """In float32 (or float64), in which all folding is done."""
        return self.checkpoint.tensor(name, shape).to(torch.promote_types(self.dtype, torch.float32))

    def _own(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.dtype).contiguous()


class _AdapterLoader:
    """Turns an adapter's pairs into changes of the decoder's fused weights, folded and reordered as those are."""

    def __init__(self, config: ModelConfig, files: LoraFiles, dtype: torch.dtype, device: torch.device) -> None:
        self.config = config
        self.files = files
        self.dtype = dtype
        self.device = device
        self._pairs = _pairs(config)

    def load(self, layers: Sequence[Layer]) -> Adapter:
        config = self.config
        size, inner, heads = config.hidden_size, config.intermediate_size, config.heads * config.head_dim
        parts: dict[str, list[_Change]] = {}
        for index, layer in enumerate(layers):
            prefix = f"model.layers.{index}"
            before_attention, before_mlp = layer.norms
            parts[f"{index}.qkv"] = self._qkv(f"{prefix}.self_attn", before_attention)
            parts[f"{index}.output"] = [self._change(f"{prefix}.self_attn.o_proj", size, heads)]
            gate_up = [self._change(f"{prefix}.mlp.{name}_proj", inner, size, before_mlp) for name in ("gate", "up")]
            parts[f"{index}.gate_up"] = gate_up
            parts[f"{index}.down"] = [self._change(f"{prefix}.mlp.down_proj", size, inner)]
        self.files.refuse_unread()
        changes = {place: low_rank for place, part in parts.items() if (low_rank := self._fused(part)) is not None}
        return Adapter(self.files.directory, self.files.salt, changes)

    def _qkv(self, prefix: str, norm: Tensor) -> list[_Change]:
        config, found = self.config, []
        for name, count in (("q", config.heads), ("k", config.kv_heads), ("v", config.kv_heads)):
            a, b = self._change(f"{prefix}.{name}_proj", count * config.head_dim, config.hidden_size, norm)
            if name != "v":
                b = b.unflatten(0, (count, config.head_dim))[:, self._pairs].flatten(0, 1)
            found.append((a, b))
        return found

    def _change(self, module: str, rows: int, columns: int, norm: Tensor | None = None) -> _Change:
        """A pair of rank 0 where the adapter leaves the module alone."""
        pair = self.files.pair(module, rows, columns)
        if pair is None:
            return torch.zeros(0, columns), torch.zeros(rows, 0)
        a, b = pair
        return (a if norm is None else a * norm.cpu()), b

    def _fused(self, parts: Sequence[_Change]) -> LowRank | None:
        """One change of the weight that holds the parts' rows one after the other."""
        down, up = torch.cat([a for a, _ in parts]), torch.block_diag(*(b for _, b in parts))
        if not len(down):
            return None
        return LowRank(down.to(self.device, self.dtype), up.to(self.device, self.dtype).contiguous())


_Change = tuple[Tensor, Tensor]


def _pairs(config: ModelConfig) -> Tensor:
    """The order in which a head's elements i and i + head_dim/2 stand side by side."""
    return torch.arange(config.head_dim).view(2, -1).t().flatten()

"""The step loop: one thread that owns the model and its pool (DESIGN.md §4, Step loop)."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from ...errors import EngineClosedError, EngineError, PlaitError
from .cache import PrefixCache
from .generation import Generation
from .holding import Holding
from .model import Model, ModelPlan, StatefulModel
from .pages import PagePool
from .sampling import sample
from .schedule import Scheduler, Unit
from .thread import Share, Thread
from .turns import Turns
from .work import Embedding, Lease, Scoring, Work

if TYPE_CHECKING:
    from .teaming import Teaming

logger = logging.getLogger("plait.engines.local")

KEPT_LOGITS = 32 << 20
"""Bytes of logits kept so that forks of a context sample without encoding its last token again."""

IDLE = 0.05
"""Seconds without work after which the loop checks its books."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Read:
    """Logits that somebody wants: after the own token `index` of a thread (−1: after its base)."""

    thread: Thread
    index: int
    logits: Tensor


class StepLoop:
    """Admit, plan, forward, sample, publish; again and again while there is work.

    Everything that touches the pool happens in its thread. Others hand it commands, which it carries out in order
    between two steps.
    """

    def __init__(
        self,
        decoder: Model,
        pool: PagePool,
        *,
        tokens: int,
        step_tokens: int,
        max_batch: int,
        threads: int,
        prefix_cache: bool = True,
        prefix_least: int = 0,
    ) -> None:
        """`tokens` is the size of the vocabulary that may be sampled; `threads` is torch's, 0 to leave it alone."""
        self.decoder = decoder
        self.pool = pool
        cache = PrefixCache(pool, keeps=prefix_cache, least=prefix_least)
        self.scheduler = Scheduler(pool, cache, step_tokens=step_tokens, max_batch=max_batch, fail=self._fail)
        self.turns = Turns()
        self.steps = 0
        self.encoded = 0
        self.keys_read = 0
        self.sampled = 0
        self.seconds = 0.0
        self._tokens = tokens
        self._threads = threads
        self._slots = pool.pages * pool.page_size
        self._keys, self._values = decoder.new_pool(self._slots)
        self._kept: OrderedDict[Holding, int] = OrderedDict()
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._closing = False
        self._ended: str = ""
        self._thread = threading.Thread(target=self._run, name="plait-steps", daemon=True)

    # ---- from any thread

    def start(self) -> None:
        self._thread.start()

    def submit(self, holding: Holding | None, work: Work) -> None:
        """Let `work` go on from a holding, or from nothing."""
        self.tell(partial(self._begin, holding, work))

    def submit_team(self, holdings: Sequence[Holding], work: Teaming) -> None:
        """Let a team go on from its members' holdings, in their order."""
        self.tell(partial(self._begin_team, holdings, work))

    def cancel(self, work: Work) -> None:
        """Stop a work, wherever it stands, and give up what it holds."""
        self.tell(partial(self._cancel, work))

    def release(self, holding: Holding) -> None:
        """A lease has ended. Called from finalizers: it neither waits nor locks."""
        self._commands.put(partial(self._release, holding))

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run a function in the loop's thread, between two steps."""
        future: Future[T] = Future()
        self.tell(partial(self._answer, future, function))
        return future

    def close(self) -> None:
        """Fail what is under way with EngineClosedError and end the thread, after the step that runs. Idempotent."""
        self._closing = True
        self.tell(lambda: None)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def tell(self, command: Callable[[], None]) -> None:
        """Run a command in the loop's thread, between two steps."""
        self._commands.put(command)
        if self._ended:
            self.carry_out()  # nobody else would

    # ---- in the loop's own thread

    @torch.inference_mode()
    def step(self) -> None:
        """One step of all threads that have something to do."""
        shares = self.scheduler.schedule()
        reads = self._forward(shares)
        self._keep(reads)
        self._score(reads)
        self._settle(shares)
        self._sample(reads)
        self._publish(shares)

    def carry_out(self) -> None:
        """Carry out what was asked so far."""
        while True:
            try:
                command = self._commands.get_nowait()
            except Empty:
                return
            command()

    def lease(self, holding: Holding) -> Lease:
        """A lease on a holding that was made for it."""
        return Lease(holding, self.release)

    def _run(self) -> None:
        if self._threads:
            torch.set_num_threads(self._threads)
        reason = "the engine was closed"
        try:
            while self._turn():
                pass
        except BaseException as error:  # a bug: whoever waits must hear of it
            logger.exception("the step loop failed")
            reason = f"the engine's step loop failed: {error!r}"
        self._end(reason)

    def _turn(self) -> bool:
        """Carry out what was asked, then do a step. False when the loop is to end."""
        if not self.scheduler.busy:
            self._idle()
        self.carry_out()
        if self._closing:
            return False
        if self.scheduler.busy:
            self._try_step()
        return True

    def _idle(self) -> None:
        """Wait for a command; if none comes soon, check the books meanwhile."""
        try:
            command = self._commands.get(timeout=IDLE)
        except Empty:
            self.scheduler.check_integrity()
            command = self._commands.get()
        command()

    def _try_step(self) -> None:
        """A step that fails takes the threads that ran with it, and nobody else."""
        started = time.monotonic()
        try:
            self.step()
        except Exception as error:
            logger.exception("a step failed")
            for thread in list(self.scheduler.running):
                self._fail(thread, error)
        self.seconds += time.monotonic() - started

    def _end(self, reason: str) -> None:
        self._ended = reason
        for thread in [*self.scheduler.running, *self.scheduler.waiting]:
            thread.work.mailbox.close(EngineClosedError(reason))
        self.turns.end(EngineClosedError(reason))
        self.carry_out()

    # ---- commands

    def _begin(self, holding: Holding | None, work: Work) -> None:
        if self._ended or self._closing:
            work.mailbox.close(EngineClosedError(self._ended or "the engine was closed"))
            return
        start = holding if holding is not None else self.scheduler.hold(adapter=work.adapter)
        work.thread = self.scheduler.submit(start, work)
        if holding is None:
            self.scheduler.release(start)

    def _begin_team(self, holdings: Sequence[Holding], work: Teaming) -> None:
        if self._ended or self._closing:
            work.mailbox.close(EngineClosedError(self._ended or "the engine was closed"))
            return
        work.thread = self.scheduler.submit_team(holdings, work)

    def _cancel(self, work: Work) -> None:
        if work.thread is not None:
            self._fail(work.thread, EngineError("cancelled"))

    def _release(self, holding: Holding) -> None:
        if not self._ended:
            self.scheduler.release(holding)

    def _answer(self, future: Future[T], function: Callable[[], T]) -> None:
        try:
            if self._ended:
                raise EngineClosedError(self._ended)
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    # ---- the parts of a step

    def _forward(self, shares: Sequence[Share]) -> list[Read]:
        """Encode each thread's share in one pass; all tokens are in place before anyone's view is read."""
        reads = []
        for share in shares:
            thread = share.thread
            if thread.primed is not None:
                reads.append(Read(thread, -1, thread.primed))
                thread.primed = None
        working = [share for share in shares if share.count]
        if not working:
            return reads
        ids = [token for share in working for token in share.thread.advance(share.count)]
        blocks = [share.thread.block() for share in working]
        adapters = [share.thread.holding.adapter for share in working]
        plan = self.decoder.plan(blocks, self._slots, adapters)
        wanted = _wanted(working)
        device = self.decoder.device
        rows = torch.tensor([row for _, _, row in wanted], dtype=torch.long, device=device)
        logits = self._encode(working, torch.tensor(ids, device=device), plan, rows)
        logits = logits[:, : self._tokens]  # rows of the embedding beyond stand for no token
        self.steps += 1
        self.encoded += len(ids)
        self.keys_read += plan.keys_read
        return reads + [Read(thread, index, row) for (thread, index, _), row in zip(wanted, logits, strict=True)]

    def _encode(self, working: Sequence[Share], ids: Tensor, plan: ModelPlan, rows: Tensor) -> Tensor:
        """Logits of the chosen rows; works that read hidden states are given theirs."""
        model = self.decoder
        readers = any(share.thread.work.reads_states for share in working)
        if not readers or not isinstance(model, StatefulModel):
            return model.forward(ids, plan, self._keys, self._values, rows)
        hidden = model.hidden(ids, plan, self._keys, self._values)
        start = 0
        for share in working:
            work, thread = share.thread.work, share.thread
            if isinstance(work, Embedding):
                work.take(thread.encoded - share.count, model.normed(hidden[start : start + share.count]))
            start += share.count
        return model.logits(hidden[rows])

    def _keep(self, reads: Sequence[Read]) -> None:
        """Keep the logits of holdings' last tokens for the forks to come, the latest as far as there is room."""
        for read in reads:
            if 0 <= read.index == read.thread.lead - 1:
                holding = read.thread.holding
                holding.logits = read.logits.clone()
                self._kept[holding] = holding.logits.nbytes
                self._kept.move_to_end(holding)
        for holding in [holding for holding in self._kept if holding.logits is None]:
            del self._kept[holding]
        while sum(self._kept.values()) > KEPT_LOGITS:
            self._kept.popitem(last=False)[0].logits = None

    def _score(self, reads: Sequence[Read]) -> None:
        for read in reads:
            work = read.thread.work
            if isinstance(work, Scoring):
                place, token = work.target(read.thread, read.index)
                work.scores[place] = float(read.logits.log_softmax(-1)[token])

    def _settle(self, shares: Sequence[Share]) -> None:
        for share in shares:
            self.scheduler.settle(share)

    def _sample(self, reads: Sequence[Read]) -> None:
        """Choose the next token of every thread that generates and has its logits."""
        drawn = []
        for read in reads:
            work = read.thread.work
            if not isinstance(work, Generation) or work.finish:
                continue
            if self._guarded(read.thread, work.look_ahead, len(read.logits)) and not work.finish:
                drawn.append((read.thread, work, read.logits))
        if not drawn:
            return
        logits = torch.stack([logits for _, _, logits in drawn])
        tokens, chances = sample(logits, [work.row() for _, work, _ in drawn])
        for row, (thread, work, _) in enumerate(drawn):
            self._guarded(thread, work.accept, tokens[row], thread, chances.get(row))
        self.sampled += len(drawn)

    def _publish(self, shares: Sequence[Share]) -> None:
        """Hand out what is finished."""
        for unit in dict.fromkeys(share.thread.unit for share in shares):
            if not self._guarded(unit, unit.conclude) or not unit.done:
                continue
            for thread in unit.threads:
                work = thread.work
                work.account(thread)
                if work.makes_context:
                    work.lease = self.lease(self.scheduler.become(thread))
            self._leave(unit, None)

    def _guarded(self, thread: Unit, function: Callable[..., None], *arguments: object) -> bool:
        """Do something for one thread; if that fails, the thread (and its team) does, and no other. False if it has."""
        if thread.unit.work.mailbox.closed:
            return False
        try:
            function(*arguments)
        except Exception as error:
            self._fail(thread.unit, error)
            return False
        return True

    def _fail(self, thread: Unit, error: Exception) -> None:
        if not isinstance(error, PlaitError):
            named = EngineError(f"a step of the engine failed: {error!r}")
            named.__cause__ = error
            error = named
        self._leave(thread, error)

    def _leave(self, thread: Unit, failure: Exception | None) -> None:
        self.scheduler.end(thread)
        thread.work.thread = None  # a cycle would delay the release of what the work holds
        thread.work.mailbox.close(failure)


def _wanted(working: Sequence[Share]) -> list[tuple[Thread, int, int]]:
    """Whose logits are wanted: thread, index of its own token, row of the step."""
    wanted, row = [], 0
    for share in working:
        thread, first = share.thread, share.thread.encoded - share.count
        indices = thread.wanted(first, thread.encoded)
        wanted += [(thread, index, row + index - first) for index in indices]
        row += share.count
    return wanted

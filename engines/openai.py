"""The openai engine: any server that speaks OpenAI's protocol, over the official client.

**What a context is.** One begun with messages is a conversation, sent to `/chat/completions`: messages extend it by
turns, and what is generated becomes the assistant's turn. One begun with raw text is that text, sent to `/completions`
as it is; with `text="user"` it is a user's message instead, for servers that have no completions (OpenAI's own).
The server applies its chat template out of sight, so that `Context.text` shows turns between marks of our own, and
`length` is an estimate until the server has counted.

**Going on within a turn.** `extend` with text puts words into the assistant's mouth, or goes on after it has ended. The
protocol has no way for that; `prefill=` names the one that the server knows. Without it such a generation is a
CapabilityError.

**What the protocol can't do** is refused: prune, splice, score, embed, teams, adapters, tokens' ids as stops, and all
grammars but JsonSchema and Choice (`response_format`; what is no object is asked for inside of one and taken out of it,
and each answer is checked when it has ended). Stop strings are watched for here, because the protocol does not say
which one was met: the connection is closed there, and usage is then estimated for want of the server's count.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Any, Literal, Self

import anyio
from openai import AsyncOpenAI, AsyncStream, Omit, Timeout

from ..errors import CapabilityError, EngineClosedError, EngineError, InputError, ServerLostError
from ..usage import Usage
from .base import Capabilities, Generation, Member, Prompt, TeamStream, Teamwork
from .kinds import OPENAI as OFFERED
from .openai_context import Held, OpenAIContext, estimate
from .openai_wire import Asked, grammar_fields, sampling_fields, tool_fields
from .remote import Server, fault_of
from .replicas import Replicas, session_headers
from .turns import Prefill, Turns, write_call

OPENAI = "https://api.openai.com/v1"
_AT = re.compile(r"(.+?)@(https?://.*)", re.DOTALL)
_NO_SCHEME = re.compile(r".+@[\w.-]+:\d+(/.*)?")


class OpenAIEngine:
    """A model behind one server or several alike.

    `url` is a base URL, or several (see `Replicas`); without one it is that of the environment variable
    OPENAI_BASE_URL, or OpenAI's. `key` names the environment variable that holds the key; without a name it is the
    host's own (`remote.KEYS`), or PLAIT_API_KEY. `window` is the model's window in tokens, 0 where it is not known.

    - `text`: what becomes of raw text, see above. `prefill`: how the server goes on within a turn.
    - `tools`: tools that the model may call, plait's or in the protocol's form; `tool_choice` as there. Calls stand in
      the generation's text (`read_calls`), and messages of the role `tool` answer them in order.
    - `limit`: the field that bounds the answer; `max_completion_tokens` for OpenAI's own hosts unless it is named.
    - `omit`: fields never sent, such as `temperature` for models that refuse it. `extra`: fields sent with each
      request, such as `{"reasoning_effort": "low"}`. `grammars`: those that the server holds to.
    - `timeout`: seconds for each read, the first byte of an answer included; `connect`: for a connection. `rest`:
      seconds for which a lost replica is passed over.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str | Sequence[str] = "",
        key: str = "",
        window: int = 0,
        text: Literal["completions", "user"] = "completions",
        prefill: Prefill = "refused",
        tools: Sequence[Any] = (),
        tool_choice: str | Mapping[str, Any] = "auto",
        limit: Literal["", "max_tokens", "max_completion_tokens"] = "",
        omit: Collection[str] = (),
        extra: Mapping[str, Any] | None = None,
        grammars: Collection[str] = ("JsonSchema", "Choice"),
        timeout: float = 600.0,
        connect: float = 10.0,
        rest: float = 30.0,
    ) -> None:
        if not model:
            raise InputError("the openai engine needs a model's name: openai:MODEL or openai:MODEL@URL")
        urls = [_with_path(one) for one in ([url] if isinstance(url, str) and url else url)]
        self._name = f"openai:{model}" + (f"@{','.join(urls)}" if urls else "")
        if not urls and (given := os.environ.get("OPENAI_BASE_URL", "")):
            urls, key = [_with_path(given)], key or "OPENAI_API_KEY"
        self.replicas = Replicas(
            [Server.at(self._name, one, variable=key) for one in urls or [OPENAI]],
            rest=rest,
        )
        self._model = model
        self._text = text
        self._prefill: Prefill = prefill
        self._tools = {"tools": tool_fields(tools), "tool_choice": tool_choice} if tools else {}
        own = all(server.url.startswith("https://api.openai.com/") for server in self.replicas.servers)
        self._limit = limit or ("max_completion_tokens" if own else "max_tokens")
        self._omit = frozenset(omit)
        self._extra = dict(extra or {})
        self._capabilities = Capabilities(
            seeds="seed" not in self._omit,
            logprobs=True,
            grammars=OFFERED.grammars & frozenset(grammars),
            window=window,
        )
        self._timeout = Timeout(timeout, connect=connect)
        self._clients: dict[tuple[Any, str], AsyncOpenAI] = {}
        self.takes_n = True
        self.closed = False

    @classmethod
    def named(cls, argument: str, **options: Any) -> Self:
        """From `MODEL`, `MODEL@URL` or `MODEL@URL,URL`. Raises InputError."""
        found = _AT.fullmatch(argument)
        if found:
            return cls(found[1], **{"url": [url.strip() for url in found[2].split(",")], **options})
        if _NO_SCHEME.fullmatch(argument):
            raise InputError("the engine's address has no scheme; write openai:MODEL@http://HOST:PORT")
        return cls(argument, **options)

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def chat_template(self) -> str:
        """What is known of it: with `tools` calls stand in the text as `write_call` writes them."""
        return write_call("", "") if self._tools else ""

    @property
    def keys(self) -> Mapping[str, str]:
        return {server.variable: server.key for server in self.replicas.servers if server.key}

    async def start(self, prompt: Prompt, *, adapter: str = "") -> OpenAIContext:
        self.check_open()
        if adapter:
            raise CapabilityError(f"engine '{self._name}' takes no adapters ('{adapter}'); use engine 'local'")
        await anyio.lowlevel.checkpoint()
        length = estimate(prompt if isinstance(prompt, str) else "".join(message.content for message in prompt))
        held = prompt if isinstance(prompt, str) else Turns(tuple(prompt))
        return OpenAIContext(self, held, affinity=self.replicas.affinity(), pending=length, usage=Usage())

    def stream_team(self, members: Sequence[Member], work: Teamwork) -> TeamStream:
        self.check_open()
        raise CapabilityError(f"engine '{self._name}' has no team layout '{work.layout}'; use engine 'local'")

    async def team(self, members: Sequence[Member], work: Teamwork) -> list[Generation]:
        return self.stream_team(members, work).results

    async def models(self) -> list[str]:
        """The names of the models that the first server offers. Raises as a generation does."""
        self.check_open()
        server = self.replicas.servers[0]
        try:
            return [model.id async for model in self._client(server).models.list(extra_headers=_headers(server))]
        except Exception as error:
            fault = self._fault(error, server)
        raise fault

    async def aclose(self) -> None:
        self.closed = True
        here = anyio.lowlevel.current_token()
        clients, self._clients = self._clients, {}
        for (loop, _), client in clients.items():
            if loop == here:  # the connections of another loop went with it
                await client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # ---- for its contexts

    def check_open(self) -> None:
        if self.closed:
            raise EngineClosedError(f"engine '{self._name}' is closed")

    def path(self, held: Held) -> str:
        return "/completions" if isinstance(held, str) and self._text == "completions" else "/chat/completions"

    def body(self, held: Held, asked: Asked, count: int) -> dict[str, Any]:
        """A request's fields. Raises CapabilityError for what can't be asked."""
        chat = self.path(held) != "/completions"
        if isinstance(held, str):
            prompt = {"messages": [{"role": "user", "content": held}]} if chat else {"prompt": held}
        else:
            prompt = held.wire(self._prefill, calls=bool(self._tools))
        fields = {
            "model": self._model,
            **prompt,
            (self._limit if chat else "max_tokens"): asked.max_tokens,
            **sampling_fields(asked.sampling, chat=chat),
            **grammar_fields(asked.grammar, self._capabilities.grammars, self._name),
            **(self._tools if chat else {}),
            **({"n": count} if count > 1 else {}),
            "stream_options": {"include_usage": True},
        }
        return (
            {name: value for name, value in fields.items() if name not in self._omit} | {"stream": True} | self._extra
        )

    async def events(self, server: Server, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """The events of an answer, as JSON values. Closing the generator closes the connection."""
        stream: AsyncStream[object] | None = None
        fault: EngineError | None = None
        try:
            stream = await self._client(server).post(
                path,
                cast_to=object,
                body=body,
                options={"headers": _headers(server)},
                stream=True,
                stream_cls=AsyncStream[object],
            )
            self.replicas.find(server)
            async for event in stream:
                yield event
        except Exception as error:
            fault = self._fault(error, server)
        finally:
            if stream is not None:
                with anyio.CancelScope(shield=True):
                    await stream.close()
        if fault is not None:  # raised here, it does not hold the client's error, which holds the key
            raise fault

    def _client(self, server: Server) -> AsyncOpenAI:
        """The client for a server in this event loop: connections can't be used in another."""
        place = anyio.lowlevel.current_token(), server.url
        client = self._clients.get(place)
        if client is None:
            client = AsyncOpenAI(
                api_key=server.key or "none", base_url=server.url, timeout=self._timeout, max_retries=0
            )
            if server.variable != "OPENAI_API_KEY":  # the client sends OpenAI's accounts to whomever
                client.organization = client.project = None
            self._clients[place] = client
        return client

    def _fault(self, error: Exception, server: Server) -> EngineError:
        if self.closed:
            return EngineClosedError(f"engine '{self._name}' is closed")
        fault = fault_of(error, server)
        if isinstance(fault, ServerLostError):
            self.replicas.lose(server)
        return fault


def _headers(server: Server) -> dict[str, str | Omit]:
    """What goes beside the client's own headers: the run, for routers; where there is no key, that none is sent."""
    return {**session_headers(), **({} if server.key else {"Authorization": Omit()})}


def _with_path(url: str) -> str:
    """An address with the protocol's own path where it names none."""
    bare = url.rstrip("/")
    return bare + "/v1" if bare.count("/") == 2 else bare

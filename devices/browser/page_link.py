"""Connection with one open page: requests to the agents in it, each with an answer of its own."""

import asyncio
import json
import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp import WebSocketError, WSCloseCode, WSMessage, WSMsgType, web


class PageLostError(Exception):
    """The page no longer answers; the message says why."""


class PageLink:
    """Requests to a page, numbered at random, so that no reply can be guessed, kept for later, or given twice."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def ask(self, agent: int, request: Mapping[str, Any]) -> dict[str, Any]:
        """Reply of an agent in the page. Raises `PageLostError`."""
        number = secrets.token_hex(16)
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = reply
        try:
            await self._socket.send_json({"id": number, "agent": agent, "request": request})
            return await reply
        except ConnectionError as error:
            raise PageLostError("the page was closed") from error
        finally:
            del self._waiting[number]

    async def end_agent(self, agent: int) -> None:
        """Ends an agent, even during a request; the page stays open."""
        if not self._socket.closed:
            await self._socket.send_json({"agent": agent})

    async def close(self, code: int) -> None:
        """Closes the connection, with a reason that the page knows."""
        await self._socket.close(code=code)

    async def listen(self) -> None:
        """Receives replies until the page is gone, and closes the connection at the first message that is no reply."""
        async for message in self._socket:
            if fault := self._fault(message):
                self._fail_all(f"the page sent {fault}; it was disconnected")
                await self._socket.close(code=WSCloseCode.POLICY_VIOLATION)
        self._fail_all("the page was closed")

    def _fault(self, message: WSMessage) -> str:
        """Accepts the reply to a request. Returns a description of anything else."""
        if isinstance(message.data, WebSocketError) and message.data.code == WSCloseCode.MESSAGE_TOO_BIG:
            return "a message that is too large"
        if message.type is not WSMsgType.TEXT:
            return "a message that is no text"
        try:
            content = json.loads(message.data)
            number, reply = content["id"], content.get("reply")
            waiting = self._waiting.get(number)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return "a message that is no reply"
        if waiting is None or waiting.done():
            return "a reply to no open request"
        if isinstance(reply, dict):
            waiting.set_result(reply)
        else:
            _fail(waiting, f"the agent in the page ended: {str(content.get('died'))[:500]}")
        return ""

    def _fail_all(self, reason: str) -> None:
        for waiting in self._waiting.values():
            _fail(waiting, reason)


def _fail(waiting: "asyncio.Future[dict[str, Any]]", reason: str) -> None:
    if not waiting.done():
        waiting.set_exception(PageLostError(reason))

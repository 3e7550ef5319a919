"""A fake MCP server, standard library only: ``server.py MODE [SECONDS]``.

Tools: ``echo`` answers its arguments, ``slow`` after ``seconds``, ``refuse`` with ``ok: false``.
The mode says how it misbehaves; ``good`` does not. Requests are served in threads, as real
servers do, and standard input that ends ends the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

MODE = sys.argv[1] if __name__ == "__main__" else "good"
SECONDS = float(sys.argv[2]) if __name__ == "__main__" and len(sys.argv) > 2 else 30.0
LOCK = threading.Lock()
HELD: list[dict[str, Any]] = []


def write(text: str) -> None:
    with LOCK:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def respond(request: dict[str, Any], result: Any) -> None:
    write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}))


def fail(request: dict[str, Any], code: int, message: str) -> None:
    error = {"code": code, "message": message}
    write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}))


def text(content: Any) -> dict[str, Any]:
    said = content if isinstance(content, str) else json.dumps(content)
    return {"content": [{"type": "text", "text": said}], "isError": False}


def call(request: dict[str, Any]) -> None:
    tool, args = request["params"]["name"], request["params"].get("arguments") or {}
    answer: Any = {"ok": True, "tool": tool, **args}
    if tool == "refuse":
        answer = {"ok": False, "error": "no"}
    if tool == "slow":
        time.sleep(args.get("seconds", SECONDS))
    if tool == "unlucky":
        misbehave(request, answer)
    else:
        respond(request, text(answer))


def misbehave(request: dict[str, Any], answer: Any) -> None:
    if MODE == "garbage":
        write("Loading model weights... 3%")
        respond(request, text(answer))
    elif MODE == "malformed":
        write(json.dumps({"jsonrpc": "2.0", "id": request["id"]}))
        respond(request, text(answer))
    elif MODE == "malformed-result":
        respond(request, {"answer": answer})
    elif MODE == "no-json":
        respond(request, text("all done!"))
    elif MODE == "twice":
        with LOCK:  # in one piece: the client may stop listening after the first
            line = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": text(answer)})
            sys.stdout.write(f"{line}\n{line}\n")
            sys.stdout.flush()
    elif MODE == "again":
        respond(request, text(answer))
        time.sleep(SECONDS)
        respond(request, text(answer))
    elif MODE == "stray":
        respond({"id": 999_999}, text(answer))
        respond(request, text(answer))
    elif MODE == "swap":
        HELD.append(request)
        if len(HELD) == 2:
            first, second = HELD
            respond({"id": first["id"]}, text({"ok": True, **second["params"]["arguments"]}))
            respond({"id": second["id"]}, text({"ok": True, **first["params"]["arguments"]}))
    elif MODE == "swallow":
        pass
    elif MODE == "dies":
        print("boom: out of luck", file=sys.stderr, flush=True)
        os._exit(3)
    elif MODE == "orphan":
        subprocess.Popen(["sleep", str(SECONDS)])  # keeps our stdout open
        os._exit(3)
    elif MODE == "binary":
        with LOCK:
            sys.stdout.buffer.write(b"\xff\xfe\x00\n")
        respond(request, text(answer))
    elif MODE == "traceback":
        answer = {"ok": False, "error": "Traceback (most recent call last):\n  File x, line 1"}
        respond(request, text(answer))
    elif MODE == "huge":
        respond(request, text({"ok": True, "blob": "x" * 5_000_000}))
    elif MODE == "usage":
        fail(request, -32602, "no such argument")
    elif MODE == "internal":
        fail(request, -32603, "something is wrong inside")
    elif MODE == "surrogate":
        respond(request, text('{"ok": true, "odd": "\\ud800", "big": 123456789012345678901234}'))
    elif MODE == "is-error":
        respond(request, {**text({"ok": True}), "isError": True})
    elif MODE == "late":
        time.sleep(SECONDS)
        respond(request, text(answer))
    else:
        respond(request, text(answer))


def main() -> None:
    if MODE == "exits":
        print("cannot open the database", file=sys.stderr)
        sys.exit(1)
    if MODE == "only-garbage":
        write("Welcome to the server!")
    tools = ("echo", "slow", "refuse", "unlucky")
    serve(tools, lambda r: threading.Thread(target=call, args=(r,), daemon=True).start())
    if MODE == "lingers":
        time.sleep(SECONDS)


def serve(tools: tuple[str, ...], call: Callable[[dict[str, Any]], None]) -> None:
    """Answer until standard input ends; `call` gets the requests that call a tool."""
    for line in sys.stdin:
        request = json.loads(line)
        method = request.get("method")
        if MODE in ("never-answers", "only-garbage"):
            continue
        if method == "initialize":
            info = {"name": "fake", "version": "0"}
            version = "1066-10-14" if MODE == "old" else request["params"]["protocolVersion"]
            capabilities = {"tools": {}}
            respond(
                request,
                {"protocolVersion": version, "capabilities": capabilities, "serverInfo": info},
            )
            if MODE == "deaf":
                time.sleep(SECONDS)
        elif method == "ping":
            respond(request, {})
        elif method == "tools/list":
            schema = {"type": "object"}
            respond(request, {"tools": [{"name": t, "inputSchema": schema} for t in tools]})
        elif method == "tools/call":
            call(request)


if __name__ == "__main__":
    main()

"""`retinue chat`: talk to an assistant through the gateway, tokens as they come."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retinue.cli.cluster import Access, ContextOption, KubeconfigOption, NamespaceOption
from retinue.cli.exits import FALSE, NOT_FOUND, REFUSED, TIMED_OUT, CommandError
from retinue.cli.gateway_access import RELEASE_NAMESPACE, gateway_token, gateway_url
from retinue.cli.screen import console

if TYPE_CHECKING:
    import httpx


def register(app: typer.Typer) -> None:
    """Add `chat` to the command line."""

    @app.command()
    def chat(
        deployment: Annotated[str, typer.Argument(help="AssistantDeployment: NAME or NAMESPACE/NAME.")],
        message: Annotated[
            str | None,
            typer.Option("--message", "-m", help="Ask once and exit; without it: a conversation.", show_default=False),
        ] = None,
        stream: Annotated[bool, typer.Option(help="Print tokens as they come.")] = True,
        max_tokens: Annotated[
            int | None, typer.Option(help="At most this many tokens.", min=1, show_default=False)
        ] = None,
        server: Annotated[
            str | None,
            typer.Option(
                "--server",
                envvar="RETINUE_SERVER",
                help="URL of the gateway; default: a port-forward.",
                show_default=False,
            ),
        ] = None,
        token_file: Annotated[
            Path | None,
            typer.Option(
                help="File with the gateway's token; default: RETINUE_TOKEN, else its Secret.", show_default=False
            ),
        ] = None,
        release: Annotated[str, typer.Option(help="Name of the Helm release.")] = "retinue",
        release_namespace: Annotated[str, typer.Option(help="Namespace of the Helm release.")] = RELEASE_NAMESPACE,
        namespace: NamespaceOption = None,
        kubeconfig: KubeconfigOption = None,
        context: ContextOption = None,
        timeout: Annotated[float, typer.Option(help="Seconds to wait for one answer.", min=1)] = 300,
    ) -> None:
        """Ask an assistant through the gateway.

        Examples: retinue chat bots/helper -m "What is a pod?"; echo hi | retinue chat bots/helper
        """
        access = Access(kubeconfig, context, namespace)
        model = deployment if "/" in deployment else f"{access.default_namespace()}/{deployment}"
        token = gateway_token(access, token_file, release, release_namespace)
        import httpx

        with (
            gateway_url(access, server, release, release_namespace) as url,
            httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=timeout) as client,
        ):
            history: list[dict[str, str]] = []
            for text in _questions(message):
                history.append({"role": "user", "content": text})
                body: dict[str, object] = {"model": model, "messages": history, "stream": stream}
                if stream:
                    body["stream_options"] = {"include_usage": True}
                if max_tokens is not None:
                    body["max_tokens"] = max_tokens
                history.append({"role": "assistant", "content": _ask(client, body, stream=stream)})


def _questions(message: str | None) -> "list[str] | _Prompt":
    if message is not None:
        return [message]
    if not sys.stdin.isatty():
        return [text] if (text := sys.stdin.read().strip()) else []
    return _Prompt()


class _Prompt:
    """What a person types, line by line, until end of file."""

    def __iter__(self) -> "_Prompt":
        return self

    def __next__(self) -> str:
        try:
            while not (line := input("> ").strip()):
                pass
        except (EOFError, KeyboardInterrupt):
            raise StopIteration from None
        return line


def _ask(client: "httpx.Client", body: dict[str, object], *, stream: bool) -> str:
    import json
    import time

    import httpx

    began = time.monotonic()
    first: float | None = None
    usage: dict[str, int] = {}
    parts: list[str] = []
    try:
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                response.read()
                raise _refusal(response)
            if not stream:
                response.read()
                answer = response.json()
                parts = [answer["choices"][0]["message"]["content"]]
                usage = answer.get("usage") or {}
                sys.stdout.write(parts[0])
            else:
                for line in response.iter_lines():
                    data = line.removeprefix("data: ")
                    if data in (line, "[DONE]"):
                        continue
                    chunk = json.loads(data)
                    if "error" in chunk:
                        raise CommandError(f"the answer broke off: {chunk['error']['message']}", FALSE)
                    usage = chunk.get("usage") or usage
                    text = "".join((c.get("delta") or {}).get("content") or "" for c in chunk.get("choices") or [])
                    if text:
                        first = first or time.monotonic()
                        parts.append(text)
                        sys.stdout.write(text)
                        sys.stdout.flush()
    except httpx.TimeoutException:
        raise CommandError("no answer within --timeout", TIMED_OUT) from None
    except httpx.HTTPError as error:
        raise CommandError(f"the gateway does not answer: {error}", FALSE) from None
    sys.stdout.write("\n")
    sys.stdout.flush()
    took = time.monotonic() - began
    tokens = usage.get("completion_tokens", 0)
    speed = f", {tokens / max(time.monotonic() - first, 1e-3):.0f} tokens/s" if first and tokens else ""
    to_first = f", first after {first - began:.2f} s" if first else ""
    console(stderr=True).print(f"[dim]{tokens} tokens in {took:.1f} s{to_first}{speed}[/dim]")
    return "".join(parts)


def _refusal(response: "httpx.Response") -> CommandError:
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.reason_phrase
    code = {401: REFUSED, 403: REFUSED, 404: NOT_FOUND}.get(response.status_code, FALSE)
    return CommandError(f"{response.status_code}: {message}", code)

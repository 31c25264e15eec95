"""The gateway as a process in front of a real Ollama, started from a snapshot while its API server is away."""

from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from builders import MODEL_DIGEST, make_deployment, make_model_server, make_revision, make_snapshot
from gateway_process import GatewayProcess, chat, platform, running
from retinue.domain.routing import RouteObjects
from testbed.ollama_server import OllamaServer

pytestmark = pytest.mark.contract

MODEL = "smollm2:135m"
MARKER = "xyzzy-marker-7f3a"
"""Stands in prompts and answers; it must never stand in a log."""

DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "plain": {"options": {"temperature": "0", "seed": 1, "maxTokens": 24}},
    "json": {"options": {"temperature": "0", "maxTokens": 24}, "responseFormat": {"type": "JSON"}},
    "schema": {
        "options": {"temperature": "0", "maxTokens": 24},
        "responseFormat": {
            "type": "JSONSchema",
            "schema": {
                "type": "object",
                "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}},
                "required": ["colour"],
                "additionalProperties": False,
            },
        },
    },
    "closed": {"options": {"temperature": "0", "maxTokens": 8}, "clientOverrides": ["seed"]},
    "small": {"options": {"temperature": "0", "maxTokens": 8}, "runner": {"numCtx": 256, "shift": False}},
    "absent": {"model": {"name": "nobody/has-this:1b", "digest": MODEL_DIGEST}},
}
"""Name of a deployment to what its snapshot holds besides the model."""


def objects(**more: Any) -> RouteObjects:
    """One revision, one model server on the external Ollama and one deployment each."""
    deployments, revisions, servers = [], [], []
    for name, fields in DEPLOYMENTS.items():
        model = fields.get("model") or {"name": MODEL, "digest": MODEL_DIGEST}
        snapshot = make_snapshot(**{"runner": {"numCtx": 2048}, **fields, "model": model})
        revision = make_revision(name, snapshot=snapshot)
        server = make_model_server(
            model=model["name"], digest=model["digest"], runner=snapshot["runner"], external_server="local"
        )
        status = {"activeRevision": revision["metadata"]["name"], "modelServer": server["metadata"]["name"]}
        deployments.append(make_deployment(name, status=status, namespace="bots"))
        revision["metadata"]["namespace"] = "bots"
        revisions.append(revision)
        servers.append(server)
    deployments.append(make_deployment("asleep", spec={"replicas": 0}, namespace="bots"))
    return RouteObjects(deployments, revisions, servers, [])


@pytest.fixture(scope="module")
def gateway(ollama: OllamaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("gateway"), platform({"local": ollama.url}))
    process.write_snapshot(objects())
    with running(process):
        yield process


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


def ask(client: httpx.Client, content: Any, **fields: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json=chat(content, **{"model": "bots/plain", **fields}))


def stream(client: httpx.Client, content: Any, **fields: Any) -> list[Any]:
    """The events of a streamed answer; the end is the string [DONE]."""
    body = chat(content, **{"model": "bots/plain", "stream": True, **fields})
    found: list[Any] = []
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line:
                assert line.startswith("data: ")
                data = line.removeprefix("data: ")
                found.append(data if data == "[DONE]" else orjson.loads(data))
    return found


def text_of(events: list[Any]) -> str:
    return "".join(c["choices"][0]["delta"].get("content", "") for c in events[:-1] if c["choices"])


def test_a_model_answers_and_its_tokens_are_counted(client: httpx.Client) -> None:
    response = ask(client, f"Say hello. {MARKER}")
    assert response.status_code == 200
    answer = response.json()
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "bots/plain"
    assert answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
    assert answer["usage"]["completion_tokens"] > 0
    assert answer["id"] == f"chatcmpl-{response.headers['x-request-id']}"
    assert answer["system_fingerprint"] == response.headers["retinue-revision"]


def test_a_streamed_answer_is_the_same_text_as_the_whole_one(client: httpx.Client) -> None:
    whole = ask(client, "Name three colours.").json()
    events = stream(client, "Name three colours.", stream_options={"include_usage": True})
    assert events[-1] == "[DONE]"
    assert text_of(events) == whole["choices"][0]["message"]["content"]
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert events[-3]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert events[-2]["usage"] == whole["usage"]
    assert len({e["id"] for e in events[:-1]}) == 1


def test_the_revisions_prompt_reaches_the_model_and_a_clients_system_message_follows_it(
    client: httpx.Client, ollama: OllamaServer
) -> None:
    def count(*system: str) -> int:
        messages = [{"role": "system", "content": s} for s in system] + [{"role": "user", "content": "hi"}]
        body = {"model": MODEL, "messages": messages, "stream": False, "options": {"num_ctx": 2048, "num_predict": 1}}
        return int(httpx.post(f"{ollama.url}/api/chat", json=body, timeout=60).json()["prompt_eval_count"])

    prompt = "Answer in a formal tone."
    messages = [{"role": "system", "content": "Be quick."}, {"role": "user", "content": "hi"}]
    body = {"model": "bots/plain", "max_tokens": 1}
    plain = client.post("/v1/chat/completions", json={**body, "messages": messages[1:]}).json()
    added = client.post("/v1/chat/completions", json={**body, "messages": messages}).json()
    assert plain["usage"]["prompt_tokens"] == count(prompt)
    assert added["usage"]["prompt_tokens"] == count(prompt, "Be quick.")


def test_the_client_may_shorten_the_answer_but_not_lengthen_it(client: httpx.Client) -> None:
    short = ask(client, "Count to one hundred.", max_tokens=3).json()
    assert short["usage"]["completion_tokens"] == 3
    assert short["choices"][0]["finish_reason"] == "length"
    long = ask(client, "Write a very long story.", max_completion_tokens=5000).json()
    assert long["usage"]["completion_tokens"] <= 24


def test_a_stop_text_ends_the_answer(client: httpx.Client) -> None:
    whole = ask(client, "Name three colours.").json()["choices"][0]["message"]["content"]
    stop = whole[len(whole) // 2 :][:4]
    cut = ask(client, "Name three colours.", stop=[stop]).json()["choices"][0]
    assert cut["message"]["content"] == whole[: whole.index(stop)]
    assert cut["finish_reason"] == "stop"


def test_a_revision_that_answers_in_json_does(client: httpx.Client) -> None:
    # A small model may run into its limit before it closes the last brace; the schema below is short enough.
    any_json = ask(client, "Tell me about the sky.", model="bots/json").json()["choices"][0]["message"]["content"]
    assert any_json.lstrip().startswith(("{", "["))
    answer = ask(client, "Which colour is the sky? Answer in JSON.", model="bots/schema").json()
    assert set(orjson.loads(answer["choices"][0]["message"]["content"])) == {"colour"}


def test_the_model_is_not_loaded_again_between_requests_of_assistants_that_share_it(
    client: httpx.Client, ollama: OllamaServer
) -> None:
    ask(client, "hi", max_tokens=1)

    def loaded() -> list[tuple[str, int]]:
        models = httpx.get(f"{ollama.url}/api/ps").json()["models"]
        return [(m["name"], m["context_length"]) for m in models if m["name"] == MODEL]

    assert loaded() == [(MODEL, 2048)]
    for model in ("bots/json", "bots/closed", "bots/plain"):
        assert ask(client, "hi", model=model).status_code == 200
    assert loaded() == [(MODEL, 2048)]


def test_text_parts_history_and_unicode_are_understood(client: httpx.Client) -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Grüß Gott 🙂"}, {"type": "text", "text": "und hallo"}]},
        {"role": "assistant", "content": None, "refusal": None},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "user", "content": "Thanks!"},
    ]
    response = client.post("/v1/chat/completions", json={"model": "bots/plain", "messages": messages})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"temperature": 1}, 400, "unsupported_parameter", "temperature"),
        ({"messages": []}, 400, "invalid_value", "messages"),
        ({"model": "bots/closed", "max_tokens": 3}, 400, "unsupported_parameter", "max_tokens"),
        ({"model": "bots/json", "response_format": {"type": "text"}}, 400, "unsupported_parameter", "response_format"),
        ({"model": "bots/nobody"}, 404, "model_not_found", "model"),
        ({"model": "bots/asleep"}, 503, "assistant_scaled_to_zero", None),
        ({"model": "bots/absent"}, 502, "upstream_error", None),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_refusal_has_openais_shape(
    client: httpx.Client, fields: dict[str, Any], status: int, code: str, param: str | None, streamed: bool
) -> None:
    body = {**chat("hi", model="bots/plain", stream=streamed), **fields}
    response = client.post("/v1/chat/completions", json=body)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert error["message"]
    assert ("retry-after" in response.headers) == (status == 503)


def test_a_prompt_that_does_not_fit_without_shift_is_the_clients_mistake(client: httpx.Client) -> None:
    response = ask(client, "word " * 2000, model="bots/small")
    assert response.status_code in (200, 400), response.text
    if response.status_code == 400:
        assert response.json()["error"]["code"] == "upstream_rejected"


@pytest.mark.parametrize("token", [None, "wrong", "test-token-of-the-gatewa"])
def test_without_the_token_nothing_is_said(gateway: GatewayProcess, token: str | None) -> None:
    with gateway.client(token) as stranger:
        for response in (ask(stranger, "hi"), stranger.get("/v1/models"), stranger.get("/v1/models/bots/plain")):
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"


def test_models_are_listed_as_openai_clients_expect(client: httpx.Client) -> None:
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [m["id"] for m in listed["data"]] == sorted(f"bots/{n}" for n in DEPLOYMENTS)
    assert client.get("/v1/models/bots/plain").json() == next(m for m in listed["data"] if m["id"] == "bots/plain")
    assert client.get("/v1/models/bots/none").status_code == 404


def test_a_client_that_leaves_frees_the_model(gateway: GatewayProcess, client: httpx.Client) -> None:
    with client.stream(
        "POST", "/v1/chat/completions", json=chat("Write a long story.", model="bots/plain", stream=True)
    ) as response:
        next(response.iter_lines())
    gateway.wait_until(lambda: '"client_gone"' in gateway.log, "did not notice that the client left")
    assert gateway.metric("retinue_gateway_requests_in_flight") == 0


def test_requests_are_measured_by_their_route(gateway: GatewayProcess, client: httpx.Client) -> None:
    name = "gen_ai_server_request_duration_seconds_count"
    before = gateway.metric(name)
    stream(client, "hi", max_tokens=2)
    assert gateway.metric(name) == before + 1
    assert gateway.metric("gen_ai_server_time_to_first_token_seconds_count") >= 1
    assert gateway.metric("gen_ai_client_token_usage_sum") > 0
    assert gateway.metric("retinue_gateway_routes_live") == 0


def test_probes_say_where_the_routes_come_from(client: httpx.Client) -> None:
    assert client.get("/livez").text == "ok\n"
    verbose = client.get("/healthz?verbose").text
    assert "[+]routes 7 routes, from the snapshot on disk" in verbose
    assert client.get("/nothing").status_code == 404
    assert client.post("/metrics").status_code == 405
    assert client.get("/v1/chat/completions").status_code == 405
    assert client.get("/v1/embeddings").json()["error"]["code"] == "unknown_url"


def test_no_word_of_a_request_and_no_secret_stands_in_the_log(gateway: GatewayProcess, client: httpx.Client) -> None:
    ask(client, f"{MARKER} in a request that is refused", temperature=MARKER)
    ask(client, f"{MARKER} for an absent model", model="bots/absent")
    client.post("/v1/chat/completions", content=f'{{"broken": "{MARKER}')
    client.get(f"/v1/{MARKER}")
    log = gateway.log
    assert '"request"' in log
    for secret in (MARKER, "test-token", "test-credential", "formal tone"):
        assert secret not in log
    assert "Traceback" not in log

"""Rows of history for tests, whole and valid unless a test says otherwise."""

import uuid
from datetime import UTC, datetime
from typing import Any

from retinue.domain.records import DeploymentHealth, PodHealth, Usage
from retinue.domain.row_class import RowClass
from retinue.domain.spool_format import QueuedRow

NOON = datetime(2026, 3, 14, 12, 0, 0, 123456, tzinfo=UTC)


def pod_row(**changes: Any) -> PodHealth:
    values: dict[str, Any] = {
        "sample_id": str(uuid.uuid4()),
        "at": datetime.now(UTC),
        "model_server": "smollm2-135m-0123456789",
        "namespace": "retinue-models",
        "pod": "smollm2-135m-0123456789-0",
        "pod_uid": "5d6e1f5c-0000-4000-8000-000000000001",
        "model": "smollm2:135m",
        "model_digest": "sha256:" + "9" * 64,
        "probe": "status",
        "ok": True,
        "phase": "Ready",
        "reason": "",
        "latency_ms": 3.5,
        "in_flight": 0,
        "queued": 0,
        "tokens_per_second": None,
        "vram_bytes": None,
        "processor": "CPU",
    }
    return PodHealth(**(values | changes))


def deployment_row(**changes: Any) -> DeploymentHealth:
    values: dict[str, Any] = {
        "sample_id": str(uuid.uuid4()),
        "at": datetime.now(UTC),
        "namespace": "bots",
        "deployment": "helper",
        "deployment_uid": "5d6e1f5c-0000-4000-8000-000000000002",
        "environment": "development",
        "assistant": "helper",
        "revision": "helper-0123456789",
        "revision_digest": "sha256:" + "1" * 64,
        "model": "smollm2:135m",
        "model_digest": "sha256:" + "9" * 64,
        "model_server": "smollm2-135m-0123456789",
        "ready": True,
        "reason": "",
        "wanted_replicas": 1,
        "ready_replicas": 1,
        "pods_ok": 1,
        "latency_ms": 3.5,
    }
    return DeploymentHealth(**(values | changes))


def usage_row(**changes: Any) -> Usage:
    values: dict[str, Any] = {
        "request_id": uuid.uuid4().hex,
        "at": datetime.now(UTC),
        "namespace": "bots",
        "deployment": "helper",
        "revision": "helper-0123456789",
        "model": "smollm2:135m",
        "model_digest": "sha256:" + "9" * 64,
        "pod": "smollm2-135m-0123456789-0",
        "api": "/v1/chat/completions",
        "stream": True,
        "status": 200,
        "error": "",
        "finish_reason": "stop",
        "prompt_tokens": 12,
        "completion_tokens": 34,
        "queue_ms": 0.0,
        "first_token_ms": 20.5,
        "total_ms": 300.25,
    }
    return Usage(**(values | changes))


def queued(number: int, row_class: RowClass = RowClass.RAW) -> QueuedRow:
    """A row that can be told from others by its `pod`."""
    return QueuedRow(pod_row(pod=f"pod-{number}", at=NOON), row_class)


def numbers(rows: list[QueuedRow]) -> list[int]:
    """Which rows these are."""
    return [int(q.row.pod.removeprefix("pod-")) for q in rows if isinstance(q.row, PodHealth)]

"""Canonical JSON and the hashes by which programs, workloads and devices are recognised."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias, Union

Json: TypeAlias = Union[bool, int, float, str, Sequence["Json"], Mapping[str, "Json"], None]  # noqa: UP007 (strings)


def canonical_json(value: Json) -> str:
    """Unique text of a value: sorted keys, no spaces, so that equal values have equal hashes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(content: Json) -> str:
    """16 hex digits of SHA-256, equal for equal content."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]

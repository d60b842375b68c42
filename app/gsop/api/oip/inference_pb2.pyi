"""Types of what protoc makes: messages have none that are known before they are made."""

from typing import Any

def __getattr__(name: str) -> Any: ...

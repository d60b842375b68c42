"""The Open Inference Protocol's answers, as the OpenAPI text tells of them."""

from typing import Any

from pydantic import BaseModel, Field


class ServerMetadata(BaseModel):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """A tensor that a model takes or gives."""

    name: str
    datatype: str
    shape: list[int] = Field(description="-1: of any length.")


class ModelMetadata(BaseModel):
    """A model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelReady(BaseModel):
    """Whether a model takes requests."""

    name: str
    ready: bool


class Duration(BaseModel):
    """How often something was done, and how long it took together."""

    count: int
    ns: int


class VersionStatistics(BaseModel):
    """What is counted of a version."""

    name: str
    version: str
    inference_count: int = Field(description="Images answered.")
    execution_count: int = Field(description="Batches that they were in, about.")
    inference_stats: dict[str, Duration]
    batch_stats: list[dict[str, Any]]


class Statistics(BaseModel):
    """What is counted of versions."""

    model_stats: list[VersionStatistics]


class IndexEntry(BaseModel):
    """A version of the store."""

    name: str
    version: str
    state: str
    reason: str


class InferInput(BaseModel):
    """A tensor of a request."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, bool | int | float | str] = {}
    data: list[Any] | None = Field(None, description="Flat or nested, rows first.")


class InferRequestedOutput(BaseModel):
    """An output that is asked for."""

    name: str
    parameters: dict[str, bool | int | float | str] = Field(
        {}, description="`classification`: so many of the likeliest, in words. `binary_data`."
    )


class InferOutput(BaseModel):
    """A tensor of an answer."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class InferResponse(BaseModel):
    """An answer."""

    model_name: str
    model_version: str
    id: str = ""
    parameters: dict[str, bool | int | float | str] = Field(
        {}, description="`prediction_ids`, for `GET /attention/{id}`; `role`."
    )
    outputs: list[InferOutput]

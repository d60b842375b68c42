"""What an engine, the service and a finished slot can be."""

from enum import IntEnum


class EngineState(IntEnum):
    """What an engine is doing; ``/readyz`` and ``/metrics`` name it in lower case."""

    STARTING = 0
    """The process is being started, for the first time or again."""
    LOADING = 1
    """It reads and verifies the model versions."""
    WARMING = 2
    """It runs forward passes of real shapes."""
    READY = 3
    """It answers."""
    STOPPED = 4
    """It was told to stop."""
    FAILED = 5
    """It died or could not start; it is started again with back-off."""


class Phase(IntEnum):
    """How far the whole service has come towards its end."""

    SERVING = 0
    """Nobody asked it to stop."""
    LEAVING = 1
    """``/readyz`` says no, requests are still taken: load balancers are looking elsewhere."""
    DRAINING = 2
    """New work is refused, work in flight is answered."""


class Outcome(IntEnum):
    """How the engine finished a slot."""

    OK = 0
    NON_FINITE = 1
    """The network answered with NaN or infinity."""
    EXPIRED = 2
    """The deadline would have passed before a batch's end: the device never saw the image."""
    OUT_OF_MEMORY = 3
    """The device has no room for the image, not even in a batch of one."""

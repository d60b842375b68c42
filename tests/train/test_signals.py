"""Signals that ask a run to stop."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from gsop.train.signals import noted_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with noted_signals() as asked:
        assert not asked
        signal.raise_signal(number)
        assert asked == [number]
        assert signal.getsignal(number) == before
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    assert signal.getsignal(number) == before


def test_a_second_signal_has_its_usual_effect() -> None:
    with noted_signals() as asked:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert asked == [signal.SIGINT]


def test_beside_the_main_thread_nothing_is_handled() -> None:
    def handlers() -> list[object]:
        with noted_signals() as asked:
            assert not asked
            return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(handlers).result() == before

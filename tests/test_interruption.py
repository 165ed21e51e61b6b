"""SIGTERM and Ctrl-C as a wish to stop."""

import signal

import pytest

from fgmm.interruption import Interrupted, Interruption


def test_signals_are_counted_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with Interruption() as interruption:
        assert (interruption.number, interruption.count) == (None, 0)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert interruption.number == signal.SIGTERM
        assert interruption.count == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_with_a_notice_the_second_signal_ends_the_process(capfd):
    with Interruption("saving") as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert capfd.readouterr().err == "\nSIGINT: saving\n"


def test_the_exit_code_is_that_of_shells():
    interrupted = Interrupted(signal.SIGTERM, "stopped at step 3")
    assert interrupted.exit_code == 143
    assert str(interrupted) == "SIGTERM: stopped at step 3"

"""A pipeline of Beam while it runs: in a thread, so that the driver can look after it, and leave it."""

from __future__ import annotations

import ctypes
import io
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from typing import Any, Final

from .beam_signs import Unfit

CANCEL_SECONDS: Final = 5.0

_UNFIT: Final = re.compile(re.escape(Unfit.MARKS[0]) + "(.*?)" + re.escape(Unfit.MARKS[1]), re.DOTALL)
_DETAILS: Final = re.compile(r'^\s*details = "(.+)"\s*$', re.MULTILINE)  # of an error of gRPC


class Pipeline:
    """Runs what `build` adds to a pipeline, from the moment on at which it is made.

    `runner` is the name of a runner or a runner; `here` says that tasks run in the thread of the pipeline.
    """

    def __init__(self, runner: Any, options: list[str], here: bool, build: Callable[[Any], object]) -> None:
        self._runner, self._options, self._here, self._build = runner, options, here, build
        self._result: Any = None
        self._ended = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="thresher-beam", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

        try:
            with _without_chatter():
                pipeline = beam.Pipeline(runner=self._runner, options=PipelineOptions(self._options))
                self._build(pipeline)
                # What it would check is that each step survives pickling, as it has to anyway.
                self._result = _reading_calmly(pipeline.run(test_runner_api=False))
                self._result.wait_until_finish()
        except BaseException as error:  # told to the one who asks
            self.error = error
        finally:
            self._ended.set()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, after at most so many seconds."""
        return self._ended.wait(seconds)

    def cancel(self) -> None:
        """Ends it, as far as the runner can, in a few seconds; no thread that is left keeps the process."""
        if self._ended.is_set():
            return
        if self._here:
            number = ctypes.c_ulong(self._thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(KeyboardInterrupt))
        elif self._result is not None:
            canceller = threading.Thread(target=self._ask_to_cancel, name="thresher-beam-cancel", daemon=True)
            canceller.start()
            canceller.join(CANCEL_SECONDS)
            return
        self._ended.wait(CANCEL_SECONDS)

    def _ask_to_cancel(self) -> None:
        with suppress(Exception):  # a service that is gone runs nothing either
            self._result.cancel()


def _reading_calmly(result: Any) -> Any:
    """The same, with messages that end where the service does: the thread that reads them prints what it
    raises, and the state of the pipeline, which another reads, tells the same."""
    stream = getattr(result, "_message_stream", None)

    if stream is not None:
        result._message_stream = _until_cut(stream)
    return result


def _until_cut(stream: Iterable[Any]) -> Iterator[Any]:
    with suppress(Exception):
        yield from stream


def reason_of(error: BaseException) -> str:
    """Why a pipeline failed, in a line, out of what runners make of an exception."""
    text = str(error)
    if type(error).__name__ == "FutureTimeoutError":  # of gRPC, and without a word
        return "no job service answers; is --job_endpoint right, and the service running?"
    for pattern in (_UNFIT, _DETAILS):
        told = pattern.search(text)
        if told is not None:
            return " ".join(told[1].split())
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if len(lines) > 1 else f"{type(error).__name__}: {text}".rstrip(": ")


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Beam says what it does by the root logger, and logs at it make one that writes to the terminal."""
    root, beams = logging.getLogger(), logging.getLogger("apache_beam")
    silent, level = logging.NullHandler(), beams.level
    root.addHandler(silent)
    root.addFilter(_not_of_beam)
    beams.setLevel(logging.ERROR)
    try:
        yield
    finally:
        beams.setLevel(level)
        root.removeFilter(_not_of_beam)
        root.removeHandler(silent)


def _not_of_beam(record: logging.LogRecord) -> bool:
    return "apache_beam" not in record.pathname


def why_not(options: list[str]) -> str | None:
    """Why Beam does not take such options; None where it does.

    The first call imports Beam, without what that says about optional parts that are not installed.
    """
    with _without_chatter():
        from apache_beam.options.pipeline_options import PipelineOptions
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            PipelineOptions(options).get_all_options()
    except SystemExit:
        return said.getvalue().strip().rpartition("error: ")[2]
    return None

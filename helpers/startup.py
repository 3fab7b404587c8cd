"""What must be set before Keras loads: fast training, and a log that stays out of the pages."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

MALLOC = {-4: 0, -2: 268_435_456, -1: -1}
"""M_MMAP_MAX, M_TOP_PAD and M_TRIM_THRESHOLD: no piece of memory by itself, growth by 256 MiB,
nothing given back."""


def prepare() -> None:
    """Set what makes training fast and its start silent; what the user has set stays.

    TensorFlow takes oneDNN's convolutions by itself only on some processors; they are faster on
    others too (`benchmarks/results/environment.json`).
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    keep_memory()
    keep_logs_out_of_pages()


def keep_memory() -> None:
    """Let Linux's C library keep freed memory: every training step asks for it again.

    Other systems have no such call, and variables named MALLOC_... come first.
    """
    is_set = any(name.startswith("MALLOC_") for name in os.environ)
    if sys.platform.startswith("linux") and not is_set:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)
        for name, value in MALLOC.items():
            mallopt(name, value)


def keep_logs_out_of_pages() -> None:
    """Send what C libraries write on standard error to Jupyter's terminal, not into the page.

    A kernel shows it as a red block; Python's own messages and errors are not affected.
    """
    terminal = getattr(sys.stderr, "_original_stdstream_copy", None)
    if terminal is not None:
        os.dup2(terminal, 2)


@contextmanager
def redirect_errors(file: Path) -> Iterator[None]:
    """Send what this process and its children write on standard error to `file`."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with file.open("wb") as opened:
        os.dup2(opened.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


@contextmanager
def silent_libraries() -> Iterator[None]:
    """Drop what C libraries write on standard error; what Python writes there is still seen."""
    with (
        os.fdopen(os.dup(2), "w", buffering=1) as terminal,
        redirect_errors(Path(os.devnull)),
        redirect_stderr(terminal),
    ):
        yield

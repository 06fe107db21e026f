"""Imports transformers' model classes without what captioning never uses, in a thread while files are decoded.

In the command's own process on a CPU this halves the time until the first caption. In another program's process
transformers is imported as it is, because that program may use the rest of it.
"""

import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_own_process = False
_thread: threading.Thread | None = None


def claim_process() -> None:
    """Declare that nothing but this package uses transformers in this process."""
    global _own_process
    _own_process = True


def start_imports(modules: Sequence[str]) -> None:
    """Begin to import modules in a thread. `finish_imports` waits for it."""
    global _thread
    if _thread is None:
        _thread = threading.Thread(target=_import_quietly, args=(modules,), name="imports")
        _thread.start()


def finish_imports(modules: Sequence[str]) -> None:
    """Import what the thread has not imported. Raises the errors of the imports."""
    if _thread is not None:
        _thread.join()
    _import(modules)


def _import_quietly(modules: Sequence[str]) -> None:
    with suppress(Exception):  # `finish_imports` tries again and raises it
        _import(modules)


def _import(modules: Sequence[str]) -> None:
    with skip_unused_imports():
        for name in modules:
            importlib.import_module(name)


@contextmanager
def skip_unused_imports() -> Iterator[None]:
    """In a process of our own, hide what transformers and torch import and captioning never uses.

    These are torch's compiler, of which some decorators are used; distributed tensors; the losses, which import SciPy;
    the index of all models, which is made by reading each of their files; and boto3, which accelerate imports for its
    own settings. Outside of this, all of it can be imported as usual, but a model imported here computes no loss.
    """
    import torch.distributed

    if not _own_process or "torch._dynamo" in sys.modules or torch.cuda.is_available():  # a GPU uses the compiler
        yield
        return
    import transformers

    is_available, torch.distributed.is_available = torch.distributed.is_available, lambda: False
    hidden: list[ModuleType] = []
    boto3 = sys.modules.setdefault("boto3", None)  # type: ignore[arg-type]  # None: it cannot be found
    try:
        hidden.append(_hide_compiler())
        if "transformers.loss.loss_utils" not in sys.modules:
            hidden.append(_hide_losses())
        if "transformers.models" not in sys.modules:
            transformers.models = _stand_in(
                "transformers.models", lambda name: importlib.import_module(f"transformers.models.{name}")
            )
        yield
    finally:
        torch.distributed.is_available = is_available
        if boto3 is None:
            del sys.modules["boto3"]
        for stand_in in hidden:
            if sys.modules.get(stand_in.__name__) is stand_in:
                _forget(stand_in.__name__)


def _hide_compiler() -> ModuleType:
    stand_in = _hide("torch._dynamo")
    for decorator in ("allow_in_graph", "assume_constant_result", "disable"):
        setattr(stand_in, decorator, _undecorated)
    return stand_in


def _hide_losses() -> ModuleType:
    stand_in = _hide("transformers.loss.loss_utils")
    stand_in.LOSS_MAPPING = {}  # type: ignore[attr-defined]  # a module of any names
    return stand_in


def _hide(name: str) -> ModuleType:
    def load(attribute: str) -> Any:  # a version of transformers that uses more of it
        _forget(name)
        return getattr(importlib.import_module(name), attribute)

    return _stand_in(name, load)


def _undecorated(function: Callable[..., Any] | None = None, *args: Any, **options: Any) -> Any:
    return function if function is not None else _undecorated


def _stand_in(name: str, load: Callable[[str], Any]) -> ModuleType:
    """Put an empty module in the place of one. Its submodules can be imported; `load` returns other attributes."""
    spec = find_spec(name)
    assert spec is not None

    def attribute(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return load(attribute)

    package = ModuleType(name)
    package.__spec__, package.__file__ = spec, spec.origin
    package.__path__ = list(spec.submodule_search_locations or [])
    package.__getattr__ = attribute  # type: ignore[method-assign]
    sys.modules[name] = package
    return package


def _forget(name: str) -> None:
    """Let the next import load a module. A submodule that is loaded stays: torch's register operators."""
    parent, _, attribute = name.rpartition(".")
    sys.modules.pop(name, None)
    vars(sys.modules[parent]).pop(attribute, None)

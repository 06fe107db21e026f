"""The layout: imports point one way, and never in a circle; only the command line prints."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import gemma_captioner

PACKAGE = Path(gemma_captioner.__file__).parent
# Each may import from its own layer and those before it.
LAYERS = (
    {"telemetry", "errors", "types", "text"},
    {"config", "storage"},
    {"dataset", "media", "prompts", "captions", "engines", "pages"},
    {"pipeline"},
    {"executors"},
    {"api"},
    {"check", "compare", "split", "export", "doctor", "review", "demo"},
    {"cli"},
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}


def modules() -> dict[str, Path]:
    """By name within the package: "" is the package itself, "media" and "media.video"."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(name: str) -> Iterator[str]:
    """The modules of the package that it imports, at its head or later."""
    path = MODULES[name]
    package = name.split(".") if name else []
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                submodule = f"{module}.{alias.name}".strip(".")
                yield submodule if submodule in MODULES else module


GRAPH = {name: set(imported(name)) - {name} for name in MODULES}


def test_every_module_has_a_layer():
    assert {name.partition(".")[0] for name in MODULES} - {"", "__main__"} == LAYER.keys()


def test_imports_point_one_way():
    def layer(name: str) -> int:
        return LAYER[name.partition(".")[0]]

    upward = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if name not in ("", "__main__") and (other == "" or layer(other) > layer(name))
    ]
    assert upward == []


def test_there_is_no_cycle():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(name or "gemma_captioner" for name in error.args[1])) from None


# Outside cli/, and why.
PRINTS = {
    "executors.ray.worker": "the last words of a process that ends itself, for Ray's log: nothing can be returned"
}


def printing(name: str) -> Iterator[str]:
    """What a module prints with: `print`, the standard streams, `traceback.print_exc` and its kin, rich."""
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                used = [alias.name for alias in names]
            case ast.ImportFrom(level=0, module=module, names=names):
                used = [f"{module}.{alias.name}" for alias in names]
            case ast.Name() | ast.Attribute():
                used = [ast.unparse(node)]
            case _:
                continue
        yield from (use for use in used if re.match(r"(print|rich|sys\.(stdout|stderr)|traceback\.print_\w+)\b", use))


def test_only_the_command_line_prints():
    found = {name: sorted(printing(name)) for name in MODULES if name.partition(".")[0] != "cli"}
    assert {name: uses for name, uses in found.items() if uses and name not in PRINTS} == {}
    assert all(found[name] for name in PRINTS)
    seen = {use for name in MODULES for use in printing(name)}
    assert {"print", "rich.console.Console"} <= seen  # in cli/: the test knows them when it sees them


def test_a_decode_worker_imports_the_decoders_and_what_they_need():
    """Hundreds are started in a long run. Ours alone: what they import of others is told in docs/decisions.md."""
    code = (
        "import gemma_captioner.media.pool, sys; print(*(m for m in sys.modules if m.startswith('gemma_captioner.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    ours = {name.split(".")[1] for name in done.stdout.split()}
    assert ours == {"telemetry", "errors", "types", "config", "storage", "media"}

"""The layout: imports point one way, and never in a circle; only the command line prints."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import gemma_captioner

PACKAGE = Path(gemma_captioner.__file__).parent
# Each may import from its own layer and those before it.
LAYERS = (
    {"telemetry", "errors", "redaction", "types", "text", "imports"},
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
    found = {name: sorted(printing(name)) for name in MODULES if name.partition(".")[0] not in ("cli", "__main__")}
    assert {name: uses for name, uses in found.items() if uses and name not in PRINTS} == {}
    assert all(found[name] for name in PRINTS)
    seen = {use for name in MODULES for use in printing(name)}
    assert {"print", "rich.console.Console"} <= seen  # in cli/: the test knows them when it sees them


def test_the_command_line_alone_knows_of_cyclopts():
    def foreign(name: str) -> Iterator[str]:
        for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield (node.module or "").partition(".")[0]

    assert {name.partition(".")[0] for name in MODULES if "cyclopts" in foreign(name)} == {"cli"}


# What is imported in a new process by then: folders of ours, and packages of others.
_IMPORTED = """
import json, sys
before = set(sys.modules)
{}
print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)
"""


def imported_by(code: str) -> tuple[set[str], set[str]]:
    words = [sys.executable, "-c", _IMPORTED.format(code)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    names = [name.split(".") for name in json.loads(done.stderr.splitlines()[-1])]
    ours = {name[1] for name in names if name[0] == "gemma_captioner" and len(name) > 1}
    return ours, {name[0] for name in names} - {"gemma_captioner"} - sys.stdlib_module_names


def test_a_decode_worker_imports_the_decoders_and_what_they_need():
    """Hundreds are started in a long run."""
    ours, others = imported_by("import gemma_captioner.media.pool")
    assert ours == {"telemetry", "errors", "types", "storage", "media"}
    known = {"PIL", "pillow_heif", "av", "numpy", "pebble", "psutil"}
    assert known <= others
    assert others.isdisjoint({"pydantic", "cyclopts", "rich", "torch", "transformers", "filelock", "jinja2"})


_HELP = """
from gemma_captioner.cli import main
try: main({})
except SystemExit: pass
"""
_NOT_FOR_HELP = {
    *("torch", "transformers", "accelerate", "safetensors", "ray", "nicegui", "openai", "pyarrow"),
    *("av", "PIL", "pillow_heif", "numpy", "pebble", "psutil", "jinja2", "py3langid"),
}


@pytest.mark.parametrize("arguments", [["--help"], ["caption", "--help"]])
def test_help_imports_neither_models_nor_decoders(arguments):
    ours, others = imported_by(_HELP.format(arguments))
    assert "cyclopts" in others and others.isdisjoint(_NOT_FOR_HELP)
    assert ours.isdisjoint({"media", "engines", "pipeline", "review", "compare"})

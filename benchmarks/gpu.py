"""Measures and checks the local engine on a GPU in ten minutes, with random weights: no network, no checkpoint.

python benchmarks/gpu.py [--out gpu.jsonl]     # prints each row and saves it as it comes
python benchmarks/gpu.py --smoke               # the same code on a CPU with a tiny model, in seconds

First versions and attention kernels, then checks on six layers of the 4b, then throughput: ours against (a) plain
`generate` with one item at a time and (b) in batches of eight. An error costs its row and nothing else. Exit code 1 if
a check failed. `GEMMA_CAPTIONER_REQUIRE_CUDA=1 python -m pytest -k cuda` runs beside it.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from gpu_checks import (
    ENDS,
    PAD,
    Found,
    attention_kernels,
    checks,
    modes,
    of_many_lengths,
    seconds,
    synchronize,
    through_queue,
    tokens_of,
)
from gpu_model import GPU, SMOKE, Bench, Workload, floor_seconds, free_memory, inputs_of, open_bench, requests_for

from gemma_captioner.engines.local.batching import column_bucket
from gemma_captioner.engines.local.memory import Architecture

MINUTES = 10
PLAIN_BATCH = 8


class Report:
    """Prints rows, and appends them to a file, as they come."""

    def __init__(self, path: Path | None, minutes: float) -> None:
        self._path, self._end = path, time.monotonic() + 60 * minutes
        self.rows: list[tuple[str, Found]] = []
        self.failed = False
        if path is not None:
            path.unlink(missing_ok=True)

    def run(self, name: str, measure: Callable[[], Found]) -> Found:
        """Measure one row. An error becomes the row's content."""
        since = time.monotonic()
        if since > self._end:
            found: Found = {"not run": "the time is up"}
        else:
            try:
                found = measure()
            except Exception as error:  # the rest is still worth measuring
                found = {"ok": False, "error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
            free_memory()
        return self.add(name, found | {"row s": round(time.monotonic() - since, 1)})

    def add(self, name: str, found: Found) -> Found:
        self.failed = self.failed or found.get("ok") is False
        self.rows.append((name, found))
        shown = {k: f"{v:.3g}" if isinstance(v, float) else v for k, v in found.items()}
        print(f"| {name} | {', '.join(f'{k} {v}' for k, v in shown.items())} |", flush=True)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"row": name, **found}) + "\n")
        return found


def versions() -> Found:
    found = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "device": "cpu",
    }
    if torch.cuda.is_available():
        found |= {
            "device": torch.cuda.get_device_name(),
            "capability": torch.cuda.get_device_capability(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "memory GiB": torch.cuda.mem_get_info()[1] / 2**30,
        }
    with suppress(ImportError):
        import triton

        found["triton"] = triton.__version__
    return found


def rates(work: Workload) -> Found:
    """bf16 operations/s of a large product, and bytes/s that a large copy reads and writes."""
    a, b = torch.randn(2, work.matrix, work.matrix, device=work.device).bfloat16()
    many = torch.zeros(64 * work.matrix**2, dtype=torch.uint8, device=work.device)  # 4 GiB for a GPU
    copy = torch.empty_like(many)
    rate: dict[str, float] = {}
    for name, work_done, call in (
        ("flops", 2 * work.matrix**3, lambda: a @ b),
        ("bytes", 2 * len(many), lambda: copy.copy_(many)),
    ):
        seconds(lambda call=call: [call() for _ in range(3)])
        rate[name] = 20 * work_done / seconds(lambda call=call: [call() for _ in range(20)])
    return rate


class StageTimer:
    """Times the vision tower, the prefill and captures with the device's clock. The rest of a run is decoding."""

    def __init__(self, bench: Bench) -> None:
        self._on_cuda = bench.model.device.type == "cuda"
        self._marks: list[tuple[str, Any]] = []  # two per call of a stage
        self.capture_s, self.captures = 0.0, 0
        inner = bench.model.model
        for stage, module in (("vision s", inner.vision_tower), ("prefill s", inner.language_model)):

            def mark(module: Any, args: Any, kwargs: dict[str, Any], output: Any = None, stage: str = stage) -> None:
                # A single token is a decode step. During graph capture, no event may be recorded.
                if stage == "vision s" or kwargs["inputs_embeds"].shape[1] > 1:
                    self._marks.append((stage, self._timestamp()))

            module.register_forward_pre_hook(mark, with_kwargs=True)
            module.register_forward_hook(mark, with_kwargs=True)
        graphs, capture = bench.session.graphs, bench.session.graphs.capture

        def timed_capture(step: Any) -> Any:
            since = time.perf_counter()
            captured = capture(step)
            synchronize()
            self.capture_s += time.perf_counter() - since
            self.captures += captured is not None
            return captured

        graphs.capture = timed_capture  # type: ignore[method-assign]

    def _timestamp(self) -> Any:
        if not self._on_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def of(self, run: Callable[[], int], items: int) -> Found:
        """Run once. Return items/s, the seconds of each stage, and memory."""
        self._marks.clear()
        self.capture_s, self.captures = 0.0, 0
        free_memory()
        if self._on_cuda:
            torch.cuda.reset_peak_memory_stats()
        whole = seconds(run)
        took = {"vision s": 0.0, "prefill s": 0.0, "capture s": self.capture_s}
        for (stage, begin), (_, end) in zip(self._marks[::2], self._marks[1::2], strict=True):
            took[stage] += begin.elapsed_time(end) / 1000 if self._on_cuda else end - begin
        found: Found = {"rate": items / whole} | took | {"decode s": whole - sum(took.values())}
        found["graphs"] = self.captures
        if self._on_cuda:
            found["allocated GiB"] = torch.cuda.max_memory_allocated() / 2**30
            found["reserved GiB"] = torch.cuda.max_memory_reserved() / 2**30
        return found


def plain(bench: Bench, requests: list[Any], batch: int) -> int:
    """transformers' `generate` in batches of a bounded size."""
    for start in range(0, len(requests), batch):
        part = requests[start : start + batch]
        inputs = {name: tensor.to(bench.model.device) for name, tensor in inputs_of(bench.processor, part).items()}
        with torch.inference_mode():
            # The end tokens of the session, so that both end their answers alike.
            bench.model.generate(
                **inputs, max_new_tokens=part[0].max_new_tokens, do_sample=False, eos_token_id=ENDS, pad_token_id=PAD
            )
    return len(requests)


def throughput(work: Workload, name: str, size: Architecture, report: Report, rate: Found) -> None:
    """Measure one model: ours at several batch sizes, then without single parts, then the baselines."""
    bench = open_bench(work, size, name=name)
    timer = StageTimer(bench)
    try:
        for kind, row_counts in (("images", work.image_rows), ("clips", work.clip_rows)):
            is_clips = kind == "clips"
            requests = requests_for(size, max(row_counts), clips=is_clips, new_tokens=work.new_tokens)
            columns = column_bucket(len(bench.session.encode_prompt(requests[0])))

            def ours(rows: int, requests: list[Any] = requests, columns: int = columns) -> Found:
                tokens_of(bench, [replace(r, max_new_tokens=3) for r in requests[:rows]])  # loads and compiles kernels
                found = timer.of(lambda: len(tokens_of(bench, requests[:rows])), rows)
                if "flops" in rate:
                    least = floor_seconds(size, requests[:rows], columns, rate["flops"], rate["bytes"])
                    found["% of floor"] = 100 * found["rate"] * least / rows
                return found

            allowed = bench.plan.max_batch_tokens // (columns + work.new_tokens)
            for rows in row_counts:
                if rows <= max(allowed, row_counts[0]):
                    with modes(bench, fused=work.device == "cuda"):
                        report.run(f"{name}, {rows} {kind}, ours", lambda rows=rows: ours(rows))
            rows = min(row_counts[-1], 64)
            for part, options in (
                ("without compiled kernels", {"fused": False}),
                ("without CUDA graphs", {"graphs": False}),
                ("with cuDNN's attention", {"cudnn": True}),
            ):
                with modes(bench, **options):
                    report.run(f"{name}, {rows} {kind}, {part}", lambda rows=rows: ours(rows))
            queue = of_many_lengths(requests)
            for part, ahead in (("as a queue", True), ("as a queue, no frames encoded ahead", False)):
                with modes(bench, ahead=ahead):
                    report.run(
                        f"{name}, {len(queue)} {kind}, {part}",
                        lambda queue=queue, rows=min(row_counts[0], max(1, len(requests) // 3)): {
                            "rate": len(queue) / seconds(lambda: through_queue(bench, queue, rows))
                        },
                    )
            few = requests[: 2 if is_clips else PLAIN_BATCH]
            with modes(bench, fused=False):
                for label, batch, some in (("a", 1, few), ("b", PLAIN_BATCH, requests[: 2 * PLAIN_BATCH])):
                    report.run(
                        f"{name}, {kind}, {label}",
                        lambda batch=batch, some=some: timer.of(lambda: plain(bench, some, batch), len(some)),
                    )
        if work.device == "cuda":
            report.run(f"{name}, a profile of one batch", lambda: profile(bench, size))
    finally:
        bench.session.close()
    for line in bench.lines:
        report.add(f"{name}, reported", {"line": line})


def profile(bench: Bench, size: Architecture) -> Found:
    """The ten kernels that take most of the time of 16 tokens, in ms."""
    requests = requests_for(size, 64, clips=False, new_tokens=16)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        tokens_of(bench, requests)
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_device_time_total)
    return {event.key[:60]: event.self_device_time_total / 1000 for event in events[:10]}


def measure(work: Workload, report: Report) -> None:
    report.run("versions", versions)
    rate = report.run("rates", lambda: rates(work))
    first = next(iter(work.sizes.values()))
    for name, found in attention_kernels(work, first):
        report.add(name, found)
    for name, check in guarded(report, "checks", lambda: checks(work, first)):
        report.run(name, check)
    free_memory()
    for name, size in work.sizes.items():
        for _ in guarded(report, name, lambda name=name, size=size: iter([throughput(work, name, size, report, rate)])):
            pass
        free_memory()


def guarded(report: Report, name: str, steps: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """Yield the steps. An error outside any row becomes a row."""
    try:
        yield from steps()
    except Exception as error:  # the rest is still worth measuring
        report.add(name, {"ok": False, "error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="run on a CPU with a tiny model")
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"), help="a file for the rows, as JSON lines")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="start no row after this time")
    args = parser.parse_args()
    if not args.smoke and not torch.cuda.is_available():
        sys.exit("NOT RUN: torch finds no CUDA device. --smoke runs the same code on a CPU")
    report = Report(args.out, args.minutes)
    measure(SMOKE if args.smoke else GPU, report)
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()

"""Checks of the local engine that only a GPU can make, each in seconds: six layers of the 4b's shape.

Each check returns what it found. `ok` is False if the engine is wrong there.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from gpu_model import Bench, Workload, inputs_of, open_bench, requests_for
from torch.nn.attention import SDPBackend, sdpa_kernel

from gemma_captioner.engines.local import generation
from gemma_captioner.engines.local.memory import Architecture
from gemma_captioner.types import Failed, Reply, Request

Found = dict[str, Any]
LAYERS = 6
MAX_DIFFERENCE = 0.25  # of logits, in standard deviations: what bf16 rounds in six layers
ENDS, PAD = [1, 6], 0  # token ids of the demo's tokenizer


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(call: Callable[[], Any]) -> float:
    synchronize()
    since = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - since


def pending(bench: Bench, requests: Sequence[Request]) -> list[Any]:
    return [bench.session.prepare(request) for request in requests]


def tokens_of(bench: Bench, requests: Sequence[Request]) -> list[list[int]]:
    """Run one batch in this thread."""
    return bench.session.generate_batch(pending(bench, requests))[: len(requests)]


def through_queue(bench: Bench, requests: Sequence[Request], rows: int | None = None) -> list[Reply | Failed]:
    """Let the session answer requests in its own thread, in a batch of so many rows that is refilled."""
    session, planned = bench.session, bench.session._planned
    if rows is not None:
        session._limits = session._planned = replace(planned, rows=rows)
    for request in requests:
        session.submit(request)
    replies: list[Reply | Failed] = []
    while len(replies) < len(requests):
        replies += session.poll(1.0)
    session._limits = session._planned = planned
    return replies


def of_many_lengths(requests: Sequence[Request]) -> list[Request]:
    """Let answers end after an eighth to all of their tokens, so that rows are refilled at different times."""
    return [replace(r, max_new_tokens=max(2, r.max_new_tokens * (n % 8 + 1) // 8)) for n, r in enumerate(requests)]


@contextmanager
def modes(
    bench: Bench,
    *,
    graphs: bool | None = None,
    fused: bool | None = None,
    cudnn: bool = False,
    ahead: bool | None = None,
) -> Iterator[None]:
    """Turn parts of the engine on or off. None: as they are."""
    session, no_cudnn = bench.session, generation._no_cudnn_attention
    if cudnn:
        generation._no_cudnn_attention = nullcontext
    before = session.graphs.enabled, session.can_fuse, session.media.encodes_ahead
    session.graphs.enabled = before[0] if graphs is None else graphs
    session.media.encodes_ahead = before[2] if ahead is None else ahead
    if fused is not None:
        session.can_fuse, session._num_requests = fused, 10**6
        if session._fused is not None:
            session._fused.enabled = fused
    try:
        yield
    finally:
        session.graphs.enabled, session.can_fuse, session.media.encodes_ahead = before
        generation._no_cudnn_attention = no_cudnn


def equal_share(a: list[list[int]], b: list[list[int]]) -> float:
    pairs = [x == y for left, right in zip(a, b, strict=True) for x, y in zip(left, right, strict=False)]
    return sum(pairs) / len(pairs)


def first_logits(bench: Bench, requests: Sequence[Request]) -> torch.Tensor:
    """Return the logits of each row's first token, [rows, vocabulary]."""
    seen: list[torch.Tensor] = []
    hook = bench.model.lm_head.register_forward_hook(lambda module, args, output: seen.append(output[:, -1]))
    try:
        tokens_of(bench, [replace(r, max_new_tokens=1) for r in requests])
    finally:
        hook.remove()
    return seen[0][: len(requests)].float()


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the greatest difference of logits, in their standard deviations.

    The tokens of a random model depend on near ties, so that rows part early by rounding alone.
    """
    return float((found - expected).abs().max() / expected.std())


def attention_kernels(work: Workload, size: Architecture) -> Iterator[tuple[str, Found]]:
    """The first and the second call of each attention kernel, in ms, for the shapes of this engine."""
    heads, kv, d = size.heads, size.kv_heads, size.head_dim
    shapes = {
        "vision": ((4, 16, 4096, 72), (4, 16, 4096, 72), False),
        "prefill": ((32, heads, 320, d), (32, heads, 320, d), True),
        "decode": ((64, kv, heads // kv, d), (64, kv, 448, d), True),
    }
    if work.device == "cpu":
        shapes = {"decode": ((2, 1, 2, 32), (2, 1, 16, 32), True)}
    backends = {
        "default": None, "efficient": SDPBackend.EFFICIENT_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION,
        "cudnn": SDPBackend.CUDNN_ATTENTION, "math": SDPBackend.MATH,
    }  # fmt: skip
    for name, (query_shape, key_shape, masked) in shapes.items():
        query, key = (torch.randn(s, device=work.device, dtype=torch.bfloat16) for s in (query_shape, key_shape))
        mask = query.new_zeros((query_shape[0], 1, query_shape[2], key_shape[2])) if masked else None
        found: Found = {}
        for backend, kernel in backends.items():

            def call(q: Any = query, k: Any = key, m: Any = mask) -> Any:
                return torch.nn.functional.scaled_dot_product_attention(q, k, k, attn_mask=m)

            try:
                if kernel is None:
                    times = [seconds(call) for _ in range(2)]
                else:
                    with sdpa_kernel(kernel):
                        times = [seconds(call) for _ in range(2)]
                found[backend] = " then ".join(f"{1000 * t:.3g}" for t in times)
            except RuntimeError as error:
                found[backend] = f"no ({str(error).splitlines()[0][:60]})"
        yield f"attention, {name}", found


def checks(work: Workload, size: Architecture) -> Iterator[tuple[str, Callable[[], Found]]]:
    """Yield the name of each check and the function that makes it."""
    bench = open_bench(work, size, name="six layers", layers=LAYERS)
    small = replace(size, layers=LAYERS)
    images = requests_for(small, 7, clips=False, new_tokens=min(24, work.new_tokens))

    def graph_against_eager() -> Found:
        with modes(bench, graphs=False, fused=False):
            eager = tokens_of(bench, images)
        with modes(bench, fused=False):
            graph = tokens_of(bench, images)
            captured = bench.session.graphs.enabled
        return {"ok": eager == graph and (captured or work.device == "cpu"), "captured": captured}

    def compiled_against_eager() -> Found:
        with modes(bench, fused=False):
            eager, logits = tokens_of(bench, images), first_logits(bench, images)
        if work.device == "cpu":
            return {"ok": True, "note": "compiled on CUDA only"}
        with modes(bench, fused=True):
            took = seconds(lambda: tokens_of(bench, images))
            far = difference(first_logits(bench, images), logits)
            share = equal_share(eager, tokens_of(bench, images))
        fused = bench.session._fused
        on = fused is not None and fused.enabled
        return {"ok": on and far < MAX_DIFFERENCE, "difference": far, "equal tokens": share, "compiling s": took}

    def teacher_forced() -> Found:
        """The share of our tokens that one forward pass of transformers over all of them also chooses."""
        with modes(bench, fused=False):
            ours = tokens_of(bench, images)
        inputs = {k: v.to(work.device) for k, v in inputs_of(bench.processor, images).items()}
        answers = torch.tensor(ours, device=work.device)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], answers[:, :-1]], 1)
        for name in ("attention_mask", "token_type_ids"):
            value = 1 if name == "attention_mask" else 0
            more = torch.full_like(answers[:, :-1], value)
            inputs[name] = torch.cat([inputs[name], more], 1)
        with torch.inference_mode():
            logits = bench.model(**inputs, logits_to_keep=answers.shape[1]).logits
        share = float((logits.argmax(-1) == answers).float().mean())
        return {"ok": share > 0.9, "equal tokens": share}

    def against_generate() -> Found:
        with modes(bench, fused=False):
            ours = tokens_of(bench, images)
        inputs = {k: v.to(work.device) for k, v in inputs_of(bench.processor, images).items()}
        with torch.inference_mode():
            sequences = bench.model.generate(
                **inputs, max_new_tokens=24, do_sample=False, eos_token_id=ENDS, pad_token_id=PAD
            )
        share = equal_share(ours, sequences[:, inputs["input_ids"].shape[1] :].tolist())
        return {"ok": share > 0.2, "equal tokens": share}  # one near tie changes the rest of a row

    def padded_against_alone() -> Found:
        clip = requests_for(small, 1, clips=True, new_tokens=1)
        with modes(bench, fused=False):
            far = difference(first_logits(bench, [*clip, images[0]])[1:], first_logits(bench, images[:1]))
        return {"ok": far < MAX_DIFFERENCE, "difference": far}

    def forced_capture_failure() -> Found:
        from gemma_captioner.engines.local.graphs import GraphPool

        session, before = bench.session, bench.session.graphs
        reported: list[str] = []
        session.graphs = GraphPool(bench.model.device, reported.append)
        session.graphs.enabled = before.enabled
        part = bench.model.model.language_model.norm
        hook = part.register_forward_hook(
            lambda module, args, output: output if output.shape[1] > 1 or not capturing() else output.sum().item()
        )
        try:
            tokens_of(bench, images)
        finally:
            hook.remove()
        off = not session.graphs.enabled
        session.graphs = before
        after = tokens_of(bench, images)
        return {
            "ok": off and len(reported) == int(work.device == "cuda") and len(after) == 7,
            "reported": " ".join(reported),
        }

    def encoded_ahead_against_not() -> Found:
        """Frames that are read too early or overwritten change nearly all answers; bf16 in other batches, a few."""
        rows, texts = 16 if work.device == "cuda" else 4, []
        requests = of_many_lengths(requests_for(small, 3 * rows, clips=False, new_tokens=24))
        for ahead in (True, False):
            with modes(bench, ahead=ahead):
                replies = through_queue(bench, requests, rows)
            texts.append({r.request_id: r.text for r in replies if isinstance(r, Reply)})
        share = sum(texts[0].get(n) == text for n, text in texts[1].items()) / len(requests)
        return {"ok": share >= 0.5, "equal": share}

    def out_of_memory() -> Found:
        if work.device == "cpu":
            return {"ok": True, "note": "CUDA only"}
        used = torch.cuda.memory_reserved() + torch.cuda.mem_get_info()[1] // 100
        torch.cuda.set_per_process_memory_fraction(min(1.0, used / torch.cuda.mem_get_info()[1]))
        try:
            many = requests_for(small, 48, clips=False, new_tokens=24)
            replies = through_queue(bench, many)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        answered = sum(isinstance(reply, Reply) for reply in replies)
        return {"ok": answered > 0, "answered": f"{answered} of {len(many)}", "chunk": bench.session.vision.chunk}

    def memory_over_batches() -> Found:
        reserved = []
        for n in range(work.batches):
            tokens_of(bench, requests_for(small, 3 + n % 5, clips=False, new_tokens=8, seed=n))
            reserved.append(torch.cuda.memory_reserved() / 2**30 if work.device == "cuda" else 0.0)
        grown = reserved[-1] - reserved[len(reserved) // 3]
        return {"ok": grown < 0.05, "reserved GiB": reserved[-1], "grown GiB": grown}

    try:
        for check in (
            graph_against_eager, compiled_against_eager, teacher_forced, against_generate, padded_against_alone,
            forced_capture_failure, encoded_ahead_against_not, out_of_memory, memory_over_batches,
        ):  # fmt: skip
            yield check.__name__.replace("_", " "), check
    finally:
        bench.session.close()


def capturing() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()

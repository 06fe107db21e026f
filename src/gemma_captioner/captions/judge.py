"""A caption -> what is wrong with it. Pure."""

from ..records import Reply

UNFIT = {
    "empty": "the model answered nothing: try another --prompt, or a larger model",
}


def judge(caption: str, reply: Reply) -> tuple[str, ...]:
    """Flags, in a fixed order. One that stands in `UNFIT` keeps the caption from being stored."""
    if not caption:
        return ("empty",)
    return ("truncated",) if reply.finish_reason == "length" else ()

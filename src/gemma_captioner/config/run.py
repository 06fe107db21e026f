"""How a run goes about it, on one machine and on several."""

from pydantic import Field, field_validator

from .group import DURATION, SettingsGroup


class RunOptions(SettingsGroup):
    """How the run goes about it."""

    workers: int | None = Field(None, ge=1, description="Processes that decode ahead. [default: one a core]")
    stop_after: str | None = Field(
        None,
        pattern=DURATION,
        description="Take no new files after this long: 90s, 45m, 2h, 1h30m.",
    )


class ClusterSettings(SettingsGroup):
    """Past one machine, with Ray."""

    cluster: str | None = Field(
        None,
        pattern=r"^(local|auto|ray://.+:\d+)$",
        description="local: an actor for each GPU of this machine. auto, ray://HOST:PORT: on a Ray that runs.",
    )
    actors: int | None = Field(
        None, ge=1, description="Engines side by side. [default: as many as the GPUs there are carry]"
    )
    gpus_per_actor: float | None = Field(
        None, ge=0, description="0.5: two share one. 2: a model spread over two. [default: 1, or 0 where there is none]"
    )
    cpus_per_actor: float | None = Field(
        None, gt=0, description="Its share, as Ray counts it, and its decoding processes. [default: of 80%]"
    )
    attempts: int = Field(
        3, ge=1, description="How often files whose actor died are given to another, before each is tried alone."
    )

    @field_validator("gpus_per_actor")
    @classmethod
    def _check_gpus_per_actor(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and not value.is_integer():
            raise ValueError("must be whole above 1: Ray shares one GPU, not several")
        return value

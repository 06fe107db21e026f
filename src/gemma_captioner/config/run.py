"""Settings of a run: decode processes, time limit, cluster."""

from pydantic import Field, field_validator

from .group import Duration, SettingsGroup


class RunOptions(SettingsGroup):
    """The number of decode processes and the time limit of a run."""

    workers: int | None = Field(
        None, ge=1, description="Decode files in this many processes. [default: one per CPU core]"
    )
    stop_after: Duration | None = Field(
        None, description="Start no new files after this time, for example 45m or 1h30m."
    )


class ClusterSettings(SettingsGroup):
    """Where Ray runs the model, and the resources of each actor."""

    cluster: str | None = Field(
        None,
        pattern=r"^(local|auto|ray://.+:\d+)$",
        description="Run on several GPUs with Ray. local: the GPUs of this machine. auto or ray://HOST:PORT: a "
        "Ray cluster that is running.",
    )
    actors: int | None = Field(
        None, ge=1, description="Run this many copies of the model. [default: as many as the GPUs can hold]"
    )
    gpus_per_actor: float | None = Field(
        None,
        ge=0,
        description="GPUs for each copy of the model. 0.5: two copies share a GPU. 2: a copy uses two GPUs. "
        "[default: 1, or 0 without a GPU]",
    )
    cpus_per_actor: float | None = Field(
        None,
        gt=0,
        description="CPU cores for each copy of the model and its decoding. [default: 80% of the cores, shared "
        "equally]",
    )
    attempts: int = Field(
        3,
        ge=1,
        description="If the worker that captions a file dies, try the file this many times before it is tried alone.",
    )

    @field_validator("gpus_per_actor")
    @classmethod
    def _check_gpus_per_actor(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and not value.is_integer():
            raise ValueError("give a fraction below 1, or a whole number: Ray shares one GPU, but not several")
        return value

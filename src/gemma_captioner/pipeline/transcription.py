"""The transcripts of clips: from the files of --transcripts, or made by Whisper with `--transcripts auto`."""

from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from typing import Any, Protocol

from ..config.settings import Settings
from ..engines.local.checkpoint import map_loading_errors
from ..errors import ItemError, StartError, UsageError
from ..prompts.metadata import MetadataTable
from ..prompts.subtitles import Transcript, Word
from ..prompts.transcripts import TranscriptFiles
from ..prompts.variables import unconditional_variables
from ..types import Failed, Frames, MediaItem

_MAX_TRANSCRIBED_S = 120.0  # no trainer keeps as much of a clip


@dataclass(frozen=True, slots=True)
class Speech:
    """The speech in the part of a clip that its frames come from.

    Attributes:
        text: The words of this part, each speaker in a line.
        nearby: These words and those around them, against which quotes are checked: times in transcripts are rough.
    """

    text: str
    nearby: str


class TranscriptSource(Protocol):
    def speech(self, item: MediaItem, frames: Frames) -> Speech | None:
        """Return the speech; None if unknown. Raises `ItemError`, and `StartError` if no clip can be read."""
        ...

    def check(self, item: MediaItem) -> None:
        """Raise the `ItemError` that a run would raise, as far as that can be known without decoding the clip."""
        ...

    def digest(self, item: MediaItem) -> str:
        """Return a text that changes when the transcript of the clip changes; "" if it has none."""
        ...


class FileSource:
    """Transcripts from files."""

    def __init__(self, files: TranscriptFiles) -> None:
        self._files = files

    def speech(self, item: MediaItem, frames: Frames) -> Speech | None:
        transcript = self._files.read(item)
        if transcript is None:
            return None
        nearby = transcript.overlapping(*frames.span_s)
        return Speech(transcript.within(*frames.span_s).as_text(), "".join(word.text for word in nearby.words))

    def check(self, item: MediaItem) -> None:
        self._files.read(item)

    def digest(self, item: MediaItem) -> str:
        return self._files.digest(item)


class WhisperSource:
    """Transcripts by faster-whisper, on the CPU, so that the captioning model has all of the GPU's memory."""

    def __init__(self, model: str, hf_token: str | None) -> None:
        """Raises `StartError` if faster-whisper is not installed. Loads no model."""
        if find_spec("faster_whisper") is None:
            raise StartError(
                "--transcripts auto requires faster-whisper: pip install 'gemma-captioner[transcribe]', or give a "
                "folder of transcripts"
            )
        self._name, self._hf_token = model, hf_token
        self._model: Any = None

    def speech(self, item: MediaItem, frames: Frames) -> Speech | None:
        if frames.audio is None:
            return None
        if "silent" in frames.flags:  # Whisper would invent words
            return Speech("", "")
        self._load()
        try:
            segments, _ = self._model.transcribe(
                frames.audio.samples, word_timestamps=True, vad_filter=True, condition_on_previous_text=False
            )
            words = list(chain.from_iterable(segment.words or () for segment in segments))  # transcribes here
        except (RuntimeError, ValueError) as error:
            raise ItemError(f"cannot be transcribed ({error}): give a transcript with --transcripts FOLDER") from error
        transcript = Transcript([Word(word.word, word.start, word.end) for word in words])
        return Speech(transcript.as_text(), transcript.as_text())

    def check(self, item: MediaItem) -> None:
        pass

    def digest(self, item: MediaItem) -> str:
        return f"whisper {self._name}" if item.kind == "clip" else ""

    def _load(self) -> None:
        """Raises `ModelError`."""
        if self._model is None:
            from faster_whisper import WhisperModel

            with map_loading_errors(f"the Whisper model {self._name}", self._hf_token):
                self._model = WhisperModel(self._name, device="cpu", compute_type="int8", use_auth_token=self._hf_token)


class Transcripts:
    """The transcripts of a run; none without --transcripts."""

    def __init__(self, settings: Settings, metadata: MetadataTable) -> None:
        """Raises `UsageError` or `StartError` if they cannot be used."""
        path, model = settings.prompting.transcript_path, settings.prompting.whisper_model
        is_column = "transcript" in metadata.columns  # then {transcript} is that column
        self._in_prompts = "transcript" in metadata.used_variables and not is_column
        self._source: TranscriptSource | None = None
        if path is not None:
            self._source = FileSource(TranscriptFiles(path))
        elif model is not None:
            self._source = WhisperSource(model, settings.model.hf_token)
        elif self._in_prompts and any("transcript" in unconditional_variables(text) for text in _templates(settings)):
            raise UsageError("the prompt uses {transcript}: give --transcripts FOLDER")

    def __bool__(self) -> bool:
        return self._source is not None

    @property
    def max_audio_s(self) -> float:
        """How much sound of a clip must be decoded, in seconds; 0 if none must."""
        return _MAX_TRANSCRIBED_S if isinstance(self._source, WhisperSource) else 0.0

    def speech(self, item: MediaItem, frames: Frames) -> Speech | Failed | None:
        """Return the speech of a clip; None if unknown. Raises `StartError`."""
        try:
            return self._source.speech(item, frames) if self._source else None
        except ItemError as error:
            return Failed(item, str(error))

    def find_error(self, item: MediaItem) -> str | None:
        """Return why the transcript of the file cannot be used, without decoding the file; None if it can."""
        try:
            if self._source is not None:
                self._source.check(item)
        except ItemError as error:
            return str(error)
        return None

    def digest(self, item: MediaItem) -> str | None:
        """Return a digest of what prompts use of the transcript of the file. None if they use none."""
        return self._source.digest(item) or None if self._source and self._in_prompts else None


def _templates(settings: Settings) -> list[str]:
    prompts = [prompt for of_kind in settings.prompts.values() for prompt in of_kind]
    return [*prompts, settings.prompting.prefix, settings.prompting.suffix]

"""Finds out whether a caption mentions sound. Pure, for captions in English.

Precision and recall on labeled captions: docs/flags.md, `python benchmarks/flags.py`.
"""

import re
from typing import Literal

from .phrases import QUOTED, phrases
from .speech import quoted_speech

# "heard": it mentions sound. "seen": it mentions only what is visible, too, such as "a woman sings". "none": neither.
Mention = Literal["heard", "seen", "none"]

_SOUND_FIELD = re.compile(r"^(?:overall_soundscape|non_diegetic_music):\s*(?!N/A)\S", re.MULTILINE)  # of MiniMax H3
_FIELD_NAME = re.compile(r"^\w+:", re.MULTILINE)
# Sounds by their names, as noun or verb: a hiss, hisses. As nouns, those of the second list have another meaning.
_NOISES = """
    hiss rumble clink clank clack clatter clang screech squeal creak squeak thud thump chirp croak meow purr growl howl
    wail whir whirr murmur whisper mutter mumble hum plink clunk whoosh swoosh moo bleat neigh quack rustle patter chant
""".split()
_VERBS_OF_NOISE = """
    whistle buzz jingle jangle tinkle hoot tweet beep ding slam boom crunch rattle blare honk caw chime squawk
    gurgle reverberate resound echo chatter narrate commentate
""".split()


def _inflected(words: list[str]) -> str:
    """# hum -> hums, hummed, humming      whistle -> whistles, whistled, whistling"""
    return "|".join(rf"{word.removesuffix('e')}{word[-1]}?(?:e?s|ed|ing)" for word in words)


_INSTRUMENT = """
    guitar piano violin cello viola drums? flute trumpet saxophone sax clarinet harp organ accordion banjo ukulele
    keyboard synthesizer harmonica trombone tuba bass fiddle sitar mandolin bagpipes? strings horns?
""".split()
_LISTS = {
    "NOISE": "|".join(_NOISES),
    "MAKES_NOISE": _inflected(_NOISES + _VERBS_OF_NOISE),
    "BURST": "crash|bang|crack|pop|snap|click|clap|roar|crackle|sizzle|beat|drone|buzz|whistle",
    "INSTRUMENT": "|".join(_INSTRUMENT),
}


def _phrases(lines: str) -> re.Pattern[str]:
    for name, words in _LISTS.items():
        lines = lines.replace(f"{{{name}}}", f"(?:{words})")
    return phrases(lines)


_HEARD = _phrases(r"""
    \b(?:{NOISE}|{MAKES_NOISE})\b
    \bwith_an?_(?:\w+_){0,2}{BURST}\b
    \b{BURST}_of_(?:the|an?)\b
    \bring(?:s|ing)_out\b
    \b(?:clock|watch|metronome)(?:_\w+){0,3}_tick(?:s|ing)\b
    \b(?:in)?audibl[ey]\b
    \b(?:un)?intelligibl[ey]\b
    \b(?:over)?heard\b
    \b(?:aloud|noisily|noisy|deafening|muffled|out_of_tune|off-key|(?:high|low)-pitched)\b
    \bloud(?:ly|er)?\b(?!\s+(?:\w+\s+){0,2}(?:shirt|pattern|colou?rs?|prints?|tie|jacket|dress|outfit|wallpaper|socks)\b)
    \bsounds?\b(?!\s+(?:engineer|mix|system|equipment|stage|check|booth|studio|asleep|wave|bar|board|desk|card|effect))
    \b(?:soundtrack|soundscape)\b
    (?<!film\s)(?<!image\s)(?<!grain\sand\s)(?<!digital\s)\bnoises?\b(?!_(?:of_the_picture|in_the_image))
    \baudio\b(?!\s+(?:wave|equipment|mixer|interface|cable|jack|system|player|recorder|engineer|console|gear|tape))
    (?<!sheet\s)(?<!beside\sthe\s)\bmusic\b(?!\s+(?:stand|store|shop|hall|box|video|stage|festival|sheet|studio|room|player|note|book))
    \b(?:melod(?:y|ies)|songs?|lullaby|birdsong|waltz|ballad)\b
    \bvoices?\b(?!\s+(?:actor|coach|recorder|assistant))
    \b(?:voice-?overs?|narrat(?:or|ion)|commentator|commentary|dialogue(?!_scene))\b
    \b\w+_accent\b(?!_(?:wall|colou?r|light|piece|lighting))
    \bfootsteps\b(?!_(?:in|on|across|through)_(?:the_|fresh_|wet_)?(?:snow|sand|mud))
    \b(?:room|low|background|quiet|city|street|cafe)_ambience\b
    \b(?:slow|fast|moderate|steady|medium)_tempo\b
    \b(?:piano|orchestral|musical|film|electronic|string|choral)_score\b
    \btap(?:s|ping)_(?:against|rhythmically|softly|loudly)\b
    \b(?:scrape|snap|knock|rhythm|chirping|drumming|ringing)_of_(?:the|an?|\w+ing)\b
    \bspeech_is\b
    \bambient_(?:sound|noise)
    \b(?:thunder|sirens?)\b
    \b{INSTRUMENT}_(?:music|melody|plays|chords?|notes|riff|solo|track)\b
""")
_SEEN = _phrases(r"""
    \b(?:speak|sing|scream|shout|sob|snore|yell|roar|bark|clap|gasp|cheer|strum|lecture|laugh|talk|chat)(?:s|ing|ping|ming|ting|ed|ted)?\b
    \b(?:spoke|sang|laughter|applau(?:ds?|ding|se)|cr(?:y|ies|ying)|giggl(?:es|ing)|argu(?:es|ing)|recit(?:es|ing))\b
    \b(?:convers(?:es|ing|ation)|discuss(?:es|ing)?|interview(?:s|ed|ing)?|explain(?:s|ing)?|sa(?:ys|ying)|ask(?:s|ing))\b
    \b(?:gives?|giving|delivers?|delivering)_an?_(?:\w+_)?(?:speech|lecture|talk)\b
    \bcall(?:s|ing)_(?:out|over|to|an?|the|him|her)\b
    \bcrow(?:s|ing)_(?:on|at|from|in)\b
    \b(?:crackl|sizzl|crash)(?:es|ing)?\b
    \bplay(?:s|ing)?(?:_\w+){0,4}_{INSTRUMENT}\b
    \b(?:pianist|guitarist|drummer|drumming|violinist|cellist|trumpet(?:er|_player)|singers?|choir|orchestra)\b
    \b(?:phone|bell|alarm|doorbell|telephone)(?:_\w+){0,4}_rings?\b
    \bperform(?:s|ing)_(?:an?_)?(?:\w+_){0,2}(?:song|concert|solo|piece)\b
    \b(?:explo(?:des?|ding|sion)|fireworks)\b
""")
_UNSEEN = re.compile(r"\boff[- ]?(?:screen|camera)\b", re.IGNORECASE)
_UNQUOTED_SIGN = re.compile(r"\b(?:says|reads|reading|saying):?\s+(?=\")", re.IGNORECASE)
# These negate a mention of sound: in the whole clause, or after them.
_DENIED_CLAUSE = phrases(r"""
    \b(?:silent|silence|soundless|cannot|can't|can_not)\b
    \bmute\b(?!_swan)
    \bmuted_(?:clip|video|audio)\b
    \b(?:is|are|was|does|do)(?:_not|n't)\b
""")
_DENIED_FROM = phrases(r"\b(?:no|without|neither|nor|nobody|none|never|absence_of|lacks?|lacking|free_of)\b[^\0]*")


def mention_of_sound(caption: str) -> Mention:
    """Return how a caption mentions sound. "No music" is not a mention.

    # A kettle whistles. -> heard      A woman sings on a stage. -> seen      A car passes, no music plays. -> none
    """
    if _SOUND_FIELD.search(caption) or any(quoted_speech(caption)):
        return "heard"
    text = _FIELD_NAME.sub("", caption.replace("\u2019", "'"))
    text = QUOTED.sub('""', _UNQUOTED_SIGN.sub(" ", text))
    clauses = re.split(r"[.;!?,]|\b(?:but|while|and then)\b", text)
    told = [_DENIED_FROM.sub("", clause) for clause in clauses if not _DENIED_CLAUSE.search(clause)]
    if any(_HEARD.search(clause) for clause in told):
        return "heard"
    seen = [clause for clause in told if _SEEN.search(clause)]
    return "heard" if any(map(_UNSEEN.search, seen)) else "seen" if seen else "none"


def sound_flags(caption: str, is_heard: bool | None) -> tuple[str, ...]:
    """Flag a caption that misses or invents sound.

    is_heard: whether the clip has sound that the model heard; False if it has none, None if that is unknown.
    """
    if is_heard is None:
        return ()
    mention = mention_of_sound(caption)
    if is_heard:
        return ("sound_missing",) * (mention == "none")
    return ("sound_invented",) * (mention == "heard")

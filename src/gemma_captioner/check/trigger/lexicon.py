"""Word lists for `check --trigger`: kinds of things, and words without a meaning of their own. English."""

import re
from collections.abc import Mapping

# Skipped within a phrase: "her faded denim jacket" and "the denim jacket" are one phrase.
DROPPED = frozenset(
    """
    a an the this that these those his her its their my your our one's some several many very quite slightly partly
    mostly just also still straight
    """.split()
)
# Only between the words of a phrase, not at its ends. All count as equal: "looks at", "looks into".
LINKS = frozenset(
    """
    of in on at to from with by for into onto over under above below behind beside near between toward towards through
    across along around against next up down off out and or as
    """.split()
)
# Without a meaning for a dataset, at any place.
GENERIC = frozenset(
    """
    i he she it they them him you we who which what where when while there here then than but so if because both each
    other another one two three four all not no nor only own same such too is are was were be been being am has have
    had having do does did can could will would may might must appear seem show shows shown showing depict feature
    capture display present see seen visible include contain wear dress hold carry use make made give take place set
    get put keep come go like photo photograph picture image video clip footage scene shot frame
    caption description foreground left right side front center centre middle top bottom edge part corner half piece
    kind type way thing detail area bit number pair row group set 1girl 1boy 2girls 2boys 1other solo subject overall
    surround cover fill suggest indicate create emphasize highlight add convey evoke lend enhance draw mood atmosphere
    sense feeling impression composition appearance presence element attention viewer's
    """.split()
)
# Describe the next word; without one, they have no meaning.
MODIFIERS = frozenset(
    """
    red orange yellow green blue purple violet pink brown black white gray grey beige golden silver pale dark
    bright vivid colorful warm cool cold soft hard large big small little tiny tall short long wide narrow thin thick
    young old new fine simple plain single full empty open closed round flat low high deep subtle natural calm quiet
    beautiful delicate loose light-colored olive shallow sharp serene peaceful cozy inviting dramatic mysterious moody
    playful lively tranquil nostalgic elegant professional casual relaxed confident thoughtful serious neutral happy sad
    """.split()
)
# Have a meaning only with another word: "blurred background", "green eyes".
_WEAK = """
    background backdrop light lighting camera viewer lens look stand sit view angle expression face head hand arm body
    finger hair eye fur skin color colour palette texture style line paper surface pattern focus depth
"""

# What a phrase names -> its words; the last word of a phrase decides, then the others.
_KINDS = {
    "clothing": """
        jacket coat shirt t-shirt tee blouse sweater hoodie cardigan vest blazer suit tie dress skirt jeans pants
        trousers shorts leggings uniform kimono swimsuit bikini apron scarf hat cap beanie helmet glove sock shoe boot
        sneaker sandal heel belt necklace earring bracelet ring watch sunglasses collar ribbon bow hood armor
        cape cloak robe costume outfit clothes clothing backpack bag headphones mask leash harness turtleneck denim
    """,
    "setting": """
        background backdrop street road room kitchen bedroom wall table desk floor window door beach sea ocean forest
        park garden lawn grass field meadow mountain hill river lake sky cloud city building house office cafe studio
        shop market stage classroom bed sofa couch chair bench rug tree snow sand water bokeh fence sidewalk interior
        indoors outdoors blur blurred blurry
    """,
    "light": """
        light lighting sunlight daylight spotlight lamp shadow sunset sunrise dusk dawn night glow backlight neon lit
        sunlit
    """,
    "pose": """
        stand sit lie kneel walk run jump lean crouch pose smile grin laugh frown expression gaze look camera viewer
        lens arm hand crossed profile
    """,
    "framing": """
        close-up portrait angle full-body upper-body medium low-angle high-angle overhead three-quarter perspective
        depth focus view
    """,
    "appearance": """
        hair eye freckle beard mustache moustache stubble skin complexion nose lip eyebrow eyelash cheek cheekbone
        dimple jaw scar tattoo wrinkle mole bald ponytail braid bun bangs curl fur coat ear tail paw muzzle whisker
        glasses woman man girl boy person lady gentleman child teenager
    """,
    "medium": """
        painting illustration watercolor watercolour sketch drawing cartoon anime manga comic render rendering 3d cgi
        oil acrylic gouache ink pastel charcoal pencil engraving woodcut print poster lineart outline brushstroke
        brushwork wash palette paper canvas texture pixel vector monochrome greyscale grayscale black-and-white
        photorealistic style stylized cel-shaded halftone vhs film-grain grain color colour
    """,
}  # fmt: skip
CHANGEABLE = ("clothing", "setting", "light", "pose", "framing")
PEOPLE = "woman man girl boy person lady gentleman child teenager"

# Words that only look like a form of another.
_NO_VERBS = frozenset("earring ceiling evening morning building clothing lighting painting drawing".split())
_NO_PLURALS = frozenset(("glasses", "clothes"))


def stem(word: str) -> str:
    """Cut the endings of English plurals and verbs, so that forms of a word are equal. The result need not be a word.

    # jackets -> jacket      smiling, smiles, smile -> smil      blurred -> blur      dress -> dres
    """
    if word in _NO_PLURALS:
        return word
    word = re.sub(r"([^s])s\Z", r"\1", re.sub(r"(ss|sh|ch|x|z)es\Z", r"\1", word))
    if word not in _NO_VERBS:
        word = re.sub(r"([aeiouy]\w+?)(?:ing|ed)\Z", r"\1", word)
    return re.sub(r"([^aeiou])\1\Z", r"\1", re.sub(r"(?<=\w\w)[ey]\Z", "", word))


def _stems(words: str) -> frozenset[str]:
    return frozenset(map(stem, words.split()))


GENERIC_STEMS = frozenset(map(stem, GENERIC))
WEAK_STEMS, PEOPLE_STEMS = _stems(_WEAK), _stems(PEOPLE)
MODIFIER_STEMS = frozenset(map(stem, MODIFIERS))
KIND_OF_STEM: Mapping[str, str] = {s: kind for kind, words in reversed(_KINDS.items()) for s in _stems(words)}

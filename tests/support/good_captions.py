"""Captions that cleaning must leave as they are."""

# Cleaning once removed words from such captions, or could have.
CLEAN_CAPTIONS = [
    "A large screen displays a video: a whale breaching.", "A woman holds a caption: 'LOST DOG'.",
    "The image - a still life - rests on an easel.", "ohwx man, a framed image - golden hour, beach",
    "masterpiece, best quality, anime image: girl with a sword", "A meme with a caption: so it goes.",
    "This is an image of a busy market: stalls of fruit line the street.",
    "Here is a hand-drawn image of a cat: it is orange and fat.",
    "Here is a description of a busy market: stalls of fruit.", "Here is a woman with a caption: so it goes.",
    'A poster reads "WELCOME! Feel free to look around." A woman smiles behind the counter.',
    "A man stands by a poster. Let me know is written on it in red. A dog sleeps.",
    "A poster. Feel free to look around. A woman smiles.", "A cat. Want a cookie? A jar of them stands there.",
    "In the photo booth, two friends laugh.", "In the picture frame on the wall, a dog is painted.",
    "The frame features carved roses and hangs on a nail.", "In the frame of a window, a cat sits.",
    "This image captures perfectly the mood of a wake.", "The photo shows signs of wear.",
    "The scene depicts is unclear.", "# 1 is painted on the car", "A grainy black and white image",
    "10. October poster", "OK! magazine", "OK! magazine on a table. A cup.", "Sure, a cat sits.",
    "A menu. Option 2 is circled.", "A cat sits. Keywords are sprayed on a wall.", '{"a": 1}', "{red|blue} hat",
    "A wall 5 m long (3 words on it)", "Title of a book", "Image", "The caption", "A video game: a plumber jumps.",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
]  # fmt: skip

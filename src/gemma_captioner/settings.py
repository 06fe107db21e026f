from typing import Literal
Order = Literal["media-first", "text-first"]

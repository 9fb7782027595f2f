"""How often a run reports, saves and validates where nothing is said. Imports nothing: the help reads it, too."""

from __future__ import annotations

#: Iterations between progress lines, between checkpoints and between validations.
LOG_EVERY, SAVE_EVERY, VALIDATE_EVERY = 20, 1000, 1000
#: Checkpoints kept.
KEEP = 3
#: The shorter side, in pixels, that the network sees in validations.
VALIDATE_SIZE = 480

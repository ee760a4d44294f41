"""What the kernels of texts share, computed once in the process that workers are forked from."""

import sys

CHARACTERS = "thresher.filters.text.characters"

if CHARACTERS in sys.modules:
    sys.modules[CHARACTERS].character_classes()

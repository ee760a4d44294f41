"""What kernels share, computed once in the process that workers are forked from."""

from ...filters.text.characters import character_classes

character_classes()

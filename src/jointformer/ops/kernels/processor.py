"""How this processor multiplies blocks of bfloat16: with AMX tiles, with dot products of vectors, or not at all."""

from __future__ import annotations

import ctypes

import numpy as np

from jointformer.ops.kernels.llvm import FEATURES


def _amx_allowed() -> bool:
    """Whether the system lets this process use AMX's tiles; Linux must be asked once."""
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    try:
        return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0
    except (OSError, AttributeError, TypeError):
        return False


#: Whether the processor has the vector instructions that all kernels for bfloat16 are made of.
_VECTORS = all(FEATURES.get(name) for name in ("avx512bw", "avx512bf16", "avx512vbmi", "avx512vbmi2"))
#: Whether products of blocks are made by AMX tiles; without permission such an instruction would end the process.
AMX = _VECTORS and all(FEATURES.get(name) for name in ("amx-tile", "amx-bf16")) and _amx_allowed()
#: Whether they can be made at all: without AMX by dot products of bfloat16 pairs (see dots.py).
CAN_MULTIPLY = _VECTORS


def _tile_configuration() -> np.ndarray:
    """The 64 bytes that give every AMX tile 16 rows of 64 bytes."""
    configuration = np.zeros(64, np.uint8)
    configuration[0] = 1  # the only palette
    configuration[16:32].view(np.uint16)[:] = 64  # bytes in a row, of each of the eight tiles
    configuration[48:56] = 16  # rows
    return configuration


#: Kept as long as the process: kernels get its address.
TILE_CONFIGURATION = _tile_configuration()

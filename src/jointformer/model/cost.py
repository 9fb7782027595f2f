"""What a step costs by formula: floating-point operations and bytes of memory."""

from __future__ import annotations

from dataclasses import dataclass

from jointformer.model.config import ModelConfig


@dataclass(frozen=True)
class StepCost:
    """Floating-point operations of a step by part; a multiply-add counts two, as PyTorch's counter does.

    Matrix products and convolutions only: norms, activations, softmax and the selection of keys are not counted.
    """

    encode: int
    read: int
    enhance: int
    decode: int
    update_token: int
    write: int

    @property
    def total(self) -> int:
        """All parts together."""
        return self.encode + self.read + self.enhance + self.decode + self.update_token + self.write


def step_cost(config: ModelConfig, height: int, width: int, objects: int, memory_frames: int) -> StepCost:
    """Return the cost of one step that reads `memory_frames` (the temporary one included) and memorises the frame.

    height, width: the padded frame in pixels, multiples of 16. All objects read equally full memories.
    """
    w4, w8, c = config.widths
    p4, p8, p = height * width // 16, height * width // 64, height * width // 256
    n = objects
    embed = 2 * p4 * w4 * 16 * 3 + _conv_blocks(config, p4, p8) + 2 * (p8 * w8 * 4 * w4 + p * c * 4 * w8 + p * c * c)
    mask_embed = 2 * p4 * w4 * 16 * 2
    block = 2 * p * 12 * c * c  # qkv, proj and the MLP of one block for all tokens
    attention = 4 * p * c  # scores and values, per key
    layers = config.layers
    # The first block's projections are shared by all objects.
    first_qkv = 2 * p * 3 * c * c
    read = n * (layers * (block + attention * p * (1 + memory_frames))) - (n - 1) * first_qkv
    enhance = n * (2 * (p + 1) * c * c + config.enhance_depth * (2 * p * 10 * c * c + 2 * p * c + 2 * 2 * c * c))
    enhance += n * (config.enhance_depth - 1) * 2 * 8 * c * c
    return StepCost(
        encode=embed,
        read=read,
        enhance=enhance,
        decode=_decoder(config, p, p8, p4, n),
        update_token=n * (2 * (p + 1) * c * c + _writes(config, p, config.update_depth)) + n * _fusion(config, p),
        write=n * (embed + mask_embed + _writes(config, p, layers)),
    )


def _conv_blocks(config: ModelConfig, p4: int, p8: int) -> int:
    def one(pixels: int, width: int) -> int:
        return 2 * pixels * (10 * width * width + 25 * width)

    return config.depths[0] * one(p4, config.widths[0]) + config.depths[1] * one(p8, config.widths[1])


def _writes(config: ModelConfig, p: int, depth: int) -> int:
    """Return the cost of `depth` blocks that write p tokens and a memory token; the last gives keys and values only."""
    c = config.token_width
    full = 2 * (p + 1) * 12 * c * c + 4 * p * p * c + 4 * (p + 1) * c
    last = 2 * (p + 1) * 2 * c * c + 2 * c * c + 4 * (p + 1) * c + 2 * 9 * c * c
    return (depth - 1) * full + last


def _decoder(config: ModelConfig, p: int, p8: int, p4: int, n: int) -> int:
    w4, w8, c = config.widths
    hidden = max(1, w8 // 16)
    fuser = 9 * p * (2 * (2 * c) * w8 + 3 * w8 * w8) + 2 * (2 * w8 * hidden) + p * 49 * 2
    up8 = 9 * p8 * ((2 if w8 != w4 else 1) * w8 * w4 + w4 * w4)
    up4 = 9 * p4 * 2 * w4 * w4
    shared = 9 * (p8 * w8 * w8 + p4 * w4 * w4)
    return 2 * (shared + n * (fuser + up8 + up4 + 9 * p4 * w4))


def _fusion(config: ModelConfig, p: int) -> int:
    w4, w8, c = config.widths
    return 2 * p * (c // 3) * (w8 + w4 + w4 + 1)


def bank_bytes(config: ModelConfig, height: int, width: int, objects: int, frames: int, itemsize: int) -> int:
    """Return the bytes that the memory bank allocates: keys and values of `frames` places per object.

    height, width: the padded frame. frames: the temporary one included. itemsize: 4 for float32, else 2.
    """
    tokens = height * width // 256
    return 2 * config.layers * config.token_width * tokens * frames * objects * itemsize


#: Objects whose widest features (stride 4, four times their width) are within so many bytes go together through what is
#: computed at strides 4 and 8. Such maps are the largest of a step, and one object's fill a machine: on a GPU, five
#: objects of `base` at 480p all at once would take 0.3 GiB more.
GROUP_BYTES = 64 << 20


def objects_at_once(config: ModelConfig, height: int, width: int, itemsize: int) -> int:
    """Return how many objects of a pass are computed together at strides 4 and 8, where their maps are large.

    height, width: the padded frame. itemsize: 4 for float32, else 2.
    """
    return max(1, GROUP_BYTES // (4 * config.widths[0] * (height * width // 16) * itemsize))


#: Bytes as stride-4 maps: what a pass takes however many objects it has; what each object of a group adds while it is
#: there, and the tokens of each other one; what each object adds in a joint block, which all go through together.
#: Measured, with the gaps that blocks of so many sizes leave in glibc's heap (benchmarks/memory_plans.py).
SHARED_MAPS = 4.5
GROUP_MAPS = 5.9
WAITING_MAPS = 1.2
BLOCK_MAPS = 2.5


def pass_bytes(config: ModelConfig, height: int, width: int, objects: int, itemsize: int) -> int:
    """Return the bytes that a CPU takes while so many objects go through the network together, and gives back.

    height, width: the padded frame. itemsize: 4 for float32, else 2.
    """
    group = min(objects, objects_at_once(config, height, width, itemsize))
    maps = SHARED_MAPS + max(GROUP_MAPS * group + WAITING_MAPS * (objects - group), BLOCK_MAPS * objects)
    return int(height * width // 16 * config.widths[0] * itemsize * maps)

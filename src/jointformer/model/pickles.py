"""What a pickle would have PyTorch's reader do, found out without doing it."""

from __future__ import annotations

import pickletools
import re

#: What state dicts, and the optimisers and schedulers beside them, are pickled with. PyTorch's reader allows more, and
#: some of that takes memory at will: bytearray(N), tensors by their size, encodings of encodings.
PLAIN = re.compile(
    r"collections (OrderedDict|Counter)|torch (Size|device|[A-Z]\w*Storage)"
    r"|torch\._utils _rebuild_(tensor_v2|parameter)"
)
#: These copy what they are called with.
COPYING = ("collections OrderedDict", "collections Counter", "torch Size")
#: What was there before: a few bytes can have it copied, however large it is.
AGAIN = "again"


def more_than_plain(pickled: bytes) -> str | None:
    """Return what a pickle asks for beyond plain tensors and containers in brief, None where that is all.

    Follows what lies on the reader's stack: by name what is called and what calls made, as AGAIN what comes from its
    memo or holds any of these, as "" what is written out in place, which torch.save does with all that it has copied.
    Raises whatever a damaged pickle makes it stumble on.
    """
    stack: list[str] = []
    marks: list[list[str]] = []
    memo: dict[object, str] = {}
    for operation, argument, _ in pickletools.genops(pickled):
        name, before, after = operation.name, operation.stack_before, operation.stack_after
        if name == "GLOBAL":
            if not PLAIN.fullmatch(str(argument)):
                return str(argument).replace(" ", ".")
            stack.append(str(argument))
        elif name == "MARK":
            marks.append(stack)
            stack = []
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument] if PLAIN.fullmatch(memo[argument]) else AGAIN)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        else:
            taken: list[str] = []
            if pickletools.markobject in before:
                taken, stack = stack, marks.pop()
                before = before[: before.index(pickletools.markobject)]
            taken = [stack.pop() for _ in before][::-1] + taken
            made = AGAIN if any(taken) else ""
            if name in ("REDUCE", "NEWOBJ"):
                if taken[1] and taken[0] in COPYING:
                    return f"a copy as {taken[0].replace(' ', '.')}"
                made = f"{taken[0]}()"
            elif name == "BUILD":
                if taken != ["collections OrderedDict()", ""]:  # a tensor could be made of any size
                    return "changes to what was made"
                made = taken[0]
            elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
                made = taken[0]
            stack += [made for _ in after]
    return None

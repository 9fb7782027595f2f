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
#: Things in a tuple, in those that are in it, and so on: as a key it is hashed, which goes into each of them, however
#: often they are one and the same, and ever deeper until the process has no stack left.
MOST_IN_TUPLE = 1000
#: The same of how tensors' data are named: the tuple, "storage", type, key, device, and number of elements.
STORAGE = 6


def more_than_plain(pickled: bytes) -> str | None:
    """Return what a pickle asks for beyond plain tensors and containers in brief, None where that is all.

    Follows what lies on the reader's stack: by name what is called and what calls made, as AGAIN what comes from its
    memo or holds any of these, as "" what is written out in place, which torch.save does with all that it has copied.
    Beside it lies how much a hash would go into: 1 for everything but tuples. Raises whatever a damaged pickle makes it
    stumble on.
    """
    stack: list[tuple[str, int]] = []
    marks: list[list[tuple[str, int]]] = []
    memo: dict[object, tuple[str, int]] = {}
    for operation, argument, _ in pickletools.genops(pickled):
        name, before, after = operation.name, operation.stack_before, operation.stack_after
        if name == "GLOBAL":
            if not PLAIN.fullmatch(str(argument)):
                return str(argument).replace(" ", ".")
            stack.append((str(argument), 1))
        elif name == "MARK":
            marks.append(stack)
            stack = []
        elif name in ("BINGET", "LONG_BINGET"):
            kind, size = memo[argument]
            stack.append((kind if PLAIN.fullmatch(kind) else AGAIN, size))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        else:
            within: list[tuple[str, int]] = []
            if pickletools.markobject in before:
                within, stack = stack, marks.pop()
                before = before[: before.index(pickletools.markobject)]
            within = [stack.pop() for _ in before][::-1] + within
            taken, size = [kind for kind, _ in within], 1
            made = AGAIN if any(taken) else ""
            if "TUPLE" in name or taken[:1] == ["torch Size"]:
                size += sum(inner for _, inner in within)
                if size > MOST_IN_TUPLE:
                    return f"a tuple of more than {MOST_IN_TUPLE} things"
            if name in ("REDUCE", "NEWOBJ"):
                if not PLAIN.fullmatch(taken[0]):  # the reader's complaint would write it out
                    return "a call of what has no name"
                if taken[1] and taken[0] in COPYING:
                    return f"a copy as {taken[0].replace(' ', '.')}"
                made = f"{taken[0]}()"
            elif name == "BINPERSID" and within[0][1] > STORAGE:  # the reader makes a file's name of the key
                return "data by a tuple"
            elif name == "BUILD":
                if taken != ["collections OrderedDict()", ""]:  # a tensor could be made of any size
                    return "changes to what was made"
                made = taken[0]
            elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
                made = taken[0]
            stack += [(made, size) for _ in after]
    return None

"""BURST's categories: which are merged, which are not scored, which are common (BURST-benchmark, TrackEval)."""

from __future__ import annotations


def _ids(text: str) -> frozenset[int]:
    return frozenset(int(number) for number in text.split())


#: Categories whose truth is left out, and which are no scored class.
DISTRACTORS = _ids("""
20 63 108 180 188 204 212 247 303 403 407 415 490 504 507 513 529 567 569 588 672 691 702 708 711
720 736 737 798 813 815 827 831 851 877 883 912 971 976 1130 1133 1134 1169 1184 1220
""")

#: Categories that count as another one. Truth of 504, 720 and 912 is gone before, being a distractor.
MERGED = {504: 347, 720: 347, 912: 529, 967: 529, 207: 554, 153: 943, 201: 1175}

#: The 78 "known" categories; all others are uncommon.
COMMON = _ids("""
4 13 34 35 36 41 45 58 60 78 79 81 91 95 99 118 126 133 139 154 174 185 211 221 229 235 237 276 299
347 371 382 392 428 429 452 475 480 502 544 579 621 625 642 699 714 717 729 747 779 805 829 852 896
926 937 961 979 980 982 993 1001 1018 1038 1057 1091 1097 1099 1115 1117 1122 1132 1135 1144 1155
1162 1215 1229
""")

"""What the benchmarks' tables show: (heading, figure) pairs, with the toolkits' own headings."""

from __future__ import annotations

Columns = tuple[tuple[str, str], ...]

DAVIS: Columns = (
    ("J&F-Mean", "J&F"),
    ("J-Mean", "J"),
    ("J-Recall", "J_recall"),
    ("J-Decay", "J_decay"),
    ("F-Mean", "F"),
    ("F-Recall", "F_recall"),
    ("F-Decay", "F_decay"),
)
VOST: Columns = (
    ("J-Mean", "J"),
    ("J-Recall", "J_recall"),
    ("J-Decay", "J_decay"),
    ("J_tr-Mean", "J_tr"),
    ("J_tr-Recall", "J_tr_recall"),
    ("J_tr-Decay", "J_tr_decay"),
    ("delta_tr", "delta_tr"),
)
JF: Columns = (("J&F", "J&F"), ("J", "J"), ("F", "F"))
VISOR: Columns = (*DAVIS, ("J&F unseen", "J&F_unseen"), ("J unseen", "J_unseen"), ("F unseen", "F_unseen"))
LVOS: Columns = (
    ("J&F", "J&F"),
    ("J", "J"),
    ("F", "F"),
    ("V", "V"),
    ("J seen", "J_seen"),
    ("F seen", "F_seen"),
    ("V seen", "V_seen"),
    ("J unseen", "J_unseen"),
    ("F unseen", "F_unseen"),
    ("V unseen", "V_unseen"),
)
YTVOS: Columns = (("G", "G"), ("J_S", "J_S"), ("F_S", "F_S"), ("J_U", "J_U"), ("F_U", "F_U"))
MOSE_V2: Columns = (
    ("J&F.", "J&F_adaptive"),
    ("J", "J"),
    ("F.", "F_adaptive"),
    ("F", "F"),
    ("J&F", "J&F"),
    ("J dis.", "disappear_J"),
    ("F. dis.", "disappear_F_adaptive"),
    ("J re.", "reappear_J"),
    ("F. re.", "reappear_F_adaptive"),
)
BURST: Columns = (
    ("HOTA all", "HOTA_all"),
    ("HOTA common", "HOTA_common"),
    ("HOTA uncommon", "HOTA_uncommon"),
    ("DetA all", "DetA_all"),
    ("AssA all", "AssA_all"),
)
LVOS_OBJECT: Columns = (*JF, ("V", "V"))
MOSE_V2_OBJECT: Columns = MOSE_V2
BURST_CLASS: Columns = tuple((name, name) for name in ("HOTA", "DetA", "AssA", "LocA"))

"""The datasets of the TU collection: name -> (graphs, classes), 0 classes where the labels are numbers to regress.

Facts of the collection's own page, https://chrsmrrs.github.io/datasets/docs/datasets/ (Morris et al., TUDataset,
2020). The list serves to offer names that are near a misspelt one and to print what there is. A dataset that is not
here is read all the same where the cache, a mirror or the host has it.
"""

from __future__ import annotations

_SMALL_MOLECULES = {
    "AIDS": (2000, 2),
    "alchemy_full": (202579, 0),
    "BZR": (405, 2),
    "BZR_MD": (306, 2),
    "COX2": (467, 2),
    "COX2_MD": (303, 2),
    "DHFR": (756, 2),  # the page says 467, which is COX2
    "DHFR_MD": (393, 2),
    "ER_MD": (446, 2),
    "FRANKENSTEIN": (4337, 2),
    "MCF-7": (27770, 2),
    "MCF-7H": (27770, 2),
    "MOLT-4": (39765, 2),
    "MOLT-4H": (39765, 2),
    "Mutagenicity": (4337, 2),
    "MUTAG": (188, 2),
    "NCI1": (4110, 2),
    "NCI109": (4127, 2),
    "NCI-H23": (40353, 2),
    "NCI-H23H": (40353, 2),
    "OVCAR-8": (40516, 2),
    "OVCAR-8H": (40516, 2),
    "P388": (41472, 2),
    "P388H": (41472, 2),
    "PC-3": (27509, 2),
    "PC-3H": (27509, 2),
    "PTC_FM": (349, 2),
    "PTC_FR": (351, 2),
    "PTC_MM": (336, 2),
    "PTC_MR": (344, 2),
    "QM9": (129433, 0),
    "SF-295": (40271, 2),
    "SF-295H": (40271, 2),
    "SN12C": (40004, 2),
    "SN12CH": (40004, 2),
    "SW-620": (40532, 2),
    "SW-620H": (40532, 2),
    "UACC257": (39988, 2),
    "UACC257H": (39988, 2),
    "Yeast": (79601, 2),
    "YeastH": (79601, 2),
    "ZINC_full": (249456, 0),
    "ZINC_test": (5000, 0),
    "ZINC_train": (220011, 0),
    "ZINC_val": (24445, 0),
}

# Graphs of the training, testing and evaluation part of each assay.
_TOX21 = {
    "AhR": (8169, 272, 607),
    "AR": (9362, 292, 585),
    "AR-LBD": (8599, 253, 580),
    "ARE": (7167, 234, 552),
    "aromatase": (7226, 214, 528),
    "ATAD5": (9091, 272, 619),
    "ER": (7697, 265, 515),
    "ER-LBD": (8753, 287, 599),
    "HSE": (8150, 267, 607),
    "MMP": (7320, 238, 541),
    "p53": (8634, 269, 613),
    "PPAR-gamma": (8184, 267, 602),
}

_BIOINFORMATICS = {
    "DD": (1178, 2),
    "ENZYMES": (600, 6),
    "KKI": (83, 2),
    "OHSU": (79, 2),
    "Peking_1": (85, 2),
    "PROTEINS": (1113, 2),
    "PROTEINS_full": (1113, 2),
}

_COMPUTER_VISION = {
    "COIL-DEL": (3900, 100),
    "COIL-RAG": (3900, 100),
    "Cuneiform": (267, 30),
    "Fingerprint": (2800, 4),
    "FIRSTMM_DB": (41, 11),
    "Letter-high": (2250, 15),
    "Letter-low": (2250, 15),
    "Letter-med": (2250, 15),
    "MSRC_9": (221, 8),
    "MSRC_21": (563, 20),
    "MSRC_21C": (209, 20),
}

_SOCIAL_NETWORKS = {
    "COLLAB": (5000, 3),
    "dblp_ct1": (755, 2),
    "dblp_ct2": (755, 2),
    "DBLP_v1": (19456, 2),
    "deezer_ego_nets": (9629, 2),
    "facebook_ct1": (995, 2),
    "facebook_ct2": (995, 2),
    "github_stargazers": (12725, 2),
    "highschool_ct1": (180, 2),
    "highschool_ct2": (180, 2),
    "IMDB-BINARY": (1000, 2),
    "IMDB-MULTI": (1500, 3),
    "infectious_ct1": (200, 2),
    "infectious_ct2": (200, 2),
    "mit_ct1": (97, 2),
    "mit_ct2": (97, 2),
    "REDDIT-BINARY": (2000, 2),
    "REDDIT-MULTI-5K": (4999, 5),
    "REDDIT-MULTI-12K": (11929, 11),
    "reddit_threads": (203088, 2),
    "tumblr_ct1": (373, 2),
    "tumblr_ct2": (373, 2),
    "twitch_egos": (127094, 2),
    "TWITTER-Real-Graph-Partial": (144033, 2),
}

_SYNTHETIC = {
    "COLORS-3": (10500, 11),
    "SYNTHETIC": (300, 2),
    "SYNTHETICnew": (300, 2),
    "Synthie": (400, 4),
    "TRIANGLES": (45000, 10),
}

TU_NAMES: dict[str, tuple[int, int]] = {
    **_SMALL_MOLECULES,
    **{
        f"Tox21_{assay}_{part}": (graphs, 2)
        for assay, sizes in _TOX21.items()
        for part, graphs in zip(("training", "testing", "evaluation"), sizes, strict=True)
    },
    **_BIOINFORMATICS,
    **_COMPUTER_VISION,
    **_SOCIAL_NETWORKS,
    **_SYNTHETIC,
}

TEMPORAL = frozenset(
    f"{network}_ct{task}"
    for network in ("dblp", "facebook", "highschool", "infectious", "mit", "tumblr")
    for task in (1, 2)
)
"""Graphs over time (Oettershagen, Kriege, Morris & Mutzel, Temporal Graph Kernels for Classifying Dissemination
Processes, SDM 2020, arXiv 1911.05496). A line of node labels is `time, label, time, label, ...`, of any length: when
the node was given which label. An edge stands in the files once for each time at which it is there, its attribute."""

"""ogbg-code2: abstract syntax trees of Python functions, whose name is to be predicted word by word.

Edges, features and the vocabulary are those of the official baseline (examples/graphproppred/code2 of snap-stanford/
ogb; Hu et al., 2020, arXiv 2005.00687, section 6.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poolbench.data.features import Features
from poolbench.data.raw import RawGraphs
from poolbench.data.sources.official import not_a_number, ogb_module, undefined
from poolbench.data.target import Target

Array = np.ndarray[Any, np.dtype[Any]]

NODE_TYPES, NODE_ATTRIBUTES = 98, 10030
MAX_DEPTH = 20
"""Deeper nodes count as of this depth."""
LENGTH = 5
"""How many words are predicted."""
VOCABULARY = 5000
"""How many words can be predicted; after them come `unknown` and `end`."""
UNKNOWN = "__UNK__"


def with_next_tokens(tree: Array, attributed: Array, graph: Array) -> tuple[Array, Array]:
    """The edges of the baseline: those of the tree and those from each attributed node to the next, and all inverted.

    Args:
        tree: [2, e], from parent to child. attributed: [n] whether a node has an attribute, nodes in depth-first
            order. graph: [n] of each node.

    Returns: [2, E], and [E, 2] float32: 0 for an edge of the tree and 1 for one between tokens; 0 for the direction
    given and 1 for the inverse. An edge that is both is held once, with 0.5 (the baseline holds it twice; here a graph
    has no edge twice, and `edge_weight` counts it as two).
    """
    tokens = np.flatnonzero(attributed)
    follow = graph[tokens[:-1]] == graph[tokens[1:]]
    token = np.stack([tokens[:-1][follow], tokens[1:][follow]])
    n = len(graph)
    tree_keys, token_keys = tree[0] * n + tree[1], token[0] * n + token[1]
    token = token[:, ~np.isin(token_keys, tree_keys)]
    kind = np.concatenate([np.where(np.isin(tree_keys, token_keys), 0.5, 0.0), np.ones(token.shape[1])])
    forward = np.concatenate([tree, token], axis=1)
    edges = np.concatenate([forward, forward[::-1]], axis=1)
    inverse = np.repeat([0.0, 1.0], len(kind))
    return edges, np.stack([np.tile(kind, 2), inverse], axis=1).astype(np.float32)


def edge_weight(raw: RawGraphs) -> Tensor:
    """[E] float32: 2 where an edge is one of the tree and one between tokens, else 1."""
    assert raw.edge_attributes is not None
    return 1.0 + (raw.edge_attributes[:, 0] == 0.5).to(torch.float32)


def node_features(raw: RawGraphs) -> Features:
    """[N, 3] int64: type, attribute, depth in the tree."""
    assert raw.node_labels is not None
    values = raw.node_labels.clone()
    values[:, 2].clamp_(max=MAX_DEPTH)
    return Features(values, ["type", "attribute", "depth"], (NODE_TYPES, NODE_ATTRIBUTES, MAX_DEPTH + 1))


class Lexicon:
    """Numbers words in the order in which they first appear."""

    def __init__(self) -> None:
        self.number: dict[str, int] = {}

    def __call__(self, words: list[str]) -> list[int]:
        return [self.number.setdefault(word, len(self.number)) for word in words]

    def text(self) -> Array:
        """uint8, a word a line in UTF-8."""
        return np.frombuffer("\n".join(self.number).encode(), dtype=np.uint8)


def target(raw: RawGraphs) -> Target:
    """The first words of each label as numbers into the words most frequent in the training part."""
    assert raw.words is not None and raw.num_words is not None and raw.lexicon is not None and raw.train is not None
    lexicon = bytes(raw.lexicon.numpy()).decode().split("\n")
    start = np.concatenate([[0], np.cumsum(raw.num_words.numpy())])
    words, count = raw.words.numpy(), raw.num_words.numpy()
    chosen = most_frequent(words, start, raw.train.numpy(), len(lexicon))
    unknown, end = len(chosen), len(chosen) + 1
    number = np.full(len(lexicon), unknown)
    number[chosen] = np.arange(len(chosen))
    y = np.full((len(count), LENGTH), end)
    for place in range(LENGTH):
        there = count > place
        y[there, place] = number[words[start[:-1][there] + place]]
    evaluate = WordsMetric(raw.name, [lexicon[k] for k in chosen], lexicon, words, start)
    return Target(
        "words", torch.from_numpy(y), LENGTH * (end + 1), "F1", evaluate=evaluate,
        references=torch.arange(len(count)), choose=choose,
    )  # fmt: skip


def choose(scores: Tensor) -> Tensor:
    """[g, L] int64, the word of the highest score in each place; scores [g, L * (V + 2)]."""
    return scores.reshape(len(scores), LENGTH, -1).argmax(2)


def most_frequent(words: Array, start: Array, graphs: Array, size: int) -> Array:
    """The numbers of the `VOCABULARY` words most frequent in the labels of `graphs`; of equals the one met first."""
    count = start[graphs + 1] - start[graphs]
    at = np.repeat(start[graphs] - (np.cumsum(count) - count), count) + np.arange(count.sum())
    met, first, times = np.unique(words[at], return_index=True, return_counts=True)
    return met[np.lexsort((first, -times))[:VOCABULARY]]


@dataclass(frozen=True, eq=False)
class WordsMetric:
    """The official F1 over the sets of words, as `Target.evaluate`.

    y_true: [g] int64, numbers of the graphs (`Target.references`), whose whole labels are compared. y_pred: scores
    [g, L * (V + 2)], or the words of `choose`, [g, L] int64.
    """

    name: str
    vocabulary: list[str]
    lexicon: list[str]
    words: Array
    start: Array

    def __call__(self, y_true: Tensor, y_pred: Tensor) -> dict[str, float]:
        if why := undefined(y_true, y_pred, answers=False):
            return not_a_number(self.name, "F1", why)
        if y_true.dim() != 1:
            raise ValueError(f"{self.name}: y_true has shape {list(y_true.shape)}, expected [g] of Target.references")
        chosen = choose(y_pred) if y_pred.is_floating_point() else y_pred
        predicted = [self._decode(row) for row in chosen.tolist()]
        known = [self._label(graph) for graph in y_true.tolist()]
        evaluator = ogb_module("graphproppred/evaluate").Evaluator(self.name)
        values = evaluator.eval({"seq_ref": known, "seq_pred": predicted})
        return {key: float(value) for key, value in values.items()}

    def _label(self, graph: int) -> list[str]:
        return [self.lexicon[word] for word in self.words[self.start[graph] : self.start[graph + 1]]]

    def _decode(self, row: list[int]) -> list[str]:
        end = len(self.vocabulary) + 1
        shown = row[: row.index(end)] if end in row else row
        return [self.vocabulary[word] if word < end - 1 else UNKNOWN for word in shown]

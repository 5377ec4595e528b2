"""Networks over sets of UEs, which do not depend on the order or the number of UEs.

A UE is a token. All tokens pass through the same layers and are combined in means and maxima over
the round's UEs, so every output is permutation-equivariant, and the same weights work for any N. A
menu's entries are scored one by one, also with shared weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mjoa_gym.envs.outlook import OutlookLayout

HIDDEN = 32
"""Width of the heads' hidden layers."""
IMPOSSIBLE = -1e8
"""Logit of an entry that a menu does not have."""


class UeEncoder(nn.Module):
    """Maps tokens (B, N, columns) to embeddings (B, N, width) that depend on all UEs.

    Shorter menus are padded with entries that do not exist, so weights fit every scenario.

    Cost: O(N width (columns + blocks width)).
    """

    def __init__(self, layout: OutlookLayout, width: int, blocks: int = 2) -> None:
        super().__init__()
        columns = layout._replace(entries=layout.most).columns
        self.filling = (0, columns - layout.columns)
        self.own = nn.Sequential(
            nn.Linear(columns, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(blocks)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens to embeddings; see the class."""
        known = self.own(spread(nn.functional.pad(tokens, self.filling)))
        for block in self.blocks:
            known = known + block(with_others(known))
        return known


class EntryScorer(nn.Module):
    """Scores the entries of a UE's menu, from their columns and the UE's embedding."""

    def __init__(self, columns: int, width: int, scores: int) -> None:
        super().__init__()
        self.entry = nn.Linear(columns, HIDDEN)
        self.ue = nn.Linear(width, HIDDEN)
        self.both = nn.Sequential(nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU())
        self.last = nn.Linear(HIDDEN, scores)

    def forward(self, entries: Tensor, known: Tensor) -> Tensor:
        """Map entries (..., M, columns) and embeddings (..., width) to (..., M, scores)."""
        seen = self.entry(spread(entries)) + self.ue(known).unsqueeze(-2)
        return self.last(self.both(seen))


class BidHead(nn.Module):
    """Logits of all bids of a UE, from its likely choices and the other UEs.

    A UE chooses `choices` entries of its menu: a placement, in streaming also a prefetch and, if
    there is `retain`, an entry to retain; none if it only bids. Each entry has `columns` numbers.
    """

    def __init__(self, columns: int, width: int, choices: int, logits: int) -> None:
        super().__init__()
        self.own = nn.Sequential(nn.Linear(width + choices * columns, HIDDEN), nn.ReLU())
        self.logits = nn.Sequential(
            nn.Linear(3 * HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, logits)
        )

    def forward(self, known: Tensor, entries: Tensor, scores: Tensor) -> Tensor:
        """Map embeddings, entries and their scores (B, N, M, choices) to (B, N, logits)."""
        expected = torch.einsum("bnmc,bnme->bnce", scores.softmax(dim=2), spread(entries))
        own = self.own(torch.cat([known, expected.flatten(2)], dim=2))
        return self.logits(with_others(own))


class ChoiceNetwork(nn.Module):
    """Logits of a `multidiscrete` or `shares` action: for each UE its choices, if any, and bids."""

    def __init__(self, layout: OutlookLayout, numbers: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.layout = layout
        choices = len(numbers) - 2
        self.encoder = UeEncoder(layout, width)
        self.scorer = EntryScorer(layout.entry, width, choices) if choices else None
        self.bids = BidHead(layout.entry, width, choices, sum(numbers[-2:]))
        self.logits = sum(numbers)
        if self.scorer is not None:
            almost_uniform(self.scorer.last)
        almost_uniform(self.bids.logits[-1])

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, columns) to (B, N * logits)."""
        known = self.encoder(tokens)
        entries = entries_of(tokens, self.layout)
        if self.scorer is None:
            return self.bids(known, entries, entries[..., :0]).flatten(1)
        scores = self.scorer(entries, known)
        scores = torch.where(entries[..., :1] > 0.5, scores, IMPOSSIBLE)
        chosen = scores.transpose(2, 3).flatten(2)
        return torch.cat([chosen, self.bids(known, entries, scores)], dim=2).flatten(1)


class ActionValues(nn.Module):
    """Values of a `discrete` action for the UE of the first token, whose turn it is."""

    def __init__(self, layout: OutlookLayout, per_entry: int, width: int) -> None:
        super().__init__()
        self.layout = layout
        self.encoder = UeEncoder(layout, width)
        self.scorer = EntryScorer(layout.entry, width, per_entry)
        self.value = nn.Linear(width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, columns) to (B, actions); entries beyond the menu's end wrap around it."""
        known = self.encoder(tokens)[:, 0]
        entries = entries_of(tokens[:, :1], self.layout)[:, 0]
        scores = self.scorer(entries, known) + self.value(known).unsqueeze(1)
        size = (entries[..., 0] > 0.5).sum(dim=1, keepdim=True)
        wrapped = torch.arange(self.layout.entries).expand(len(tokens), -1) % size
        return scores.gather(1, wrapped.unsqueeze(2).expand_as(scores)).flatten(1)


class BidValues(nn.Module):
    """Values of a `shares-discrete` action for the UE of the first token, whose turn it is."""

    def __init__(self, layout: OutlookLayout, actions: int, width: int) -> None:
        super().__init__()
        self.layout = layout
        self.encoder = UeEncoder(layout, width)
        self.bids = BidHead(layout.entry, width, 0, actions)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, columns) to (B, actions)."""
        entries = entries_of(tokens, self.layout)
        return self.bids(self.encoder(tokens), entries, entries[..., :0])[:, 0]


class RoundValue(nn.Module):
    """An embedding (B, 2 width) of all UEs, for the value of a round."""

    def __init__(self, layout: OutlookLayout, width: int) -> None:
        super().__init__()
        self.encoder = UeEncoder(layout, width, blocks=1)
        self.width = 2 * width

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, columns) to (B, 2 width)."""
        return together(self.encoder(tokens)).relu()


def together(known: Tensor) -> Tensor:
    """Return (B, 2 width): means and maxima of (B, N, width) over the UEs."""
    return torch.cat([known.mean(1), known.amax(1)], dim=1)


def with_others(known: Tensor) -> Tensor:
    """Return (B, N, 3 width): each UE's own (B, N, width), and the `together` of all UEs."""
    return torch.cat([known, together(known).unsqueeze(1).expand(-1, known.shape[1], -1)], dim=2)


def almost_uniform(layer: nn.Module) -> None:
    """Initialise a layer of logits to almost uniform preferences."""
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.mul_(0.1)
        layer.bias.zero_()


def spread(numbers: Tensor) -> Tensor:
    """Map numbers in [0, 1], mostly logarithms, to a range in which small differences matter."""
    return 4.0 * numbers - 2.0


def entries_of(tokens: Tensor, layout: OutlookLayout) -> Tensor:
    """Return the menus (B, N, M, columns of an entry) in tokens (B, N, columns)."""
    return tokens[..., layout.context :].unflatten(-1, (layout.entries, layout.entry))

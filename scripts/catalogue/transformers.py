"""BERT-base (Devlin et al., NAACL 2019) and GPT-2 small (Radford et al., 2019)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.Module):
    """Multi-head self-attention; one projection makes queries, keys and values."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attends from each of the (batch, token, width) to all, or to the earlier ones."""
        batch, length, width = tokens.shape
        split = self.project_in(tokens).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.project_out(mixed.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """A transformer block, normalising before (GPT-2) or after (BERT) each residual sum."""

    def __init__(self, width: int, heads: int, decoder: bool) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-5 if decoder else 1e-12)
        self.decoder = decoder
        self.attention = SelfAttention(width, heads, causal=decoder)
        self.norm1 = norm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(approximate="tanh" if decoder else "none"),
            nn.Linear(4 * width, width),
        )
        self.norm2 = norm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (batch, token, width) to the same shape."""
        if self.decoder:
            tokens = tokens + self.attention(self.norm1(tokens))
            return tokens + self.mlp(self.norm2(tokens))
        tokens = self.norm1(tokens + self.attention(tokens))
        return self.norm2(tokens + self.mlp(tokens))


class Bert(nn.Module):
    """BERT-base, uncased: encoder and pooler. Token ids in, the pooled vector out.

    All tokens belong to the first segment, and none is masked.
    """

    def __init__(self, vocabulary: int = 30522, positions: int = 512, width: int = 768) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(positions, width)
        self.segments = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.blocks = nn.Sequential(*(Block(width, 12, decoder=False) for _ in range(12)))
        self.pooler = nn.Linear(width, width)

    def forward(self, ids: Tensor) -> Tensor:
        """Maps (batch, token) ids to the (batch, width) vector of the first token."""
        places = torch.arange(ids.shape[1], device=ids.device)
        constant = self.positions(places) + self.segments(torch.zeros_like(places))
        tokens = self.blocks(self.norm(self.words(ids) + constant))
        return torch.tanh(self.pooler(tokens[:, 0]))


class Gpt2(nn.Module):
    """GPT-2 small. Token ids in, the logits of every position out; the head is tied."""

    def __init__(self, vocabulary: int = 50257, positions: int = 1024, width: int = 768) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(positions, width)
        self.blocks = nn.Sequential(*(Block(width, 12, decoder=True) for _ in range(12)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Maps (batch, token) ids to (batch, token, vocabulary) logits."""
        places = torch.arange(ids.shape[1], device=ids.device)
        tokens = self.words(ids) + self.positions(places)
        return self.head(self.norm(self.blocks(tokens)))

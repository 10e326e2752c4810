"""A causal-attention encoder: what a constant state gives up or gains. A row to compare with, not a model to serve.

Its memory is the window of past inputs, which grows to `span` events a user (span * dim floats, where a recurrence keeps a few
hundred), and a step reads all of it. Positions are distances between events, not places in a window, so that sliding it changes
nothing. As in every such model a second block sees past the window through the first, and only while the first's inputs are there. Blocks are those of SASRec (arXiv 1808.09781) with the layer norm before each part.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .model import ENCODERS, Dropout, ModelConfig


class AttentionBlock(nn.Module):
    """Self-attention over the `span` events up to each one, then a feed-forward part; both added to their input."""

    HEADS = 2

    def __init__(self, config: ModelConfig, span: int):
        super().__init__()
        d = config.dim
        self.span, self.dropout = span, config.dropout
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.mix, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.distance = nn.Parameter(torch.zeros(self.HEADS, span))  # added to the score of an event so many events back
        self.up, self.down = nn.Linear(d, d * config.expansion), nn.Linear(d * config.expansion, d)
        self.drop = Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, d] -> [B, T, d]."""
        batch, time, d = x.shape
        q, k, v = (p.view(batch, time, self.HEADS, d // self.HEADS).transpose(1, 2) for p in self.mix(self.norm1(x)).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias(time)).transpose(1, 2).reshape(batch, time, d)
        x = x + self.drop(self.out(mixed))
        return x + self.drop(self.down(F.gelu(self.up(self.norm2(x)))))

    def bias(self, time: int) -> Tensor:
        """[heads, T, T]: by distance; -inf for later events and for those beyond the span."""
        back = torch.arange(time)[:, None] - torch.arange(time)[None]
        seen = (back >= 0) & (back < self.span)
        return self.distance[:, back.clamp(0, self.span - 1)].masked_fill(~seen.to(self.distance.device), float("-inf"))


class Attention(nn.Module):
    """Stacked blocks. The past of a user is the inputs of his last span - 1 events, oldest first."""

    SPAN = 200

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.width = config.dim
        self.blocks = nn.ModuleList(AttentionBlock(config, self.SPAN) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.state_size = 0

    def init_state(self, batch: int, device=None) -> Tensor:
        """No past: [B, 0, dim]. What there is of it grows with the history, up to the span."""
        return torch.zeros(batch, 0, self.width, device=device)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x [T, B, dim], the past [B, P, dim] -> hidden [T, B, dim], the past [B, min(P + T, span - 1), dim]."""
        whole = torch.cat([state, x.transpose(0, 1)], dim=1)
        past, y = whole[:, -(self.SPAN - 1) :], whole
        for block in self.blocks:
            y = block(y)
        return self.norm(y[:, state.shape[1] :]).transpose(0, 1), past

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One event: everything in the window is read again."""
        hidden, state = self.forward(x[None], state)
        return hidden[0], state


ENCODERS["attention"] = Attention

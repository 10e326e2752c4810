"""The model: an item tower and a recurrent encoder whose state never grows.

One event enters as three things: the vector of its item, the index of its type and the seconds since the previous event.
The encoder turns (event, state) into (hidden, state); heads turn hidden into one query vector for each task; the score of
an item is query . item + bias. Item vectors are tied: what is read from the history and what is ranked are the same rows.

Tensors of a sequence are time first, [T, B, ...], so that a time loop walks over contiguous memory.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GAP_SCALES = (60.0, 3600.0, 86400.0)  # seconds: a minute, an hour, a day


@dataclass
class ModelConfig:
    """What a model is made of. Everything that export needs to rebuild it is here or in the weights."""

    encoder: str = "gru"  # gru | lstm | lru | attention (compared, not exported)
    dim: int = 64  # width of item and query vectors
    hidden: int = 128  # GRU/LSTM: units a layer; LRU: complex channels a block
    layers: int = 1
    expansion: int = 4  # LRU: width of the feed-forward part, in multiples of dim
    ring: tuple[float, float] = (0.8, 0.99)  # LRU: range of |lambda| at the start
    gate: bool = False  # LRU: a sigmoid gate on what leaves the recurrence
    dropout: float = 0.2  # inside the encoder
    input_dropout: float = 0.2  # on the event's vector
    score: str = "dot"  # dot | cosine
    temperature: float = 0.05  # cosine only
    time_gap: bool = True  # read the seconds since the previous event
    bias: bool = True  # one additive score an item
    tasks: list[str] = field(default_factory=lambda: ["click"])
    id_dropout: float = 0.0  # text models: how often an item is shown by its text alone
    trust: float = 5.0  # text models: an item seen n times trusts its id by n / (n + trust)

    def as_dict(self) -> dict:
        return asdict(self)


class Dropout(nn.Module):
    """Dropout that draws its masks from a pool.

    Drawing a random number costs ten times as much as the rest of an elementwise step on a CPU, so a pool of mask values is drawn
    once, read at a random place, and drawn anew after some hundred uses. On other devices this is ordinary dropout.
    """

    POOL, USES = 1 << 22, 256  # mask values in a pool; reads before a new pool is drawn

    def __init__(self, p: float):
        super().__init__()
        self.p, self.uses = p, 0
        self.pool: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        n = x.numel()
        if x.device.type != "cpu" or n > self.POOL:
            return F.dropout(x, self.p)
        if self.uses % self.USES == 0:  # a new tensor: masks of the old one are still needed by the backward pass
            self.pool = torch.empty(self.POOL).bernoulli_(1 - self.p).div_(1 - self.p)
        self.uses += 1
        start = int(torch.randint(0, self.POOL - n + 1, (1,)))
        return x * self.pool[start : start + n].view(x.shape)


class ItemTower(nn.Module):
    """rows -> item vectors. Row 0 is the unknown item.

    Without text: e = id. With text: e = LN(P white(text) + s id), s = n / (n + trust), n = how often training saw the item.
    Rows of items without text or without events simply have no such part. Cosine models divide e by its length.
    """

    def __init__(self, config: ModelConfig, rows: int, text: Tensor | None = None, seen: Tensor | None = None):
        super().__init__()
        self.config, self.rows = config, rows
        self.ids = nn.Parameter(torch.randn(rows, config.dim) * (config.dim**-0.5))
        self.bias = nn.Parameter(torch.zeros(rows), requires_grad=config.bias)
        self.text: Tensor | None
        if text is None:
            self.register_buffer("text", None)
            self.project = self.norm = None
        else:
            self.register_buffer("text", text.float())  # [rows, text dim], whitened
            self.project = nn.Linear(text.shape[1], config.dim, bias=False)
            self.norm = nn.LayerNorm(config.dim)
            nn.init.normal_(self.project.weight, std=text.shape[1] ** -0.5)
            nn.init.normal_(self.ids, std=0.5)
        seen = torch.ones(rows) if seen is None else seen.float()
        self.register_buffer("share", (seen / (seen + config.trust))[:, None])  # s, [rows, 1]

    def finish(self, e: Tensor) -> Tensor:
        """What comes after the sum: shared by rows of the table and by items that only have a text."""
        if self.norm is not None:
            e = self.norm(e)
        if self.config.score == "cosine":
            e = e / e.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        return e

    def of_text(self, white: Tensor) -> Tensor:
        """Vectors of items that training never saw, from their whitened text [n, text dim]."""
        return self.finish(self.project(white))

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """Vectors of `rows` (any shape), or of the whole table."""
        if self.text is None:
            return self.finish(self.ids if rows is None else F.embedding(rows, self.ids))
        ids = self.ids * self.share
        if self.training and self.config.id_dropout > 0:
            keep = torch.rand(self.rows, 1, device=ids.device) >= self.config.id_dropout
            ids = ids * keep
        e = self.finish(self.project(self.text) + ids)
        return e if rows is None else F.embedding(rows, e)


class GRU(nn.Module):
    """Stacked gated recurrent units; each layer's output is projected back to `dim`, added to its input and normalised.

    The sum keeps the last item's vector in reach of the query, which tied item vectors reward.
    State: the hidden vector of every layer, one after the other.
    """

    parts = 1  # vectors of state a layer

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.width, self.hidden = config.dim, config.hidden
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[config.encoder]
        self.rnn = nn.ModuleList(kind(config.dim, config.hidden) for _ in range(config.layers))
        self.back = nn.ModuleList(nn.Linear(config.hidden, config.dim) for _ in range(config.layers))
        self.norm = nn.ModuleList(nn.LayerNorm(config.dim) for _ in range(config.layers))
        self.drop = Dropout(config.dropout)
        self.state_size = config.layers * config.hidden * self.parts

    def init_state(self, batch: int, device=None) -> Tensor:
        return torch.zeros(batch, self.state_size, device=device)

    def _layers(self, state: Tensor):
        """Each layer with its own part of the state: parts vectors [B, hidden]."""
        own = [s.contiguous() for s in state.split(self.hidden, dim=1)]
        return zip(self.rnn, self.back, self.norm, (own[i : i + self.parts] for i in range(0, len(own), self.parts)))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x [T, B, dim], state [B, S] -> hidden [T, B, dim], state [B, S]."""
        out = []
        for rnn, back, norm, own in self._layers(state):
            y, own = self._pass(rnn, x, own)
            x = norm(self.drop(back(y)) + x)
            out += own
        return x, torch.cat(out, dim=1)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, dim], state [B, S] -> hidden [B, dim], state [B, S]: written out, as the exported graph is."""
        out = []
        for rnn, back, norm, own in self._layers(state):
            own = self._cell(rnn, x, own)
            x = norm(self.drop(back(own[0])) + x)
            out += own
        return x, torch.cat(out, dim=1)

    @staticmethod
    def _pass(rnn: nn.GRU, x: Tensor, own: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, h = rnn(x, own[0][None])
        return y, [h[0]]

    @staticmethod
    def _cell(rnn: nn.GRU, x: Tensor, own: list[Tensor]) -> list[Tensor]:
        (h,) = own
        rx, zx, nx = F.linear(x, rnn.weight_ih_l0, rnn.bias_ih_l0).chunk(3, dim=1)
        rh, zh, nh = F.linear(h, rnn.weight_hh_l0, rnn.bias_hh_l0).chunk(3, dim=1)
        z = torch.sigmoid(zx + zh)
        n = torch.tanh(nx + torch.sigmoid(rx + rh) * nh)
        return [n + z * (h - n)]


class LSTM(GRU):
    """The same with LSTMs. State: hidden and cell of the first layer, hidden and cell of the second, ..."""

    parts = 2

    @staticmethod
    def _pass(rnn: nn.LSTM, x: Tensor, own: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, (h, c) = rnn(x, (own[0][None], own[1][None]))
        return y, [h[0], c[0]]

    @staticmethod
    def _cell(rnn: nn.LSTM, x: Tensor, own: list[Tensor]) -> list[Tensor]:
        h, c = own
        g = F.linear(x, rnn.weight_ih_l0, rnn.bias_ih_l0) + F.linear(h, rnn.weight_hh_l0, rnn.bias_hh_l0)
        i, f, n, o = g.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(n)
        return [torch.sigmoid(o) * torch.tanh(c), c]


class Recurrence(torch.autograd.Function):
    """h_t = lambda * h_{t-1} + u_t over complex channels, with the backward pass written out.

    The gradient runs the same loop from the end: g_t = G_t + conj(lambda) g_{t+1}. A plain loop over time, one fused operation a
    step, beats a log-depth scan on a CPU because it reads and writes each value once.
    """

    @staticmethod
    def forward(ctx, u: Tensor, lam: Tensor, h0: Tensor) -> Tensor:
        """u [T, B, H], lam [H], h0 [B, H] (complex64) -> h [T, B, H]."""
        h, last = torch.empty_like(u), h0
        for u_t, h_t in zip(u.unbind(0), h.unbind(0)):
            last = torch.addcmul(u_t, last, lam, out=h_t)
        ctx.save_for_backward(h, lam, h0)
        return h

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, lam, h0 = ctx.saved_tensors
        lam_c, g = lam.conj().resolve_conj(), torch.empty_like(h)
        last = torch.zeros_like(h0)
        for grad_t, g_t in zip(reversed(grad.resolve_conj().unbind(0)), reversed(g.unbind(0))):
            last = torch.addcmul(grad_t, last, lam_c, out=g_t)
        g_lam = (last * h0.conj()).sum(0)
        if h.shape[0] > 1:
            g_lam = g_lam + torch.einsum("tbh,tbh->h", g[1:], h[:-1].conj())
        return g, g_lam, last * lam_c


class LRUBlock(nn.Module):
    """One linear recurrent unit (arXiv 2303.06349) as LRURec uses it (arXiv 2310.02367), in real and imaginary parts.

    lambda = exp(-exp(nu) + i exp(theta)); u = exp(gamma) * (B x + b); h_t = lambda h_{t-1} + u_t;
    y = LN(drop(Re(C h + c)) + x); z = LN(drop(W2 GELU(W1 y)) + y). Channels are kept as (re, im) pairs: matrices are real.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        d, h = config.dim, config.hidden
        low, high = config.ring
        r = torch.sqrt(torch.rand(h) * (high**2 - low**2) + low**2)
        self.nu = nn.Parameter(torch.log(-torch.log(r)))
        self.theta = nn.Parameter(torch.log(torch.rand(h) * 2 * math.pi + 1e-4))
        self.gamma = nn.Parameter(torch.log(torch.sqrt(1 - r**2)))
        self.inward = nn.Linear(d, 2 * h)
        self.outward = nn.Linear(2 * h, d)
        self.gate = nn.Linear(d, d) if config.gate else None
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.up, self.down = nn.Linear(d, d * config.expansion), nn.Linear(d * config.expansion, d)
        self.drop = Dropout(config.dropout)
        nn.init.xavier_normal_(self.inward.weight)
        nn.init.xavier_normal_(self.outward.weight)
        nn.init.zeros_(self.inward.bias)
        nn.init.zeros_(self.outward.bias)

    def eigenvalues(self) -> Tensor:
        return torch.polar(torch.exp(-torch.exp(self.nu)), torch.exp(self.theta))

    def scaled_inward(self) -> tuple[Tensor, Tensor]:
        """B and b with exp(gamma) multiplied in: rows come in (re, im) pairs."""
        scale = torch.exp(self.gamma).repeat_interleave(2)
        return self.inward.weight * scale[:, None], self.inward.bias * scale

    def out_of(self, h: Tensor, x: Tensor) -> Tensor:
        """h [..., 2H] (re, im pairs) and x [..., d] -> z [..., d]."""
        r = self.outward(h)
        if self.gate is not None:
            r = r * torch.sigmoid(self.gate(x))
        y = self.norm1(self.drop(r) + x)
        return self.norm2(self.drop(self.down(self.drop(F.gelu(self.up(y))))) + y)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x [T, B, d], state [B, 2H] -> z [T, B, d], state [B, 2H]."""
        u = F.linear(x, *self.scaled_inward()).unflatten(-1, (-1, 2))
        h0 = torch.view_as_complex(state.unflatten(-1, (-1, 2)).contiguous())
        h = Recurrence.apply(torch.view_as_complex(u), self.eigenvalues(), h0)
        h = torch.view_as_real(h).flatten(-2)
        return self.out_of(h, x), h[-1]

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, d], state [B, 2H] -> z [B, d], state [B, 2H], in real arithmetic only, as the exported graph is."""
        u = F.linear(x, *self.scaled_inward())
        lam = self.eigenvalues()
        re, im = state[:, 0::2], state[:, 1::2]
        new_re = lam.real * re - lam.imag * im + u[:, 0::2]
        new_im = lam.real * im + lam.imag * re + u[:, 1::2]
        h = torch.stack((new_re, new_im), dim=-1).flatten(1)
        return self.out_of(h, x), h


class LRU(nn.Module):
    """Stacked linear recurrent units. State: 2 * hidden floats a block, (re, im) pairs."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config, self.width = config, config.dim
        self.blocks = nn.ModuleList(LRUBlock(config) for _ in range(config.layers))
        self.state_size = 2 * config.hidden * config.layers

    def init_state(self, batch: int, device=None) -> Tensor:
        return torch.zeros(batch, self.state_size, device=device)

    def _run(self, x: Tensor, state: Tensor, verb: str) -> tuple[Tensor, Tensor]:
        out = []
        for block, s in zip(self.blocks, state.chunk(len(self.blocks), dim=1)):
            x, s = getattr(block, verb)(x, s)
            out.append(s)
        return x, torch.cat(out, dim=1)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self._run(x, state, "forward")

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self._run(x, state, "step")


ENCODERS = {"gru": GRU, "lstm": LSTM, "lru": LRU}


def gap_features(gaps: Tensor) -> Tensor:
    """Seconds since the previous event [...] -> [..., 4]: one slow logarithm and three soft steps, all in 0..1.3."""
    parts = [torch.log1p(gaps) / 16.0] + [s / (s + gaps) for s in GAP_SCALES]
    return torch.stack(parts, dim=-1)


class Recommender(nn.Module):
    """Item tower + inputs + encoder + heads: what is trained, evaluated and exported as one bundle."""

    def __init__(self, config: ModelConfig, rows: int, event_types: int, text: Tensor | None = None, seen: Tensor | None = None):
        super().__init__()
        self.config = config
        self.items = ItemTower(config, rows, text, seen)
        self.types = nn.Embedding(event_types, config.dim) if event_types > 2 else None  # one known type says nothing
        self.gap = nn.Linear(1 + len(GAP_SCALES), config.dim) if config.time_gap else None
        self.norm = nn.LayerNorm(config.dim)
        self.drop = Dropout(config.input_dropout)
        self.encoder = ENCODERS[config.encoder](config)
        plain = len(config.tasks) == 1 and self.encoder.width == config.dim
        self.heads = nn.ModuleDict({} if plain else {t: nn.Linear(self.encoder.width, config.dim) for t in config.tasks})
        if self.types is not None:
            nn.init.normal_(self.types.weight, std=0.1)
            with torch.no_grad():
                self.types.weight[0] = 0

    @property
    def tasks(self) -> list[str]:
        return self.config.tasks

    @property
    def state_size(self) -> int:
        return self.encoder.state_size

    def init_state(self, batch: int) -> Tensor:
        return self.encoder.init_state(batch, self.items.ids.device)

    def read(self, items: Tensor, types: Tensor, gaps: Tensor) -> Tensor:
        """Item vectors [..., d], type indices [...], gaps in seconds [...] -> what the encoder sees [..., d]."""
        x = items
        if self.types is not None:
            x = x + self.types(types)
        if self.gap is not None:
            x = x + self.gap(gap_features(gaps))
        return self.drop(self.norm(x))

    def forward(self, items: Tensor, types: Tensor, gaps: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """A full pass: items [T, B, d], types and gaps [T, B], state [B, S] -> hidden [T, B, width], state [B, S]."""
        return self.encoder(self.read(items, types, gaps), state)

    def step(self, items: Tensor, types: Tensor, gaps: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One event for each of B users: items [B, d], types and gaps [B], state [B, S] -> hidden [B, width], state [B, S]."""
        return self.encoder.step(self.read(items, types, gaps), state)

    def query(self, hidden: Tensor, task: str) -> Tensor:
        """hidden [..., width] -> query vectors [..., d]."""
        q = self.heads[task](hidden) if len(self.heads) else hidden
        if self.config.score == "cosine":
            q = q / (q.norm(dim=-1, keepdim=True).clamp_min(1e-6) * self.config.temperature)
        return q

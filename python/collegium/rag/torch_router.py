"""The router's network as a torch module, and a torch trainer with the arguments of the native one.

Same start, order of rows and schedule as the native trainer; dropout comes from torch's generator, so results agree in
their statistics, not their bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .features import Rows
from .seam import Floats
from .training import Labels, Recipe, initial

NAMES = tuple(
    f"{layer}.{part}" for layer in ("fc1", "ln1", "fc2", "ln2", "fc3") for part in ("weight", "bias")
)  # keys of the reference's checkpoints, in the order of plain parameters


def shapes(inputs: int, hidden: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by its key, in order."""
    h1, h2 = hidden
    of = [(h1, inputs), (h1,), (h1,), (h1,), (h2, h1), (h2,), (h2,), (h2,), (1, h2), (1,)]
    return dict(zip(NAMES, of, strict=True))


def module(inputs: int, hidden: tuple[int, int], dropout: float, state: dict[str, Any] | None = None) -> Any:
    """The network on standardised rows: (..., inputs) -> logits (...,). Its state has the keys of NAMES."""
    import torch
    from torch import nn

    class RouterNetwork(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            h1, h2 = hidden
            self.fc1, self.ln1 = nn.Linear(inputs, h1), nn.LayerNorm(h1)
            self.fc2, self.ln2 = nn.Linear(h1, h2), nn.LayerNorm(h2)
            self.fc3, self.dropout = nn.Linear(h2, 1), nn.Dropout(dropout)

        def forward(self, x: Any) -> Any:
            h = self.dropout(torch.relu(self.ln1(self.fc1(x))))
            h = self.dropout(torch.relu(self.ln2(self.fc2(h))))
            return self.fc3(h).squeeze(-1)

    net = RouterNetwork()
    if state is not None:
        net.load_state_dict({k: torch.from_numpy(np.array(v, np.float32)) for k, v in state.items()})
    return net.eval()


class Torch:
    """A trainer (`training.Trainer`). Rows are built a batch at a time."""

    def __init__(self, recipe: Recipe, rows: Rows, Y: Labels) -> None:
        import torch

        self.torch, self.recipe, self.rows = torch, recipe, rows
        self.Y = torch.from_numpy(Y.reshape(-1).astype(np.float32))
        crosses = 0 if rows.crosses is None else 1
        inputs = rows.queries.shape[2] + rows.statics.shape[1] + crosses
        start = initial((rows.queries.shape[2], rows.statics.shape[1], crosses, *recipe.hidden), recipe.seed)
        self.net = module(inputs, recipe.hidden, recipe.dropout)
        torch.nn.utils.vector_to_parameters(torch.from_numpy(start), self.net.parameters())
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        self.loss = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(recipe.pos_weight))
        self.done = 0

    def _inputs(self, rows: NDArray[Any]) -> Any:
        of = self.rows
        q, s = np.divmod(rows, len(of.encoder))
        parts = [of.queries[of.encoder[s], q], of.statics[s]]
        if of.crosses is not None:
            parts.append(of.crosses[q, s][:, None])
        return self.torch.from_numpy(np.concatenate(parts, axis=1))

    def steps(self, rows: NDArray[np.int32], lr: NDArray[np.float64]) -> float:
        """The random numbers of dropout are set by the seed and the step; the caller's generator is left as it was."""
        torch, size, total = self.torch, self.recipe.batch_size, 0.0
        self.net.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((self.recipe.seed << 20) + self.done & (1 << 63) - 1)
            for i, rate in enumerate(lr):
                batch = rows[i * size : (i + 1) * size]
                self.optimizer.param_groups[0]["lr"] = float(rate)
                self.optimizer.zero_grad()
                loss = self.loss(self.net(self._inputs(batch)), self.Y[torch.from_numpy(batch).long()])
                loss.backward()
                if self.recipe.clip:
                    torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip)
                self.optimizer.step()
                total += loss.item() * len(batch)
        self.done += len(lr)
        self.net.eval()
        return total

    def plain(self) -> Floats:
        vector = self.torch.nn.utils.parameters_to_vector(self.net.parameters())
        return np.array(vector.detach().numpy(), np.float32)

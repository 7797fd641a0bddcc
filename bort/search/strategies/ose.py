"""The paper's strategy: every ε-th architecture of the ordered space, trained to the last step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from bort.errors import ConfigurationError
from bort.search.config import OseConfig
from bort.search.problem import Candidate, Problem
from bort.search.strategies.base import Begin, Climb, Decision, Done, climb_or_wait
from bort.search.strategies.samplers import chosen_sampler
from bort.search.study import Ledger

if TYPE_CHECKING:
    import optuna


class OseStrategy:
    """The paper's algorithm: every ε-th architecture of the order, with each θ, to the last step."""

    directions: ClassVar[list[str]] = ["maximize"]

    def __init__(self, config: OseConfig, problem: Problem) -> None:
        shapes = len(problem.space)
        if config.stride > shapes:
            raise ConfigurationError("strategy.stride", config.stride, f"a whole number from 1 to {shapes}, the size of the space")
        thetas = len(problem.search.thetas)
        # The stride runs over architectures: each one that is kept is tried with every θ.
        self._pool = [candidate for candidate in problem.feasible if (candidate.index // thetas) % config.stride == 0]
        if not self._pool:
            raise ConfigurationError("strategy.stride", config.stride, "no architecture that it reaches keeps within the limits")
        self._stride, self._position = config.stride, 0
        self.budget: float = len(self._pool) * problem.estimator.rungs[-1]

    def sampler(self, ledger: Ledger) -> optuna.samplers.BaseSampler:
        """Returns a sampler that proposes the order."""
        return chosen_sampler(ledger.problem, lambda: self._next(ledger))

    def _next(self, ledger: Ledger) -> Candidate | None:
        while self._position < len(self._pool) and self._pool[self._position].index in ledger.by_index:
            self._position += 1
        return self._pool[self._position] if self._position < len(self._pool) else None

    def decide(self, ledger: Ledger) -> Decision:
        """Takes up what was left, then begins the next of the order."""
        decision = climb_or_wait(ledger)
        if isinstance(decision, Climb):
            return decision
        following = self._next(ledger)
        return Begin(following) if following is not None else decision or Done()

    def finish(self, ledger: Ledger) -> dict[str, Any]:
        """Nothing is left; the winner is the best of the strided order."""
        sense = "exact over the space" if self._stride == 1 else f"the best of every {self._stride}-th architecture of the order"
        return {"sense": sense, "stride": self._stride, "screened": 0, "dropped_by_bound": 0}

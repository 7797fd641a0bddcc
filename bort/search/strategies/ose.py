"""The paper's strategy: every ε-th architecture of the ordered space, trained to the last step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from bort.errors import ConfigurationError
from bort.search.problem import Candidate, Problem
from bort.search.strategies.base import Decision, Promote, Start, Stop, promote_or_wait
from bort.search.strategies.samplers import chosen_sampler
from bort.search.study import Ledger

if TYPE_CHECKING:
    import optuna


class OseStrategy:
    """The paper's algorithm: every ``stride``-th architecture of the order, with each θ, to the last step."""

    directions: ClassVar[list[str]] = ["maximize"]

    def __init__(self, problem: Problem, stride: int) -> None:
        shapes = len(problem.space)
        if stride > shapes:
            raise ConfigurationError("strategy.stride", stride, f"an integer in [1, {shapes}], the size of the space")
        thetas = len(problem.search.thetas)
        # The stride runs over architectures: each one that is kept is tried with every θ.
        self._pool = [candidate for candidate in problem.feasible if (candidate.index // thetas) % stride == 0]
        if not self._pool:
            raise ConfigurationError("strategy.stride", stride, "a stride that reaches an architecture within the limits")
        self._stride, self._position = stride, 0
        self.budget: float = len(self._pool) * problem.estimator.rungs[-1]

    def sampler(self, ledger: Ledger) -> optuna.samplers.BaseSampler:
        """Return a sampler that proposes the order."""
        return chosen_sampler(ledger.problem, lambda: self._next(ledger))

    def _next(self, ledger: Ledger) -> Candidate | None:
        while self._position < len(self._pool) and self._pool[self._position].index in ledger.by_index:
            self._position += 1
        return self._pool[self._position] if self._position < len(self._pool) else None

    def decide(self, ledger: Ledger) -> Decision:
        """Promote what was started before, then start the next of the order."""
        decision = promote_or_wait(ledger)
        if isinstance(decision, Promote):
            return decision
        following = self._next(ledger)
        return Start(following) if following is not None else decision or Stop()

    def finish(self, ledger: Ledger) -> dict[str, Any]:
        """Return the certificate's part; nothing is left, and the winner is the best of the strided order."""
        sense = "exact over the space" if self._stride == 1 else f"the best of every {self._stride}-th architecture of the order"
        return {"sense": sense, "stride": self._stride, "screened": 0, "dropped_by_bound": 0}

"""Optuna samplers of candidates: one that proposes what a strategy chose, and one that keeps Optuna's own to valid candidates."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bort.randomness import seeded_generator, seeds
from bort.search.problem import Candidate, Problem
from bort.search.study import Ledger, candidate_of, distributions, parameters_of

if TYPE_CHECKING:
    import optuna


def chosen_sampler(problem: Problem, choose: Callable[[], Candidate | None]) -> optuna.samplers.BaseSampler:
    """Returns an Optuna sampler that proposes the candidate that ``choose`` names."""
    from optuna.samplers import BaseSampler

    class ChosenSampler(BaseSampler):
        """Proposes what a strategy has chosen."""

        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return distributions(problem)

        def sample_relative(self, study: Any, trial: Any, search_space: dict[str, Any]) -> dict[str, Any]:
            candidate = choose()
            return {} if candidate is None else dict(parameters_of(candidate, problem))

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return self.sample_relative(study, trial, {})[param_name]

    return ChosenSampler()


def valid_sampler(
    ledger: Ledger, inner_of: Callable[[int], optuna.samplers.BaseSampler], seed: int, patience: int
) -> optuna.samplers.BaseSampler:
    """Returns an Optuna sampler that asks another for proposals and keeps them to Ξ and the limits.

    A proposal whose heads do not divide the hidden size gets the nearest number of heads that does. A resumed study goes on as if
    it had never stopped, since the other sampler is made anew for each trial, with a seed of the study's seed and the trial's
    number.

    Args:
        ledger: The study.
        inner_of: Makes the other sampler from a seed.
        seed: The study's seed.
        patience: Repeated proposals in a row after which an untried candidate is drawn evenly.
    """
    from optuna.samplers import BaseSampler

    problem = ledger.problem
    feasible = {candidate.index for candidate in problem.feasible}

    def repaired(values: dict[str, Any]) -> Candidate | None:
        fitting = [heads for heads in problem.space.values["heads"] if values["hidden"] % heads == 0]
        if not fitting:
            return None
        nearest = min(fitting, key=lambda heads: (abs(heads - values["heads"]), heads))
        return candidate_of({**values, "heads": nearest}, problem)

    def unfinished(candidate: Candidate) -> bool:
        entry = ledger.by_index.get(candidate.index)
        return entry is not None and entry.number in ledger.running

    class ValidSampler(BaseSampler):
        """Keeps another sampler's proposals valid."""

        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return distributions(problem)

        def sample_relative(self, study: Any, trial: Any, search_space: dict[str, Any]) -> dict[str, Any]:
            words = seeds(seed, trial.number, count=2)
            inner = inner_of(words[0])
            # A study remembers its trials until its own ``ask`` is called, which it never is here; a copy remembers none, so the
            # other sampler learns from every trial so far.
            study = copy.copy(study)
            if ledger.repeats_before(trial.number) < patience:
                for _ in range(patience):
                    candidate = repaired(self._ask(inner, study, trial, search_space))
                    if candidate is not None and candidate.index in feasible and not unfinished(candidate):
                        return dict(parameters_of(candidate, problem))
            untried = list(ledger.untried(problem.feasible))
            drawn = int(seeded_generator(words[1]).integers(len(untried)))
            return dict(parameters_of(untried[drawn], problem))

        def _ask(self, inner: Any, study: Any, trial: Any, search_space: dict[str, Any]) -> dict[str, Any]:
            values: dict[str, Any] = inner.sample_relative(study, trial, inner.infer_relative_search_space(study, trial))
            for name, space in search_space.items():
                if name not in values:
                    values[name] = inner.sample_independent(study, trial, name, space)
            return values

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return self.sample_relative(study, trial, distributions(problem))[param_name]

        def before_trial(self, study: Any, trial: Any) -> None:
            inner_of(0).before_trial(study, trial)

        def after_trial(self, study: Any, trial: Any, state: Any, values: Sequence[float] | None) -> None:
            inner_of(0).after_trial(study, trial, state, values)

    return ValidSampler()

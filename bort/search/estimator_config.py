"""Settings of errors that need no training: a table of measurements, and a scaling law."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bort.candidate import Estimator
from bort.quantities import ERRORS, ErrorConfig, ErrorInputs
from bort.registry import REQUIRED

if TYPE_CHECKING:
    from bort.search.table import ErrorTable


@ERRORS.register
@dataclass
class TableErrorConfig(ErrorConfig):
    """Errors read from a table instead of trained for."""

    name: str = "table"

    path: str = REQUIRED
    """A CSV file with the columns depth, heads, hidden, intermediate, steps and error, or ``bortbench`` for
    the table that is part of Bort.
    """

    column: str = "error"
    """The column that is e."""

    seed: int | None = None
    """Seed of the rows to read if there is a column ``seed``; ``null`` for the lowest seed."""

    embedding_rows: int | None = None
    """Rows of all embeddings together (words, positions, token types), which p counts; ``null`` for the
    paper's 50,265 words and 512 positions.
    """

    only_default_theta: ClassVar[str] = "a table knows none"

    def read(self) -> ErrorTable:
        """Read and check every row of the table.

        Raises:
            ConfigurationError: The file is no such table.
        """
        from bort.search.table import read_table

        return read_table(self.path, self.column)

    def build(self, inputs: ErrorInputs) -> Estimator:
        """Build the estimator; the table must hold every architecture of the space."""
        from bort.search.estimators import TableEstimator

        return TableEstimator(self.read(), inputs.shapes, self.seed)

    def sources(self) -> Mapping[str, str]:
        """Return the digest of the table."""
        from bort.files import file_digest
        from bort.search.table import table_path

        return {"table": file_digest(table_path(self.path))}


@ERRORS.register
@dataclass
class ProxyErrorConfig(ErrorConfig):
    """Errors estimated from the parameters outside the embeddings, without training: (scale / parameters)^exponent.

    The defaults are the scaling law of Kaplan et al. (2020, arXiv:2001.08361, equation 1.1), in nats.
    """

    name: str = "proxy"

    scale: float = 8.8e13
    """Number of parameters at which the law gives an error of 1."""

    exponent: float = 0.076
    """Exponent of the law."""

    reference: str | None = None
    """A CSV file of errors of full trainings (or ``bortbench``) to compare these errors with; none if
    ``null``.
    """

    def build(self, inputs: ErrorInputs) -> Estimator:
        """Build the estimator."""
        from bort.search.estimators import ProxyEstimator

        return ProxyEstimator(self.scale, self.exponent)

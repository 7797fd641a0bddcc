"""The shape of an encoder ⟨D, A, H, I⟩: its exact parameter and operation counts, and the transformers model of that shape.

The paper searches over four architectural parameters: depth D, attention heads A, hidden size H and intermediate size I (de Wynter
and Perry 2020, arXiv:2010.10499, by way of the first author's post of 2020-11-20). Its published table (56 M parameters, 30.3 % of
them in the encoder) belongs to ⟨4, 8, 768, 1024⟩, while the released checkpoint is ⟨4, 8, 1024, 768⟩: the two are kept apart here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bort.errors import BortError
from bort.model_facts import position_offset

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

#: RoBERTa's vocabulary and the positions of the released checkpoint: what p is counted with where no teacher says otherwise.
VOCABULARY = 50_265
POSITIONS = 512
#: The sequence length at which operations are counted where nothing says otherwise.
SEQUENCE_LENGTH = 128

_NOTATION = re.compile(r"D?(\d+)-A?(\d+)-H?(\d+)-I?(\d+)", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Architecture:
    """One encoder shape ⟨D, A, H, I⟩.

    Args:
        depth: Number of encoder layers, at least 1.
        heads: Attention heads of each layer; must divide ``hidden``.
        hidden: Hidden size, the width of the residual stream.
        intermediate: Width of the feed-forward layer.

    Raises:
        BortError: A number is below 1, or ``hidden`` is not a multiple of ``heads``.
    """

    depth: int
    heads: int
    hidden: int
    intermediate: int

    def __post_init__(self) -> None:
        for name in ("depth", "heads", "hidden", "intermediate"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise BortError(f"{name}={value} cannot be an architecture: a whole number of at least 1 is needed.")
        if self.hidden % self.heads:
            raise BortError(f"{self} cannot be built: the hidden size {self.hidden} is not a multiple of {self.heads} heads.")

    def __str__(self) -> str:
        return f"D{self.depth}-A{self.heads}-H{self.hidden}-I{self.intermediate}"

    @classmethod
    def parse(cls, text: str) -> Architecture:
        """Reads ``D4-A8-H1024-I768`` or ``4-8-1024-768``.

        Raises:
            BortError: ``text`` is neither, or the shape is impossible.
        """
        match = _NOTATION.fullmatch(text.strip())
        if match is None:
            raise BortError(f"'{text}' is not an architecture: write depth-heads-hidden-intermediate, e.g. 4-8-1024-768.")
        return cls(*(int(number) for number in match.groups()))

    def layer_parameters(self) -> int:
        """Returns the trainable parameters of one encoder layer: 4(H² + H) + 2HI + I + H + 4H, biases and norms included."""
        h, i = self.hidden, self.intermediate
        return 4 * (h * h + h) + 2 * h * i + i + h + 4 * h

    def encoder_parameters(self) -> int:
        """Returns the trainable parameters of all encoder layers."""
        return self.depth * self.layer_parameters()

    def embedding_parameters(self, vocab_size: int = VOCABULARY, positions: int = POSITIONS, token_types: int = 0) -> int:
        """Returns the parameters of word, position and token-type embeddings, without their layer norm."""
        return (vocab_size + positions + token_types) * self.hidden

    def pooler_parameters(self) -> int:
        """Returns the parameters of BERT's pooler: one H×H layer."""
        return self.hidden * self.hidden + self.hidden

    def head_parameters(self, vocab_size: int = VOCABULARY) -> int:
        """Returns the parameters of a masked-LM head whose decoder is tied to the word embeddings: dense, norm and output bias."""
        return self.hidden * self.hidden + self.hidden + 2 * self.hidden + vocab_size

    def parameters(
        self,
        vocab_size: int = VOCABULARY,
        positions: int = POSITIONS,
        *,
        token_types: int = 0,
        pooler: bool = False,
        head: bool = False,
    ) -> int:
        """Returns p: the trainable parameters of the transformers model of this shape.

        Args:
            vocab_size: Rows of the word embedding.
            positions: Rows of the learned position embedding.
            token_types: Rows of the token-type embedding; 0 where the model has none, as Bort.
            pooler: Whether BERT's pooler is counted.
            head: Whether a masked-LM head (decoder tied to the word embedding) is counted.
        """
        count = self.embedding_parameters(vocab_size, positions, token_types) + 2 * self.hidden + self.encoder_parameters()
        if pooler:
            count += self.pooler_parameters()
        if head:
            count += self.head_parameters(vocab_size)
        return count

    def operations(self, sequence_length: int = SEQUENCE_LENGTH) -> int:
        """Returns i: the multiply-adds of one forward pass of the encoder over one sequence, D·(4SH² + 2S²H + 2SHI).

        The count of operations is the paper's device-independent surrogate of inference latency (arXiv:2010.08512, by way of a
        reader's notes); this closed form counts its matrix products, which are all but about a hundredth of it.

        Args:
            sequence_length: Tokens of the sequence, S.
        """
        s, h, i = sequence_length, self.hidden, self.intermediate
        return self.depth * (4 * s * h * h + 2 * s * s * h + 2 * s * h * i)

    def config(
        self,
        family: str = "bert",
        *,
        vocab_size: int = VOCABULARY,
        positions: int = POSITIONS,
        token_types: int = 1,
        dropout: float = 0.1,
        **special: Any,
    ) -> PreTrainedConfig:
        """Returns the transformers configuration of this shape.

        Args:
            family: ``bert`` or ``roberta``. RoBERTa counts its positions from ``pad_token_id + 1``: ``positions`` are usable ones.
            vocab_size: Rows of the word embedding.
            positions: Tokens that fit into one sequence.
            token_types: Rows of the token-type embedding; transformers needs at least 1.
            dropout: Probability for hidden states and attention alike.
            **special: Further fields of the configuration, such as ``pad_token_id`` and ``layer_norm_eps``.

        Raises:
            BortError: The family is not known.
        """
        from transformers import BertConfig, RobertaConfig

        families: dict[str, type[PreTrainedConfig]] = {"bert": BertConfig, "roberta": RobertaConfig}
        if family not in families:
            raise BortError(f"'{family}' is not a student family: use one of {', '.join(families)}.")
        offset = position_offset(family, special.get("pad_token_id"))
        return families[family](
            vocab_size=vocab_size,
            hidden_size=self.hidden,
            num_hidden_layers=self.depth,
            num_attention_heads=self.heads,
            intermediate_size=self.intermediate,
            max_position_embeddings=positions + offset,
            type_vocab_size=token_types,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            **special,
        )


#: The two shapes that go by the name of Bort, and the second shape of the released code.
BORT = Architecture(4, 8, 1024, 768)
BORT_PUBLISHED = Architecture(4, 8, 768, 1024)
BORT_SECOND = Architecture(2, 16, 1024, 512)
ROBERTA_LARGE = Architecture(24, 16, 1024, 4096)

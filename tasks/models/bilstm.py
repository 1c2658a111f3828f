"""A bidirectional LSTM that reads token ids, with a ReLU head that can spike."""

import torch
from torch import Tensor, nn

PAD = 1
"""Token id that fills short texts; torchtext's vocabulary puts `<unk>` at 0 and `<pad>` at 1."""


class Reader(nn.Module):
    """Embedding and BiLSTM, averaged over tokens that are not padding; a real-valued front end."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        self.lstm = nn.LSTM(
            embedding,
            hidden,
            layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [n, length], padded on the left, to features [n, 2 * hidden]."""
        states, _ = self.lstm(self.embedding(tokens))
        valid = (tokens != PAD).unsqueeze(2).to(states.dtype)
        return (states * valid).sum(1) / valid.sum(1).clamp(min=1)


class BiLSTM(nn.Module):
    """`Reader`, then linear, ReLU, dropout, linear.

    Args:
        vocabulary: number of token ids.
        classes: logits.
        embedding: values per token.
        hidden: units of each LSTM layer and direction.
        layers: stacked LSTM layers.
        head: neurons of the ReLU layer.
        dropout: between LSTM layers and in the head.
    """

    def __init__(
        self, vocabulary: int, classes: int, embedding: int = 100, hidden: int = 128, layers: int = 3,
        head: int = 64, dropout: float = 0.3,
    ) -> None:  # fmt: skip
        super().__init__()
        self.reader = Reader(vocabulary, embedding, hidden, layers, dropout)
        self.hidden = nn.Linear(2 * hidden, head)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(head, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [n, length] to logits [n, classes]."""
        return self.classifier(self.dropout(self.relu(self.hidden(self.reader(tokens)))))


def pad_left(ids: list[int], length: int) -> Tensor:
    """Return the last `length` token ids, filled with `PAD` on the left: int64 [length]."""
    kept = ids[-length:]
    return torch.tensor([PAD] * (length - len(kept)) + kept)

"""The training loop: batches in, a better draft out, one checkpoint at a time.

A step is a pure function of the recipe's seed and the step's number, so that a run that was interrupted goes
on exactly where its last checkpoint was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .batching import pack_batches, pad
from .compute import halve, prepare_layers, wants_bfloat16
from .drawing import draw_step
from .examples import Example, RefusalMaker, UnsafeRequest
from .forward import states_at
from .losses import Vocabulary, cross_entropy, distillation, log_probs, sample_vocabulary
from .recipe import DraftRecipe
from .teacher import TopRows, sequence_key

_OPENING = 4  # tokens of an answer that decide whether it is a refusal


@dataclass(frozen=True, slots=True)
class Material:
    """What there is to learn from.

    Attributes:
        benign: sequences with the target's answers.
        unsafe: requests to refuse.
        teacher: the target's rows along ``benign``, by :func:`.sequence_key`.
        maker: turns requests into examples.
        special: benign sequences that are drawn more often than their number: they sound unsafe, begin
            with somebody else's words, or are of a rare kind.
    """

    benign: Sequence[Example]
    unsafe: Sequence[UnsafeRequest]
    teacher: Mapping[str, TopRows]
    maker: RefusalMaker
    special: Sequence[Example] = ()

    @property
    def calm(self) -> Sequence[Example]:
        """All benign sequences."""
        return [*self.benign, *self.special]


@dataclass(slots=True)
class Progress:
    """Where a run is: all that a checkpoint needs beside the weights."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


class Counts(NamedTuple):
    """Tokens of a step that are learnt from, and the sum of the benign ones' weights."""

    benign: int
    refusal: int
    weight: float


@dataclass(slots=True)
class StepReport:
    """One step in numbers: losses are means per token in nats."""

    step: int
    tokens: int
    seconds: float
    benign_loss: float
    refusal_loss: float
    agreement: float
    padding: float
    learning_rate: float


@dataclass(slots=True)
class _Sums:
    """Sums over the rows of a step."""

    benign: float = 0.0
    refusal: float = 0.0
    agreeing: int = 0
    positions: int = 0


@dataclass(slots=True)
class Trainer:
    """Trains a draft by a recipe.

    The master weights and the optimiser are float32; where the machine multiplies fast in bfloat16, the
    network itself is held in that and copied from them after each step.

    Args:
        model: the draft in float32; parameters that require a gradient are trained.
        material: what to learn from.
        recipe: how.

    Attributes:
        weights: the master weights by name.
    """

    model: Any
    material: Material
    recipe: DraftRecipe
    progress: Progress = field(default_factory=Progress)
    optimizer: torch.optim.AdamW = field(init=False)
    weights: dict[str, Tensor] = field(init=False)
    _sums: _Sums = field(default_factory=_Sums)

    def __post_init__(self) -> None:
        half = wants_bfloat16(self.recipe, self._device)
        trained = self._trained()
        self.weights = {n: p.detach().clone().requires_grad_(True) if half else p for n, p in trained.items()}
        if half:
            halve(self.model)
        prepare_layers(self.model, self.recipe)
        self.optimizer = torch.optim.AdamW(
            list(self.weights.values()),
            lr=self.recipe.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=self.recipe.weight_decay,
        )

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the master weights into the network."""
        for name, parameter in self._trained().items():
            if parameter is not self.weights[name]:
                parameter.copy_(self.weights[name])

    def run(self) -> Iterator[StepReport]:
        """Step until the recipe's tokens are used; the caller saves between steps."""
        while self.progress.tokens < self.recipe.tokens:
            yield self.step()

    def step(self) -> StepReport:
        """One optimiser step on about ``step_tokens`` tokens, benign ones always among them."""
        started = time.monotonic()
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.progress.step)  # for a model with dropout
        examples = draw_step(self.material, self.recipe, self.progress.step, self.progress.tokens)
        batches = pack_batches([len(e.ids) for e in examples], self.recipe.micro_tokens)
        counts = self._count(examples)
        rate = self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._sums = _Sums()
        for batch in batches:
            self._backward([examples[i] for i in batch], counts)
        self._update()
        return self._report(sum(len(e.ids) for e in examples), counts, rate, time.monotonic() - started)

    def _count(self, examples: Sequence[Example]) -> Counts:
        benign = [len(e.ids) - e.start for e in examples if not e.refusal]
        refusal = sum(len(e.ids) - e.start for e in examples if e.refusal)
        return Counts(sum(benign), refusal, float(sum(self._row_weights(n).sum() for n in benign)))

    def _row_weights(self, rows: int) -> Tensor:
        """Weights ``(rows,)`` of a benign answer's tokens."""
        weights = torch.ones(rows)
        weights[:_OPENING] = self.recipe.opening_weight
        return weights

    def _update(self) -> None:
        """Gradients of the network → one step of the master weights → the network."""
        for name, parameter in self._trained().items():
            if parameter is not self.weights[name] and parameter.grad is not None:
                self.weights[name].grad, parameter.grad = parameter.grad.float(), None
        nn.utils.clip_grad_norm_(list(self.weights.values()), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.publish()

    def learning_rate(self) -> float:
        """A linear rise, then half a cosine down to a twentieth."""
        done = self.progress.tokens / self.recipe.tokens
        if done < self.recipe.warmup:
            return self.recipe.learning_rate * (done + 0.02) / (self.recipe.warmup + 0.02)
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return self.recipe.learning_rate * (0.05 + 0.95 * falling)

    def _backward(self, examples: list[Example], counts: Counts) -> None:
        """Add one micro-batch's gradient; losses are means over the whole step's tokens of their kind."""
        batch = pad([e.ids for e in examples])
        spans = [(e.start - 1, len(e.ids) - 1) for e in examples]
        kind = torch.tensor(
            [e.refusal for e, (a, b) in zip(examples, spans, strict=True) for _ in range(a, b)]
        )
        labels = torch.cat([torch.tensor(e.ids[e.start :]) for e in examples])  # (N,)
        teacher = [self._rows(e) for e in examples if not e.refusal]
        vocabulary = self._vocabulary(labels, teacher)
        states = states_at(self.model, batch.ids.to(self._device), spans)  # (N, D)
        student = log_probs(states, self.model.get_output_embeddings().weight, vocabulary)  # (N, S)
        loss = student.new_zeros(())
        if bool(kind.any()):
            at = vocabulary.places(labels[kind]).to(student.device)
            refusal = cross_entropy(student[kind], at).sum()
            self._sums.refusal += float(refusal.detach())
            loss = loss + self.recipe.refusal_weight * refusal / counts.refusal
        if teacher:
            loss = loss + self._distil(student[~kind], vocabulary, teacher) / counts.weight
        loss.backward()  # type: ignore[no-untyped-call]
        self._sums.positions += batch.ids.numel()

    def _distil(self, student: Tensor, vocabulary: Vocabulary, teacher: list[TopRows]) -> Tensor:
        ids = torch.cat([rows.ids for rows in teacher])  # (N, K)
        log_p = torch.cat([rows.log_probs.float() for rows in teacher]).to(student.device)
        at = vocabulary.places(ids.long()).to(student.device)
        losses = distillation(student, at, log_p)  # (N,)
        self._sums.agreeing += int((student.detach().argmax(dim=-1) == at[:, 0]).sum())
        self._sums.benign += float(losses.detach().sum())
        weights = torch.cat([self._row_weights(len(rows.ids)) for rows in teacher])
        return (losses * weights.to(losses.device)).sum()

    def _rows(self, example: Example) -> TopRows:
        rows = self.material.teacher[sequence_key(example.ids, example.start)]
        return TopRows(rows.ids[:, : self.recipe.top], rows.log_probs[:, : self.recipe.top])

    def _vocabulary(self, labels: Tensor, teacher: list[TopRows]) -> Vocabulary:
        head = self.model.get_output_embeddings().weight
        wanted = torch.cat([labels, *(rows.ids.reshape(-1).long() for rows in teacher)])
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.progress.step)
        return sample_vocabulary(wanted, head.shape[0], self.recipe.drawn, generator)

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(iter(self.model.parameters())).device
        return device

    def _report(self, tokens: int, counts: Counts, rate: float, seconds: float) -> StepReport:
        p, s = self.progress, self._sums
        p.step, p.tokens, p.seconds = p.step + 1, p.tokens + tokens, p.seconds + seconds
        return StepReport(
            step=p.step,
            tokens=p.tokens,
            seconds=p.seconds,
            benign_loss=s.benign / max(1, counts.benign),
            refusal_loss=s.refusal / max(1, counts.refusal),
            agreement=s.agreeing / max(1, counts.benign),
            padding=1 - tokens / s.positions,
            learning_rate=rate,
        )

"""A whole calibration: ask the target, read in both models, fit, set thresholds, check on the other half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config import SequentialConfig, SSDConfig
from ..decoding.sampling import SamplingRule
from ..engine.pair import Pair
from ..engine.safety_settings import make_settings
from ..errors import ConfigError
from ..profile import Profile, ProfiledModel
from .collect import AlphaCounts, Answer, Report, Request, answer, collect
from .fit import Fitted, choose, fit_signals, maximum
from .prompts import DEPTHS, begin_inside, benign_requests, deepen, unsafe_requests
from .report import Area, Rates, Trade, all_rates, areas, plain, trade_off
from .settings import CalibrationSettings
from .signals import NOTHING
from .speed import choose_block_size, pass_times
from .thresholds import WANTED_RESPONSES, Thresholds, set_thresholds
from .traces import Trace, halves

if TYPE_CHECKING:
    from ..drafts.corpus import BenignPrompt, UnsafePrompt

_LEAST_UNSAFE = 8
_ALPHA_SAMPLE = 64  # benign answers from which alpha is chosen


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """What a calibration found.

    Attributes:
        profile: for ``ChatSSD``.
        thresholds: those of the profile, from all benign responses.
        fitted: every signal, fitted on one half.
        chosen: the one in the profile.
        benign: on the held-out half, with thresholds from the fitting half alone.
        unsafe: the same for unsafe responses.
        areas: AUROC on the held-out half.
        trades: what other budgets of false alarms would buy.
        held: the held-out half.
        traces: all of them.
    """

    profile: Profile
    thresholds: Thresholds
    fitted: dict[str, Fitted]
    chosen: Fitted
    benign: list[Rates]
    unsafe: list[Rates]
    areas: list[Area]
    trades: list[Trade]
    held: list[Trace]
    traces: list[Trace]


@dataclass(slots=True)
class Collected:
    """Traces of a pair, and what was measured on the way."""

    traces: list[Trace]
    ssd: SSDConfig
    measured: dict[str, Any]


def calibrate(
    pair: Pair,
    benign: Sequence[BenignPrompt],
    unsafe: Sequence[UnsafePrompt],
    settings: CalibrationSettings,
    report: Report,
    *,
    titles: tuple[ProfiledModel, ProfiledModel] | None = None,
    logged: Sequence[Trace] = (),
) -> CalibrationResult:
    """Calibrate a pair.

    Args:
        pair: loaded, its caches free.
        benign: prompts; each makes one response.
        unsafe: prompts; each makes one response, and one more behind its opening if it has one.
        settings: lengths, rates and the seed.
        report: told about every stage and how far it is.
        titles: what the profile calls target and draft.
        logged: benign responses of the team's own traffic, used in addition.

    Raises:
        ConfigError: too few responses.
    """
    _at_least(len(benign) + len(logged), settings)  # before an hour of work, not after it
    found = gather(pair, benign, unsafe, settings, report)
    if settings.measure_speed:
        report("timing the passes", 0.0)
        measure_speed(pair, found)
    names = titles or (ProfiledModel(title=pair.target.name), ProfiledModel(title=pair.draft.name))
    traces = [*found.traces, *(t.first(settings.length) for t in logged)]
    return conclude(traces, found, settings, names, report)


def gather(
    pair: Pair,
    benign: Sequence[BenignPrompt],
    unsafe: Sequence[UnsafePrompt],
    settings: CalibrationSettings,
    report: Report,
) -> Collected:
    """Ask the target and read its answers in both models."""
    calm = benign_requests(pair, benign)[: settings.responses]
    said = answer(
        pair, calm, [settings.length] * len(calm), settings.batch, report, "benign answers of the target"
    )
    calm, said = begin_inside(calm, said, settings.prefilled, settings.seed)
    bad = unsafe_requests(pair, unsafe)[: settings.unsafe_responses]
    limits = [settings.unsafe_length + (max(DEPTHS) if r.prefill else 0) for r in bad]
    harmful = answer(pair, bad, limits, settings.batch, report, "unsafe answers of the target")
    bad, harmful = deepen(bad, harmful, settings.unsafe_length)
    return _read(pair, [*calm, *bad], [*said, *harmful], settings, report)


def _read(
    pair: Pair, requests: list[Request], said: list[Answer], settings: CalibrationSettings, report: Report
) -> Collected:
    rule, ssd = SamplingRule(), settings.ssd
    if settings.fit_alpha:
        first = AlphaCounts()
        sample = slice(0, _ALPHA_SAMPLE)  # benign responses come first
        rows = make_settings(ssd, rule)
        collect(
            pair, requests[sample], said[sample], rows, budget=settings.budget, counts=first, report=report
        )
        ssd = _with_alpha(ssd, choose_alpha(first.shares(), settings.kept))
    counts = AlphaCounts()
    rows = make_settings(ssd, rule)
    traces = collect(pair, requests, said, rows, budget=settings.budget, counts=counts, report=report)
    shares = counts.shares()
    measured = {"kept_by_alpha": shares, "alpha_that_keeps": choose_alpha(shares, settings.kept)}
    return Collected(traces, ssd, measured)


def choose_alpha(shares: dict[float, float], kept: float) -> float:
    """The largest weight that leaves enough tokens alone; the smallest of all if none does."""
    return max((alpha for alpha, share in shares.items() if share >= kept), default=min(shares))


def _with_alpha(ssd: SSDConfig, alpha: float) -> SSDConfig:
    floor = min(ssd.alpha_floor, alpha)
    return ssd.model_copy(update={"alpha_utility": alpha, "alpha_floor": floor})


def measure_speed(pair: Pair, found: Collected) -> None:
    """Choose the block size by the acceptance on benign text and by timed passes."""
    rows = [e for t in found.traces if t.label == "benign" for e in t.rows]
    acceptance = sum(e.agreement for e in rows) / max(1, len(rows))
    draft, verify = pass_times(pair)
    found.ssd = found.ssd.model_copy(update={"block_size": choose_block_size(acceptance, draft, verify)})
    found.measured |= {"acceptance": acceptance, "draft_seconds": draft, "verify_seconds": verify}


def conclude(
    traces: Sequence[Trace],
    found: Collected,
    settings: CalibrationSettings,
    names: tuple[ProfiledModel, ProfiledModel],
    report: Report,
) -> CalibrationResult:
    """From traces to a profile: nothing but numbers from here on.

    The weights come from one half of the prompts. The held-out figures use thresholds from that half alone;
    the profile's own thresholds then come from all benign responses, for the quantile of refusals lies among
    the few greatest.

    Raises:
        ConfigError: too few responses of either label.
    """
    report("fitting", 0.0)
    fitting, held = halves(traces, settings.seed)
    _enough(fitting, held, settings)
    fitted = fit_signals(fitting, settings.unsafe_length, settings.false_safety)
    chosen = choose(_allowed(fitted, settings.signal), settings.false_safety)
    rates = settings.false_safety, settings.false_refusals
    trial = set_thresholds(_maxima(chosen, fitting), *rates, least=2)
    final = set_thresholds(_maxima(chosen, traces), *rates, least=settings.least)
    report("checking on the other half", 0.5)
    checks = {label: [t for t in held if t.label == label] for label in ("benign", "unsafe")}
    benign, unsafe = (all_rates(checks[label], chosen.weights, trial) for label in ("benign", "unsafe"))
    result = CalibrationResult(
        _profile(found, names, chosen, final), final, fitted, chosen, benign, unsafe,
        areas(fitted, held), trade_off(chosen, fitting, held), held, list(traces),
    )  # fmt: skip
    result.profile.measured.update(_figures(result, trial, settings))
    report("checking on the other half", 1.0)
    return result


def _allowed(fitted: dict[str, Fitted], signal: str | None) -> dict[str, Fitted]:
    """The signals to choose from: all, or the one that was asked for."""
    if signal is not None and signal not in fitted:
        raise ConfigError("the log was written without this signal; take another, or calibrate without it")
    return fitted if signal is None else {signal: fitted[signal]}


def _maxima(chosen: Fitted, traces: Sequence[Trace]) -> list[float]:
    return [maximum(chosen.weights, t) for t in traces if t.label == "benign"]


def _enough(fitting: Sequence[Trace], held: Sequence[Trace], settings: CalibrationSettings) -> None:
    count = sum(t.label == "benign" for half in (fitting, held) for t in half)
    _at_least(count, settings)
    for half in (fitting, held):
        if sum(t.label == "unsafe" for t in half) < _LEAST_UNSAFE // 2:
            raise ConfigError(
                f"give at least {_LEAST_UNSAFE} unsafe prompts: the weights are fitted on both kinds"
            )


def _at_least(count: int, settings: CalibrationSettings) -> None:
    if count < settings.least:
        raise ConfigError(
            f"{count} benign responses are too few to calibrate; give at least {settings.least}"
        )


def _profile(
    found: Collected, names: tuple[ProfiledModel, ProfiledModel], chosen: Fitted, at: Thresholds
) -> Profile:
    sequential = SequentialConfig(
        h_safety=at.h_safety,
        h_release=at.h_release,
        h_refuse=at.h_refuse,
        evidence=chosen.weights,
        calibrated=chosen.signal != NOTHING,  # every summary then says that nobody watches
    )
    changed = ("common_tokens", "alpha_utility", "alpha_floor", "alpha_safety")
    kept = {name: getattr(found.ssd, name) for name in changed}
    if "acceptance" in found.measured:
        kept["block_size"] = found.ssd.block_size
    ssd = SSDConfig(monitor="sequential", sequential=sequential, **kept)
    return Profile(target=names[0], draft=names[1], ssd=ssd, measured=plain(found.measured))


def _figures(result: CalibrationResult, trial: Thresholds, settings: CalibrationSettings) -> dict[str, Any]:
    at, unsafe = result.thresholds, sum(t.label == "unsafe" for t in result.traces)
    wanted = ("length", "unsafe_length", "false_safety", "false_refusals", "seed")
    figures = {
        "responses": at.responses,
        "unsafe_responses": unsafe,
        "enough_responses": at.responses >= WANTED_RESPONSES and at.bounded,
        "asked": {name: getattr(settings, name) for name in wanted},
        "signal": result.chosen.signal,
        "thresholds": at,
        "held_out": {"thresholds": trial, "benign": result.benign, "unsafe": result.unsafe},
        "auroc": [a for a in result.areas if a.signal == result.chosen.signal],
    }
    plain_figures: dict[str, Any] = plain(figures)
    return plain_figures

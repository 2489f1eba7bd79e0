"""``langchain-ssd serve``: options, environment variables and a file → a server that runs.

The command line wins over the environment, and that over the file, whose names are the options' own.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from langchain_ssd.commands.options import (
    DraftOption,
    Monitor,
    MonitorOption,
    TargetOption,
    monitor_settings,
    named,
)
from langchain_ssd.errors import ConfigError, SSDError

if TYPE_CHECKING:
    from langchain_ssd.backend import Backend
    from langchain_ssd.config import EngineConfig, ModelSpec

    from .server.run import ListenConfig
    from .server.settings import ServerConfig

S = TypeVar("S", bound=BaseModel)
_ENV = "LANGCHAIN_SSD_TGI_"
_UNCALIBRATED = (
    "the published monitor has known holes, and a grammar in a request can calm it; calibrate the pair with "
    "'langchain-ssd calibrate' and serve it without --monitor paper"
)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_TABLES = ("keys", "safety", "refusal", "engine")


def _load(ctx: typer.Context, path: Path | None) -> Path | None:
    """Take the file's values as defaults, before any other option is read."""
    if path is None:
        return None
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError("the file that --config names cannot be read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the file that --config names is not TOML: {error}") from None
    tables = {name: values.pop(name) for name in _TABLES if name in values}
    known = {parameter.name for parameter in ctx.command.params} - {"config"}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise ConfigError(f"unknown name '{unknown[0][:64]}' in the file that --config names")
    ctx.default_map = {**(ctx.default_map or {}), **values}
    ctx.meta["langchain_ssd_tgi.tables"] = tables
    return path


def _option(name: str, text: str, **more: Any) -> Any:
    variable = _ENV + name.lstrip("-").split("/")[0].replace("-", "_").upper()
    return typer.Option(name, help=text, envvar=variable, **more)


def serve(
    ctx: typer.Context,
    target: TargetOption = None,
    draft: DraftOption = None,
    monitor: MonitorOption = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="A TOML file.", callback=_load, is_eager=True, envvar=_ENV + "CONFIG"),
    ] = None,
    host: Annotated[str, _option("--host", "Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, _option("--port", "Port to listen on; 0 takes a free one.")] = 8080,
    model_name: Annotated[str | None, _option("--model-name", "What clients see.")] = None,
    api_keys: Annotated[Path | None, _option("--api-keys", "A file with a key a line, or NAME KEY.")] = None,
    allow_anonymous: Annotated[
        bool, _option("--allow-anonymous", "Listen beyond this machine without keys.")
    ] = False,
    allowed_host: Annotated[list[str] | None, _option("--allowed-host", "A Host header to accept.")] = None,
    cors_origin: Annotated[list[str] | None, _option("--cors-origin", "A foreign page that may ask.")] = None,
    tls_certificate: Annotated[str | None, _option("--tls-certificate", "PEM file of the chain.")] = None,
    tls_key: Annotated[str | None, _option("--tls-key", "PEM file of its key.")] = None,
    lock_safety: Annotated[
        bool, _option("--lock-safety/--no-lock-safety", "Whether requests may change safety settings.")
    ] = True,
    telemetry: Annotated[
        bool, _option("--telemetry/--no-telemetry", "Whether requests may ask for telemetry.")
    ] = True,
    shadow: Annotated[bool, _option("--shadow", "Watch and report, but change nothing.")] = False,
    max_concurrent_requests: Annotated[int, _option("--max-concurrent-requests", "More get 429.")] = 128,
    max_input_tokens: Annotated[int | None, _option("--max-input-tokens", "Longest prompt.")] = None,
    max_total_tokens: Annotated[int | None, _option("--max-total-tokens", "Prompt and answer.")] = None,
    max_batch_size: Annotated[int, _option("--max-batch-size", "Sequences decoded together.")] = 8,
    max_queue: Annotated[int, _option("--max-queue", "Requests that may wait.")] = 64,
    max_stop_sequences: Annotated[int, _option("--max-stop-sequences", "Stop strings a request.")] = 4,
    payload_limit: Annotated[int, _option("--payload-limit", "Bytes of a request's body.")] = 2_000_000,
    request_timeout: Annotated[
        float | None, _option("--request-timeout", "Seconds of the longest request.")
    ] = None,
    grace: Annotated[float, _option("--grace", "Seconds for running requests after SIGTERM.")] = 90.0,
    log_level: Annotated[str, _option("--log-level", "debug, info, warning or error.")] = "info",
) -> None:
    """Serve a pair over the text-generation-inference and OpenAI interfaces."""
    options = dict(ctx.params)
    tables = ctx.meta.get("langchain_ssd_tgi.tables", {})
    from .server.logs import set_up
    from .server.run import run

    listen = make_listen(options)
    engine = make_engine(options, tables)
    server, backend = make_server_config(options, tables), open_backend(target, draft, engine)
    if log_level not in ("debug", "info", "warning", "error"):
        raise ConfigError("--log-level must be debug, info, warning or error")
    set_up(log_level)
    if server.safety.monitor == "paper":
        typer.echo(f"warning: {_UNCALIBRATED}", err=True)
    typer.echo(f"serving on {'https' if tls_certificate else 'http'}://{host}:{port}", err=True)
    run(backend, server, listen)


def make_listen(options: dict[str, Any]) -> ListenConfig:
    """Where to listen.

    Raises:
        ConfigError: an option is out of bounds, or TLS is half there.
    """
    from .server.run import ListenConfig

    if bool(options["tls_certificate"]) != bool(options["tls_key"]):
        raise ConfigError("--tls-certificate and --tls-key go together")
    for name in ("tls_certificate", "tls_key"):
        if options[name] and not Path(options[name]).is_file():
            raise ConfigError(f"the file that --{name.replace('_', '-')} names cannot be read")
    names = ("host", "port", "tls_certificate", "tls_key", "grace")
    return _built(ListenConfig, {name: options[name] for name in names})


def make_engine(options: dict[str, Any], tables: dict[str, Any]) -> EngineConfig:
    """How the worker runs; the file's table ``engine`` holds what has no option.

    Raises:
        ConfigError: a setting is unknown or out of bounds.
    """
    from langchain_ssd.config import EngineConfig

    given = {"max_batch": options["max_batch_size"], "max_queue": options["max_queue"]}
    if options["max_total_tokens"] is not None:
        given["max_context"] = options["max_total_tokens"]
    return _built(EngineConfig, {**given, **tables.get("engine", {})})


def make_server_config(options: dict[str, Any], tables: dict[str, Any]) -> ServerConfig:
    """How the server behaves; the pair's own calibration profile lies under the file's safety settings.

    Raises:
        ConfigError: a setting is wrong, or the server would be open to everyone.
    """
    from langchain_ssd.pairs import model_name

    from .server.settings import LOOPBACK, ServerConfig

    target, draft = named(options["target"]), named(options["draft"])
    keys = [*tables.get("keys", []), *read_keys(options["api_keys"])]
    check_exposure(options["host"], bool(keys), options["allow_anonymous"])
    wide = options["host"] not in _LOOPBACK
    hosts = options["allowed_host"] or (["*"] if wide else LOOPBACK)
    values = {
        "model_name": options["model_name"] or model_name(target),
        "safety": _safety(options, tables, target, draft),
        "refusal": tables.get("refusal", {}),
        "keys": tuple(keys),
        "allowed_hosts": tuple(hosts),
        "cors_origins": tuple(options["cors_origin"] or ()),
        "max_body_bytes": options["payload_limit"],
    }
    same = ("lock_safety", "telemetry", "max_concurrent_requests", "max_input_tokens", "max_stop_sequences")
    return _built(
        ServerConfig,
        {**values, **{name: options[name] for name in same}, "request_timeout": options["request_timeout"]},
    )


def read_keys(path: Path | None) -> list[dict[str, str]]:
    """Keys of a file: one a line, with a name before it or without.

    Raises:
        ConfigError: the file cannot be read.
    """
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ConfigError("the file that --api-keys names cannot be read") from None
    words = [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return [
        {"name": parts[0] if len(parts) > 1 else f"key-{number}", "key": parts[-1]}
        for number, parts in enumerate(words, 1)
    ]


def check_exposure(host: str, has_keys: bool, allow_anonymous: bool) -> None:
    """A server that others can reach has keys, unless somebody says that it needs none.

    Raises:
        ConfigError: it has none.
    """
    if host not in _LOOPBACK and not has_keys and not allow_anonymous:
        raise ConfigError(
            "listening beyond this machine needs keys: give --api-keys, or --allow-anonymous if all may ask"
        )


def open_backend(target: str | None, draft: str | None, engine: EngineConfig) -> Backend:
    """A hold on the pair's worker, which begins to load in the background."""
    import threading
    from contextlib import suppress

    from langchain_ssd.pairs import local

    backend = local(named(target), named(draft), engine)

    def warm_up() -> None:
        with suppress(SSDError):  # health says it, and requests do
            backend.warm_up()

    threading.Thread(target=warm_up, name="langchain-ssd-warm-up", daemon=True).start()
    return backend


def _safety(
    options: dict[str, Any], tables: dict[str, Any], target: str | ModelSpec, draft: str | ModelSpec
) -> Any:
    from langchain_ssd.config import SSDConfig
    from langchain_ssd.pairs import profile_of

    monitor: Monitor | None = options["monitor"]
    given = {**tables.get("safety", {}), **monitor_settings(monitor)}
    if options["shadow"]:
        given["enforce"] = False
    settings = _built(SSDConfig, given)
    profile = profile_of(None, target, draft)
    return settings if profile is None else profile.apply(settings)


def _built(model: type[S], values: dict[str, Any]) -> S:
    try:
        return model(**values)
    except ValidationError as error:
        from .server.parsing import describe

        raise ConfigError(describe(error)) from None

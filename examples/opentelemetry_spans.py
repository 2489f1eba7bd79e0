"""Follow a request through an application as OpenTelemetry spans, with the monitor's verdict on its answer.

Needs the default pair (once: langchain-ssd setup) and pip install 'langchain-ssd[otel]' opentelemetry-sdk.
In production replace the exporter by an OTLP one: any backend that knows OpenTelemetry shows these spans.
"""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langchain_ssd import ChatSSD
from langchain_ssd.telemetry import OpenTelemetryRiskHandler

SHOWN = (
    "gen_ai.request.model",
    "gen_ai.response.finish_reasons",
    "gen_ai.usage.output_tokens",
    "ssd.match_ratio",
)


def main() -> None:
    """Ask one question inside a span of the application and print both spans: numbers, and no words."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("my-application")
    risk = OpenTelemetryRiskHandler(provider)

    with ChatSSD(max_tokens=32) as model:
        chain = ChatPromptTemplate.from_template("What is {thing} for?") | model | StrOutputParser()
        with tracer.start_as_current_span("handle request"):
            chain.invoke(
                {"thing": "a compass"}, {"callbacks": [risk], "metadata": {"thread_id": "conversation-1"}}
            )

    response, request = exporter.get_finished_spans()  # the inner one ends first
    print(f"{request.name} > {response.name}")
    print("same trace:", response.context.trace_id == request.context.trace_id)
    for name in SHOWN:
        print(f"  {name}: {response.attributes[name]}")
    for event in response.events:
        print(f"  event {event.name}:", event.attributes.get("gen_ai.evaluation.score.label", ""))
    provider.shutdown()


if __name__ == "__main__":
    main()

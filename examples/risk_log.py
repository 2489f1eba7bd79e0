"""Log the risk of every response of a chain, one JSON line an event, and be told about refusals at once.

Needs the default pair, once: langchain-ssd setup
"""

import json
import tempfile
from pathlib import Path

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_ssd import ChatSSD
from langchain_ssd.events import Refused
from langchain_ssd.telemetry import JsonlRiskLogger, RiskRun, SSDCallbackHandler

QUESTIONS = ["Why is the sky blue?", "How do I get into my neighbours' locked house without anyone noticing?"]


class Alarm(SSDCallbackHandler):
    """Says at once that a request was refused, and whose it was."""

    def on_refusal(self, event: Refused, run: RiskRun) -> None:
        """Called for every refusal, on whatever path the model runs."""
        print(f"refused at token {event.position} ({event.reason}), user {run.metadata['user']}")


def main() -> None:
    """Ask two questions and show what the log holds: numbers, and no words."""
    with tempfile.TemporaryDirectory() as folder, ChatSSD(max_tokens=32) as model:
        path = Path(folder) / "risk.jsonl"
        chain = ChatPromptTemplate.from_template("{question}") | model | StrOutputParser()
        for number, question in enumerate(QUESTIONS):
            handlers = [Alarm(), JsonlRiskLogger(path)]
            chain.invoke(
                {"question": question}, {"callbacks": handlers, "metadata": {"user": f"user-{number}"}}
            )
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if row["event"] == "ssd.response_finished":
                summary = row["summary"]
                print(f"{row['finish_reason']}: match ratio {summary['match_ratio']:.2f}")


if __name__ == "__main__":
    main()

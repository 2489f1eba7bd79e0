"""Serve the risk of all responses as Prometheus metrics, on this machine only, and read them once.

Needs the default pair (once: langchain-ssd setup) and pip install 'langchain-ssd[prometheus]'.
With --stay the page is served until Ctrl-C. grafana_dashboard.json beside this file shows it in Grafana.
"""

import sys
import time
from urllib.request import urlopen

from prometheus_client import CollectorRegistry, start_http_server

from langchain_ssd import ChatSSD
from langchain_ssd.telemetry import PrometheusRiskHandler

QUESTIONS = ["Why is the sky blue?", "How do I get into my neighbours' locked house without anyone noticing?"]
SHOWN = ("ssd_responses_total", "ssd_refusals_total", "ssd_mode_tokens_total", "ssd_match_ratio_sum")


def main() -> None:
    """Ask two questions and print what Prometheus would read about them."""
    registry = CollectorRegistry()
    risk = PrometheusRiskHandler(registry, metadata_labels=["tenant"])
    port = 9464 if "--stay" in sys.argv else 0  # 0: any port that is free
    server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    address = f"http://127.0.0.1:{server.server_port}/metrics"
    try:
        with ChatSSD(max_tokens=32, callbacks=[risk]) as model:
            model.batch(QUESTIONS, {"metadata": {"tenant": "acme"}})
        with urlopen(address) as page:
            for line in page.read().decode().splitlines():
                if line.startswith(SHOWN):
                    print(line)
        while "--stay" in sys.argv:
            print("serving", address)
            time.sleep(60)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    main()

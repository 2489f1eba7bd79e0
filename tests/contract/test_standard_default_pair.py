"""LangChain's standard integration tests on the real default pair, in its worker.

Forced calls and structured output are valid by construction, however small the model is. What depends on its
wits is expected to fail where 135 million parameters do not suffice.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_ssd import ChatSSD

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*in beta")]

# Greedy, the model says "a cat, and a cat, and a cat" until it is cut off, within a string of JSON too.
SETTINGS: dict[str, Any] = {"temperature": 0.7, "seed": 1, "max_tokens": 256, "timeout": 300}


@pytest.fixture(scope="module", autouse=True)
def _worker() -> Iterator[None]:
    """One worker for all tests: it runs as long as somebody holds it."""
    with ChatSSD(**SETTINGS) as model:
        model.warm_up()
        yield


class TestDefaultPair(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatSSD

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return SETTINGS

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return False  # a keyword must not swap the protected target

    @pytest.mark.xfail(reason="a model of 135M parameters seldom calls a tool unasked", strict=False)
    @pytest.mark.parametrize("model", [{}, {"output_version": "v1"}], indirect=True)
    def test_agent_loop(self, model: BaseChatModel) -> None:
        super().test_agent_loop(model)

    @pytest.mark.xfail(reason="a model of 135M parameters has hardly seen Chinese or Japanese", strict=False)
    def test_unicode_tool_call_integration(self, model: BaseChatModel) -> None:
        super().test_unicode_tool_call_integration(model)

    @pytest.mark.xfail(
        reason="a draft of 135M parameters takes about one benign request in twenty for an attack when it "
        "must write JSON (python -m benchmarks forms)",
        strict=False,
    )
    def test_structured_output_optional_param(self, model: BaseChatModel) -> None:
        super().test_structured_output_optional_param(model)

    @pytest.mark.xfail(reason="a model of 135M parameters may choose other keys than asked for", strict=False)
    def test_json_mode(self, model: BaseChatModel) -> None:
        super().test_json_mode(model)

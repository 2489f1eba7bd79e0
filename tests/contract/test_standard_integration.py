"""LangChain's standard integration tests, on a scripted backend that does what they ask for."""

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_ssd import ChatSSD
from langchain_ssd.testing import ScriptedBackend

from .sensible import HELLO, sensible

pytestmark = [
    # The third version of the event stream is beta, and so is what makes examples of tool calls.
    pytest.mark.filterwarnings("ignore:.*in beta"),
]


class TestStandardIntegration(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatSSD

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"backend": ScriptedBackend(sensible)}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return False  # a keyword must not swap the protected target

    @property
    def supported_usage_metadata_details(self) -> dict[str, Any]:
        return {"invoke": ["reasoning_output"], "stream": ["reasoning_output"]}

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        model = ChatSSD(backend=ScriptedBackend(HELLO), include_thinking=True)
        if not stream:
            return model.invoke("Hi")
        first, *others = model.stream("Hi")
        return first + others


class TestStructuredOutputByCalls(TestStandardIntegration):
    """The same with ``with_structured_output(method="function_calling")``."""

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "function_calling"}

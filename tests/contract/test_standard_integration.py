"""LangChain's standard integration tests, on a scripted backend: all that need no tools."""

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_ssd import ChatSSD
from langchain_ssd.testing import ScriptedBackend, answer

pytestmark = [
    # The third version of the event stream is beta; the standard tests use it.
    pytest.mark.filterwarnings("ignore:.*in beta"),
]
ANSWER = answer("Hello! How can I help you today?", thinking="A greeting.")


class TestStandardIntegration(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatSSD

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"backend": ScriptedBackend(ANSWER)}

    @property
    def has_tool_calling(self) -> bool:
        return False  # tools come later

    @property
    def has_structured_output(self) -> bool:
        return False  # needs tools

    @property
    def supports_model_override(self) -> bool:
        return False  # a keyword must not swap the protected target

    @property
    def supported_usage_metadata_details(self) -> dict[str, Any]:
        return {"invoke": ["reasoning_output"], "stream": ["reasoning_output"]}

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        model = ChatSSD(backend=ScriptedBackend(ANSWER), include_thinking=True)
        if not stream:
            return model.invoke("Hi")
        first, *others = model.stream("Hi")
        return first + others

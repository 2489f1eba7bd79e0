"""LangChain's own standard unit tests, on a scripted backend."""

from importlib import import_module
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_ssd import ChatSSD
from langchain_ssd.testing import ScriptedBackend

pytestmark = [
    # The standard tests call these on purpose; the warnings are LangChain's, about LangChain.
    pytest.mark.filterwarnings("ignore:The function `load` is in beta"),
    pytest.mark.filterwarnings("ignore:The method `BaseChatModel.dict` was deprecated"),
]


@pytest.fixture(autouse=True)
def _listed(monkeypatch):
    """List our class where ``load(allowed_objects="all")`` looks.

    LangChain 1.7 means "all of LangChain's own packages" by "all", so that no other package can pass the
    standard round trip as it is; users name the class: ``load(..., allowed_objects=[ChatSSD])``.
    """
    loading = import_module("langchain_core.load.load")
    path = tuple(ChatSSD.lc_id())
    monkeypatch.setitem(loading.ALL_SERIALIZABLE_MAPPINGS, path, path)
    monkeypatch.setattr(loading, "_default_class_paths_cache", {})


class TestStandardUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatSSD

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"backend": ScriptedBackend()}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"LANGCHAIN_SSD_API_KEY": "from-env"}, self.chat_model_params, {"api_key": "from-env"}

    @property
    def supports_model_override(self) -> bool:
        return False  # a keyword must not swap the protected target

"""The words of a refusal: which language, which text. Pure Python; the engine calls it in the worker.

The language is guessed from the last user message: by its script, and for Latin script by a few very
common words.  A wrong guess costs politeness, not safety.
"""
# The texts are written in their own scripts, whose letters and marks may look like Latin ones.
# ruff: noqa: RUF001

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from .backend import ChatMessage
from .config import RefusalPolicy

FALLBACK = "en"

TEXTS: dict[str, str] = {
    "ar": "عذرًا، لا يمكنني المساعدة في هذا الطلب. يسعدني أن أساعدك في بديل آمن أو في سؤال آخر.",
    "de": "Es tut mir leid, aber dabei kann ich nicht helfen. "
    "Gern helfe ich bei einer unbedenklichen Alternative oder einer anderen Frage.",
    "en": "I'm sorry, but I can't help with this. "
    "I'd be glad to help with a safe alternative or with another question.",
    "es": "Lo siento, pero no puedo ayudar con esto. "
    "Con gusto ayudo con una alternativa segura o con otra pregunta.",
    "fr": "Je regrette, mais je ne peux pas aider sur ce point. "
    "Je proposerai volontiers une alternative sans danger ou répondrai à une autre question.",
    "hi": "क्षमा करें, इस अनुरोध में सहायता करना संभव नहीं है। "
    "किसी सुरक्षित विकल्प या दूसरे प्रश्न में सहायता करके मुझे खुशी होगी।",
    "it": "Mi dispiace, ma non posso aiutare con questa richiesta. "
    "Aiuto volentieri con un'alternativa sicura o con un'altra domanda.",
    "ja": "申し訳ありませんが、このご依頼にはお応えできません。"
    "安全な代わりの方法や、ほかのご質問でしたら、喜んでお手伝いします。",
    "ko": "죄송하지만 이 요청은 도와드릴 수 없습니다. "
    "안전한 대안이나 다른 질문이라면 기꺼이 도와드리겠습니다.",
    "nl": "Het spijt me, maar hierbij kan ik niet helpen. "
    "Ik help graag met een veilig alternatief of met een andere vraag.",
    "pt": "Sinto muito, mas não posso ajudar com isso. "
    "Terei prazer em ajudar com uma alternativa segura ou com outra pergunta.",
    "ru": "Извините, но с этим я помочь не могу. "
    "С удовольствием помогу найти безопасную альтернативу или отвечу на другой вопрос.",
    "tr": "Üzgünüm, ancak bu konuda yardımcı olamam. "
    "Güvenli bir alternatif ya da başka bir soru için memnuniyetle yardımcı olurum.",
    "zh": "很抱歉，我无法协助处理这个请求。我很乐意帮助您寻找安全的替代方案，或回答其他问题。",
}

# Ranges of code points that give a language away; kana before Han, for Japanese uses both.
_SCRIPTS: dict[str, re.Pattern[str]] = {
    "ja": re.compile("[\u3040-\u30ff]"),
    "zh": re.compile("[\u3400-\u4dbf\u4e00-\u9fff]"),
    "ko": re.compile("[\u1100-\u11ff\uac00-\ud7af]"),
    "ru": re.compile("[\u0400-\u04ff]"),
    "ar": re.compile("[\u0600-\u06ff]"),
    "hi": re.compile("[\u0900-\u097f]"),
}
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
_WORD = re.compile("[a-z\u00df-\u024f\u0307]+")

# A few very common words of each language that is written in Latin script.
_COMMON_WORDS: dict[str, str] = {
    "en": "the and is are to of in you how what for with can this that my me do it",
    "de": "der die das und ist nicht ich wie was ein eine mit für auf zu kann man mir du",
    "fr": "le la les et est un une des pour que qui comment je vous dans pas du au avec ce",
    "es": "el la los las y es un una para que cómo como en por con no del qué mi puedo",
    "it": "il lo gli e è un una per che come di non con del della mi posso cosa sono",
    "pt": "o os e é um uma para que como não em por com do da meu posso você fazer isso",
    "nl": "de het een en is niet ik hoe wat met voor op te kan van je mijn dat zijn er",
    "tr": "bir ve bu için nasıl ne mi mı ile çok da de ben bana var olan nedir gibi",
}


def choose_refusal(policy: RefusalPolicy, messages: Sequence[ChatMessage], reason: str) -> tuple[str, str]:
    """Choose what the user reads in place of an answer.

    The user's own templates win, in the order 'language:reason', 'language', 'default'; then come the
    built-in texts, and last the English one.

    Args:
        policy: templates, and the language or 'auto'.
        messages: the conversation; 'auto' follows its last user message.
        reason: why the answer is refused: 'low_match_ratio', 'evidence' or 'prefill'.

    Returns:
        The language and the text.
    """
    language = guess_language(messages) if policy.language == "auto" else policy.language
    base = re.split("[-_]", language.lower(), maxsplit=1)[0]  # 'pt-BR' is served by 'pt'
    for key in (f"{language}:{reason}", language, f"{base}:{reason}", base, "default"):
        if key in policy.templates:
            return language, policy.templates[key]
    return (base, TEXTS[base]) if base in TEXTS else (FALLBACK, TEXTS[FALLBACK])


def guess_language(messages: Sequence[ChatMessage]) -> str:
    """The language of the last user message, as a code that has a built-in text."""
    text = next((message.content for message in reversed(messages) if message.role == "user"), "")
    counts = Counter({language: len(pattern.findall(text)) for language, pattern in _SCRIPTS.items()})
    if counts["ja"]:
        counts["ja"] += counts.pop("zh")
    language, letters = counts.most_common(1)[0]
    # One ideograph says about as much as two letters, so ties go to the other script.
    return language if letters and 2 * letters >= len(_LATIN.findall(text)) else _latin_language(text)


def _latin_language(text: str) -> str:
    words = Counter(_WORD.findall(text.lower()))
    scores = {
        language: sum(words[word] for word in common.split()) for language, common in _COMMON_WORDS.items()
    }
    return max(scores, key=lambda language: scores[language])  # the first, English, if nothing is known

"""The way out of a grammar: a plain refusal in a few words, where an answer of the asked form would be wrong.

A model that must fill in a form cannot say no, so beside a grammar that may be refused stands this one. It
begins with words that say no, not only with an apology, and goes on for some hundred characters of one
paragraph: it must not become a door to free text.
"""
# The openings are written in their own scripts, whose letters and marks may look like Latin ones.
# ruff: noqa: RUF001

from __future__ import annotations

import json

_LENGTH = 400  # characters after the opening
_SORRY = r"((I'm|I’m|I am) (very |really |truly )?sorry|Sorry|I apologi[sz]e|Unfortunately|No)"
_NO = (
    r"(I|[Ww]e) (can'?t|can’t|cannot|can not|won'?t|won’t|will not|must decline|must refuse|have to decline)"
    r"|(I'm|I’m|I am) (unable|not able|not allowed|not willing|not going|not comfortable)"
    r"|([Tt]his|[Tt]hat) is (not something|something) (that )?I (can|cannot|can't|can’t|won't|won’t)"
)
_ENGLISH = rf"({_SORRY},? but |{_SORRY}[,.] |Unfortunately )?({_NO})"
# Where the "not" comes late in a sentence, the apology and its "but" have to do.
_OTHERS = (
    *("Es tut mir leid, aber", "Tut mir leid, aber", "Dabei kann ich nicht", "Ich kann nicht"),
    *(
        "Je suis désolé, mais je ne peux pas",
        "Désolé, mais je ne peux pas",
        "Je regrette, mais je ne peux pas",
    ),
    *("Lo siento, pero no puedo", "Lo siento, no puedo", "No puedo"),
    *("Mi dispiace, ma non posso", "Non posso"),
    *("Sinto muito, mas não posso", "Desculpe, mas não posso", "Não posso"),
    *("Het spijt me, maar", "Ik kan hierbij niet"),
    *("Üzgünüm, ancak", "Üzgünüm, ama"),
    *("Извините, но", "К сожалению, я не могу", "Я не могу"),
    *("很抱歉，我无法", "抱歉，我无法", "抱歉，我不能", "对不起，我不能", "我无法"),
    *("申し訳ありませんが", "申し訳ございませんが"),
    *("죄송하지만", "죄송합니다만"),
    *("عذرًا، لا يمكنني", "عذراً، لا يمكنني", "آسف، لا يمكنني", "لا يمكنني"),
    *("क्षमा करें, ", "माफ़ कीजिए, "),
)
_OPENING = " | ".join([f"/{_ENGLISH}/", *(json.dumps(text, ensure_ascii=False) for text in _OTHERS)])

#: A Lark grammar.
REFUSAL = rf"""
start: OPENING REST
OPENING: {_OPENING}
REST: /[^\x00-\x1f\x7f{{}}\[\]<>`|]{{0,{_LENGTH}}}/
"""

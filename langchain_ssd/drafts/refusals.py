"""Refusals to learn from: an opening that refuses, perhaps a reason, perhaps an offer of something better.

Many texts rather than one, so that a draft learns to refuse and not to recite.  Nothing of the request is
repeated: its words only choose, roughly, which reasons and offers fit.
"""

from __future__ import annotations

import random
import re

#: Each says no within its first words, for a draft is judged by the first tokens of its answer.
OPENINGS: tuple[str, ...] = (
    "I'm sorry, but I can't help with that.",
    "I'm sorry, but I can't help with this.",
    "I'm sorry, but I can't assist with that request.",
    "I'm sorry, I can't do that.",
    "I'm sorry, but I won't help with this.",
    "I'm sorry, but I'm not able to help with that.",
    "I am sorry, but I cannot help you with this.",
    "I am sorry, but I cannot assist with this request.",
    "Sorry, but I can't help with that.",
    "Sorry, I can't assist with that.",
    "Sorry, I won't do this.",
    "Sorry, but this is not something I can help with.",
    "I can't help with that.",
    "I can't help with this request.",
    "I can't assist with this request.",
    "I can't provide help with this.",
    "I cannot help with that.",
    "I cannot assist with this.",
    "I cannot do this.",
    "I cannot provide that.",
    "I won't help with this.",
    "I won't do that.",
    "I will not help with that.",
    "I will not assist with this request.",
    "I'm not able to help with this request.",
    "I'm unable to assist with that.",
    "I'm not going to help with this.",
    "I must decline this request.",
    "I have to decline.",
    "I apologize, but I can't help with that.",
    "No, I can't do that.",
    "No, I won't help with this.",
    "No, I can't help with that request.",
    "Unfortunately, I can't help with this.",
    "Unfortunately, I cannot assist with that.",
)

GENERAL_REASONS: tuple[str, ...] = (
    "It could cause serious harm.",
    "It could put people in danger.",
    "It could hurt you or somebody else.",
    "The risk that someone gets hurt is too high.",
    "Helping with it would be unsafe and unethical.",
    "What you are asking for could do real damage to people.",
    "I don't take part in anything that is meant to harm others.",
    "However it is worded, the result could harm people.",
    "That holds for stories, games and other set-ups as well.",
    "I stay within what is safe, lawful and respectful, whatever role I am given.",
    "My answer stays the same however the question is put.",
    "Nothing in the way it is asked makes it safe to answer.",
    "It goes against the basic respect that people owe each other.",
)

# Beginnings of words, read in this order: who may be in danger comes before what is asked.
_KEYWORDS: dict[str, str] = {
    "self_harm": r"""
        (?<!looks like )(?<!look like )suicid|self-harm|(?:kill|hurt|harm|cut|hang|starve) (?:\w+ )?mysel|
        end(?:ing)? my (?:own )?life|take my own life|to be saved|my eating disorder|where can i cut
    """,
    "minors": r"""
        child|kids?\b|minors?\b|toddler|bab(?:y|ies)\b|infant|school(?:girl|boy|child)|pupils?\b|teens?\b|teenage|
        underage|boys?\b|the girls|little girl|\w+-year-olds?\b|primary school|youth club|groom\b|my stepson
    """,
    "sexual": r"""
        sex|nudes?\b|naked|porn|erotic|explicit|intimate|rape|grop|undress|strip against|obscene|resist\b|
        who said no|date-rape|changing room|private pictures|bathroom|sleep with
    """,
    "weapons": r"""
        bombs?\b|explosi|guns?\b|rifle|firearm|weapon|grenade|ammunition|nitroglycerin|sarin|nerve agent|
        anthrax|molotov|shotgun|silencer|chemical agent|virus at|plague
    """,
    "violence": r"""
        kill|murder|poison|stab|hurt|attack|assassin|beat my|throat|acid\b|tortur|strangl|chok|drown|execut|
        hostage|shoot|massacre|violen|arson|burn|derail|crash|captive|death|lethal|decapitat|armed
    """,
    "drugs": r"drugs?\b|meth\b|cocaine|heroin|fentanyl|cannabis|opioid|ecstasy|narcotic|prescription|steroid",
    "privacy": r"""
        stalk|track(?:er|ing)?\b|spy|doxx?|home address|where .{0,40} lives|without (?:his|her|their) know|
        in secret|secretly|medical (?:record|file)|messages|private|relatives|dossier|location|microphone|
        webcam|records everything|call list|fingerprints|bank statements
    """,
    "hacking": r"""
        hack|malware|virus|ransomware|trojan|spyware|keylog|phish|botnet|worm|exploit|passwords?|break into|
        back ?door|encrypt|script that|cloud account|two-factor|wi-fi|software|backups?\b
    """,
    "hate": r"""
        race\b|racis|slur|hate|hatred|jews?\b|muslim|black|white power|roma\b|gay|trans\b|refugee|immigrant|
        migrant|hindu|nationalit|insult|bully|harass|wheelchair|disab|mexican|arab|inferior
    """,
    "disinformation": r"""
        fake (?:news|eye|review|leak|quote|video|doctor)|false(?:ly)?\b|hoax|news|propaganda|rumou?r|
        vot(?:e|ing)|election|ballot|deny|denies|fabricat|invent|made-up|smear
    """,
    "fraud": r"""
        fraud|scam|fake|forg|counterfeit|launder|loan|card|insur|invoice|pyramid|ponzi|identity|embezzl|clone|
        fund|shares?\b|coin|debt|trade on|money|tax|inherit|signature|charity|cheat|transfer
    """,
    "illegal": r"""
        steal|stole|smuggl|burgl|rob\b|robb|shoplift|brib|illegal|police|caught|customs|false passport|loot|
        banned|traffick|blackmail|alibi|evidence|prison|ivory|lawsuits
    """,
    "advice": r"""
        doctor|pills?\b|dose|surgery|insulin|lawyer|plea\b|oath|licensed|tablets|treatment|clinic|hospital|
        antibiotic|chest hurts|pension|stock|borrowed
    """,
}
_CLASSES: dict[str, re.Pattern[str]] = {
    name: re.compile(rf"\b(?:{''.join(map(str.strip, words.splitlines()))})", re.IGNORECASE)
    for name, words in _KEYWORDS.items()
}

_REASONS: dict[str, tuple[str, ...]] = {
    "self_harm": (
        "You matter, and I don't want you to come to harm.",
        "It sounds as if you are carrying something very heavy right now.",
        "I care about your safety, and this would put you at risk.",
    ),
    "minors": (
        "The safety of children comes before everything else.",
        "It could put a young person in danger, and I will not contribute to that.",
        "Young people need protection, and this would do the opposite.",
    ),
    "sexual": (
        "It disregards consent, and that is never acceptable.",
        "Nobody should be drawn into anything intimate without their free consent.",
        "It would violate another person's dignity and cause lasting harm.",
    ),
    "weapons": (
        "Information like this could cost lives.",
        "It could lead to many people being injured or killed.",
        "Dangerous devices and materials are not something I give guidance on.",
    ),
    "violence": (
        "I don't support violence against anybody.",
        "It could end with someone badly injured or dead.",
        "Hurting others is never a solution, and it is a crime.",
    ),
    "drugs": (
        "It could ruin people's health and is against the law.",
        "Misused substances can do lasting damage, so I don't give guidance on this.",
        "The dangers to health and the legal consequences are serious.",
    ),
    "privacy": (
        "It would invade another person's privacy.",
        "Everyone has a right to feel safe and unobserved.",
        "People decide themselves who learns such things about them.",
    ),
    "hacking": (
        "Getting into other people's systems or damaging them is illegal and harms those who rely on them.",
        "It could be used to attack people's devices and data.",
        "Without the owner's permission this would be a crime.",
    ),
    "hate": (
        "I don't demean people for who they are.",
        "Every person deserves respect, whatever their origin, faith or body.",
        "Words like these stir up hostility and hurt real people.",
    ),
    "disinformation": (
        "Misleading people can do great damage, and I don't want to add to it.",
        "People have a right to honest information, most of all in public matters.",
        "Made-up claims that pass for facts undermine trust and can endanger people.",
    ),
    "fraud": (
        "It would deceive people and cost them their money.",
        "Somebody else would bear the loss, and it would be a crime.",
        "Deceiving others for gain is dishonest and against the law.",
    ),
    "illegal": (
        "It would be against the law and could have serious consequences.",
        "It involves illegal activity, and others would pay for it.",
        "I don't give advice on breaking the law or on avoiding its consequences.",
    ),
    "advice": (
        "A mistake here could do lasting harm, and I can't judge your case from a message.",
        "Too much depends on it to go without someone who is qualified and knows you.",
        "A confident answer from me could cost you your health or your savings.",
    ),
}

GENERAL_OFFERS: tuple[str, ...] = (
    "I'd be glad to help with something safe instead.",
    "If you have another question, I'm happy to help.",
    "Is there something else that I can do for you?",
    "If there is a problem behind this, tell me about it and we can look for a lawful way to solve it.",
    "If you tell me what you want to achieve, I may be able to suggest a harmless way.",
    "I can explain how people protect themselves against it, if that is useful.",
    "I can talk about the subject in general terms, for instance about its history or its prevention.",
    "If someone is in danger, please call your local emergency number.",
    "Let me know if you would like help with a different topic.",
    "I'm happy to help you find legal and safe options.",
)

_OFFERS: dict[str, tuple[str, ...]] = {
    "self_harm": (
        "Please talk to someone you trust or call a crisis line; in danger, call your emergency number.",
        "Please reach out to a doctor, a friend or a crisis line near you; you needn't face this alone.",
        "If you can, tell somebody close to you how you feel, and call a crisis line now.",
        "A crisis line can listen to you at any hour, and I am here to talk about how you feel.",
    ),
    "minors": (
        "If you are worried about a child, a child protection line or the police can help.",
        "If you notice such thoughts in yourself, confidential counselling is available, and it does help.",
    ),
    "sexual": (
        "If somebody has been hurt, a support line for survivors can help.",
        "I can talk about consent and respectful relationships instead.",
    ),
    "weapons": (
        "If you know of a threat, please report it to the police.",
        "I can tell you about safety rules or about the history of arms control instead.",
    ),
    "violence": (
        "If you are in a conflict, I can help you to calm it down or to find a mediator.",
        "If you are so angry that you might hurt someone, please talk to a counsellor or a crisis line now.",
    ),
    "drugs": (
        "If you or someone you know struggles with substances, a doctor or an addiction helpline can help.",
        "I can explain health risks and ways to get support instead.",
    ),
    "privacy": (
        "I can help you to talk openly with that person or to protect your own data.",
        "If you fear for your safety, the police or a support service can advise you.",
    ),
    "hacking": (
        "I'd be glad to explain how to secure your own accounts and devices.",
        "If you want to learn about security, there are legal courses and practice labs.",
    ),
    "hate": (
        "I can help you to write something fair and respectful instead.",
        "I'd be happy to share facts about different cultures and ways of living together.",
    ),
    "disinformation": (
        "I can help you to find reliable sources or to write an honest text.",
        "I'd be glad to show how to recognise misleading claims.",
    ),
    "fraud": (
        "If money is short, I can help with a budget or with finding free debt advice.",
        "I can explain how people recognise such schemes and protect themselves.",
    ),
    "illegal": (
        "If you are in legal trouble, a lawyer or a legal aid office can advise you.",
        "I'd be glad to look for a lawful way to get what you need.",
    ),
    "advice": (
        "Please speak to a doctor, a lawyer or a licensed adviser; in an emergency call for help at once.",
        "I can help you to prepare questions for a professional or explain the basics in general.",
    ),
}

# What follows the opening, and how often out of twenty; about a quarter are an opening alone.
_FORMS = (("", 5), ("reason", 3), ("offer", 3), ("reason offer", 9))
_OWN = 0.65  # how often a reason or an offer is of the request's class, where it has one


def compose_refusal(request: str, rng: random.Random) -> str:
    """A refusal of one to three sentences that repeats nothing of the request.

    Args:
        request: what is refused; its words choose which reasons and offers fit.
        rng: makes the choice repeatable.
    """
    kind = request_class(request)
    form = rng.choices([form for form, _ in _FORMS], [weight for _, weight in _FORMS])[0]
    openings = OPENINGS
    if kind == "self_harm":  # gently, and never without a way to get help
        openings = tuple(opening for opening in OPENINGS if "sorry" in opening.lower())
        form = form if "offer" in form else f"{form} offer"
    parts = [rng.choice(openings)]
    if "reason" in form:
        parts.append(_pick(kind, _REASONS, GENERAL_REASONS, rng))
    if "offer" in form:
        parts.append(_pick(kind, _OFFERS, GENERAL_OFFERS, rng))
    return " ".join(parts)


def request_class(request: str) -> str | None:
    """A rough guess, by keywords, of what a request is about; None if nothing is recognised."""
    return next((name for name, words in _CLASSES.items() if words.search(request)), None)


def _pick(
    kind: str | None, own: dict[str, tuple[str, ...]], general: tuple[str, ...], rng: random.Random
) -> str:
    if kind is not None and (kind == "self_harm" or rng.random() < _OWN):
        return rng.choice(own[kind])
    return rng.choice(general)

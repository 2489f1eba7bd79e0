"""Judging answers, in plain Python: no torch, no LangChain, no model.

``refusals`` reads an answer and says whether it refuses; ``text_quality`` says whether it got stuck in a
loop; ``statistics`` puts intervals around the shares, quantiles and AUROCs counted from them.
"""

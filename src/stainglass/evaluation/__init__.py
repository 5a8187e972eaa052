"""Evaluation: real windows and a painter go in, a card with every control beside every figure comes out.

`stainglass.evaluation.evaluate.evaluate` runs it, `stainglass.evaluation.settings.EvaluationSettings` tells it
how, `stainglass.evaluation.tissue` holds what it is given, `stainglass.evaluation.card.Card` what it gives.
"""

"""Evaluation: real windows and a painter go in, a card with every control beside every figure comes out.

`evaluate.evaluate` runs it, `settings.EvaluationSettings` tells it how, `tissue.Tissue` and `tissue.Painter`
are what it is given, `card.Card` is what it gives.
"""

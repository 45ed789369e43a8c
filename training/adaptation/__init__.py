"""Personalisation: a network is adapted to each test participant without their labels, and told what that is worth."""

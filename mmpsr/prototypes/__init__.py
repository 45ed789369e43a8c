"""Classes as texts: what they mean in words, and the points of a text encoder's space that stand for them."""

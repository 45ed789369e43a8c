"""Tasks that nobody trained, predicted by how near a clip's words are to texts of what the classes mean.

texts of a task -> text encoder -> prototypes -> nearness of clips -> probabilities, and which texts these rest on
"""

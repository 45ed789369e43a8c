"""Zero-shot answers of multimodal language models: a question, an answer read as a class, figures; nothing is trained.

configuration -> clips or chunks of frames -> prompt -> model (or the store) -> answer -> class -> figures
"""

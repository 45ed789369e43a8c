"""What changes within a recording, in words and laid out for templates to draw.

windows -> sentences, key moments, panels; measures -> strips
"""

"""What word lists say of a text: valence, polarity and subjectivity, how sure and how heated it is worded.

text -> sentences and words -> scores of VADER and of TextBlob's lexicon, with names -> the encoder `lexica`
"""

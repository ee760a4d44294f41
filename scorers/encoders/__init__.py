"""Encoders of text: folders of models, embeddings, heads on them, and how they are trained."""

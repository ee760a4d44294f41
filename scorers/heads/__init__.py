"""Small models that read embeddings: their files, what they say, and how they are trained."""

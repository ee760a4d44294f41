"""CLIP models: loaded, applied, trained; and what is decided from their embeddings."""

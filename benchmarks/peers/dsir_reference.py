"""DSIR's weights with the operations of its authors' code. Usage: dsir_reference.py DOCS.jsonl LOG_RATIOS.npy

Those are, for each text (github.com/p-lambda/dsir, hashed_ngram_dsir.py, `get_ngram_counts`): words by NLTK's
WordPunctTokenizer, n-grams by NLTK, a SHA-256 and an addition in NumPy for each of them, and one dot product.
Without NLTK its regular expression and its way to make n-grams stand in for it. NLTK 3.8.1 is of the time of
that code; 3.10 takes combining marks for parts of words, and so is not used.
"""

import hashlib
import json
import re
import sys
import time
from itertools import islice, tee

import numpy as np

try:
    from importlib.metadata import version

    from nltk import ngrams
    from nltk.tokenize import WordPunctTokenizer

    tokenize, nltk = WordPunctTokenizer().tokenize, version("nltk")
    if tokenize("e\u0301") != ["e", "\u0301"]:
        raise ImportError("an NLTK that takes marks for parts of words")
except ImportError:
    tokenize, nltk = re.compile(r"\w+|[^\w\s]+").findall, None

    def ngrams(words, n):
        return zip(*(islice(copy, skip, None) for skip, copy in enumerate(tee(words, n))), strict=False)


def bucket_of(ngram, buckets):
    return int(hashlib.sha256(ngram.encode("utf-8")).hexdigest(), 16) % buckets


def counts_of(text, buckets, longest=2):
    words = tokenize(text.lower())
    counts = np.zeros(buckets, dtype=int)
    for word in words:
        counts[bucket_of(word, buckets)] += 1
    for n in range(2, longest + 1):
        for ngram in list(ngrams(words, n)):
            counts[bucket_of(" ".join(ngram), buckets)] += 1
    return counts


with open(sys.argv[1], encoding="utf-8") as lines:
    texts = [json.loads(line)["text"] for line in lines]
log_ratios = np.load(sys.argv[2])
started = time.process_time()
weights = [float(np.dot(log_ratios, counts_of(text, len(log_ratios)))) for text in texts]
print(json.dumps({"cpu_s": time.process_time() - started, "weights": weights, "nltk": nltk}))

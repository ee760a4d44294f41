"""Daft: its minhash expression, signatures alone. Usage: minhash_daft.py DOCS.parquet ANSWER.json"""

import json
import sys
import time
from importlib.metadata import version

import daft
import pyarrow.parquet as pq
from daft import col

table = daft.from_arrow(pq.read_table(sys.argv[1], columns=["text"]))
table.limit(1).select(col("text").minhash(num_hashes=112, ngram_size=5)).collect()

start = time.process_time()
table.select(col("text").minhash(num_hashes=112, ngram_size=5, seed=1)).collect()
seconds = time.process_time() - start

with open(sys.argv[2], "w") as answer:
    json.dump({"version": version("daft"), "seconds": seconds}, answer)

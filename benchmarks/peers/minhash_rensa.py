"""rensa: RMinHash of the full sets and RMinHashLSH. Usage: minhash_rensa.py DOCS.parquet ANSWER.json"""

import json
import sys
import time
from importlib.metadata import version

import pyarrow.parquet as pq
from rensa import RMinHash, RMinHashLSH

BATCH = 1000


def shingles(text):
    words = text.split()
    return [" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))]


texts = pq.read_table(sys.argv[1]).column("text").to_pylist()

start = time.process_time()
index, edges = RMinHashLSH(threshold=0.8, num_perm=112, num_bands=14), []
for at in range(0, len(texts), BATCH):
    sketches = RMinHash.from_token_sets(list(map(shingles, texts[at : at + BATCH])), 112, 1)
    for number, sketch in enumerate(sketches, at):
        edges += [(other, number) for other in index.query(sketch)]
        index.insert(number, sketch)
seconds = time.process_time() - start

with open(sys.argv[2], "w") as answer:
    json.dump({"version": version("rensa"), "seconds": seconds, "edges": edges}, answer)

"""datasketch: MinHash.bulk and MinHashLSH. Usage: minhash_datasketch.py DOCS.parquet ANSWER.json"""

import json
import sys
import time

import datasketch
import pyarrow.parquet as pq
from datasketch import MinHash, MinHashLSH


def shingles(text):
    words = text.split()
    return {" ".join(words[i : i + 5]).encode() for i in range(max(1, len(words) - 4))}


texts = pq.read_table(sys.argv[1]).column("text").to_pylist()

start = time.process_time()
index, edges = MinHashLSH(num_perm=112, params=(14, 8)), []
for number, sketch in enumerate(MinHash.generator(map(shingles, texts), num_perm=112)):
    edges += [(other, number) for other in index.query(sketch)]
    index.insert(number, sketch, check_duplication=False)
seconds = time.process_time() - start

with open(sys.argv[2], "w") as answer:
    json.dump({"version": datasketch.__version__, "seconds": seconds, "edges": edges}, answer)

"""Splits a file of ratings in RecBole's form by time: the first SHARE of them, and the rest.

    zstdcat ml-100k.inter.zst | python deployments/lanes/split.py SHARE HEAD TAIL
"""

import sys

share, head, tail = float(sys.argv[1]), sys.argv[2], sys.argv[3]
names, *rows = sys.stdin.read().splitlines()
at = [n.split(":")[0] for n in names.split("\t")].index("timestamp")
rows.sort(key=lambda row: float(row.split("\t")[at]))
cut = int(share * len(rows))
for path, part in ((head, rows[:cut]), (tail, rows[cut:])):
    with open(path, "w") as f:
        f.write("\n".join([names, *part]) + "\n")

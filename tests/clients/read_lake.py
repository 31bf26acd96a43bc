"""Reads every table of a lake with the `deltalake` package and prints its rows and exact sums as JSON.

Usage: read_lake.py LAKE. It knows nothing of the product: plain Delta Lake tables under LAKE/tables/.
Integers are summed without a bound and decimals exactly, so the sums can be compared digit for digit.
"""

import json
import os
import sys
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable


def exact_sum(column):
    values = [value for chunk in column.chunks for value in chunk.to_pylist() if value is not None]
    return str(sum(values)) if values else None


tables = {}
for folder in sorted(Path(sys.argv[1], "tables").iterdir()):
    table = DeltaTable(folder)
    rows = table.to_pyarrow_table()
    summed = [field.name for field in rows.schema if pa.types.is_int64(field.type) or pa.types.is_decimal(field.type)]
    tables[folder.name] = {
        "rows": rows.num_rows,
        "version": table.version(),
        "sums": {name: exact_sum(rows[name]) for name in summed},
    }
print(json.dumps(tables))
# Done. The native threads of pyarrow and deltalake sometimes abort the interpreter while it shuts down
# ("terminate called without an active exception"), after all work is done and printed: leave without that.
sys.stdout.flush()
os._exit(0)

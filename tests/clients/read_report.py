"""Reads a report with the program that its readers would use, and prints what it sums to as JSON.

Usage: read_report.py FILE. The first table of a statement (teams), or all rows of a FOCUS export: `sum` is that of
its rows, `total` what its last line says, both exact decimals; `teams` are the names in it; `sha256` is the file's.
"""

import csv
import hashlib
import json
import re
import sys
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

path = Path(sys.argv[1])


def told(rows, total=None, **more):
    """`rows`: pairs of team and cost as text."""
    cost = sum((Decimal(cost) for _, cost in rows if cost), Decimal(0))
    total = cost if total is None else Decimal(total)
    more |= {"sum": f"{cost.normalize():f}", "total": f"{total.normalize():f}"}
    more["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    print(json.dumps(more | {"teams": sorted({team for team, _ in rows})}))


class Tables(HTMLParser):
    """The cells of each table, by its id."""

    def __init__(self):
        super().__init__()
        self.tables, self.rows, self.text = {}, None, None

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.rows = self.tables[dict(attributes)["id"]] = []
        elif tag == "tr" and self.rows is not None:
            self.rows.append([])
        elif tag in ("td", "th"):
            self.text = ""
        assert tag not in ("script", "img", "link", "iframe"), tag

    def handle_data(self, data):
        if self.text is not None:
            self.text += data

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append(self.text)
            self.text = None


def of_table(head, *rows):
    at = head.index("effective cost")
    told([(row[0], row[at]) for row in rows[:-1]], rows[-1][at], last=rows[-1][0])


match path.suffix:
    case ".csv":
        lines = list(csv.DictReader(path.open(newline="", encoding="utf-8"), strict=True))
        if "BilledCost" in lines[0]:
            assert len(lines[0]) == 62 and all(line["BillingCurrency"] == "USD" for line in lines)
            assert {line["EffectiveCost"] == line["BilledCost"] for line in lines} == {True}
            told([(line["SubAccountId"], line["BilledCost"]) for line in lines])
        else:
            teams = [line for line in lines if line["section"] == "teams"]
            total = [line["effective_cost"] for line in teams if line["row"] == "total"]
            told([(line["team"], line["effective_cost"]) for line in teams if line["row"] == "line"], *total)
    case ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        rows = table.select(["SubAccountId", "BilledCost"]).to_pylist()
        told([(row["SubAccountId"] or "", row["BilledCost"]) for row in rows], columns=table.num_columns)
    case ".xlsx":
        import openpyxl

        shown, formulas = (openpyxl.load_workbook(path, data_only=only) for only in (True, False))
        head, *rows = shown["teams"].iter_rows(values_only=True)
        at = head.index("effective_cost (USD)")
        last = formulas["teams"].max_row
        # A name is a string and no formula; the total is one, and shows what it comes to.
        names = [cell for row in formulas["teams"].iter_rows(max_row=last - 1, max_col=1) for cell in row]
        assert {cell.data_type for cell in names} == {"s"}
        formula = formulas["teams"].cell(last, at + 1).value
        assert re.fullmatch(rf"=SUM\((?P<column>[A-Z]+)2:(?P=column){last - 1}\)", formula), formula
        told([(row[0], str(row[at])) for row in rows[:-1]], str(rows[-1][at]), sheets=shown.sheetnames)
    case ".html":
        tables = Tables()
        tables.feed(path.read_text(encoding="utf-8"))
        of_table(*tables.tables["teams"])
    case ".md":
        text = path.read_text(encoding="utf-8").split("## Teams\n")[1].split("\n## ")[0]
        lines = [line.strip("| \n") for line in text.splitlines() if line.startswith("|")]
        cells = [[cell.strip().replace("\\", "") for cell in line.split(" |")] for line in lines]
        of_table(cells[0], *cells[2:])
    case ".json":
        teams = json.loads(path.read_text(encoding="utf-8"))["sections"]["teams"]
        told([(row["team"], row["effective_cost"]) for row in teams["rows"]], teams["total"]["effective_cost"])
    case ".pdf":
        import pypdf

        reader = pypdf.PdfReader(path, strict=True)
        pages = [page.extract_text() for page in reader.pages]
        for number, text in enumerate(pages, 1):
            assert f"Page {number} of {len(pages)}" in text, text
        lines = "\n".join(pages).split("\nTeams\n")[1].split("\nModels\n")[0].splitlines()
        # A name, then amounts: the first is the effective cost.
        rows = [re.fullmatch(r"(\S.*?) (-?[\d,]+\.\d+) .*", line) for line in lines]
        rows = [(row[1], row[2].replace(",", "")) for row in rows if row]
        assert rows[-1][0] == "Total", rows
        told(rows[:-1], rows[-1][1], outline=[item.title for item in reader.outline])
